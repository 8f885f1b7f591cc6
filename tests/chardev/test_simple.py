"""Backends without a terminal or a socket: null, file, pipe, ringbuf, local; logs; claims."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ratite.chardev import (
    CommonOptions,
    FileChardev,
    FileOptions,
    LocalChardev,
    NullChardev,
    PipeChardev,
    PipeOptions,
    RingbufChardev,
    RingbufOptions,
    RngBuiltin,
    RngRandom,
    open_chardev,
)
from ratite.core.char import CharEvent
from ratite.core.errors import ConfigError, HostError
from ratite.core.events import EventLoop
from ratite.qom import keyword_arguments

Until = Callable[..., None]


def test_null_takes_everything(loop: EventLoop, recorder: Any) -> None:
    null = NullChardev("c0", loop)
    null.attach(recorder)
    assert recorder.events == []
    assert null.write(b"gone") == 4
    assert null.filename == "null"


def test_a_backend_has_one_frontend(loop: EventLoop) -> None:
    null = NullChardev("c0", loop)
    null.claim()
    with pytest.raises(ConfigError, match="'c0' is in use"):
        null.claim()
    null.release()
    null.claim()


def test_a_log_gets_a_copy(loop: EventLoop, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("old ")
    null = NullChardev("c0", loop, options=CommonOptions(logfile=str(log), logappend=True))
    null.write(b"one ")
    null.write(memoryview(b"two"))
    null.close()
    assert log.read_text() == "old one two"
    NullChardev("c1", loop, options=CommonOptions(logfile=str(log))).close()
    assert log.read_text() == ""
    with pytest.raises(HostError, match="character log"):
        NullChardev("c2", loop, options=CommonOptions(logfile=str(tmp_path)))


def test_options_are_properties(tmp_path: Path) -> None:
    arguments = keyword_arguments(FileChardev, {"path": "x", "append": "on", "logfile": "l"})
    assert arguments == {"options": FileOptions(path="x", append=True, logfile="l")}
    with pytest.raises(ConfigError, match="must be set"):
        keyword_arguments(FileChardev, {})
    with pytest.raises(ConfigError, match="not found"):
        keyword_arguments(NullChardev, {"nonsense": "1"})


def test_a_file_gets_the_output_and_gives_the_input(
    loop: EventLoop, recorder: Any, tmp_path: Path, until: Until
) -> None:
    (tmp_path / "in").write_bytes(b"input")
    path = str(tmp_path / "out")
    options = FileOptions(path=path, input_path=str(tmp_path / "in"))
    file = FileChardev("c0", loop, options=options)
    file.attach(recorder)
    assert file.write(b"output") == 6
    until(lambda: recorder.data == b"input")
    assert file.write(b" more") == 5
    file.close()
    file.close()
    assert Path(path).read_bytes() == b"output more"
    file = FileChardev("c0", loop, options=FileOptions(path=path, append=True))
    file.write(b"!")
    file.close()
    assert Path(path).read_bytes() == b"output more!"
    assert recorder.events == [CharEvent.OPENED]


def test_a_file_that_cannot_be_opened_is_named(loop: EventLoop, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no/such"):
        FileChardev("c0", loop, options=FileOptions(path=str(tmp_path / "no/such")))


def test_input_is_held_back_until_there_is_room(
    loop: EventLoop, recorder: Any, tmp_path: Path, until: Until
) -> None:
    path = str(tmp_path / "p")
    os.mkfifo(f"{path}.in")
    os.mkfifo(f"{path}.out")
    pipe = PipeChardev("c0", loop, options=PipeOptions(path=path))
    recorder.room = 3
    pipe.attach(recorder)
    with open(f"{path}.in", "wb", buffering=0) as writer:
        writer.write(b"abcdef")
        until(lambda: recorder.data == b"abc")
        loop.call(lambda: None)
        recorder.room = 2
        pipe.accept_input()
        until(lambda: recorder.data == b"abcde")
    recorder.room = 10
    pipe.accept_input()
    until(lambda: recorder.data == b"abcdef")
    pipe.close()


def test_output_that_nobody_reads_is_bounded_and_resumes(
    loop: EventLoop, recorder: Any, tmp_path: Path, until: Until
) -> None:
    path = str(tmp_path / "p")
    os.mkfifo(path + ".in")
    os.mkfifo(path + ".out")
    pipe = PipeChardev("c0", loop, options=PipeOptions(path=path))
    pipe.attach(recorder)
    sent = 0
    while (taken := pipe.write(bytes(10000))) == 10000:
        sent += taken
        assert sent < 1 << 20
    sent += taken
    assert pipe.write(b"x") == 0
    got = 0
    with open(path + ".out", "rb", buffering=0) as reader:
        while got < sent:
            got += len(reader.read(65536))
        until(lambda: CharEvent.WRITABLE in recorder.events)
        assert pipe.write(b"again") == 5
        assert reader.read(100) == b"again"
    pipe.close()


def test_a_ring_buffer_keeps_the_last_output(loop: EventLoop) -> None:
    ring = RingbufChardev("c0", loop, options=RingbufOptions(size=8))
    assert ring.write(b"0123456789") == 10
    ring.feed(b"ab")
    assert ring.read(3) == b"456"
    assert ring.read(100) == b"789ab"
    assert ring.read(100) == b""
    with pytest.raises(ConfigError, match="power of two"):
        RingbufChardev("c1", loop, options=RingbufOptions(size=9))


def test_a_local_stream_keeps_input_until_it_is_wanted(
    loop: EventLoop, recorder: Any, until: Until
) -> None:
    output: list[bytes] = []
    local = LocalChardev("c0", loop, output.append)
    recorder.room = 2
    threading.Thread(target=lambda: local.feed(b"hello")).start()
    local.attach(recorder)
    until(lambda: recorder.data == b"he")
    recorder.room = 10
    loop.call(local.accept_input)
    assert recorder.data == b"hello"
    local.write(b"out")
    assert output == [b"out"]


def test_random_sources(tmp_path: Path) -> None:
    builtin = RngBuiltin()
    builtin.complete()
    assert len(builtin.request(33)) == 33
    path = tmp_path / "entropy"
    path.write_bytes(b"abc")
    source = RngRandom(filename=str(path))
    assert source.request(1) == b""
    source.complete()
    source.complete()
    assert source.frozen
    assert source.request(2) == b"ab"
    assert source.request(2) == b"c"
    assert source.request(2) == b""
    source.close()
    source.close()
    with pytest.raises(HostError, match="none"):
        RngRandom(filename=str(tmp_path / "none")).complete()


def test_backends_open_by_their_word(loop: EventLoop, tmp_path: Path) -> None:
    path = tmp_path / "out"
    file = open_chardev("file", "c0", loop, {"path": str(path), "append": "on"})
    assert isinstance(file, FileChardev) and file.id == "c0"
    file.close()
    assert open_chardev("null", "c1", loop, {}).type_name == "chardev-null"
    server = open_chardev(
        "socket", "c2", loop, {"path": str(tmp_path / "s"), "server": True, "wait": "off"}
    )
    assert server.get_property("wait") is False
    server.close()
    with pytest.raises(ConfigError, match="no kind 'pigeon'; there are file, null"):
        open_chardev("pigeon", "c3", loop, {})
    with pytest.raises(ConfigError, match="not found"):
        open_chardev("pty", "c4", loop, {"path": "x"})
