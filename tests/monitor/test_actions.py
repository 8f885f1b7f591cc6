"""What becomes of a machine whose guest shuts down or resets: `-action`, and its older words."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.monitor.conftest import QmpClient, client_of, peer_of

POWER_OFF, RESET = 0x5555, 0x7777
BOARD = "-M virt -m 64M -S -nodefaults -display none"

Start = Callable[[str], QmpClient]


@pytest.fixture(params=["ratite", pytest.param("qemu", marks=pytest.mark.slow)])
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Starts a process with options, and is its client: ours, and QEMU's, which is to pass the same
    tests.
    """
    with ExitStack() as stack:

        def start_qemu(more: str) -> QmpClient:
            return stack.enter_context(peer_of(f"{BOARD} {more}"))

        def start_ratite(more: str) -> QmpClient:
            command = [sys.executable, "-c", "from ratite.cli.system import main; main()"]
            return stack.enter_context(client_of(command, f"{BOARD} {more}"))

        yield start_qemu if request.param == "qemu" else start_ratite


def guest_that_writes(directory: Path, word: int) -> str:
    """Options for a guest that tells the test finisher what to do."""
    program = directory / "program"
    high = word + 0x800 >> 12
    code = [
        0x0010_02B7,  # lui x5, 0x100
        high << 12 | 6 << 7 | 0x37,  # lui x6, high
        (word - (high << 12) & 0xFFF) << 20 | 6 << 15 | 6 << 7 | 0x13,  # addi x6, x6, low
        0x0062_A023,  # sw x6, 0(x5)
        0x0000_006F,  # jal x0, 0
    ]
    program.write_bytes(struct.pack("<5I", *code))
    return f"-bios {program}"


@pytest.mark.parametrize(
    ("options", "word", "reason", "last"),
    [
        ("", POWER_OFF, "guest-shutdown", "SHUTDOWN"),
        ("-action reboot=shutdown", RESET, "guest-reset", "SHUTDOWN"),
        ("-no-reboot", RESET, "guest-reset", "SHUTDOWN"),
        ("-no-shutdown", POWER_OFF, "guest-shutdown", "STOP"),
        ("-action shutdown=pause", POWER_OFF, "guest-shutdown", "STOP"),
        ("-action shutdown=pause,reboot=shutdown", RESET, "guest-reset", "STOP"),
    ],
)
def test_the_guest_ends(
    start: Start, tmp_path: Path, options: str, word: int, reason: str, last: str
) -> None:
    if word == POWER_OFF and start.__name__ == "start_qemu":
        pytest.skip("QEMU 7.2 exits at once, without events and whatever the action")
    client = start(f"{options} {guest_that_writes(tmp_path, word)}")
    client.result("cont")
    shutdown = client.event("SHUTDOWN")
    assert shutdown["data"] == {"guest": True, "reason": reason}
    if last == "STOP":
        client.event("STOP")
        assert client.result("query-status")["status"] == "shutdown"
        assert client.error("cont")[1].startswith("Resetting the Virtual Machine is required")
    else:
        assert client.rest() == []


def test_actions_of_a_machine_that_is_there(start: Start, tmp_path: Path) -> None:
    client = start(guest_that_writes(tmp_path, RESET))
    client.result("set-action", reboot="shutdown", shutdown="pause")
    client.result("cont")
    assert client.event("SHUTDOWN")["data"]["reason"] == "guest-reset"
    client.event("STOP")
    assert client.result("query-status") == {
        "status": "shutdown",
        "running": False,
        "singlestep": False,
    }


def test_a_reset_begins_anew(start: Start, tmp_path: Path) -> None:
    client = start(guest_that_writes(tmp_path, RESET))
    client.result("cont")
    for _ in range(3):
        assert client.event("RESET")["data"] == {"guest": True, "reason": "guest-reset"}
    client.result("stop")
