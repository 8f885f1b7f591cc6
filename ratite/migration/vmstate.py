"""The state of a machine as a whole: collected from what declares it, checked, and applied.

Everything that comes in is checked against this machine (names, versions, types) before anything
is changed, so that a state that does not fit leaves the machine as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from ratite.core.clock import VirtualClock
from ratite.core.errors import ConfigError
from ratite.memory import PAGE_SIZE, RamList
from ratite.migration import pages
from ratite.migration.pages import PageCounts
from ratite.migration.stream import Kind, Section, StreamError, Writer, pack, unpack

MACHINE = "machine"
"""The section with what belongs to no part: guest time, and whether the guest ran."""
IDENTITY = "identity"
MAX_STATES = 32 << 20
"""Bytes of all sections but memory's."""


class Part(Protocol):
    """What declares state: a CPU, a device, the built-in firmware."""

    state_version: ClassVar[int]
    """Raised when older programs could not use what `save` answers."""

    def save(self) -> dict[str, Any]:
        """The state by name, as plain data."""

    def check(self, saved: Mapping[str, Any]) -> None:
        """Raise `ConfigError` if `load` could not take this."""

    def load(self, saved: Mapping[str, Any]) -> None:
        """Take over what `save` answered."""


class Subject(Protocol):
    """The machine. All methods are called with the machine lock held and no vCPU running."""

    @property
    def ram(self) -> RamList:
        """Its memory."""

    @property
    def clock(self) -> VirtualClock:
        """Guest time."""

    def state_identity(self) -> dict[str, Any]:
        """What must be equal where a state is loaded, as plain data."""

    def state_parts(self) -> Mapping[str, Part]:
        """Everything with state, under names that last, in the order of loading."""

    def state_loaded(self) -> None:
        """All parts have been loaded: derive what depends on several."""


@dataclass(slots=True)
class Arrival:
    """State on its way in: what has been read, none of it applied."""

    identity: dict[str, Any] | None = None
    states: dict[str, Any] = field(default_factory=dict)
    running: bool = False
    size: int = 0

    def take(self, section: Section) -> None:
        """Note a section that is not RAM. Raises `StreamError`."""
        self.size += len(section.payload) + len(section.name)
        if self.size > MAX_STATES:
            raise StreamError(f"section '{section.name}': more state than any machine has")
        if section.kind is Kind.IDENTITY:
            self.identity = _table(section)
        elif section.kind is Kind.STATE:
            if section.name in self.states:
                raise StreamError(f"section '{section.name}' comes twice")
            self.states[section.name] = _table(section)
        else:
            raise StreamError(f"section '{section.name}' does not belong there")


def _table(section: Section) -> dict[str, Any]:
    value = unpack(section)
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise StreamError(f"section '{section.name}' is damaged: it is not a table")
    return value


# -- out


def write_identity(writer: Writer, subject: Subject) -> None:
    """Say which machine this is; the first section."""
    writer.section(Kind.IDENTITY, IDENTITY, pack(subject.state_identity()))


