"""A QMP client, as small as a measurement needs."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

from bench.side_by_side import BenchError

PATIENCE_S = 60


class Qmp:
    """A connection to a machine's monitor."""

    def __init__(self, path: Path) -> None:
        """Connects when the machine listens. Raises `BenchError` if it never does."""
        self._socket = _connect(path)
        self._lines = self._socket.makefile("rb")
        self._lines.readline()  # the greeting
        self.command("qmp_capabilities")

    def __enter__(self) -> Qmp:
        return self

    def __exit__(self, *error: object) -> None:
        self._lines.close()
        self._socket.close()

    def command(self, name: str) -> Any:
        """What a command without arguments returns. Raises `BenchError`."""
        self._socket.sendall(json.dumps({"execute": name}).encode())
        while line := self._lines.readline():
            answer = json.loads(line)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise BenchError(f"{name}: {answer['error']['desc']}")
        raise BenchError(f"{name}: the monitor has hung up")


def _connect(path: Path) -> socket.socket:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE_S)
        try:
            connection.connect(str(path))
            return connection
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            if time.monotonic() > deadline:
                raise BenchError(f"nobody listens at {path}") from None
            time.sleep(0.05)
