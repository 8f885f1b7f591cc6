"""Which blocks are hot: the reports of the vCPUs, gathered and weighed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ratite.cpu.machine import HOT_RING, Block, Shared

HOT = 64
"""Entries after which a block is reported for the first time, and looked for in the cache."""
COMPILE_HEAT = 2048
"""Entries after which it is reported again, each time."""
REPORTS, MEMBER_REPORTS = 2, 5
"""Reports after which a block is compiled; the second if another's region has it already, so that
it is executed here only where control has left that one."""


class Heat:
    """What the vCPUs of one machine have reported."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared.plain()
        self._taken = 0  # reports, ever
        self._reports: Counter[int] = Counter()  # by block, since it was last served
        self._cpu: dict[int, int] = {}  # who reported a block
        self._fresh: dict[int, None] = {}  # reported since they were last asked for
        self._warm: set[int] = set()  # reported, ever
        self._done: set[int] = set()

    def gather(self) -> None:
        """Take what was reported."""
        shared = self._shared
        head = shared.hot_head
        behind = (head - self._taken) & 0xFFFF_FFFF
        for number in range(head - min(behind, HOT_RING), head):
            place = number % HOT_RING
            address = shared.hot_ring[place]
            if not address:
                # Counted but not written yet: the vCPU is between the two. It is taken next time.
                head = number
                break
            shared.hot_ring[place] = 0
            if address not in self._done:
                self._cpu[address] = shared.hot_cpu[place]
                self._reports[address] += 1
                self._fresh[address] = None
                self._warm.add(address)
        self._taken = head

    def fresh(self) -> list[tuple[int, int]]:
        """Blocks that were reported since the last call, and by which vCPU."""
        found = [(address, self._cpu[address]) for address in self._fresh]
        self._fresh.clear()
        return found

    def hottest(self) -> tuple[int, int] | None:
        """The block that is to be compiled next, and the vCPU that reported it."""
        for address, reports in self._reports.most_common():
            if reports < REPORTS:
                break
            is_member = Block(address).plain().uses != 0
            if not is_member or reports >= MEMBER_REPORTS:
                return address, self._cpu[address]
        return None

    def is_warm(self, address: int) -> bool:
        """Whether a block was entered often enough to be compiled with a hot one."""
        # Blocks in a region are no longer entered one by one.
        return address in self._warm or Block(address).plain().uses != 0

    def finish(self, address: int) -> None:
        """Ask for a block no more."""
        self._done.add(address)
        self._reports.pop(address, None)
        self._fresh.pop(address, None)

    def serve(self, blocks: Iterable[int]) -> None:
        """A region with these blocks went in: what was reported before says nothing any more."""
        self.gather()
        for address in blocks:
            self._reports.pop(address, None)
            self._fresh.pop(address, None)

    def forget(self) -> None:
        """All blocks are gone."""
        self.gather()
        for table in (self._reports, self._cpu, self._fresh, self._warm, self._done):
            table.clear()