def write_ram(
    writer: Writer, ram: RamList, counts: PageCounts, advance: Callable[[int], object]
) -> None:
    """Write all memory; `advance` gets the size of each piece."""
    for block in ram.blocks:
        for first, count in pages.chunks(0, block.size // PAGE_SIZE):
            payload = pages.encode(block, first, count, counts)
            writer.section(Kind.RAM, pages.PREFIX + block.idstr, payload)
            advance(count * PAGE_SIZE)


def write_states(writer: Writer, subject: Subject, *, running: bool) -> None:
    """Write the state of all parts."""
    machine = {"now_ns": subject.clock.now_ns(), "running": running}
    writer.section(Kind.STATE, MACHINE, pack({"version": 1, "state": machine}))
    for name, part in subject.state_parts().items():
        payload = pack({"version": part.state_version, "state": part.save()})
        writer.section(Kind.STATE, name, payload)


# -- in


def check_identity(arrival: Arrival, subject: Subject) -> None:
    """Raise `StreamError` unless the state is of a machine like this one."""
    theirs = arrival.identity
    if theirs is None:
        raise StreamError(f"section '{IDENTITY}' is missing")
    ours = subject.state_identity()
    for key in ours:
        if key not in theirs:
            raise StreamError(f"section '{IDENTITY}' is damaged: it lacks '{key}'")
        if theirs[key] != ours[key]:
            raise StreamError(
                f"section '{IDENTITY}': {_difference(key, theirs[key], ours[key])}; "
                "the machines must be alike"
            )


def _difference(what: str, theirs: Any, ours: Any) -> str:
    """What differs between two values, for people."""
    there, here = repr(theirs)[:200], repr(ours)[:200]
    if isinstance(theirs, dict) and isinstance(ours, dict):
        key = min((key for key in {*theirs, *ours} if theirs.get(key) != ours.get(key)), key=str)
        there, here = (f"{key}={table.get(key)!r}"[:200] for table in (theirs, ours))
        if key not in ours:
            return f"{what}: {there} is there and not here"
        if key not in theirs:
            return f"{what}: {here} is here and not there"
    return f"{what} is {there} there and {here} here"


def check_states(arrival: Arrival, subject: Subject) -> None:
    """Raise `StreamError` unless every part could load its state, and none is left over."""
    parts: dict[str, Part] = {MACHINE: _MachinePart(), **subject.state_parts()}
    if unknown := arrival.states.keys() - parts.keys():
        raise StreamError(f"section '{min(unknown)}': this machine has no such part")
    for name, part in parts.items():
        if name not in arrival.states:
            raise StreamError(f"section '{name}' is missing")
        entry = arrival.states[name]
        version, saved = entry.get("version"), entry.get("state")
        if type(version) is not int or not isinstance(saved, dict):
            raise StreamError(f"section '{name}' is damaged: it is not a state")
        if version > part.state_version:
            raise StreamError(
                f"section '{name}' has version {version}; "
                f"this program reads up to {part.state_version}"
            )
        try:
            part.check(saved)
        except ConfigError as error:
            raise StreamError(f"section '{name}': {error}") from None


class _MachinePart:
    """Guest time and whether the guest ran."""

    state_version: ClassVar[int] = 1

    def save(self) -> dict[str, Any]:
        """Written by `write_states`."""
        return {"now_ns": 0, "running": False}

    def check(self, saved: Mapping[str, Any]) -> None:
        """Two values."""
        now_ns = saved.get("now_ns")
        if type(now_ns) is not int or not 0 <= now_ns < 1 << 63:
            raise ConfigError("the guest's time is impossible")
        if type(saved.get("running")) is not bool:
            raise ConfigError("it does not say whether the guest ran")

    def load(self, saved: Mapping[str, Any]) -> None:
        """Done by `apply_states`."""


def apply_states(arrival: Arrival, subject: Subject, set_time: Callable[[int], None]) -> None:
    """Load what `check_states` has found good; RAM is there already. `set_time` sets guest time, in
    nanoseconds.
    """
    machine = arrival.states[MACHINE]["state"]
    arrival.running = machine["running"]
    set_time(machine["now_ns"])
    for name, part in subject.state_parts().items():
        part.load(arrival.states[name]["state"])
    subject.state_loaded()


def read_all(
    sections: Iterable[Section], subject: Subject, on_ram: Callable[[Section, RamList], object]
) -> Arrival:
    """Read a stream's sections, calling `on_ram` for those of RAM, and check all others against
    this machine. Raises `StreamError`.
    """
    arrival = Arrival()
    for section in sections:
        if section.kind is Kind.RAM and arrival.identity is not None:
            on_ram(section, subject.ram)
            continue
        arrival.take(section)
        if section.kind is Kind.IDENTITY:
            check_identity(arrival, subject)
    check_identity(arrival, subject)
    check_states(arrival, subject)
    return arrival
