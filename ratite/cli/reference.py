"""The reference manual, from the declarations. `python -m ratite.cli.reference [DIRECTORY]` writes
its pages, to `docs/reference` if no directory is given.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ratite.cli.machine_option import ACCEL
from ratite.cli.options import OPTIONS, Group, Option
from ratite.core.size import format_size
from ratite.cpu.riscv import MODELS
from ratite.devices import Device
from ratite.devices.register import Register
from ratite.machines.facts import infos
from ratite.machines.machine import Machine, machine_types
from ratite.monitor.manual import hmp_page, qmp_page, trace_page
from ratite.qom import Object, Property, Required, registry

GENERATED = (
    "Generated from the declarations in {} by `python -m ratite.cli.reference`; a wrong line here "
    "is a wrong declaration there."
)
ACCESSES = {"rw": "read, write", "ro": "read", "wo": "write"}
CHARDEV = "chardev"
CPU = "cpu"


# -- options


def _machine_properties() -> Iterator[tuple[str, str]]:
    yield "`accel`", ACCEL
    for info in infos():
        yield f"`{info.name}`", info.description


def options_page() -> str:
    """Every option of the command line."""
    lines = ["# Options", "", GENERATED.format("`ratite/cli/options.py`"), ""]
    lines += [
        "The names and meanings are those of QEMU's command line. An option may begin with one "
        "dash or with two. Properties of devices, machines and the rest are on the page about "
        "[types](devices.md).",
        "",
    ]
    for group in Group:
        lines += [f"## {group.value}", ""]
        for option in OPTIONS:
            if option.group is group:
                lines += _option(option)
    return _page(lines)


def _option(option: Option) -> Iterator[str]:
    names = " or ".join(f"`-{name}`" for name in option.names.split())
    yield from (f"### {names}", "")
    if option.form:
        first = option.names.split()[0]
        yield from ("```", f"-{first} {option.form}", "```", "")
    yield from (f"{option.help[:1].upper()}{option.help[1:]}.", "")
    if option.topic is not None and option.form:
        yield from (f"`-{option.names.split()[0]} help` lists what there is.", "")


# -- types


def devices_page() -> str:
    """Every type that has properties: devices, objects, character devices, boards, CPUs."""
    lines = ["# Types and their properties", "", GENERATED.format("the classes of `ratite`"), ""]
    lines += [
        "Properties are set on the command line (`-device TYPE,PROPERTY=VALUE`) or over QMP "
        "(`device_add`, `object-add`, `chardev-add`); `qom-get` reads them.",
        "",
    ]
    sections: tuple[tuple[str, Callable[[type[Object]], bool]], ...] = (
        ("Devices that `-device` makes", _is_pluggable),
        ("Devices of the boards", lambda cls: _is_device(cls) and not _is_pluggable(cls)),
        ("Objects that `-object` makes", lambda cls: cls.is_user_creatable()),
        ("Character devices", lambda cls: CHARDEV in cls.lineage() and bool(cls.properties())),
        ("CPUs", lambda cls: CPU in cls.lineage()),
    )
    types = [cls for cls in registry.all() if is_ours(cls) and not cls.is_abstract()]
    for heading, belongs in sections:
        lines += [f"## {heading}", ""]
        for cls in types:
            if belongs(cls):
                lines += _type(cls)
    lines += ["## Machines", "", "What every board takes:", ""]
    lines += _table(("property", "meaning"), _machine_properties())
    for board in filter(is_ours, machine_types("riscv64").values()):
        lines += _board(board)
    return _page(lines)


def is_ours(cls: type) -> bool:
    """Whether a type is ratite's, not a user's or a test's."""
    return cls.__module__.startswith("ratite.")


def _is_device(cls: type[Object]) -> bool:
    return issubclass(cls, Device)


def _is_pluggable(cls: type[Object]) -> bool:
    return issubclass(cls, Device) and cls.is_pluggable()


