"""What every board has: memory, clock, the tree of objects, CPUs, devices under their names, reset,
power.

A board is a subclass of `Machine` with a memory map and a `build`. It is found by its name, lazily,
in this package.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, ClassVar, Protocol

from ratite.core.clock import HostClock, VirtualClock
from ratite.core.errors import ConfigError
from ratite.core.lock import MachineLock
from ratite.core.log import QUIET, Log
from ratite.cpu.debug import Watchpoint
from ratite.cpu.vcpu import Executor, Vcpu
from ratite.devices import Device, SystemBus
from ratite.devices.bus import find_bus, find_free_bus
from ratite.devices.power import PowerAction
from ratite.isa.state import CpuState
from ratite.machines.boot import Blob
from ratite.machines.config import DeviceConfig, MachineConfig
from ratite.memory import AddressSpace, Gpa, MemoryRegion, RamList
from ratite.qom import Container, Object, find_type, keyword_arguments, reset_tree


class Engine(Protocol):
    """An accelerator, for one machine."""

    def attach(self, state: CpuState) -> Executor:
        """Give a vCPU an executor."""

    def flush_code(self) -> None:
        """Forget translated code; nothing executes."""

    def set_debug_points(
        self, breakpoints: Sequence[int], watchpoints: Sequence[Watchpoint]
    ) -> None:
        """Replace what ends `run` with `Exit.DEBUG`; nothing executes."""


class Backends(Protocol):
    """What the host provides, by kind ("chardev", "drive", "rng" ...) and id."""

    def resolve(self, kind: str, id: str) -> object | None:
        """The backend, or None."""


EngineFactory = Callable[[RamList, AddressSpace], Engine]


class RunState(Enum):
    """QEMU's names for what a machine is doing."""

    PRELAUNCH = "prelaunch"
    RUNNING = "running"
    PAUSED = "paused"
    DEBUG = "debug"
    SHUTDOWN = "shutdown"
    INTERNAL_ERROR = "internal-error"


@dataclass(frozen=True, slots=True)
class Power:
    """What a guest asked of the machine."""

    action: PowerAction
    status: int = 0


class Cause(Enum):
    """Why a reset or shutdown happens."""

    GUEST = auto()
    HOST = auto()


@dataclass
class Environment:
    """What the host supplies to a machine being built."""

    engine: EngineFactory
    backends: Backends
    on_power: Callable[[Power], None]
    log: Log = QUIET
    clock_source: Callable[[], int] | None = None
    on_sooner: Callable[[], None] | None = None
    wall_ns: Callable[[], int] | None = None
    firmware: Mapping[str, Any] = field(default_factory=dict)


