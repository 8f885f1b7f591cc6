"""Frames in streams of bytes, cut anywhere."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratite.core.ethernet import MAX_FRAME
from ratite.net.framing import FrameReader, Oversize


def feed(reader: FrameReader, data: bytes) -> int:
    """Put as much into the reader as fits; how much that is."""
    room = reader.room()
    size = min(len(room), len(data))
    room[:size] = data[:size]
    reader.received(size)
    return size


def framed(frames: list[bytes]) -> bytes:
    return b"".join(struct.pack(">I", len(frame)) + frame for frame in frames)


@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=20),
    st.lists(st.integers(1, 200), max_size=20),
    st.integers(1, 5),
)
def test_frames_come_out_as_they_went_in(
    frames: list[bytes], cuts: list[int], refusals: int
) -> None:
    reader, stream = FrameReader(), framed(frames)
    taken: list[bytes] = []
    asked = 0

    def take(frame: memoryview) -> bool:
        nonlocal asked
        asked += 1
        if asked % refusals:
            return False
        taken.append(bytes(frame))
        return True

    for cut in [*cuts, len(stream)]:
        stream = stream[feed(reader, stream[:cut]) :]
        while not reader.deliver(take):
            pass
    assert taken == frames


@given(st.binary(max_size=2000))
def test_nonsense_is_frames_or_refused(stream: bytes) -> None:
    reader = FrameReader()
    sizes: list[int] = []
    try:
        while stream:
            stream = stream[feed(reader, stream) :]
            reader.deliver(lambda frame: sizes.append(len(frame)) or True)
    except Oversize:
        return
    assert all(0 < size <= MAX_FRAME for size in sizes)


def test_the_longest_frame_fits_and_no_longer_one() -> None:
    reader = FrameReader()
    frames: list[bytes] = []
    for frame in [bytes(MAX_FRAME)] * 3:
        stream = framed([frame])
        while stream:
            stream = stream[feed(reader, stream) :]
            assert reader.deliver(lambda frame: frames.append(bytes(frame)) or True)
    assert frames == [bytes(MAX_FRAME)] * 3
    feed(reader, struct.pack(">I", MAX_FRAME + 1))
    with pytest.raises(Oversize, match=str(MAX_FRAME + 1)):
        reader.deliver(lambda _: True)
