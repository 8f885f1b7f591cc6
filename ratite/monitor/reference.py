"""The reference manual of the monitors, from the commands' own declarations.

`python -m ratite.monitor.reference` writes it to standard output.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator

import ratite.monitor.events  # noqa: F401 - enters the events
from ratite.core.trace import all_events
from ratite.monitor.command import Command, load
from ratite.monitor.event import EVENTS, EventType
from ratite.monitor.hmp import command as hmp
from ratite.monitor.types import ArrayType, EnumType, Member, ObjectType, Type, UnionType

INTRODUCTION = """\
# Monitor reference

Generated from the declarations in `ratite/monitor` by `python -m ratite.monitor.reference`; a wrong
line here is a wrong declaration there.

## QMP

The protocol is QEMU's: the server greets, the client answers with `qmp_capabilities`, then sends
requests, one JSON object each, and gets one answer for each, in order, and events in between. The
`qemu` numbers of the greeting say which QEMU's protocol it is (7.2: management tools refuse what is
too old for them), `package` says what it really is. `query-qmp-schema` tells the same as this page
to programs.

Bounds: a request has at most 4 MiB and 256 levels of nesting. A client that does not read its
answers is not read from either; events beyond 1 MiB that wait for it are lost.
"""


def reference() -> str:
    """The manual."""
    commands = sorted(load().values(), key=lambda command: command.name)
    lines = [INTRODUCTION, "### Commands", ""]
    for command in commands:
        lines += _command(command)
    lines += ["### Events", ""]
    for event in sorted(EVENTS.values(), key=lambda event: event.name):
        lines += _event(event)
    lines += ["### Types", ""]
    for type_ in _named_types(commands):
        lines += _type(type_)
    lines += _hmp()
    lines += _trace_events()
    return "\n".join(lines).rstrip() + "\n"


def _command(command: Command) -> Iterator[str]:
    yield from (f"#### `{command.name}`", "", command.doc, "")
    members = list(_members(command.arguments.members))
    if command.arguments.rest:
        members.append("- further members, as the type has properties")
    if members:
        yield from ("Arguments:", "", *members, "")
    if command.returns is not None:
        yield from (f"Returns {_shown(command.returns)}.", "")
    if command.preconfig:
        yield from ("Also before the machine is built (`-preconfig`).", "")
    yield from (f"Since {command.since}.", "")


def _event(event: EventType) -> Iterator[str]:
    yield from (f"#### `{event.name}`", "", inspect.cleandoc(event.cls.__doc__ or ""), "")
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
    if isinstance(type_, EnumType | ObjectType | UnionType):
        return f"`{type_.title}`"
    return type_.title


def _named_types(commands: Iterable[Command]) -> list[Type]:
    """Enums, objects and unions that commands and events use, by name."""
    found: dict[str, Type] = {}

    def visit(type_: Type) -> None:
        if isinstance(type_, EnumType | ObjectType | UnionType):
            if type_.title in found:
                return
            found[type_.title] = type_
        for part in type_.parts():
            visit(part)

    roots = [command.arguments for command in commands]
    roots += [event.data for event in EVENTS.values()]
    for root in roots:
        for part in root.parts():
            visit(part)
    for command in commands:
        if command.returns is not None:
            visit(command.returns)
    return [found[name] for name in sorted(found)]


def _type(type_: Type) -> Iterator[str]:
    yield from (f"#### {type_.title}", "")
    match type_:
        case EnumType():
            yield from (f"One of {', '.join(f'`{word}`' for word in type_.words)}.", "")
        case ObjectType():
            yield from (inspect.cleandoc(type_.cls.__doc__ or "") if type_.cls else "", "")
            yield from (*_members(type_.members), "")
        case UnionType():
            yield from (f"What it is depends on `{type_.tag}`:", "")
            inside = f", in the member `{type_.nested}`" if type_.nested else ""
            for word, case in type_.cases.items():
                yield f"- `{word}`: the members of `{case.title}`{inside}"
            yield ""


def _hmp() -> Iterator[str]:
    hmp.load()
    yield from ("## The monitor for people", "")
    yield "Ctrl-A C switches between the guest and the monitor where they share a terminal. The"
    yield "tab key completes; the arrow keys edit the line and bring back earlier ones."
    yield from ("", "```")
    for table in (hmp.COMMANDS, hmp.INFO):
        yield from sorted({command.usage for command in table.values()})
    yield from ("```", "")


def _trace_events() -> Iterator[str]:
    yield from ("## Trace events", "")
    yield "What `-trace`, `trace-event-set-state` and `trace-event` switch on. Names are QEMU's"
    yield from ("where QEMU has the event.", "")
    for event in all_events():
        told = ", ".join(inspect.signature(event.describe).parameters)
        yield f"- `{event.name}` ({told}): {event.summary}"


if __name__ == "__main__":
    sys.stdout.write(reference())
