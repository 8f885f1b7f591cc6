"""How fast the guest writes to its memory: what a migration would have to keep up with.

Source: QEMU's QMP reference, `calc-dirty-rate`; modes, limits and error texts are its. Not
modelled: the mode of KVM's dirty ring.

Sampling looks at the checksums of random pages before and after. The bitmap is that of migrations:
its pages are made clean at the beginning, and counted at the end. A migration needs all of them
dirty when it begins, so that it ends a measurement first.
"""

from __future__ import annotations

import random
import threading
import time
import zlib
from array import array
from collections.abc import Callable
from enum import Enum

from ratite.core.errors import ConfigError
from ratite.core.threads import NamedThread
from ratite.memory import PAGE_SIZE, DirtyClient, RAMBlock, RamList
from ratite.migration.host import Host

LONGEST_S = 60
FEWEST_SAMPLES, MOST_SAMPLES, SAMPLES = 128, 16384, 512
"""Pages sampled of a gibibyte."""
_MEBIBYTE = 1 << 20


class DirtyRateMeasureMode(Enum):
    """How it is measured."""

    PAGE_SAMPLING = "page-sampling"
    DIRTY_RING = "dirty-ring"
    DIRTY_BITMAP = "dirty-bitmap"


class DirtyRateStatus(Enum):
    """How far a measurement is."""

    UNSTARTED = "unstarted"
    MEASURING = "measuring"
    MEASURED = "measured"


class DirtyRate:
    """The measurement that goes on or was the last. Used on the main loop, with the machine lock
    held.
    """

    def __init__(self, host: Host) -> None:
        self.status = DirtyRateStatus.UNSTARTED
        self.mode = DirtyRateMeasureMode.PAGE_SAMPLING
        self.calc_time = 0  # seconds
        self.start_time = 0  # of the host's clock, in seconds
        self.sample_pages = 0
        self.rate = 0  # MiB a second, once it is measured
        self._host = host
        self._thread: threading.Thread | None = None
        self._cancel = threading.Event()

    def start(self, calc_time: int, mode: DirtyRateMeasureMode, sample_pages: int | None) -> None:
        """Begin to measure for `calc_time` seconds. Raises `ConfigError`."""
        if self.status is DirtyRateStatus.MEASURING:
            raise ConfigError("the dirty rate is already being measured.")
        if not 1 <= calc_time <= LONGEST_S:
            raise ConfigError(f"calc-time is out of range[1, {LONGEST_S}].")
        sampling = mode is DirtyRateMeasureMode.PAGE_SAMPLING
        samples = SAMPLES if sample_pages is None else sample_pages
        if sample_pages is not None and mode is DirtyRateMeasureMode.DIRTY_RING:
            raise ConfigError("either sample-pages or dirty-ring can be specified.")
        if not FEWEST_SAMPLES <= samples <= MOST_SAMPLES:
            raise ConfigError(f"sample-pages is out of range[{FEWEST_SAMPLES}, {MOST_SAMPLES}].")
        if mode is DirtyRateMeasureMode.DIRTY_RING:
            raise ConfigError("mode dirty-ring is not enabled, use other method instead.")
        if not sampling:
            self._host.check_idle()  # a migration has the bitmap
        self.mode, self.calc_time = mode, calc_time
        self.sample_pages = samples if sampling else 0
        self.start_time = int(time.monotonic())
        self.status = DirtyRateStatus.MEASURING
        self._cancel = threading.Event()
        work = (lambda: self._sample(samples)) if sampling else self._track
        self._thread = NamedThread("get_dirtyrate", lambda: self._run(work))
        self._thread.start()

    def give_up(self, *, only_bitmap: bool = False) -> None:
        """End a measurement that goes on, without a result; with every page dirty for migrations
        afterwards.
        """
        sampling = self.mode is DirtyRateMeasureMode.PAGE_SAMPLING
        thread = self._thread
        if thread is None or (only_bitmap and sampling):
            return
        self._cancel.set()
        with self._host.machine.lock.unlocked():
            thread.join()

    # -- the thread

    def _run(self, work: Callable[[], float | None]) -> None:
        before = time.monotonic()
        changed = work()
        spent = time.monotonic() - before
        if changed is None:
            self.status = DirtyRateStatus.UNSTARTED
        else:
            self.rate = int(changed / _MEBIBYTE / spent)
            self.status = DirtyRateStatus.MEASURED

    def _wait(self) -> bool:
        """Let the time pass; whether it was all of it."""
        return not self._cancel.wait(self.calc_time)

    def _sample(self, per_gibibyte: int) -> float | None:
        """Bytes that have changed, estimated."""
        samples = [(block, _choose(block, per_gibibyte)) for block in self._ram.blocks]
        before = [_checksums(block, pages) for block, pages in samples]
        if not self._wait():
            return None
        changed = 0.0
        for (block, pages), old in zip(samples, before, strict=True):
            new = _checksums(block, pages)
            different = sum(a != b for a, b in zip(old, new, strict=True))
            changed += block.size * different / len(pages)
        return changed

    def _track(self) -> float | None:
        """Bytes of pages that were written to."""
        ram = self._ram
        try:
            for block in ram.blocks:
                ram.take_dirty(DirtyClient.MIGRATION, block.offset, block.size)
            self._host.runner.forget_translations()
            if not self._wait():
                return None
            return ram.count_dirty(DirtyClient.MIGRATION) * PAGE_SIZE
        finally:
            ram.mark_all(DirtyClient.MIGRATION)

    @property
    def _ram(self) -> RamList:
        return self._host.machine.ram


def _choose(block: RAMBlock, per_gibibyte: int) -> array[int]:
    """Numbers of random pages."""
    pages = block.size // PAGE_SIZE
    count = max(1, block.size * per_gibibyte >> 30)
    return array("Q", (random.randrange(pages) for _ in range(count)))


def _checksums(block: RAMBlock, pages: array[int]) -> array[int]:
    view = block.view
    places = (page * PAGE_SIZE for page in pages)
    return array("I", (zlib.crc32(view[place : place + PAGE_SIZE]) for place in places))
