"""Accelerators by the names of `-accel`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any, Protocol

from ratite.accel.idle import IdleEngine
from ratite.accel.reference import ReferenceCpu
from ratite.core.errors import ConfigError, HostError
from ratite.core.log import QUIET, Log
from ratite.cpu.debug import Watchpoint
from ratite.cpu.physmap import PhysMapPublisher
from ratite.isa.state import CpuState
from ratite.memory import AddressSpace, RamList
from ratite.native import u64

NAMES = {
    "tcg": "generated code (threaded interpreter)",
    "reference": "the definition, in CPython; slow",
    "qtest": "guest code does not run; a test drives the devices (see -qtest)",
}
ALIASES = {"jit": "tcg"}
ELSEWHERE = ("kvm", "xen", "hax", "hvf", "whpx", "nvmm")
"""Accelerators of other programs or hosts, which a list may name before one that there is."""
ISA_PACKAGE = {"riscv64": "riscv"}


class Choice(Protocol):
    """One `-accel` option."""

    @property
    def name(self) -> str:
        """The accelerator's name."""

    @property
    def properties(self) -> Any:
        """Its properties."""


def make_engine(
    choices: Sequence[Choice],
    isa: str,
    ram: RamList,
    space: AddressSpace,
    *,
    exact_budget: bool = False,
    log: Log = QUIET,
) -> Any:
    """The first accelerator of the list that there is. With `exact_budget`, no block is entered
    that the instruction budget does not cover. Raises `ConfigError` for a name that is none, or if
    there is none of the list, and `HostError` if the host lacks memory.
    """
    name, properties = _choose(choices)
    if name == "qtest":
        return IdleEngine(ram, space)
    target = importlib.import_module(f"ratite.accel.jit.targets.{ISA_PACKAGE[isa]}")
    if ALIASES.get(name, name) == "reference":
        return ReferenceEngine(target, ram, space)
    from ratite.accel.jit.engine import JitMachine, JitOptions

    options = JitOptions(exact_budget=exact_budget, **_jit_options(properties))
    try:
        return JitMachine(ISA_PACKAGE[isa], ram, space, options, log)
    except OSError as error:
        raise HostError.from_os("set up memory for generated code", error) from error
    except MemoryError as error:  # each machine has its part of one range, until it is closed
        raise HostError("too many machines in one process: no room for generated code") from error


def _choose(choices: Sequence[Choice]) -> tuple[str, dict[str, Any]]:
    """The name and properties of the first accelerator of the list that there is."""
    for choice in choices:
        if choice.name not in (*NAMES, *ALIASES, *ELSEWHERE):
            raise ConfigError(
                f"-accel: invalid accelerator {choice.name}; `-accel help` lists them"
            )
    here = [choice for choice in choices if choice.name not in ELSEWHERE]
    if choices and not here:
        raise ConfigError(f"-accel: {choices[0].name} is not available here; use -accel tcg")
    if choices and here[0] is not choices[0]:
        print(f"-accel: no {choices[0].name} here: falling back to {here[0].name}", file=sys.stderr)
    return (here[0].name, dict(here[0].properties)) if here else ("tcg", {})


def _jit_options(given: dict[str, Any]) -> dict[str, Any]:
    """The properties of `-accel tcg`."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        text = str(value)
        if name in _SIZES and text.isdigit():
            found[_SIZES[name]] = int(text) << 20
        elif name == "tier" and text in ("0", "1"):
            found["tier"] = int(text)
        elif name in _SWITCHES and text in ("on", "off", "True", "False"):
            found[_SWITCHES[name]] = text in ("on", "True")
        elif name == "thread" and text in ("multi", "single"):
            continue  # every vCPU has a thread of its own, unless -icount says otherwise
        elif name in _JIT_HELP:
            raise ConfigError(f"-accel tcg: {name}={text}: {_JIT_HELP[name]}")
        else:
            raise ConfigError(f"-accel tcg: Property '{name}' not found")
    return found


_SIZES = {"tb-size": "buffer_size", "cache-size": "cache_size"}
_SWITCHES = {"cache": "cache", "one-insn-per-tb": "one_instruction", "verify": "verify"}
_JIT_HELP = {
    "tb-size": "the size of the buffer of translated code, in MiB",
    "cache-size": "what compiled code may take on disk, in MiB",
    "verify": "on or off",
    "tier": "0 for the threaded interpreter only, 1 to compile hot code as well",
    "cache": "on or off",
    "one-insn-per-tb": "on or off",
    "thread": "multi or single",
}


class ReferenceEngine:
    """The reference executor as an accelerator."""

    one_instruction = False  # there are no blocks

    def __init__(self, target: Any, ram: RamList, space: AddressSpace) -> None:
        self._target = target
        self._ram = ram
        self._space = space
        self._cpus: list[ReferenceCpu] = []
        self._phys_map = PhysMapPublisher(space, self._publish)

    def _publish(self, address: int) -> None:
        for cpu in self._cpus:
            cpu.state.phys_map = u64(address)

    def attach(self, state: CpuState) -> ReferenceCpu:
        """Give a vCPU an executor."""
        state.phys_map = u64(self._phys_map.address)
        cpu = self._target.reference_cpu(state, self._ram, self._space)
        self._cpus.append(cpu)
        assert isinstance(cpu, ReferenceCpu)
        return cpu

    def set_debug_points(
        self, breakpoints: Sequence[int], watchpoints: Sequence[Watchpoint]
    ) -> None:
        """Replace the addresses that end `run` with `Exit.DEBUG`."""
        for cpu in self._cpus:
            cpu.breakpoints = frozenset(breakpoints)
            cpu.watchpoints = tuple(watchpoints)

    def report(self) -> str:
        """What `info jit` shows: nothing."""
        return ""

    def flush_code(self) -> None:
        """Nothing is translated."""

    def close(self) -> None:
        """Nothing works in the background."""
