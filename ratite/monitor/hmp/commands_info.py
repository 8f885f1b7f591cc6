"""`info`: the machine as a whole, its CPUs, its translated code."""

from __future__ import annotations

from typing import Annotated

from ratite.cpu.inspect import inspector
from ratite.monitor.commands import chardevs, control, machines, reports, run_state
from ratite.monitor.hmp.command import Flag, Number, Shell, hmp
from ratite.monitor.hmp.commands_memory import current
from ratite.monitor.version import version_text
from ratite.monitor.vm import halted

KINDS_OF_STATE = ("running", "paused")


@hmp("info version", "show the version", preconfig=True)
def version(shell: Shell) -> str:
    """The version of the protocol and the program."""
    return version_text() + "\n"


@hmp("info status", "show the current VM status (running|paused)", preconfig=True)
def status(shell: Shell) -> str:
    """What the machine is doing."""
    found = run_state.query_status(shell.vm)
    text = "running" if found.running else "paused"
    if found.singlestep:
        text += " (single step mode)"
    word = found.status.value
    return f"VM status: {text}{f' ({word})' if word not in KINDS_OF_STATE else ''}\n"


@hmp("info name", "show the current VM name", preconfig=True)
def name(shell: Shell) -> str:
    """What -name says."""
    return f"{shell.vm.config.name}\n" if shell.vm.config.name else ""


@hmp("info uuid", "show the current VM UUID", preconfig=True)
def uuid(shell: Shell) -> str:
    """What -uuid says."""
    return f"{control.query_uuid(shell.vm).UUID}\n"


@hmp("info kvm", "show KVM information")
def kvm(shell: Shell) -> str:
    """Whether KVM runs the guest."""
    found = control.query_kvm(shell.vm)
    state = "enabled" if found.enabled else "disabled"
    return f"kvm support: {state if found.present else 'not compiled'}\n"


@hmp("info history", "show the command line history", preconfig=True)
def history(shell: Shell) -> str:
    """The lines typed here."""
    lines = shell.session.history
    return "".join(f"{number}: '{line}'\n" for number, line in enumerate(lines))


@hmp("info cpus", "show infos for each CPU")
def cpus(shell: Shell) -> str:
    """The CPUs and the host threads that run them."""
    lines = []
    for vcpu in shell.vm.machine.vcpus:
        mark = "*" if vcpu.index == shell.session.cpu_index else " "
        thread = shell.vm.runner.thread_id(vcpu.index)
        lines.append(f"{mark} CPU #{vcpu.index}: thread_id={thread}\n")
    return "".join(lines)


@hmp("info registers", "show the cpu registers (-a: all: show register info for all cpus)")
def registers(
    shell: Shell, cpustate_all: Annotated[bool, Flag("a")] = False, vcpu: Number = -1
) -> str:
    """Registers of the current CPU, of one by number, or of all."""
    vcpus = shell.vm.machine.vcpus
    if not cpustate_all:
        index = shell.session.cpu_index if vcpu < 0 else vcpu
        if index >= len(vcpus):
            return f"CPU#{index} not available\n"
        vcpus = [vcpus[index]]
    with halted(shell.vm):
        return "".join(f"\nCPU#{one.index}\n{inspector(one).registers()}" for one in vcpus)


@hmp("info mem", "show the active virtual memory mappings")
def mem(shell: Shell) -> str:
    """The page table of the current CPU, neighbours of one kind together."""
    with halted(shell.vm):
        found = current(shell).mappings()
        if found is None:
            return "No translation or protection\n"
        lines = [f"{'vaddr':<16} {'paddr':<16} {'size':<16} attr\n"]
        lines.append(f"{'-' * 16} {'-' * 16} {'-' * 16} {'-' * 7}\n")
        gva = gpa = size = 0
        kind = ""
        for entry in found:
            joins = entry.gva == gva + size and entry.gpa == gpa + size
            if joins and entry.attributes == kind:
                size += entry.size
                continue
            if size:
                lines.append(f"{gva:016x} {gpa:016x} {size:016x} {kind}\n")
            gva, gpa, size, kind = entry.gva, entry.gpa, entry.size, entry.attributes
        if size:
            lines.append(f"{gva:016x} {gpa:016x} {size:016x} {kind}\n")
    return "".join(lines)


@hmp("info tlb", "show virtual to physical memory mappings")
def tlb(shell: Shell) -> str:
    """The page table of the current CPU, a line for each entry."""
    with halted(shell.vm):
        found = current(shell).mappings()
        if found is None:
            return "No translation or protection\n"
        return "".join(f"{e.gva:016x}: {e.gpa:016x} {e.attributes}\n" for e in found)


