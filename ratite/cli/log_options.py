"""`-d` and `-trace`, and the log that they make."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ratite.cli.draft import Draft, Topic, Wanted
from ratite.cli.keyval import Settings, suggest
from ratite.core import ConfigError, HostError, Log, LogCategory
from ratite.core.log import TRACE_PREFIX, parse_items
from ratite.core.signals import interruptible
from ratite.machines.config import MachineConfig, TraceConfig

_HELP = ("help", "?")


def items(text: str) -> str:
    """The words of `-d`."""
    known = [str(name).lower() for name, item in LogCategory.__members__.items() if item]
    for word in filter(None, text.split(",")):
        if word.startswith(TRACE_PREFIX):
            if word.removeprefix(TRACE_PREFIX) in _HELP:
                raise Wanted(Topic.TRACE)
        elif word not in known:
            raise ConfigError(f"'{word}' is no log item{suggest(word, [*known, TRACE_PREFIX])}")
    return text


def trace(draft: Draft, text: str) -> None:
    """`[[enable=]PATTERN][,events=FILE][,file=FILE]`; may be given several times."""
    settings = Settings.read(text, "enable")
    pattern, events = settings.text("enable") or "", settings.path("events")
    file = settings.path("file")
    settings.done()
    if pattern in _HELP:
        raise Wanted(Topic.TRACE)
    draft.append("log.traces", TraceConfig(pattern, events))
    if file is not None:
        draft.set("log.trace_file", file)


def open_log(machine: MachineConfig, warn: Callable[[str], None]) -> Log:
    """Make a machine's log. `warn` is given a line for each trace event that does not exist. Raises
    `ConfigError` or `HostError`.
    """
    config = machine.log
    categories, patterns = parse_items(config.items)
    wanted = [(f"-d {TRACE_PREFIX}", pattern) for pattern in patterns]
    for option in config.traces:
        wanted += [("-trace ", pattern) for pattern in _patterns(option)]
    path = config.trace_file or config.file
    log = Log(categories, sys.stderr) if path is None else Log.to_file(categories, str(path))
    log.code_ranges = tuple((item.first, item.last) for item in config.ranges)
    log.perf_map = config.perf_map
    log.timestamps = machine.messages.timestamp
    for name, pattern in wanted:
        warning = log.trace_events(pattern)
        if warning:
            warn(f"{name}{pattern}: warning: {warning}")
    return log


def _patterns(option: TraceConfig) -> Iterator[str]:
    if option.pattern:
        yield option.pattern
    if option.file is not None:
        yield from _patterns_in(option.file)


def _patterns_in(path: Path) -> Iterator[str]:
    """One in each line, but for empty ones and those that begin with `#`."""
    try:
        with interruptible(), path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.strip() and not line.startswith("#"):
                    yield line.strip()
    except OSError as error:
        raise HostError(f"-trace: cannot read '{path}': {error.strerror}") from error
