"""What every board has: memory, clock, the tree of objects, CPUs, devices under their names, reset,
power.

A board is a subclass of `Machine` with a memory map and a `build`. It is found by its name, lazily,
in this package.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from ratite.core.clock import Clock, HostClock, VirtualClock
from ratite.core.errors import ConfigError, blaming, located
from ratite.core.lock import MachineLock
from ratite.core.log import QUIET, Log
from ratite.core.size import KiB, MiB
from ratite.core.trace import TraceEvent
from ratite.cpu.debug import Watchpoint
from ratite.cpu.vcpu import Executor, Vcpu
from ratite.devices import Bus, Device, SystemBus
from ratite.devices.bus import find_bus, find_free_bus, name_buses
from ratite.devices.notice import Notify, ignore
from ratite.devices.power import PowerAction
from ratite.isa.state import CpuState
from ratite.machines import facts
from ratite.machines.boot import Blob
from ratite.machines.boot_order import check_index
from ratite.machines.config import DeviceConfig, GlobalConfig, MachineConfig, RtcClock
from ratite.machines.memory_backend import MemoryBackend
from ratite.memory import PAGE_SIZE, AddressSpace, Gpa, MemoryRegion, RAMBlock, RamList
from ratite.qom import (
    Container,
    Fact,
    Object,
    PropertyInfo,
    find_type,
    keyword_arguments,
    reset_tree,
)


class Engine(Protocol):
    """An accelerator, for one machine."""

    one_instruction: bool  # of each block of code; switched while nothing executes

    def attach(self, state: CpuState) -> Executor:
        """Give a vCPU an executor."""

    def flush_code(self) -> None:
        """Forget translated code; nothing executes."""

    def report(self) -> str:
        """What it has translated and how the guest runs, for people; "" if it translates
        nothing.
        """

    def close(self) -> None:
        """End what works in the background; nothing executes any more."""

    def set_debug_points(
        self, breakpoints: Sequence[int], watchpoints: Sequence[Watchpoint]
    ) -> None:
        """Replace what ends `run` with `Exit.DEBUG`; nothing executes."""


class Backends(Protocol):
    """What the host provides, by kind ("chardev", "drive", "rng" ...) and id."""

    def resolve(self, kind: str, id: str) -> object | None:
        """The backend, or None."""


ZEROS = bytes(MiB)
USER_DEVICES = ("peripheral", "peripheral-anon")
"""Where devices of the user's are: those with an id, and the others."""
EngineFactory = Callable[[RamList, AddressSpace], Engine]


class RunState(Enum):
    """QEMU's names for what a machine is doing."""

    PRELAUNCH = "prelaunch"
    RUNNING = "running"
    PAUSED = "paused"
    DEBUG = "debug"
    IO_ERROR = "io-error"
    SHUTDOWN = "shutdown"
    INTERNAL_ERROR = "internal-error"
    INMIGRATE = "inmigrate"
    FINISH_MIGRATE = "finish-migrate"
    POSTMIGRATE = "postmigrate"
    SAVE_VM = "save-vm"
    RESTORE_VM = "restore-vm"


@TraceEvent
def runstate_set(old: RunState, new: RunState) -> str:
    """The machine starts, stops or ends."""
    return f"current_run_state {old.value} new_state {new.value}"


@TraceEvent
def loader_write_rom(name: str, gpa: int, size: int, is_rom: bool) -> str:
    """At a reset, something that was loaded is put into the guest's memory."""
    return f"{name}: @0x{gpa:x} size=0x{size:x} ROM={is_rom:d}"


@dataclass(frozen=True, slots=True)
class Power:
    """What a guest asked of the machine."""

    action: PowerAction
    status: int = 0


@runtime_checkable
class StatePart(Protocol):
    """What declares state to be saved; see `ratite.migration.vmstate.Part`."""

    state_version: ClassVar[int]

    def save(self) -> dict[str, Any]:
        """The state by name, as plain data."""

    def check(self, saved: Mapping[str, Any]) -> None:
        """Raise `ConfigError` if `load` could not take this."""

    def load(self, saved: Mapping[str, Any]) -> None:
        """Take over what `save` answered."""


class NoPorts:
    """I/O ports where there are none."""

    def read(self, offset: int, size: int) -> int:
        """All ones."""
        return (1 << 8 * size) - 1

    def write(self, offset: int, value: int, size: int) -> None:
        """Nothing happens."""