@hmp("info jit", "show dynamic compiler info")
def jit(shell: Shell) -> str:
    """The translated code, where the accelerator translates."""
    return reports.query_jit(shell.vm).human_readable_text


@hmp("info irq", "show the interrupts statistics (if available)")
def irq(shell: Shell) -> str:
    """What each interrupt controller has counted: none counts."""
    return reports.query_irq().human_readable_text


@hmp("info pic", "show PIC state")
def pic(shell: Shell) -> str:
    """The state of interrupt controllers that can show it: none can."""
    return ""


@hmp("info numa", "show NUMA information")
def numa(shell: Shell) -> str:
    """The NUMA nodes: none."""
    return reports.query_numa().human_readable_text


@hmp(
    "info memory_size_summary",
    "show the amount of initially allocated and present hotpluggable (if enabled) memory in bytes.",
)
def memory_size_summary(shell: Shell) -> str:
    """How much memory the guest has."""
    return f"base memory: {machines.query_memory_size_summary(shell.vm).base_memory}\n"


@hmp("info memory-devices", "show memory devices")
def memory_devices(shell: Shell) -> str:
    """Memory that was plugged in: none."""
    return ""


@hmp("info memdev", "show memory backends", preconfig=True)
def memdev(shell: Shell) -> str:
    """The memory backends."""
    shown = []
    for found in machines.query_memdev(shell.vm):
        facts = [
            f"memory backend: {found.id}",
            f"  size:  {found.size}",
            *(f"  {key}: {_word(getattr(found, key))}" for key in ("merge", "dump", "prealloc")),
            f"  share: {_word(found.share)}",
            f"  reserve: {_word(bool(found.reserve))}",
            f"  policy: {found.policy.value}",
            "  host nodes: ",
        ]
        shown.append("\n".join([*facts, ""]))
    return "".join([*shown, "\n"])


def _word(value: bool) -> str:
    return "true" if value else "false"


@hmp("info iothreads", "show iothreads", preconfig=True)
def iothreads(shell: Shell) -> str:
    """The I/O threads that the user has made."""
    return "".join(
        f"{info.id}:\n  thread_id={info.thread_id}\n  poll-max-ns={info.poll_max_ns}\n"
        f"  poll-grow={info.poll_grow}\n  poll-shrink={info.poll_shrink}\n"
        f"  aio-max-batch={info.aio_max_batch}\n"
        for info in machines.query_iothreads(shell.vm)
    )


@hmp("info balloon", "show balloon information")
def balloon(shell: Shell) -> str:
    """How much memory the guest uses."""
    return f"balloon: actual={machines.query_balloon(shell.vm).actual >> 20}\n"


@hmp("info chardev", "show the character devices", preconfig=True)
def chardev(shell: Shell) -> str:
    """The character backends."""
    found = chardevs.query_chardev(shell.vm)
    return "".join(f"{info.label}: filename={info.filename}\n" for info in found)


@hmp("info hotpluggable-cpus", "Show information about hotpluggable CPUs", preconfig=True)
def hotpluggable_cpus(shell: Shell) -> str:
    """The CPUs that could be plugged in: no board can do that yet, so that this fails."""
    return "".join(f"{cpu.type}\n" for cpu in machines.query_hotpluggable_cpus(shell.vm))


@hmp("info usb", "show guest USB devices")
def usb(shell: Shell) -> str:
    """The USB devices: no board has USB, so that this fails."""
    return reports.query_usb().human_readable_text


@hmp("info pci", "show PCI info")
def pci(shell: Shell) -> str:
    """The PCI buses: none."""
    return "PCI devices not supported\n"


@hmp("info vnc", "show the vnc server status")
def vnc(shell: Shell) -> str:
    """The VNC server: none."""
    return "None\n"


@hmp("info mice", "show which guest mouse is receiving events")
def mice(shell: Shell) -> str:
    """The mice: none."""
    return "No mouse devices connected\n"


@hmp("info replay", "show record/replay information")
def replay(shell: Shell) -> str:
    """Record and replay."""
    return "Record/replay is not active\n"


@hmp("info opcount", "show dynamic compiler opcode counters")
def opcount(shell: Shell) -> str:
    """Counts of the translator's operations: not kept."""
    return reports.query_opcount().human_readable_text


@hmp("info profile", "show profiling information")
def profile(shell: Shell) -> str:
    """Where the translator's own time goes: not measured, so that this fails."""
    return reports.query_profile().human_readable_text
