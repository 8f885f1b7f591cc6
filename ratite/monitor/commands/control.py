"""The monitor itself: negotiation, version, the schema, and the way to HMP.

Source: QEMU's QMP reference, "QMP monitor control" and "QMP introspection".
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any

import ratite.monitor.events  # noqa: F401 - the schema has all events
from ratite.monitor.command import COMMANDS, command, load
from ratite.monitor.errors import QmpError
from ratite.monitor.event import EVENTS
from ratite.monitor.hmp.command import Shell
from ratite.monitor.introspect import schema_of
from ratite.monitor.later import Later
from ratite.monitor.session import Session
from ratite.monitor.version import COMPATIBLE, PACKAGE
from ratite.monitor.vm import Vm
from ratite.qom import Doc

NO_UUID = "00000000-0000-0000-0000-000000000000"


class Capability(Enum):
    """What a client can switch on."""

    OOB = "oob"


@command("qmp_capabilities", preconfig=True)
def qmp_capabilities(
    enable: Annotated[list[Capability] | None, Doc("what to switch on")] = None,
) -> None:
    """Begin the session. It is the first command that a client sends, and is sent once."""


@dataclass(frozen=True)
class VersionTriple:
    """Numbers of a version."""

    major: int
    minor: int
    micro: int


@dataclass(frozen=True)
class VersionInfo:
    """Answer to `query-version`."""

    qemu: Annotated[VersionTriple, Doc("the version of QEMU that the protocol is that of")]
    package: Annotated[str, Doc("name and version of the program")]


@command("query-version", preconfig=True)
def query_version() -> VersionInfo:
    """Version of the protocol and of the program."""
    return VersionInfo(VersionTriple(*COMPATIBLE), PACKAGE)


@dataclass(frozen=True)
class CommandInfo:
    """One entry of `query-commands`."""

    name: str


@command("query-commands", preconfig=True)
def query_commands() -> list[CommandInfo]:
    """All commands."""
    return [CommandInfo(name) for name in sorted(load())]


class JsonType(Enum):
    """JSON types of built-in types."""

    STRING = "string"
    NUMBER = "number"
    INT = "int"
    BOOLEAN = "boolean"
    NULL = "null"
    OBJECT = "object"
    ARRAY = "array"
    VALUE = "value"


@functools.cache
def _schema() -> list[dict[str, object]]:
    load()
    return schema_of(COMMANDS.values(), EVENTS.values())


@command("query-qmp-schema", preconfig=True)
def query_qmp_schema() -> list[Any]:
    """The schema: every command and event and the types that they use, in QEMU's form."""
    return list(_schema())


@command("human-monitor-command")
def human_monitor_command(
    vm: Vm,
    session: Session,
    command_line: Annotated[str, Doc("a line as typed into the monitor for people")],
    cpu_index: Annotated[int, Doc("the CPU that it is about")] = 0,
) -> str | Later:
    """Run a command of the monitor for people; the answer is what it prints."""
    from ratite.monitor.hmp.shell import run_line

    if cpu_index and not 0 <= cpu_index < len(vm.machine.vcpus):
        raise QmpError("Parameter 'cpu-index' expects a CPU number")
    inner = Session(session.chardev, cpu_index, session.fds, session.dump_format)
    found = run_line(Shell(vm, inner), command_line)
    if isinstance(found, Later):
        return found.then(lambda outcome: outcome().replace("\n", "\r\n"))
    return found.replace("\n", "\r\n")


@dataclass(frozen=True)
class NameInfo:
    """Answer to `query-name`."""

    name: Annotated[str | None, Doc("what -name says")] = None


@command("query-name", preconfig=True)
def query_name(vm: Vm) -> NameInfo:
    """The guest's name."""
    return NameInfo(vm.config.name)


@dataclass(frozen=True)
class UuidInfo:
    """Answer to `query-uuid`."""

    UUID: str


@command("query-uuid", preconfig=True)
def query_uuid(vm: Vm) -> UuidInfo:
    """The guest's UUID; all zeros if it has none."""
    return UuidInfo(vm.config.uuid or NO_UUID)


@dataclass(frozen=True)
class KvmInfo:
    """Answer to `query-kvm`."""

    enabled: Annotated[bool, Doc("whether the machine uses KVM")]
    present: Annotated[bool, Doc("whether it could")]


@command("query-kvm")
def query_kvm(vm: Vm) -> KvmInfo:
    """Whether KVM runs the guest: it does not."""
    return KvmInfo(False, False)


class Target(Enum):
    """Instruction sets, by QEMU's names."""

    RISCV64 = "riscv64"
    X86_64 = "x86_64"
    AARCH64 = "aarch64"


@dataclass(frozen=True)
class TargetInfo:
    """Answer to `query-target`."""

    arch: Target


@command("query-target")
def query_target(vm: Vm) -> TargetInfo:
    """The guest's instruction set."""
    return TargetInfo(Target(vm.machine.isa))
