"""The code of the documents runs as it stands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ratite.cli.draft import Wanted
from ratite.cli.guest import find_guest
from ratite.cli.options import parse
from ratite.core import ConfigError

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs" / "guide").glob("*.md")),
]
BLOCK = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(path: Path, language: str, label: str = "") -> list[str]:
    """The fenced blocks of a document in a language; `label` is the word after it."""
    found = BLOCK.findall(path.read_text(encoding="utf-8"))
    return [text for kind, word, text in found if (kind, word) == (language, label)]


def run(code: str, directory: Path, **environment: str) -> None:
    """Run a program in a process and a directory of its own."""
    program = directory / "document.py"
    program.write_text(code, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, program],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr


RUN_CASES = """
from pathlib import Path
from tests.isa.cases import check, load_cases
from tests.isa.harness import EXECUTORS, executor

for name in EXECUTORS:
    for case in load_cases(str(Path("document").absolute())):
        check(case, executor(name))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if blocks(path, "python")], ids=lambda path: path.name
)
def test_code_runs_in_order(path: Path, tmp_path: Path) -> None:
    code = blocks(path, "python")
    if cases := blocks(path, "cases"):
        (tmp_path / "document.cases").write_text("\n".join(cases), encoding="utf-8")
        code.append(RUN_CASES)
    # what is defined here must not stay in the user's cache
    run("\n".join(code), tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if blocks(path, "python", "pytest")], ids=lambda p: p.name
)
def test_tests_pass(path: Path, tmp_path: Path) -> None:
    (tmp_path / "test_document.py").write_text("\n".join(blocks(path, "python", "pytest")))
    run(f"import pytest, sys\nsys.exit(pytest.main(['-q', {str(tmp_path)!r}]))", tmp_path)


@pytest.mark.boot
@pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if blocks(path, "python", "boot")], ids=lambda p: p.name
)
def test_code_that_boots_a_guest_runs(path: Path, tmp_path: Path) -> None:
    if find_guest() is None:
        pytest.skip("no guest software: `ratite fetch` gets it")
    run("\n".join(blocks(path, "python", "boot")), tmp_path)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_command_lines_are_understood(path: Path) -> None:
    programs = {"ratite": ["run"], "ratite-system-riscv64": []}
    for text in blocks(path, "sh"):
        for line in text.replace("\\\n", " ").splitlines():
            program, *words = shlex.split(line, comments=True) or [""]
            if program not in programs:
                continue
            words = words[1:] if words[:1] == programs[program] else words
            try:
                parse([word for word in words if word != "--debian"])
            except Wanted:
                pass
            except ConfigError as error:
                pytest.fail(f"{path.name}: {line}: {error}")


@pytest.mark.parametrize(
    "path",
    [*DOCUMENTS, *sorted((ROOT / "docs" / "decisions").glob("*.md"))],
    ids=lambda path: path.name,
)
def test_links_and_file_names_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (path.parent / target).exists(), target
    for name in re.findall(r"`((?:ratite|tests|docs|bench)/[\w/.-]+)`", text):
        if "<" not in name:
            assert (ROOT / name).exists() or list(ROOT.glob(f"{name}*")), name
