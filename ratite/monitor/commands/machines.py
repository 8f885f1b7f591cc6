"""Boards, CPUs and memory, and what this machine has not.

Source: QEMU's QMP reference, "Machines". Not modelled: hot-plugging of CPUs and memory; the
commands about them answer as QEMU's do on a machine without.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from ratite.block.iothread import IoThread
from ratite.cpu.riscv import MODELS, RiscvVcpu
from ratite.machines.machine import machine_types
from ratite.machines.memory_backend import HostMemPolicy, MemoryBackend, MemoryOptions
from ratite.monitor.command import command
from ratite.monitor.commands.control import Target
from ratite.monitor.errors import DeviceNotActive, QmpError
from ratite.monitor.types import ObjectType, word_type
from ratite.monitor.vm import Vm
from ratite.qom import Doc, keyword_arguments

NO_BALLOON = "No balloon device has been activated"


@dataclass(frozen=True)
class MachineInfo:
    """One board."""

    name: str
    cpu_max: Annotated[int, Doc("most CPUs")]
    hotpluggable_cpus: bool
    numa_mem_supported: bool
    deprecated: bool
    is_default: bool | None = None
    default_cpu_type: str | None = None
    default_ram_id: str | None = None


@command("query-machines")
def query_machines(vm: Vm) -> list[MachineInfo]:
    """The boards of this instruction set."""
    found = []
    for name, cls in machine_types(vm.machine.isa).items():
        model = MODELS.get(getattr(cls, "default_cpu", ""))
        found.append(
            MachineInfo(
                name,
                cls.max_cpus,
                hotpluggable_cpus=False,
                numa_mem_supported=False,
                deprecated=False,
                is_default=True if name == "virt" else None,
                default_cpu_type=model.type_name if model else None,
                default_ram_id=cls.ram_id or None,
            )
        )
    return found


@dataclass(frozen=True)
class CpuInstanceProperties:
    """Where a CPU is in the topology."""

    core_id: Annotated[int | None, Doc("number of the core")] = None


@dataclass(frozen=True)
class CpuInfoFast:
    """One CPU."""

    cpu_index: int
    qom_path: Annotated[str, Doc("where it is in the composition tree")]
    thread_id: Annotated[int, Doc("the host's number of the thread that runs it")]
    target: Target
    props: CpuInstanceProperties | None = None


@command("query-cpus-fast")
def query_cpus_fast(vm: Vm) -> list[CpuInfoFast]:
    """The CPUs. The guest is not disturbed."""
    return [
        CpuInfoFast(
            vcpu.index,
            vcpu.model.path if isinstance(vcpu, RiscvVcpu) else "",
            vm.runner.thread_id(vcpu.index),
            Target(vm.machine.isa),
            CpuInstanceProperties(vcpu.index),
        )
        for vcpu in vm.machine.vcpus
    ]


@dataclass(frozen=True)
class CpuDefinitionInfo:
    """One CPU model."""

    name: str
    typename: str
    static: bool
    deprecated: bool
    migration_safe: bool | None = None


@command("query-cpu-definitions")
def query_cpu_definitions(vm: Vm) -> list[CpuDefinitionInfo]:
    """The CPU models of this instruction set."""
    return [
        CpuDefinitionInfo(name, cls.type_name, static=False, deprecated=False)
        for name, cls in MODELS.items()
    ]


@dataclass(frozen=True)
class CpuModelInfo:
    """A CPU model and its properties."""

    name: str
    props: Any | None = None


class ExpansionType(Enum):
    """Whether all properties are wanted, or only those of a model that never changes."""

    STATIC = "static"
    FULL = "full"


@dataclass(frozen=True)
class CpuModelExpansionInfo:
    """Answer to `query-cpu-model-expansion`."""

    model: CpuModelInfo


@command("query-cpu-model-expansion")
def query_cpu_model_expansion(
    vm: Vm, type: ExpansionType, model: CpuModelInfo
) -> CpuModelExpansionInfo:
    """A CPU model with the value of each of its properties."""
    if type is not ExpansionType.FULL:
        raise QmpError("The requested expansion type is not supported")
    cls = MODELS.get(model.name)
    if cls is None:
        raise QmpError(f"The CPU type '{model.name}' is not a known RISC-V CPU type")
    if model.props is not None and not isinstance(model.props, dict):
        raise QmpError("Invalid parameter type for 'model.props', expected: object")
    made = cls(**keyword_arguments(cls, model.props or {}))
    props = {name: entry.to_json(entry.get(made)) for name, entry in cls.properties().items()}
    return CpuModelExpansionInfo(CpuModelInfo(model.name, props))


@dataclass(frozen=True)
class HotpluggableCpu:
    """A CPU that is there or could be."""

    type: str
    vcpus_count: int
    props: CpuInstanceProperties
    qom_path: str | None = None


@command("query-hotpluggable-cpus", preconfig=True)
def query_hotpluggable_cpus(vm: Vm) -> list[HotpluggableCpu]:
    """The CPUs that could be plugged in. No board can do that yet, so that this fails."""
    raise QmpError("The feature 'query-hotpluggable-cpus' is not enabled")


@command("query-memory-devices")
def query_memory_devices(vm: Vm) -> list[Any]:
    """Memory that was plugged in: none."""
    return []


@dataclass(frozen=True)
class MemoryInfo:
    """Bytes of guest memory."""

    base_memory: Annotated[int, Doc("what the machine has from the start")]
    plugged_memory: int | None = None


@command("query-memory-size-summary")
def query_memory_size_summary(vm: Vm) -> MemoryInfo:
    """How much memory the guest has."""
    return MemoryInfo(vm.machine.memory_size)


@dataclass(frozen=True)
class Memdev:
    """One memory backend."""

    size: int
    merge: bool
    dump: bool
    prealloc: bool
    share: bool
    host_nodes: list[int]
    policy: HostMemPolicy
    id: str | None = None
    reserve: bool | None = None


@command("query-memdev", preconfig=True)
def query_memdev(vm: Vm) -> list[Memdev]:
    """The memory backends: guest RAM."""
    chosen = [node for node in vm.root.walk() if isinstance(node, MemoryBackend)]
    shown = [_memdev(node.id, node.memory, share=node.share) for node in chosen]
    if vm.initialized and vm.config.memory_backend is None and vm.machine.ram_id:
        options = MemoryOptions(
            vm.machine.memory_size,
            merge=vm.config.merge_memory,
            dump=vm.config.dump_guest_core,
        )
        shown.append(_memdev(vm.machine.ram_id, options, share=False))
    return shown


def _memdev(id: str, memory: MemoryOptions, *, share: bool) -> Memdev:
    return Memdev(
        memory.size,
        memory.merge,
        memory.dump,
        memory.prealloc,
        share,
        list(memory.host_nodes),
        memory.policy,
        id,
        memory.reserve,
    )


@dataclass(frozen=True)
class IothreadInfo:
    """One I/O thread."""

    id: str
    thread_id: int
    poll_max_ns: int
    poll_grow: int
    poll_shrink: int
    aio_max_batch: int


@command("query-iothreads", preconfig=True)
def query_iothreads(vm: Vm) -> list[IothreadInfo]:
    """The I/O threads that the user has made."""
    return [
        IothreadInfo(
            id=node.id,
            thread_id=node.thread_id,
            poll_max_ns=node.poll_max_ns,
            poll_grow=node.poll_grow,
            poll_shrink=node.poll_shrink,
            aio_max_batch=0,
        )
        for node in vm.root.children["objects"].children.values()
        if isinstance(node, IoThread)
    ]


@command("balloon")
def balloon(vm: Vm, value: Annotated[int, Doc("bytes that the guest is to have")]) -> None:
    """Ask the guest to use less memory. There is no balloon device, so that this fails."""
    raise DeviceNotActive(NO_BALLOON)


@dataclass(frozen=True)
class BalloonInfo:
    """Answer to `query-balloon`."""

    actual: int


@command("query-balloon")
def query_balloon(vm: Vm) -> BalloonInfo:
    """How much memory the guest uses. There is no balloon device, so that this fails."""
    raise DeviceNotActive(NO_BALLOON)


@command("dumpdtb")
def dumpdtb(vm: Vm, filename: Annotated[str, Doc("replaced if it exists")]) -> None:
    """Write the guest's device tree to a file, as a binary."""
    blob = getattr(vm.machine, "fdt_blob", b"")
    if not blob:
        raise QmpError("This machine doesn't have a FDT")
    try:
        Path(filename).write_bytes(blob)
    except OSError as error:
        raise QmpError(f"Error saving FDT to file {filename}: {error.strerror}") from None


