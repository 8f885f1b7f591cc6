"""The pages of the reference manual about the monitors, from the commands' own declarations."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator

import ratite.monitor.events  # noqa: F401 - enters the events
from ratite.core.trace import all_events
from ratite.monitor.command import Command, load
from ratite.monitor.event import EVENTS, EventType
from ratite.monitor.hmp import command as hmp
from ratite.monitor.types import (
    AlternateType,
    ArrayType,
    EnumType,
    LazyType,
    Member,
    ObjectType,
    Type,
    UnionType,
)

_NAMED = (EnumType, ObjectType, UnionType, AlternateType)

INTRODUCTION = """\
# QMP: the monitor for programs

Generated from the declarations in `ratite/monitor` by `python -m ratite.cli.reference`; a wrong
line here is a wrong declaration there.

The protocol is QEMU's: the server greets, the client answers with `qmp_capabilities`, then sends
requests, one JSON object each, and gets one answer for each, in order, and events in between. The
`qemu` numbers of the greeting say which QEMU's protocol it is (7.2: management tools refuse what is
too old for them), `package` says what it really is. `query-qmp-schema` tells the same as this page
to programs.

Bounds: a request has at most 4 MiB and 256 levels of nesting. A client that does not read its
answers is not read from either; events beyond 1 MiB that wait for it are lost.
"""

PRECONFIG = "Also before the machine is built (`-preconfig`)."

TRACE_INTRODUCTION = """\
# Trace events

Generated from the declarations, beside the code that emits the events, by `python -m
ratite.cli.reference`; a wrong line here is a wrong declaration there.

What `-trace`, `trace-event-set-state` and `trace-event` switch on. Names are QEMU's where QEMU has
the event. In parentheses what is told.
"""

HMP_INTRODUCTION = """\
# HMP: the monitor for people

Generated from the declarations in `ratite/monitor/hmp` by `python -m ratite.cli.reference`; a wrong
line here is a wrong declaration there. In parentheses what `help` says.

Ctrl-A C switches between the guest and the monitor where they share a terminal. The tab key
completes; the arrow keys edit the line and bring back earlier ones. Programs run these commands
with QMP's `human-monitor-command`, Python with `vm.monitor("info status")`.

Numbers are integer expressions (`0x1000+4*2`, `$pc`, `'a'`) of 64 bits, division being signed. A
format after a slash, as in `x/4xw`, is a count, a letter (`x`, `d`, `u`, `o`, `c`, or `i` for
instructions) and a size (`b`, `h`, `w`, `g` for 1, 2, 4, 8 bytes); what is left out is as it was
last. A text with spaces is in double quotes.
"""


def qmp_page() -> str:
    """The page about QMP."""
    commands = sorted(load().values(), key=lambda command: command.name)
    lines = [INTRODUCTION, "## Commands", ""]
    for command in commands:
        lines += _command(command)
    lines += ["## Events", ""]
    for event in sorted(EVENTS.values(), key=lambda event: event.name):
        lines += _event(event)
    lines += ["## Types", ""]
    for type_ in _named_types(commands):
        lines += _type(type_)
    return "\n".join(lines).rstrip() + "\n"


def _command(command: Command) -> Iterator[str]:
    yield from (f"### `{command.name}`", "", command.doc, "")
    if isinstance(command.arguments, UnionType):
        members = [f"- the members of {_shown(command.arguments)}"]
    else:
        members = list(_members(command.arguments.members))
        if command.arguments.rest:
            members.append("- further members, as the type has properties")
    if members:
        yield from ("Arguments:", "", *members, "")
    if command.returns is not None:
        yield from (f"Returns {_shown(command.returns)}.", "")
    if command.preconfig:
        yield from (PRECONFIG, "")
    yield from (f"Since {command.since}.", "")


def _event(event: EventType) -> Iterator[str]:
    yield from (f"### `{event.name}`", "", inspect.cleandoc(event.cls.__doc__ or ""), "")
    members = list(_members(event.data.members))
    if members:
        yield from ("Data:", "", *members, "")
    if event.limit_ns:
        per = f" for each `{event.key}`" if event.key else ""
        yield from (f"At most one every {event.limit_ns // 1_000_000} ms{per}.", "")
    yield from (f"Since {event.since}.", "")


def _members(members: Iterable[Member]) -> Iterator[str]:
    for member in members:
        optional = ", optional" if member.optional else ""
        doc = f": {member.doc}" if member.doc else ""
        yield f"- `{member.name}` ({_shown(member.type)}{optional}){doc}"


def _shown(type_: Type) -> str:
    if isinstance(type_, ArrayType):
        return f"array of {_shown(type_.element)}"
    if isinstance(type_, (*_NAMED, LazyType)):
        return f"`{type_.title}`"
    return type_.title


def _named_types(commands: Iterable[Command]) -> list[Type]:
    """Enums, objects and unions that commands and events use, by name."""
    found: dict[str, Type] = {}

    def visit(type_: Type) -> None:
        if isinstance(type_, _NAMED):
            if type_.title in found:
                return
            found[type_.title] = type_
        for part in type_.parts():
            visit(part)

    for event in EVENTS.values():
        for part in event.data.parts():
            visit(part)
    for command in commands:
        if isinstance(command.arguments, UnionType):
            visit(command.arguments)
        else:
            for part in command.arguments.parts():
                visit(part)
        if command.returns is not None:
            visit(command.returns)
    return [found[name] for name in sorted(found)]


def _type(type_: Type) -> Iterator[str]:
    yield from (f"### {type_.title}", "")
    match type_:
        case EnumType():
            yield from (f"One of {', '.join(f'`{word}`' for word in type_.words)}.", "")
        case ObjectType():
            yield from (inspect.cleandoc(type_.cls.__doc__ or "") if type_.cls else "", "")
            yield from (*_members(type_.members), "")
        case UnionType():
            if type_.shared:
                yield from (*_members(type_.shared), "")
            yield from (f"What else it has depends on `{type_.tag}`:", "")
            inside = f", in the member `{type_.nested}`" if type_.nested else ""
            for word, case in type_.variants.items():
                yield f"- `{word}`: the members of `{case.title}`{inside}"
            yield ""
        case AlternateType():
            yield from (f"One of {', '.join(_shown(choice) for choice in type_.choices)}.", "")


def hmp_page() -> str:
    """The page about the monitor for people."""
    hmp.load()
    lines = [HMP_INTRODUCTION]
    for heading, table in (("## Commands", hmp.COMMANDS), ("## `info`", hmp.INFO)):
        lines += [heading, ""]
        commands = {command.names[0]: command for command in table.values()}
        for name in sorted(commands):
            lines += _hmp_command(commands[name])
    return "\n".join(lines).rstrip() + "\n"


def _hmp_command(command: hmp.HmpCommand) -> Iterator[str]:
    head, _, text = command.usage.partition(" -- ")
    yield from (f"### `{head.rstrip()}`", "")
    doc = inspect.cleandoc(command.function.__doc__ or "")
    yield from (f"{doc} ({' '.join(text.split())})", "")
    if command.preconfig:
        yield from (PRECONFIG, "")


def trace_page() -> str:
    """The page about trace events."""
    lines = [TRACE_INTRODUCTION]
    for event in all_events():
        told = ", ".join(inspect.signature(event.describe).parameters)
        lines.append(f"- `{event.name}` ({told}): {event.summary}")
    return "\n".join(lines) + "\n"
