"""What a person does to the guest: keys, and asking it for memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from ratite.monitor.commands import keyboard, machines
from ratite.monitor.commands.keyboard import KeyCode, KeyNumber, QKeyCode
from ratite.monitor.hmp.command import Completed, Number, Refusal, Shell, hmp


def _keys(shell: Shell) -> Iterable[str]:
    return (key.value for key in QKeyCode)


@hmp("sendkey", "send keys to the VM (e.g. 'sendkey ctrl-alt-f1', default hold time=100 ms)")
def sendkey(shell: Shell, keys: Annotated[str, Completed(_keys)], hold_ms: Number = 100) -> None:
    """Press keys, named or by number, joined by `-`."""
    keyboard.send_key([_key(word) for word in keys.split("-")], hold_ms)


def _key(word: str) -> KeyNumber | KeyCode:
    if word == "<":
        return KeyCode(QKeyCode("less"))
    try:
        return KeyNumber(int(word, 16)) if word.startswith("0x") else KeyCode(QKeyCode(word))
    except ValueError:
        raise Refusal(f"invalid parameter: {word}") from None


@hmp("balloon", "request VM to change its memory allocation (in MB)")
def balloon(shell: Shell, target: Number) -> None:
    """Ask the guest to use so much memory."""
    machines.balloon(shell.vm, target << 20)
