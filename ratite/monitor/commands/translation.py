"""Translated code."""

from __future__ import annotations

from dataclasses import dataclass

from ratite.monitor.command import command
from ratite.monitor.errors import QmpError
from ratite.monitor.vm import Vm


@dataclass(frozen=True)
class HumanReadableText:
    """A text for people."""

    human_readable_text: str


@command("x-query-jit", features=("unstable",))
def query_jit(vm: Vm) -> HumanReadableText:
    """What was translated and compiled, and how fast the guest runs. How many instructions were
    executed in compiled regions and how many in the threaded interpreter (tier 0) is counted, by
    block; how the vCPUs' time is divided between them is a sample, a hundred times a second."""
    text = vm.machine.engine.report()
    if not text:
        raise QmpError("JIT information is only available with accel=tcg")
    return HumanReadableText(text)
