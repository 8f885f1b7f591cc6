"""What is outside the subset is refused with file, line and reason."""

from __future__ import annotations

import gc
import importlib.util
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from ratite.native import NativeError
from ratite.native.frontend import Program
from ratite.native.identity import ROOT
from ratite.native.ir import IrError, verify
from ratite.native.subset import _functions_of

EXAMPLES = Path(__file__).with_name("subset_examples.py")
REASON = re.compile(r"# REFUSED: (.*)")


@pytest.fixture(scope="module")
def examples() -> ModuleType:
    spec = importlib.util.spec_from_file_location("subset_examples", EXAMPLES)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["subset_examples"] = module
    spec.loader.exec_module(module)
    return module


def expected(name: str) -> tuple[int, str]:
    """Line and reason that the example's comment gives."""
    lines = EXAMPLES.read_text().splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(f"def {name}("))
    for at in range(start, len(lines)):
        match = REASON.search(lines[at])
        if match is not None:
            return at + 1, match[1]
    raise AssertionError(name)


@pytest.mark.parametrize(
    "name", ["with_list", "with_try", "with_default", "with_float", "with_lambda"]
)
def test_syntax_is_refused_when_the_function_is_defined(examples: ModuleType, name: str) -> None:
    line, reason = expected(name)
    with pytest.raises(NativeError) as refused:
        getattr(examples, name)()
    assert reason in str(refused.value)
    place = re.match(r"(.*):(\d+): ", str(refused.value))
    assert place is not None and place[1] == str(EXAMPLES)
    assert abs(int(place[2]) - line) <= 1


@pytest.mark.parametrize(
    "name",
    [
        "mixed_widths",
        "untyped",
        "changed_type",
        "wrong_result",
        "mixed_comparison",
        "no_member",
        "calls_python",
        "not_constant",
    ],
)
def test_types_are_refused_when_code_is_generated(examples: ModuleType, name: str) -> None:
    line, reason = expected(name)
    with pytest.raises(NativeError) as refused:
        Program().require(getattr(examples, name).__native__, ())
    assert f"{EXAMPLES}:{line}: " in str(refused.value) and reason in str(refused.value)


def test_a_name_that_one_path_does_not_set_is_found_by_the_verifier(examples: ModuleType) -> None:
    with pytest.raises(IrError, match=expected("unset")[1]):
        verify(Program().require(examples.unset.__native__, ()))


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads take turns whenever garbage is collected, as finalisers may make them."""

    def switch(phase: str, info: dict[str, int]) -> None:
        time.sleep(0)

    gc.callbacks.append(switch)
    yield
    gc.callbacks.remove(switch)


def test_sources_are_parsed_on_several_threads(switching: None) -> None:
    paths = [str(path) for path in (ROOT / "isa" / "riscv").glob("rv*.py")]
    failed: list[BaseException] = []

    def parse(path: str) -> None:
        try:
            for again in range(3):
                _functions_of.__wrapped__(path, again)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=parse, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
