"""A disk of any size that loses what is written: for tests, and to measure all but the disk."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from ratite.block.node import SECTOR, BlockNode
from ratite.block.options import NullAioOptions, NullCoOptions
from ratite.core.errors import ConfigError
from ratite.core.size import GiB


class NullNode(BlockNode):
    """A disk whose reads give what the buffers held before, or zeroes."""

    driver = "null-co"
    is_protocol = True

    options: NullCoOptions | NullAioOptions

    def __init__(self, name: str, options: NullCoOptions | NullAioOptions) -> None:
        super().__init__(name, options)
        size = GiB if options.size is None else options.size
        if not 0 <= size < 1 << 63:
            raise ConfigError("Parameter 'size' expects a non-negative number below 2^64")
        if options.latency_ns is not None and options.latency_ns < 0:
            raise ConfigError("latency-ns is invalid")
        self._size = -(-size // SECTOR) * SECTOR
        self._delay_s = (options.latency_ns or 0) / 1e9

    @property
    def size(self) -> int:
        """Bytes, a multiple of 512."""
        return self._size

    @property
    def plain_filename(self) -> str:
        """A name, if there is nothing else to say."""
        return "" if len(self.describe_options()) > 1 else f"{self.driver}://"

    def describe_options(self) -> Mapping[str, object]:
        """Size and what reads give, where they were said."""
        facts = {"size": self.options.size, "read-zeroes": self.options.read_zeroes}
        given = {key: value for key, value in facts.items() if value is not None}
        return {"driver": self.driver, **given}

    def _wait(self) -> None:
        if self._delay_s:
            time.sleep(self._delay_s)

    def _readv(self, offset: int, buffers: Sequence[memoryview]) -> None:
        self._wait()
        if self.options.read_zeroes:
            for view in buffers:
                view[:] = bytes(len(view))

    def _writev(self, offset: int, buffers: Sequence[memoryview]) -> None:
        self._wait()

    def _discard(self, offset: int, size: int) -> None:
        self._wait()

    def _write_zeroes(self, offset: int, size: int, *, unmap: bool) -> None:
        self._wait()

    def _flush(self) -> None:
        self._wait()


class NullAioNode(NullNode):
    """The same under its other name."""

    driver = "null-aio"