# -- what no machine here has: clients ask nevertheless


class TpmModel(Enum):
    """Kinds of TPM devices."""

    TPM_TIS = "tpm-tis"
    TPM_CRB = "tpm-crb"
    TPM_SPAPR = "tpm-spapr"


class TpmType(Enum):
    """Kinds of TPM backends."""

    PASSTHROUGH = "passthrough"
    EMULATOR = "emulator"


@command("query-tpm-models")
def query_tpm_models() -> list[TpmModel]:
    """Kinds of TPM devices: none."""
    return []


@command("query-tpm-types")
def query_tpm_types() -> list[TpmType]:
    """Kinds of TPM backends: none."""
    return []


@command("query-pci")
def query_pci() -> list[Any]:
    """The PCI buses: none."""
    return []


@dataclass(frozen=True)
class VncInfo:
    """Answer to `query-vnc`."""

    enabled: bool


@command("query-vnc")
def query_vnc() -> VncInfo:
    """The VNC server: there is none."""
    return VncInfo(False)


class StatsTarget(Enum):
    """What statistics are about."""

    VM = "vm"
    VCPU = "vcpu"


def _stats_variants(arguments: ObjectType) -> ObjectType:
    common = tuple(entry for entry in arguments.members if entry.name != "vcpus")
    vcpus = tuple(entry for entry in arguments.members if entry.name == "vcpus")
    cases = (
        ("vcpu", ObjectType("StatsVCPUFilter", vcpus)),
        ("vm", ObjectType("StatsVMFilter", ())),
    )
    words = word_type("StatsTarget", ("vm", "vcpu"))
    return ObjectType(arguments.name, common, tag="target", variants=cases, words=words)


