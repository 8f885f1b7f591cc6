"""Transcripts: commands to a monitor and its answers, as text that can be read and compared.

    $ -drive file=a.img,...        the machine's options
    > blockdev-del {"node-name": "f0"}    a command of QMP
    {"return": {}}
    > hmp info block               a command for people
    d0 (#block): a.img (raw)

    python tests/monitor/golden/transcript.py FILE... [-q qemu-system-riscv64]

answers the commands of files anew, by QEMU. What differs from run to run is left out of answers.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MACHINE = "-M virt -m 256M -smp 2 -S -nodefaults -display none -bios none"
FILES = ("a.img", "b.img", "c.img", "d.img")
SIZE = 1 << 20
_VARYING = re.compile(r"actual-size|idle_time_ns|\w+_total_time_ns")

Ask = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass
class Scene:
    """One transcript."""

    options: str
    steps: list[tuple[str, str]] = field(default_factory=list)  # commands and their answers

    @classmethod
    def read(cls, path: Path) -> Scene:
        """From a file."""
        scene = cls("")
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("$ "):
                scene.options = f"{scene.options} {line[2:]}".strip()
            elif line.startswith("> "):
                scene.steps.append((line[2:], ""))
            elif scene.steps:
                command, answer = scene.steps[-1]
                scene.steps[-1] = (command, f"{answer}{line}\n")
        return scene

    def answered(self, ask: Ask) -> Scene:
        """The same with answers of somebody else's."""
        return Scene(self.options, [(command, _answer(ask, command)) for command, _ in self.steps])

    @property
    def text(self) -> str:
        """As a file."""
        steps = "".join(f"> {command}\n{answer}" for command, answer in self.steps)
        return f"$ {self.options}\n{steps}"


def make_files(directory: Path) -> None:
    """What the options and commands name."""
    for name in FILES:
        (directory / name).write_bytes(bytes(SIZE))


def _answer(ask: Ask, command: str) -> str:
    if command.startswith("hmp "):
        arguments = {"command-line": command[4:]}
        reply = ask({"execute": "human-monitor-command", "arguments": arguments})
        text = str(reply["return"]).replace("\r", "")
        lines = [line for line in text.split("\n") if not line.startswith("disk size: ")]
        return _anonymous("\n".join(lines))
    name, _, arguments_text = command.partition(" ")
    request: dict[str, Any] = {"execute": name}
    if arguments_text:
        request["arguments"] = json.loads(arguments_text)
    return _anonymous(json.dumps(_lasting(ask(request)), sort_keys=True)) + "\n"


def _lasting(value: Any) -> Any:
    """Without what differs from run to run."""
    if isinstance(value, dict):
        return {k: _lasting(v) for k, v in value.items() if not _VARYING.fullmatch(k)}
    return [_lasting(item) for item in value] if isinstance(value, list) else value


def _anonymous(text: str) -> str:
    return re.sub(r"#block\d+", "#block", text)


def main() -> None:
    """Answer files anew."""
    sys.path.insert(0, str(Path(__file__).parents[3]))
    from tests.monitor.golden.capture import Client

    words = sys.argv[1:]
    program = "qemu-system-riscv64"
    if "-q" in words:
        at = words.index("-q")
        program = words[at + 1]
        del words[at : at + 2]
    for name in words:
        scene = Scene.read(Path(name))
        with tempfile.TemporaryDirectory() as directory:
            make_files(Path(directory))
            path = Path(directory) / "qmp"
            options = f"{MACHINE} {scene.options} -qmp unix:{path},server=on,wait=off".split()
            with subprocess.Popen([program, *options], cwd=directory) as process:
                while not path.exists():
                    time.sleep(0.05)
                client = Client(path)
                Path(name).write_text(scene.answered(client.ask).text, encoding="utf-8")
                client.ask({"execute": "quit"})
                process.wait()


if __name__ == "__main__":
    main()
