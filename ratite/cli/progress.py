"""Progress of a long step, on standard error: a bar on a terminal, a line per step elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class TerminalProgress:
    """Shows steps as they come. The terminal is as it was when the context ends."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._finish_step()
        self._bar.stop()

    def step(self, text: str) -> None:
        """End the step before and begin another."""
        self._finish_step()
        if self._console.is_terminal:
            self._bar.start()
            self._task = self._bar.add_task(text, total=None)
        else:
            self._console.print(text, highlight=False, soft_wrap=True)

    def percent(self, value: float) -> None:
        """How far the step is, 0 to 100."""
        if self._task is not None:
            self._bar.update(self._task, completed=value, total=100)

    def _finish_step(self) -> None:
        if self._task is not None:
            self._bar.update(self._task, completed=100, total=100)
            self._task = None
