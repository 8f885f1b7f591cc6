"""The reference manual says what the declarations say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ratite.cli.options import OPTIONS
from ratite.cli.reference import PAGES, is_ours, main
from ratite.devices import Device
from ratite.monitor.command import load as load_qmp
from ratite.monitor.hmp.command import INFO
from ratite.monitor.hmp.command import load as load_hmp
from ratite.qom import registry

DIRECTORY = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_current(name: str) -> None:
    written = (DIRECTORY / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), "python -m ratite.cli.reference"


def headings(name: str) -> list[str]:
    """The headings of the lowest level."""
    return re.findall(r"^### (.*)$", PAGES[name](), re.MULTILINE)


def test_nothing_is_left_out() -> None:
    found = "\n".join(headings("options.md"))
    assert all(f"`-{name}`" in found for option in OPTIONS for name in option.names.split())
    types = headings("devices.md")
    for cls in registry.all():
        if issubclass(cls, Device) and is_ours(cls) and not cls.is_abstract():
            assert types.count(f"`{cls.type_name}`") == 1
    assert {"`-cpu max`", "`-chardev socket`", "`rng-builtin`", "`-machine virt`"} <= set(types)
    assert headings("qmp.md")[: len(load_qmp())] == [f"`{name}`" for name in sorted(load_qmp())]
    commands = {command.names[0] for command in (*load_hmp().values(), *INFO.values())}
    words = {word for heading in headings("hmp.md") for word in re.split(r"[` |]", heading)}
    assert commands <= words


def test_registers_have_their_offsets() -> None:
    assert "| `0x8` | `ALARM_LOW` | 32 |" in PAGES["devices.md"]()
    assert "| `0x10000000` | 256 B | uart0 |" in PAGES["devices.md"]()


def test_all_pages_are_written(tmp_path: Path) -> None:
    main(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(PAGES)