@dataclass
class Environment:
    """What the host supplies to a machine being built."""

    engine: EngineFactory
    backends: Backends
    on_power: Callable[[Power], None]
    on_notice: Notify = ignore
    log: Log = QUIET
    clock_source: Callable[[], int] | None = None
    on_sooner: Callable[[], None] | None = None
    wall_ns: Callable[[], int] | None = None
    firmware: Mapping[str, Any] = field(default_factory=dict)


class Machine(Object):
    """A board with its CPUs, memory and devices."""

    type_name = "machine"
    abstract = True

    name: ClassVar[str] = ""
    description: ClassVar[str] = ""
    isa: ClassVar[str] = ""
    default_memory: ClassVar[int] = 128 << 20
    max_cpus: ClassVar[int] = 1
    max_memory: ClassVar[int] = 1 << 40
    ram_id: ClassVar[str] = ""
    """The name of the guest's main memory."""

    def __init__(self) -> None:
        super().__init__()
        self.config: MachineConfig
        self.environment: Environment
        self.lock = MachineLock()
        self.ram = RamList()
        self.memory_root = MemoryRegion.container("system", 1 << 64)
        self.memory = AddressSpace(self.memory_root, "memory")
        self.system_bus = SystemBus("main-system-bus")
        self.vcpus: list[Vcpu] = []
        self.blobs: list[Blob] = []
        self._loaded: list[tuple[str, Blob]] = []
        self.clock: VirtualClock
        self.wall_clock: HostClock
        self.engine: Engine
        self.log: Log = QUIET
        self._run_state = RunState.PRELAUNCH
        self._serials: dict[int, Any] = {}
        self._io = AddressSpace(MemoryRegion.io("io", 1 << 16, NoPorts()), "I/O")
        self._unattached = Container()
        self._peripheral = Container()
        self._anonymous = Container()

    # -- construction

    def construct(self, config: MachineConfig, environment: Environment) -> None:
        """Build the board. Raises `ConfigError` or `HostError`."""
        self.config = config
        self.environment = environment
        self.log = environment.log
        self.log.watchers.append(self._follow_trace)
        self._check_limits(config)
        self.clock = VirtualClock(
            self.lock, read_ns=environment.clock_source, on_sooner=environment.on_sooner
        )
        self.wall_clock = HostClock(self.lock)
        self.add_child("unattached", self._unattached)
        self._unattached.add_child("sysbus", self.system_bus)
        self._unattached.add_child("system[*]", self.memory_root)
        self._unattached.add_child("io[*]", self._io.root)
        for child, devices in zip(USER_DEVICES, (self._peripheral, self._anonymous), strict=True):
            self.add_child(child, devices)
        self.engine = environment.engine(self.ram, self.memory)
        try:
            with self.lock:
                with self.memory.transaction():
                    self.build(config)
                    for device in config.devices:
                        with located(device.origin):
                            self.add_user_device(device)
                self.finish(config)
                self.reset()
        except BaseException:
            self.engine.close()
            raise

    def _check_limits(self, config: MachineConfig) -> None:
        if not 1 <= config.smp.cpus <= self.max_cpus:
            raise ConfigError(
                f"-smp: cpus: {config.smp.cpus} is out of range: "
                f"1 to {self.max_cpus} for machine '{self.name}'"
            )
        self._check_memory()
        if config.boot.kernel is None:
            for option, value in (("append", config.boot.append), ("initrd", config.boot.initrd)):
                if value:
                    raise ConfigError(f"-{option}: only a kernel takes it; use -kernel")
        for default in config.globals:
            _check_global(default)

    def _check_memory(self) -> None:
        host = _host_memory()
        if self.memory_size > min(host, self.max_memory):
            limit, whose = (
                (host, "this host")
                if host < self.max_memory
                else (self.max_memory, f"machine '{self.name}' at most")
            )
            raise ConfigError(
                f"-m: {self.memory_size // MiB} MiB of guest memory; {whose} has {limit // MiB} MiB"
            )

    def _follow_trace(self) -> None:
        for node in self.walk():
            if isinstance(node, Device):
                node.follow_trace()

    @property
    def run_state(self) -> RunState:
        """What the machine is doing."""
        return self._run_state

    @run_state.setter
    def run_state(self, state: RunState) -> None:
        if trace := self.log.trace:
            trace(runstate_set, self._run_state, state)
        self._run_state = state

    @property
    def memory_size(self) -> int:
        """Bytes of guest RAM."""
        return self.config.memory.size or self.default_memory

    @abstractmethod
    def build(self, config: MachineConfig) -> None:
        """Make and place CPUs, memory and devices."""

    def finish(self, config: MachineConfig) -> None:
        """Load what the guest boots, when all devices are there."""

    @abstractmethod
    def start_cpus(self) -> None:
        """Put the CPUs where they start after a reset."""

    def add(
        self, name: str, device: Device, *, at: int | None = None, named: bool = False, **wires: Any
    ) -> Device:
        """Place a device: map its first region at `at`, connect its wires to the pins `wires`, and
        enrol it for reset, state and the tree: as `name` if it is `named` there, else by a number.
        """
        device.log = self.log
        device.notify = self.environment.on_notice
        if named:
            self.add_child(name, device)
        else:
            self._unattached.add_child("device[*]", device)
        self.system_bus.plug(device)
        device.follow_trace()
        if at is not None:
            self.memory_root.add_subregion(at, device.mmio)
        for wire, pin in wires.items():
            getattr(device, wire).connect(pin)
        return device

    def add_ram(self, name: str, size: int, at: int) -> MemoryRegion:
        """RAM at an address."""
        block = self._ram_block(name, size)
        if not self.config.dump_guest_core:
            block.leave_out_of_dumps()
        if self.config.merge_memory and self.config.memory_backend is None:
            block.let_merge()
        region = MemoryRegion.ram(name, block)
        self._unattached.add_child(f"{name}[*]", region)
        self.memory_root.add_subregion(at, region)
        return region

    def _ram_block(self, name: str, size: int) -> RAMBlock:
        """Host memory; for the guest's main memory from the backend that the user chose."""
        chosen = self.config.memory_backend
        if name != self.ram_id or chosen is None:
            return self.ram.alloc(name, size)
        backend = self.resolve_backend("object", chosen)
        if not isinstance(backend, MemoryBackend):
            raise ConfigError(f"-machine: Memory backend '{chosen}' not found")
        if backend.size != size:
            raise ConfigError(
                f"-machine: Machine memory size (0x{size:x}) does not match size of the memory "
                f"backend '{chosen}' (0x{backend.size:x})"
            )
        return backend.allocate(self.ram)

    def add_rom(self, name: str, size: int, at: int) -> MemoryRegion:
        """ROM at an address; `blobs` fill it."""
        region = MemoryRegion.rom(name, self.ram.alloc(name, size))
        self._unattached.add_child(f"{name}[*]", region)
        self.memory_root.add_subregion(at, region)
        return region

    def clock_of_day(self) -> tuple[Clock, int]:
        """The clock that drives the guest's time of day as -rtc says, and what to add to it, in
        nanoseconds.
        """
        rtc = self.config.rtc
        clock = self.clock if rtc.clock is RtcClock.VIRTUAL else self.wall_clock
        host_ns = self.wall_clock.now_ns()
        if isinstance(rtc.base, int):
            start_ns = rtc.base * 1_000_000_000
        else:
            start_ns = host_ns
            if rtc.base == "localtime":
                zone = datetime.now().astimezone().utcoffset() or timedelta(0)
                start_ns += int(zone.total_seconds()) * 1_000_000_000
        return clock, start_ns - (0 if clock is self.clock else host_ns)

    @classmethod
    def fact_infos(cls) -> list[PropertyInfo]:
        """What `facts` names, and the children that every machine has."""
        found = [*super().fact_infos(), *facts.infos()]
        if not cls.is_abstract():
            found += [PropertyInfo(name, "child<container>") for name in USER_DEVICES]
        return found

    def facts(self) -> list[Fact]:
        """What clients can read; before the machine is built that is its type."""
        if "config" not in self.__dict__:
            return super().facts()
        return [*super().facts(), *facts.facts_of(self.config, self.memory_size)]

    def resolve_backend(self, kind: str, id: str) -> object | None:
        """A property's value where it names a backend or an object."""
        return self.environment.backends.resolve(kind, id)

    def add_user_device(self, wanted: DeviceConfig) -> Device:
        """What `-device` asks for, on the bus that it names or the first free one. Errors name the
        option.
        """
        with blaming(f"-device {wanted.driver}"):
            cls = pluggable(wanted.driver)
            return self.plug_device(cls, wanted, self.bus_for(cls, wanted))

    def bus_for(self, cls: type[Device], wanted: DeviceConfig) -> Bus:
        """The bus that a device names, or the first free one of its type. Raises `ConfigError`."""
        name = wanted.properties.get("bus")
        if name is not None:
            bus = find_bus(self.system_bus, str(name))
            if bus is None:
                raise ConfigError(f"Bus '{name}' not found")
            return bus
        assert cls.bus_type is not None
        bus = find_free_bus(self.system_bus, cls.bus_type)
        if bus is None:
            raise ConfigError(f"No '{cls.bus_type}' bus found for device '{wanted.driver}'")
        return bus

    def plug_device(self, cls: type[Device], wanted: DeviceConfig, bus: Bus) -> Device:
        """Make a device and plug it in. Raises `ConfigError` or `HostError`, with nothing
        changed.
        """
        if wanted.id in self._peripheral.children:
            raise ConfigError(f"Duplicate device ID '{wanted.id}'")
        properties = {name: value for name, value in wanted.properties.items() if name != "bus"}
        defaults = {
            default.property: default.value
            for default in self.config.globals
            if cls.is_of(default.driver) and default.property not in properties
        }
        claimed: list[Claimed] = []

        def resolve(kind: str, id: str) -> object | None:
            found = self.resolve_backend(kind, id)
            if isinstance(found, Claimed):
                claimed.append(found)
            return found

        try:
            device = cls(
                **keyword_arguments(
                    cls, properties, resolve, strict=wanted.strict, defaults=defaults
                )
            )
        except BaseException:
            for backend in claimed:
                backend.release()
            raise
        try:
            check_index(device, self.walk())
        except ConfigError:
            release_backends(device)
            raise
        device.log = self.log
        device.notify = self.environment.on_notice
        if wanted.id:
            device.id = wanted.id
            self._peripheral.add_child(wanted.id, device)
        else:
            self._anonymous.add_child("device[*]", device)
        name_buses(device, self.system_bus)
        try:
            bus.plug(device)
        except BaseException:
            device.unparent()
            release_backends(device)
            raise
        device.follow_trace()
        return device

    def unplug_device(self, device: Device) -> None:
        """Take out a device that `plug_device` put in, and all that is plugged into it."""
        assert device.parent_bus is not None
        device.parent_bus.unplug(device)
        device.unparent()
        release_backends(device)

    # -- saved state

    def state_identity(self) -> dict[str, Any]:
        """What must be equal in two machines for one to take over the other's state."""
        return {
            "machine": self.name,
            "cpus": len(self.vcpus),
            "cpu": self.cpu_description(),
            "memory": {block.idstr: block.size for block in self.ram.blocks},
            "devices": {
                node.path: node.type_name for node in self.walk() if isinstance(node, Device)
            },
        }

    def cpu_description(self) -> str:
        """The CPUs' model and features, for comparison."""
        return self.config.cpu.model or ""

    def state_parts(self) -> dict[str, StatePart]:
        """Everything with state, in the order in which it is loaded: CPUs first, whose interrupt
        inputs the devices drive anew.
        """
        parts: dict[str, StatePart] = {}
        for vcpu in self.vcpus:
            if isinstance(vcpu, StatePart):
                parts[f"cpu/{vcpu.index}"] = vcpu
        parts |= {node.path: node for node in self.walk() if isinstance(node, Device)}
        return parts

    def state_loaded(self) -> None:
        """All parts have been loaded: the CPUs follow."""
        for vcpu in self.vcpus:
            vcpu.loaded()

    # -- running

    def reset(self) -> None:
        """Back to power-on. No vCPU executes, the lock is held."""
        reset_tree(self)
        for blob in self.blobs:
            if trace := self.log.trace:
                found = self.memory.lookup(Gpa(blob.address))
                trace(
                    loader_write_rom,
                    blob.name,
                    blob.address,
                    blob.size,
                    bool(found and found.readonly),
                )
            self.memory.write_rom(Gpa(blob.address), blob.data)
            for start in range(blob.address + len(blob.data), blob.end, len(ZEROS)):
                self.memory.write_rom(Gpa(start), ZEROS[: blob.end - start])
        self.start_cpus()

    def load(self, option: str, what: str, blobs: Sequence[Blob]) -> None:
        """Put blobs into guest memory, at every reset anew. `what` they are, and the option that
        asked for them, is for the user. Raises `ConfigError` if one is not in memory, or is where
        something else is.
        """
        blobs = [kept for blob in blobs if (kept := self._in_place(blob)).size]
        for blob in blobs:
            if not self._in_memory(blob):
                raise ConfigError(f"{option}: {what} ({blob.span}) is beyond the machine's memory")
            clash = self.clash(blob)
            if clash is not None:
                other, there = clash
                raise ConfigError(f"{option}: {what} ({blob.span}) overlaps {other} ({there.span})")
        self._loaded += [(what, blob) for blob in blobs]
        self.blobs += blobs

    def clash(self, blob: Blob) -> tuple[str, Blob] | None:
        """What of all that was loaded lies where this would go."""
        for what, other in self._loaded:
            if blob.address < other.end and other.address < blob.end:
                return what, other
        return None

    def _in_place(self, blob: Blob) -> Blob:
        """Without as much of its preamble as nothing is there to hold."""
        start, end = blob.address, blob.address + blob.preamble
        while start < end and self.memory.lookup(Gpa(start)) is None:
            start = min((start | (PAGE_SIZE - 1)) + 1, end)
        return blob.without(start - blob.address)

    def _in_memory(self, blob: Blob) -> bool:
        """Whether something answers everywhere; a device may cover a part of the memory."""
        at = blob.address
        while at < blob.end:
            found = self.memory.lookup(Gpa(at))
            if found is None:
                return False
            at = found.end
        return True

    def request_power(self, action: PowerAction, status: int) -> None:
        """A device's wish. Returns at once."""
        self.environment.on_power(Power(action, status))

    @contextmanager
    def address_spaces(self) -> Iterator[list[AddressSpace]]:
        """All of them, for people to look at; each CPU has a name of its own for memory."""
        cpus = [AddressSpace(self.memory_root, f"cpu-memory-{cpu.index}") for cpu in self.vcpus]
        yield [self.memory, *cpus, self._io]
        for space in cpus:
            space.close()

    def serial(self, number: int) -> Any:
        """The character backend of a serial port, or None; the same one at every call."""
        serials: Sequence[str | None] = self.config.serials
        if number >= len(serials) or serials[number] is None:
            return None
        if number not in self._serials:
            self._serials[number] = self.resolve_backend("chardev", str(serials[number]))
        return self._serials[number]


