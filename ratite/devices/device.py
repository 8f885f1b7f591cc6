"""The base of every device: declared registers, state and wires, and what follows from them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ratite.core.errors import ConfigError
from ratite.core.log import QUIET, Log
from ratite.core.trace import TraceEvent
from ratite.devices.access_trace import trace_accesses
from ratite.devices.bus import Bus
from ratite.devices.fdt import FdtNode
from ratite.devices.notice import Notify, ignore
from ratite.devices.register import Register, State
from ratite.devices.wire import Wire, WireOutput
from ratite.memory import AccessSizes, Endianness, MemoryRegion
from ratite.qom import Fact, Object, PropertyInfo, reset_tree


class Device(Object):
    """A chip, or a card on a bus.

    Keyword-only constructor parameters are properties, positional ones are wiring. A subclass
    stores them first and then calls `super().__init__()`, which makes registers, wires and regions.
    All methods are called with the machine lock held. Register accesses never raise, whatever the
    guest does.
    """

    type_name = "device"
    abstract = True
    value_type_names = {}

    mmio_size: int = 0
    """Bytes of the register region; 0 for a device that has none. A subclass or instance sets it.
    """

    mmio_name: ClassVar[str] = ""
    """The region's name where it is not the type's."""

    mmio_valid: ClassVar[AccessSizes] = AccessSizes(1, 4)
    """Accesses that the guest may make."""

    mmio_impl: ClassVar[AccessSizes] = AccessSizes(1, 4)
    """Accesses that `read` and `write` take; the memory core splits and widens the others."""

    mmio_endianness: Endianness = "little"

    read_event: ClassVar[TraceEvent[...] | None] = None
    """Traces the guest's reads: offset and value."""

    write_event: ClassVar[TraceEvent[...] | None] = None
    """Traces the guest's writes: offset and value."""

    bus_type: ClassVar[str | None] = "System"
    """The type of bus it plugs into; None if into none."""

    user_creatable: ClassVar[bool] = False
    """True if `-device` may name it, and what refines it."""

    category: ClassVar[str] = "Misc"
    """The heading it is listed under by `-device help`."""

    description: ClassVar[str] = ""
    """A few words for `-device help`."""

    state_version: ClassVar[int] = 1
    """Raised when older programs could not use what `save` answers."""

    _registers: ClassVar[tuple[Register, ...]] = ()
    _states: ClassVar[tuple[State[Any], ...]] = ()
    _wire_names: ClassVar[tuple[Wire, ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        declared: dict[str, object] = {}
        for base in reversed(cls.__mro__):
            declared.update(vars(base))
        entries = declared.values()
        cls._registers = tuple(entry for entry in entries if isinstance(entry, Register))
        cls._states = tuple(entry for entry in entries if isinstance(entry, State))
        cls._wire_names = tuple(entry for entry in entries if isinstance(entry, Wire))

    def __init__(self) -> None:
        super().__init__()
        self.log: Log = QUIET
        self.notify: Notify = ignore
        self.realized = False
        self.hotplugged = False
        self.parent_bus: Bus | None = None
        self.buses: list[Bus] = []
        self.regions: list[MemoryRegion] = []
        values = self.__dict__
        for wire in self._wire_names:
            values[wire.name] = WireOutput(wire.name, self, wire.function)
        self._wires: list[WireOutput] = [values[wire.name] for wire in self._wire_names]
        self._set_defaults(all_states=True)
        self._readers: dict[int, Callable[[], int]] = {}
        self._writers: dict[int, Callable[[int], None]] = {}
        self._build_dispatch()
        if self.mmio_size:
            self.add_region(
                MemoryRegion.io(
                    self.mmio_name or self.type_name,
                    self.mmio_size,
                    self,
                    endianness=self.mmio_endianness,
                    valid=self.mmio_valid,
                    impl=self.mmio_impl,
                )
            )

    @classmethod
    def is_pluggable(cls) -> bool:
        """Whether `-device` makes it."""
        return cls.user_creatable and not cls.is_abstract()

    # -- what a subclass uses

    @property
    def mmio(self) -> MemoryRegion:
        """The (first) region, for the machine to map."""
        return self.regions[0]

    @property
    def wires(self) -> tuple[WireOutput, ...]:
        """All outputs."""
        return tuple(self._wires)

    @property
    def inputs(self) -> int:
        """How many numbered inputs it has."""
        return 0

    @property
    def outputs(self) -> int:
        """How many numbered outputs it has besides its wires."""
        return 0

    def add_region(self, region: MemoryRegion) -> None:
        """Own a further region."""
        self.regions.append(region)
        self.add_child(f"{region.region_name}[*]", region)

    def add_bus(self, bus: Bus) -> None:
        """Own a bus."""
        self.buses.append(bus)
        self.add_child(bus.bus_name, bus)

    def name_bus(self, bus: Bus, bus_name: str) -> None:
        """Give a bus of its own another name."""
        bus.unparent()
        bus.bus_name = bus_name
        self.add_child(bus_name, bus)

    def update_wires(self) -> None:
        """Bring every wire to what the state says."""
        for wire in self._wires:
            wire.update()

    def guest_error(self, text: str) -> None:
        """Log what the guest did wrong here."""
        self.log.guest_error(self.name or self.type_name, text)

    def unimplemented(self, text: str) -> None:
        """Log that the guest uses what is not modelled."""
        self.log.unimplemented(self.name or self.type_name, text)

    def follow_trace(self) -> None:
        """Trace the guest's accesses, or no longer, as the log's events are. Called when the device
        is in its place, and when events were switched on or off.
        """
        for region in self.regions:
            trace_accesses(region, self.log.trace, self.read_event, self.write_event)

    # -- guest access

    def read(self, offset: int, size: int = 4) -> int:
        """Read by the guest, anywhere, of 1 to 8 bytes.

        Runs: per MMIO read.
        """
        reader = self._readers.get(offset << 4 | size)
        return reader() if reader is not None else self._read_odd(offset, size)

    def write(self, offset: int, value: int, size: int = 4) -> None:
        """Write by the guest, anywhere, of 1 to 8 bytes.

        Runs: per MMIO write.
        """
        writer = self._writers.get(offset << 4 | size)
        if writer is not None:
            writer(value)
        else:
            self._write_odd(offset, value, size)
        for wire in self._wires:
            wire.update()

    # -- life

    @property
    def frozen(self) -> bool:
        """Properties are fixed once the device is realized."""
        return self.realized

    def realize(self) -> None:
        """Attach to the machine. A subclass first does its part, then calls this. Raises
        `ConfigError` or `HostError`, with nothing attached.
        """
        self.realized = True

    def unrealize(self) -> None:
        """Undo `realize`."""
        self.realized = False

    def reset(self) -> None:
        """Return to power-on values, with all below it."""
        reset_tree(self)

    def reset_enter(self) -> None:
        """Set registers and state to their power-on values."""
        self._set_defaults(all_states=False)

    def reset_exit(self) -> None:
        """Bring wires to what reset made of the state."""
        self.update_wires()

    def fdt(self, node: FdtNode) -> None:
        """Describe the device: everything but its addresses and interrupts, which the machine
        knows.
        """

    # -- migration

    @classmethod
    def saved_entries(cls) -> tuple[Register | State[Any], ...]:
        """The declarations of what `save` answers."""
        return (*(entry for entry in cls._registers if entry.stored), *cls._states)

    def save(self) -> dict[str, Any]:
        """The declared state, by name, as plain data."""
        values = self.__dict__
        saved = {entry.name: values[entry.name] for entry in self._registers if entry.stored}
        saved |= {entry.name: copy.deepcopy(values[entry.name]) for entry in self._states}
        return saved

    def check(self, saved: Mapping[str, Any]) -> None:
        """Raise `ConfigError` if `load` could not take this: names are missing or unknown, or a
        value is of another type or size than the declaration says.
        """
        registers = {entry.name: entry for entry in self._registers if entry.stored}
        states = {entry.name: entry for entry in self._states}
        if unknown := saved.keys() - registers.keys() - states.keys():
            raise ConfigError(f"saved state of '{self.type_name}' has unknown '{min(unknown)}'")
        optional = {name for name, entry in states.items() if entry.since}
        if missing := (registers.keys() | states.keys()) - optional - saved.keys():
            raise ConfigError(f"saved state of '{self.type_name}' lacks '{min(missing)}'")
        for name, value in saved.items():
            found = registers.get(name) or states[name]
            if not found.takes(value, self):
                raise ConfigError(f"saved state of '{self.type_name}' has a wrong '{name}'")

    def load(self, saved: Mapping[str, Any]) -> None:
        """Take over what `save` answered. Raises `ConfigError` as `check` does."""
        self.check(saved)
        values = self.__dict__
        self._set_defaults(all_states=True)
        values.update(copy.deepcopy(dict(saved)))
        self.loaded()
        self.update_wires()

    def loaded(self) -> None:
        """Called when state has been loaded: arm timers and whatever else follows from it."""

    # -- QOM

    @classmethod
    def fact_infos(cls) -> list[PropertyInfo]:
        """What `facts` names."""
        return [
            *super().fact_infos(),
            PropertyInfo("parent_bus", "link<bus>"),
            PropertyInfo("realized", "bool"),
            PropertyInfo("hotplugged", "bool"),
            PropertyInfo("hotpluggable", "bool"),
        ]

    def facts(self) -> list[Fact]:
        """What clients can read."""
        bus = self.parent_bus
        hotpluggable = self.user_creatable and (bus is None or bus.hotpluggable)
        return [
            *super().facts(),
            Fact("parent_bus", "link<bus>", bus.path if bus is not None else ""),
            Fact("realized", "bool", self.realized),
            Fact("hotplugged", "bool", self.hotplugged),
            Fact("hotpluggable", "bool", hotpluggable),
        ]

    # -- the rest

    def _set_defaults(self, *, all_states: bool) -> None:
        values = self.__dict__
        for register in self._registers:
            if register.stored:
                values[register.name] = register.reset
        for state in self._states:
            if all_states or not state.kept:
                values[state.name] = state.default(self)

    def _build_dispatch(self) -> None:
        for register in self._registers:
            key = register.offset << 4 | register.size
            reader, writer = register.reader(self), register.writer(self)
            if reader is not None:
                self._readers[key] = reader
            if writer is not None:
                self._writers[key] = writer

    def _register_over(self, offset: int) -> Register | None:
        for register in self._registers:
            if 0 <= offset - register.offset < register.size:
                return register
        return None

    def _read_odd(self, offset: int, size: int) -> int:
        """A read that is not of exactly one readable register: put together from what registers it
        meets.
        """
        value = 0
        done = 0
        while done < size:
            register = self._register_over(offset + done)
            if register is None:
                self.guest_error(f"read at {offset + done:#x}, where no register is")
                done += 1
                continue
            reader = self._readers.get(register.offset << 4 | register.size)
            if reader is None:
                self.guest_error(f"read of write-only {register.name}")
            skip = offset + done - register.offset
            part = ((reader() if reader else 0) & register.full) >> 8 * skip
            value |= part << 8 * done
            done += register.size - skip
        return value & ((1 << 8 * size) - 1)

    def _write_odd(self, offset: int, value: int, size: int) -> None:
        """A write that is not of exactly one writable register: bytes not written keep a stored
        register's value.
        """
        done = 0
        while done < size:
            register = self._register_over(offset + done)
            if register is None:
                self.guest_error(f"write of {value:#x} at {offset + done:#x}, where no register is")
                done += 1
                continue
            skip = offset + done - register.offset
            count = min(register.size - skip, size - done)
            writer = self._writers.get(register.offset << 4 | register.size)
            if writer is None:
                self.guest_error(f"write of {value:#x} to read-only {register.name}")
            else:
                lanes = ((1 << 8 * count) - 1) << 8 * skip
                old = self.__dict__[register.name] if register.stored else 0
                writer((old & ~lanes) | ((value >> 8 * done) << 8 * skip & lanes))
            done += count