def _type(cls: type[Object]) -> Iterator[str]:
    yield from (f"### `{_name(cls)}`", "")
    yield from (inspect.cleandoc(cls.__doc__ or ""), "")
    if issubclass(cls, Device):
        yield from _source(cls)
        if cls.bus_type not in (None, "System"):
            yield from (f"It plugs into a bus of type `{cls.bus_type}`.", "")
    yield from _properties(cls.properties().values())
    if issubclass(cls, Device):
        yield from _registers(cls)


def _name(cls: type[Object]) -> str:
    """What users write."""
    for name, model in MODELS.items():
        if cls is model:
            return f"-cpu {name}"
    if CHARDEV in cls.lineage():
        return f"-chardev {cls.type_name.removeprefix('chardev-')}"
    return cls.type_name


def _source(cls: type[Object]) -> Iterator[str]:
    """What the device's module says it is modelled on, and what it leaves out."""
    doc = inspect.getdoc(inspect.getmodule(cls)) or ""
    for paragraph in doc.split("\n\n")[1:]:
        if paragraph.startswith(("Source:", "Not modelled:")):
            yield from (paragraph.replace("\nNot modelled:", "\n\nNot modelled:"), "")


def _properties(properties: Iterable[Property]) -> Iterator[str]:
    rows = [
        (f"`{entry.name}`", _type_of(entry), _default(entry), entry.description or "")
        for entry in properties
    ]
    if rows:
        yield from _table(("property", "type", "default", "meaning"), rows)


def _type_of(entry: Property) -> str:
    if entry.choices:
        return ", ".join(f"`{word}`" for word, _ in entry.choices)
    return f"`{entry.type_name}`"


def _default(entry: Property) -> str:
    if entry.default is Required.REQUIRED:
        return "must be set"
    if entry.default is None:
        return ""
    return f"`{entry.to_text(entry.default)}`"


def _registers(cls: type[Device]) -> Iterator[str]:
    registers = sorted(_declared(cls), key=lambda register: (register.offset, register.name))
    rows = [
        (
            f"`{register.offset:#x}`",
            f"`{register.name}`",
            str(8 * register.size),
            ACCESSES[register.access],
            f"`{register.reset:#x}`" if register.stored else "",
        )
        for register in registers
    ]
    if rows:
        yield from _table(("offset", "register", "bits", "the guest may", "after reset"), rows)


def _declared(cls: type[Device]) -> Iterator[Register]:
    names = {name for above in cls.__mro__ for name in vars(above)}
    for name in names:
        entry = inspect.getattr_static(cls, name)
        if isinstance(entry, Register):
            yield entry


def _board(board: type[Machine]) -> Iterator[str]:
    yield from (f"### `-machine {board.name}`", "")
    yield from (inspect.cleandoc(board.__doc__ or ""), "")
    facts = f"Up to {board.max_cpus} CPUs"
    if board.ram_id:
        facts += f"; {format_size(board.default_memory)} of memory unless `-m` says otherwise"
    yield from (f"{facts}.", "")
    yield from _properties(board.properties().values())
    memory_map = getattr(board, "MEMMAP", None)
    if memory_map is not None:
        rows = [
            (
                f"`{span.base:#x}`",
                "as `-m` says" if span.size is None else format_size(span.size),
                name,
            )
            for name, span in memory_map.spans()
        ]
        yield from _table(("address", "size", "what"), rows)


# -- pages


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    heads = tuple(heads)
    for row in (heads, ("---",) * len(heads), *rows):
        cells = (cell.replace("|", "\\|") for cell in row)
        yield f"| {' | '.join(cells)} |"
    yield ""


def _page(lines: Iterable[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "options.md": options_page,
    "devices.md": devices_page,
    "hmp.md": hmp_page,
    "qmp.md": qmp_page,
    "trace.md": trace_page,
}


def main(directory: Path) -> None:
    """Write all pages."""
    for name, page in PAGES.items():
        (directory / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/reference"))
