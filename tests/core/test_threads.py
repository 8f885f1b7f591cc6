"""Names as the host shows them."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from ratite.core.threads import NamedThread, name_process, name_threads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's /proc")


def shown_name(thread_name: str) -> str:
    """What the host calls a thread of this name."""
    names: list[str] = []

    def look() -> None:
        names.append(Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text().strip())

    thread = NamedThread(thread_name, look)
    thread.start()
    thread.join()
    return names[0]


def test_threads_are_shown_by_their_names_if_that_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(NamedThread, "shown", False)
    assert shown_name("clock") != "clock"
    name_threads()
    assert shown_name("clock") == "clock"
    assert shown_name("a name that is too long") == "a name that is"


def test_the_process_has_a_name() -> None:
    comm = Path("/proc/self/comm")
    before = comm.read_text().strip()
    name_process("guest-7")
    assert comm.read_text() == "guest-7\n"
    name_process(before)
