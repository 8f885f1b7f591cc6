"""Trace events: declaring, finding and switching them."""

from __future__ import annotations

import io
import re

import pytest

from ratite.core import QUIET, Log, TraceEvent
from ratite.core.trace import all_events, event_names, matching


def told(value: int) -> str:
    """Something happened."""
    return f"value {value}"


def forbidden() -> str:
    """Nobody wants to know."""
    raise AssertionError("an event that is off was put into words")


EVENT, FORBIDDEN = TraceEvent(told), TraceEvent(forbidden)
RTC = "goldfish_rtc_read"


def traced(log: Log, event: TraceEvent[...], *arguments: object) -> None:
    """What a device does."""
    if trace := log.trace:
        trace(event, *arguments)


def rtc_event() -> TraceEvent[...]:
    return next(event for event in all_events() if event.name == RTC)


def test_an_event_is_the_function_that_puts_it_into_words() -> None:
    assert EVENT.name == "told"
    assert EVENT.describe(5) == "value 5"
    assert EVENT.summary == "Something happened."


def test_events_are_found_by_their_declarations_and_are_all_different() -> None:
    events = list(all_events())
    names = [event.name for event in events]
    assert names == event_names() == sorted(set(names))
    assert {RTC, "virtio_queue_notify", "serial_write", "runstate_set"} <= set(names)
    assert all(re.fullmatch("[a-z0-9_]+", name) for name in names)
    assert all(event.summary.endswith(".") for event in events)


def test_nothing_is_formatted_while_nothing_is_traced() -> None:
    log = Log(stream=io.StringIO())
    assert log.trace is None and QUIET.trace is None
    log.switch_events(RTC, True)
    assert log.trace is not None
    log.trace(FORBIDDEN)
    log.switch_events(RTC, False)
    assert log.trace is None


def test_only_events_that_are_on_are_written() -> None:
    out = io.StringIO()
    log = Log(stream=out)
    log.switch_events(RTC, True)
    traced(log, rtc_event(), 8, 0x1234)
    traced(log, EVENT, 5)
    assert out.getvalue() == "goldfish_rtc_read addr 0x08 value 0x00001234\n"


def test_events_are_switched_by_name_and_pattern() -> None:
    log = Log(stream=io.StringIO())
    changes: list[None] = []
    log.watchers.append(lambda: changes.append(None))
    assert log.trace_events("goldfish_rtc_*") == ""
    assert log.traces(RTC) and log.traces("goldfish_rtc_write") and not log.traces("serial_read")
    assert log.trace_events("-goldfish_rtc_wri*") == ""
    assert log.traces(RTC) and not log.traces("goldfish_rtc_write")
    assert log.trace_events("nosuch") == "trace event 'nosuch' does not exist"
    assert log.trace_events("nosuch*") == ""
    assert len(changes) == 4


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (RTC, [RTC]),
        ("goldfish_rtc_*", [RTC, "goldfish_rtc_write"]),
        ("*fish*rea?", [RTC]),
        ("goldfish_rtc_rea?", []),  # without a star it is a name
        ("[g]oldfish_rtc_read*", []),
        ("", []),
    ],
)
def test_what_a_pattern_means(pattern: str, names: list[str]) -> None:
    assert matching(pattern) == names


def test_a_star_alone_means_all() -> None:
    assert matching("*") == event_names()


def test_with_timestamps_thread_and_time_come_first() -> None:
    out = io.StringIO()
    log = Log(stream=out)
    log.timestamps = True
    log.switch_events(RTC, True)
    traced(log, rtc_event(), 0, 0)
    assert re.fullmatch(r"\d+@\d{10}\.\d{6}:goldfish_rtc_read addr .*\n", out.getvalue())