@command("query-stats", variants=_stats_variants)
def query_stats(
    target: StatsTarget, providers: list[Any] | None = None, vcpus: list[str] | None = None
) -> list[Any]:
    """Statistics of the accelerator: it has none."""
    return []


@command("query-stats-schemas")
def query_stats_schemas(provider: str | None = None) -> list[Any]:
    """What statistics there are: none."""
    return []


class CommandLineParameterType(Enum):
    """What a key's value is."""

    STRING = "string"
    BOOLEAN = "boolean"
    NUMBER = "number"
    SIZE = "size"


@dataclass(frozen=True)
class CommandLineParameterInfo:
    """One key of an option's value."""

    name: str
    type: CommandLineParameterType
    help: str | None = None


@dataclass(frozen=True)
class CommandLineOptionInfo:
    """One option."""

    option: str
    parameters: list[CommandLineParameterInfo]


@command("query-command-line-options", preconfig=True)
def query_command_line_options(
    vm: Vm, option: Annotated[str | None, Doc("only this one")] = None
) -> list[CommandLineOptionInfo]:
    """The options of the command line that take keys and values."""
    found = [
        CommandLineOptionInfo(
            info.name,
            [
                CommandLineParameterInfo(
                    key.name, CommandLineParameterType(key.type_name), key.help or None
                )
                for key in info.keys
            ],
        )
        for info in vm.command_line_options()
        if option in (None, info.name)
    ]
    if option is not None and not found:
        raise QmpError(f"invalid option name: {option}")
    return found
