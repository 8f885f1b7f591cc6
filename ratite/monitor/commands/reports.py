"""Texts for people, that `info` of the monitor for people shows too.

Source: QEMU's QMP reference, `x-query-*`; which commands there are, and the forms of the texts.
"""

from __future__ import annotations

from dataclasses import dataclass

from ratite.memory import Gpa, ramblock_info
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


@command("x-query-opcount", features=("unstable",))
def query_opcount() -> HumanReadableText:
    """Counts of the translator's operations: not kept."""
    return HumanReadableText("[TCG profiler not compiled]\n")


@command("x-query-profile", features=("unstable",))
def query_profile() -> HumanReadableText:
    """Where the translator's own time goes: not measured, so that this fails."""
    raise QmpError("Internal profiler not compiled")


@command("x-query-ramblock", features=("unstable",))
def query_ramblock(vm: Vm) -> HumanReadableText:
    """The blocks of guest memory."""
    return HumanReadableText(ramblock_info(vm.machine.ram))


@command("x-query-roms", features=("unstable",))
def query_roms(vm: Vm) -> HumanReadableText:
    """What is loaded into the guest's memory before it starts."""
    lines = []
    for blob in sorted(vm.machine.blobs, key=lambda blob: blob.address):
        found = vm.machine.memory.lookup(Gpa(blob.address))
        kind = "rom" if found is not None and found.readonly else "ram"
        place = f"addr={blob.address:016x} size=0x{blob.size:06x} mem={kind}"
        lines.append(f'{place} name="{blob.name}"\n')
    return HumanReadableText("".join(lines))


@command("x-query-irq", features=("unstable",))
def query_irq() -> HumanReadableText:
    """What each interrupt controller has counted: none counts."""
    return HumanReadableText("")


@command("x-query-numa", features=("unstable",))
def query_numa() -> HumanReadableText:
    """The NUMA nodes: none."""
    return HumanReadableText("0 nodes\n")


@command("x-query-usb", features=("unstable",))
def query_usb() -> HumanReadableText:
    """The USB devices: no board has USB, so that this fails."""
    raise QmpError("USB support not enabled")