@runtime_checkable
class Claimed(Protocol):
    """A backend that a device has to itself."""

    def release(self) -> None:
        """Give it up."""


def release_backends(device: Device) -> None:
    """Let others have the backends of a device that is gone."""
    for entry in device.properties().values():
        value = entry.get(device)
        if entry.kind and isinstance(value, Claimed):
            value.release()


def _host_memory() -> int:
    """Bytes of the host's memory and swap space."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return sum(int(fields[name].split()[0]) for name in ("MemTotal", "SwapTotal")) * KiB
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _check_global(default: GlobalConfig) -> None:
    found = find_type(default.driver)
    if found is None:
        raise ConfigError(f"-global: there is no driver '{default.driver}'")
    if default.property not in found.properties():
        raise ConfigError(f"-global: Property '{default.driver}.{default.property}' not found")


def pluggable(driver: str) -> type[Device]:
    """The class of what users can plug in under this name. Raises `ConfigError`."""
    cls = find_type(driver)
    if cls is None or not issubclass(cls, Device):
        raise ConfigError(
            f"'{driver}' is not a valid device model name", hint="`-device help` lists them"
        )
    if cls.is_abstract():
        raise ConfigError("Parameter 'driver' expects a non-abstract device type")
    if not cls.user_creatable:
        raise ConfigError("Parameter 'driver' expects a pluggable device type")
    return cls


def machine_types(isa: str) -> dict[str, type[Machine]]:
    """The boards of an instruction set, by name."""
    import ratite.machines as package

    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("board_"):
            importlib.import_module(f"ratite.machines.{module.name}")
    found = {}
    for cls in _subclasses():
        if cls.name and cls.isa == isa:
            found[cls.name] = cls
    return dict(sorted(found.items()))


def _subclasses(base: Any = Machine) -> list[type[Machine]]:
    direct: list[type[Machine]] = base.__subclasses__()
    return direct + [below for one in direct for below in _subclasses(one)]