class Machine(Object):
    """A board with its CPUs, memory and devices."""

    name: ClassVar[str] = ""
    description: ClassVar[str] = ""
    isa: ClassVar[str] = ""
    default_memory: ClassVar[int] = 128 << 20
    max_cpus: ClassVar[int] = 1
    max_memory: ClassVar[int] = 1 << 40

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
        self.clock: VirtualClock
        self.wall_clock: HostClock
        self.engine: Engine
        self.run_state = RunState.PRELAUNCH
        self._serials: dict[int, Any] = {}
        self._unattached = Container()
        self._peripheral = Container()
        self._anonymous = Container()

    # -- construction

    def construct(self, config: MachineConfig, environment: Environment) -> None:
        """Build the board. Raises `ConfigError` or `HostError`."""
        self.config = config
        self.environment = environment
        self._check_limits(config)
        self.clock = VirtualClock(
            self.lock, read_ns=environment.clock_source, on_sooner=environment.on_sooner
        )
        self.wall_clock = HostClock(self.lock)
        self.add_child("unattached", self._unattached)
        self.add_child("peripheral", self._peripheral)
        self.add_child("peripheral-anon", self._anonymous)
        self.engine = environment.engine(self.ram, self.memory)
        with self.lock:
            with self.memory.transaction():
                self.build(config)
                for device in config.devices:
                    self.add_user_device(device)
            self.finish(config)
            self.reset()

    def _check_limits(self, config: MachineConfig) -> None:
        if config.smp.cpus > self.max_cpus:
            raise ConfigError(
                f"-smp: {config.smp.cpus} CPUs; machine '{self.name}' takes at most {self.max_cpus}"
            )

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

    def add(self, name: str, device: Device, *, at: int | None = None, **wires: Any) -> Device:
        """Place a device: map its first region at `at`, connect its wires, and enrol it for reset,
        state and the tree. `wires` are pins, or for a further region `region_N=address`."""
        device.log = self.environment.log
        self._unattached.add_child("device[*]", device)
        device.board_name = name  # type: ignore[attr-defined]
        self.system_bus.plug(device)
        if at is not None:
            self.memory_root.add_subregion(at, device.mmio)
        for wire, pin in wires.items():
            getattr(device, wire).connect(pin)
        return device

    def add_ram(self, name: str, size: int, at: int) -> MemoryRegion:
        """RAM at an address."""
        region = MemoryRegion.ram(name, self.ram.alloc(name, size))
        self._unattached.add_child(f"{name}[*]", region)
        self.memory_root.add_subregion(at, region)
        return region

    def add_rom(self, name: str, size: int, at: int) -> MemoryRegion:
        """ROM at an address; `blobs` fill it."""
        region = MemoryRegion.rom(name, self.ram.alloc(name, size))
        self._unattached.add_child(f"{name}[*]", region)
        self.memory_root.add_subregion(at, region)
        return region

    def resolve_backend(self, kind: str, id: str) -> object | None:
        """A property's value where it names a backend or an object."""
        return self.environment.backends.resolve(kind, id)

    def add_user_device(self, wanted: DeviceConfig) -> Device:
        """What `-device` asks for, on the bus that it names or the first free one."""
        found = find_type(wanted.driver)
        if found is None or not issubclass(found, Device) or not found.user_creatable:
            raise ConfigError(f"-device: '{wanted.driver}' is not a valid device model name")
        properties = dict(wanted.properties)
        bus_name = properties.pop("bus", None)
        for default in self.config.globals:
            if default.driver == wanted.driver:
                properties.setdefault(default.property, default.value)
        device = found(**keyword_arguments(found, properties, self.resolve_backend))
        device.log = self.environment.log
        if bus_name is not None:
            bus = find_bus(self.system_bus, str(bus_name))
            if bus is None:
                raise ConfigError(f"-device {wanted.driver}: Bus '{bus_name}' not found")
        else:
            assert found.bus_type is not None
            bus = find_free_bus(self.system_bus, found.bus_type)
            if bus is None:
                raise ConfigError(
                    f"-device {wanted.driver}: No '{found.bus_type}' bus found for device"
                )
        if wanted.id:
            device.id = wanted.id
            if wanted.id in self._peripheral.children:
                raise ConfigError(f"-device {wanted.driver}: Duplicate device ID '{wanted.id}'")
            self._peripheral.add_child(wanted.id, device)
        else:
            self._anonymous.add_child("device[*]", device)
        bus.plug(device)
        return device

    # -- running

    def reset(self) -> None:
        """Back to power-on. No vCPU executes, the lock is held."""
        reset_tree(self)
        for blob in self.blobs:
            self.memory.write_rom(Gpa(blob.address), blob.data)
            ends = (blob.address, max(blob.address, blob.end - 1))
            if any(self.memory.lookup(Gpa(end)) is None for end in ends):
                raise ConfigError(
                    f"{blob.name}: {len(blob.data)} bytes at {blob.address:#x} do not fit into the machine's memory"
                )
        self.start_cpus()

    def request_power(self, action: PowerAction, status: int) -> None:
        """A device's wish. Returns at once."""
        self.environment.on_power(Power(action, status))

    def serial(self, number: int) -> Any:
        """The character backend of a serial port, or None; the same one at every call."""
        serials: Sequence[str | None] = self.config.serials
        if number >= len(serials) or serials[number] is None:
            return None
        if number not in self._serials:
            self._serials[number] = self.resolve_backend("chardev", str(serials[number]))
        return self._serials[number]


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
