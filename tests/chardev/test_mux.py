"""The mux: sharing, focus, keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ratite.chardev import LocalChardev, MuxActions, MuxChardev, NullChardev
from ratite.core.char import CharEvent
from ratite.core.errors import ConfigError
from ratite.core.events import EventLoop


class Setup:
    """A mux with two frontends over a local stream that the test feeds."""

    def __init__(self, loop: EventLoop, make_recorder: Callable[[], Any], escape: int = 1) -> None:
        self.output = b""
        self.quits = 0
        self.saves = 0
        self.loop = loop
        self.backend = LocalChardev("c0", loop, self._take)
        actions = MuxActions(quit=self._quit, save_disks=self._save)
        self.mux = MuxChardev("m0", loop, self.backend, actions, escape=escape)
        self.first, self.second = make_recorder(), make_recorder()
        self.port1, self.port2 = self.mux.claim(), self.mux.claim()
        self.port1.attach(self.first)
        self.port2.attach(self.second)

    def _take(self, data: bytes) -> None:
        self.output += data

    def _quit(self) -> None:
        self.quits += 1

    def _save(self) -> None:
        self.saves += 1

    def type(self, data: bytes) -> None:
        self.backend.feed(data)
        self.loop.call(lambda: None)


@pytest.fixture
def setup(loop: EventLoop, make_recorder: Callable[[], Any]) -> Setup:
    return Setup(loop, make_recorder)


def test_the_last_frontend_has_the_input_first(setup: Setup) -> None:
    setup.type(b"hello")
    assert (setup.first.data, setup.second.data) == (b"", b"hello")
    assert setup.first.events == [CharEvent.MUX_IN, CharEvent.OPENED, CharEvent.MUX_OUT]
    assert setup.second.events == [CharEvent.MUX_IN, CharEvent.OPENED]


def test_c_switches_within_one_piece_of_input(setup: Setup) -> None:
    setup.type(b"ab\x01cCD\x01cef")
    assert (setup.first.data, setup.second.data) == (b"CD", b"abef")
    assert setup.second.events[-2:] == [CharEvent.MUX_OUT, CharEvent.MUX_IN]


def test_a_key_may_come_apart_from_its_escape(setup: Setup) -> None:
    setup.type(b"a\x01")
    setup.type(b"c")
    setup.type(b"b")
    assert (setup.first.data, setup.second.data) == (b"b", b"a")


def test_the_escape_twice_is_the_escape(setup: Setup) -> None:
    setup.type(b"x\x01\x01y")
    assert setup.second.data == b"x\x01y"


def test_x_quits_and_s_saves(setup: Setup) -> None:
    setup.type(b"\x01x\x01s")
    assert (setup.quits, setup.saves) == (1, 1)
    assert b"terminated" in setup.output
    assert setup.second.data == b""


def test_an_unknown_key_is_dropped(setup: Setup) -> None:
    setup.type(b"\x01\xffz")
    assert setup.second.data == b"z"


@pytest.mark.parametrize("key", [b"h", b"?"])
def test_help_names_the_escape(loop: EventLoop, make_recorder: Any, key: bytes) -> None:
    setup = Setup(loop, make_recorder, escape=20)
    setup.type(b"\x14" + key)
    assert b"C-t x" in setup.output
    assert b"quit" in setup.output


def test_b_sends_a_break_to_the_frontend_with_the_input(setup: Setup) -> None:
    setup.type(b"\x01b")
    assert setup.second.events[-1] is CharEvent.BREAK
    assert CharEvent.BREAK not in setup.first.events


def test_both_write(setup: Setup) -> None:
    assert setup.port1.write(b"one") == 3
    assert setup.port2.write(b"two") == 3
    assert setup.output == b"onetwo"


def test_t_stamps_whole_lines(setup: Setup) -> None:
    setup.type(b"\x01t")
    setup.port1.write(b"rest\nline\npart")
    setup.port1.write(b"ial\n")
    lines = setup.output.split(b"\n")
    assert lines[0] == b"rest"
    assert lines[1].startswith(b"[00:00:0") and lines[1].endswith(b"] line")
    assert lines[2].endswith(b"] partial")
    setup.type(b"\x01t")
    setup.port1.write(b"plain\n")
    assert setup.output.endswith(b"partial\nplain\n")


def test_commands_get_through_to_a_guest_that_does_not_read(setup: Setup) -> None:
    setup.second.room = 0
    setup.type(b"z" * 1000 + b"\x01x")
    assert setup.quits == 1
    assert setup.second.data == b""
    setup.second.room = 600
    setup.loop.call(setup.port2.accept_input)
    assert setup.second.data == b"z" * 600
    setup.second.room = 600
    setup.loop.call(setup.port2.accept_input)
    assert setup.second.data == b"z" * 1000


def test_a_long_paste_arrives_whole(setup: Setup) -> None:
    data = bytes(range(2, 250)) * 1000
    setup.second.room = 0
    setup.type(data)
    for _ in range(1000):
        setup.second.room = 1000
        setup.loop.call(setup.port2.accept_input)
    assert setup.second.data == data


def test_four_frontends_at_most(setup: Setup) -> None:
    third = setup.mux.claim()
    setup.mux.claim()
    with pytest.raises(ConfigError, match="at most 4"):
        setup.mux.claim()
    third.release()
    setup.mux.claim()


def test_a_released_port_gives_the_input_back(setup: Setup) -> None:
    setup.port2.release()
    setup.type(b"now")
    assert setup.first.data == b"now"


def test_the_backend_is_claimed(loop: EventLoop) -> None:
    null = NullChardev("c0", loop)
    mux = MuxChardev("m0", loop, null)
    with pytest.raises(ConfigError):
        null.claim()
    assert mux.filename == "null"
    mux.close()


def test_a_backend_of_another_is_let_go_at_the_end(loop: EventLoop) -> None:
    null = NullChardev("c0", loop)
    mux = MuxChardev("m0", loop, null, owned=False)
    assert null.claimed
    mux.close()
    assert not null.claimed
    null.claim()
    mux.close()
    assert null.claimed
