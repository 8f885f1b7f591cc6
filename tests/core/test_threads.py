"""Names as the host shows them."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from ratite.core.threads import name_process, name_threads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's /proc")


def test_threads_are_shown_by_their_names() -> None:
    go = threading.Event()
    thread = threading.Thread(target=go.wait, name="a name that is too long", daemon=True)
    thread.start()
    name_threads()
    comm = Path(f"/proc/self/task/{thread.native_id}/comm")
    assert comm.read_text() == "a name that is \n"
    go.set()
    thread.join()


def test_the_process_has_a_name() -> None:
    comm = Path("/proc/self/comm")
    before = comm.read_text().strip()
    name_process("guest-7")
    assert comm.read_text() == "guest-7\n"
    name_process(before)
