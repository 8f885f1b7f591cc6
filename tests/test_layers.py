"""The layer table of ARCHITECTURE.md, section 2, held against every import statement of the
package.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ratite

ROOT = Path(ratite.__file__).parent

BACKENDS = ("block", "net", "chardev", "display")
EVERYTHING = None

# Which package may import which others, besides itself and `core`.
ALLOWED: dict[str, set[str] | None] = {
    "core": set(),
    "native": set(),
    "qom": set(),
    **{name: {"qom"} for name in BACKENDS},
    "memory": {"qom"},
    "isa": {"native"},
    "cpu": {"native", "isa", "memory", "qom"},
    "accel": {"cpu", "isa", "native", "memory"},
    "devices": {"memory", "qom"},
    "machines": {"devices", "cpu", "isa", "native", "memory", "qom"},
    "migration": {"cpu", "devices", "memory", "qom"},
    "gdb": {"cpu", "isa", "native", "devices", "memory", "qom"},
    "user": {"accel", "cpu", "isa", "memory"},
    "monitor": {"machines", "cpu", "devices", "memory", "qom", "migration", *BACKENDS},
    "cli": EVERYTHING,
    "__init__": EVERYTHING,
    "backends": EVERYTHING,  # of the public API: a part of vm
    "drives": EVERYTHING,  # its part that is about drives
    "vm": EVERYTHING,  # the public API, which `__init__` re-exports
    "debugger": EVERYTHING,  # its part that is about gdb
    "qmp": EVERYTHING,  # conveniences on top of it
    "testing": EVERYTHING,
    "pytest_plugin": EVERYTHING,
    "version": set(),
}
WITHOUT_PACKAGE = {"version"}  # plain facts, for anybody


def sources() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def layer_of(module: str) -> str:
    """The part of `ratite.<part>...` that the table speaks of."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def module_of(path: Path) -> str:
    parts = ("ratite", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Every module of ratite's that a file imports, at whatever depth, with the line."""
    package = module_of(path)
    if path.name != "__init__.py":
        package = package.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            if base == "ratite":
                yield from ((node.lineno, f"ratite.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, base


def violations(path: Path) -> list[str]:
    layer = layer_of(module_of(path))
    allowed = ALLOWED[layer]
    if allowed is EVERYTHING:
        return []
    found = []
    for line, name in imported(path):
        if name.split(".")[0] != "ratite":
            continue
        other = layer_of(name)
        if other not in {layer, "core", *WITHOUT_PACKAGE, *allowed}:
            found.append(f"{path.relative_to(ROOT)}:{line}: {layer} imports {name}")
    return found


def test_every_package_has_a_place_in_the_table() -> None:
    packages = {p.name for p in ROOT.iterdir() if p.is_dir() and list(p.rglob("*.py"))}
    assert packages <= set(ALLOWED)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_the_allowed_way(path: Path) -> None:
    assert violations(path) == []


def test_the_walk_sees_imports_inside_functions_and_relative_ones(tmp_path: Path) -> None:
    text = "def f():\n    from ratite.devices import Device\n    from ..memory import space\n"
    path = ROOT / "core" / "imaginary.py"
    nodes = ast.walk(ast.parse(text))
    assert sum(isinstance(node, ast.ImportFrom) for node in nodes) == 2
    assert layer_of("ratite.devices.char") == "devices"
    assert module_of(path) == "ratite.core.imaginary"


def test_package_roots_hold_only_re_exports() -> None:
    for path in ROOT.rglob("__init__.py"):
        if path.parent == ROOT:
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            exports = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            assert docstring or exports or isinstance(node, ast.ImportFrom), (
                f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)[:60]}"
            )
