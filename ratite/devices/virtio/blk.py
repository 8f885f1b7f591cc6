"""Virtio block device.

Source: Virtio 1.2, chapter 5.2 (block device). Not modelled: SCSI commands, secure erase, zones,
lifetime, merging of requests.

Data move between the host's image and guest RAM without a copy here. A request that the host
answers from its page cache is finished within the notification; the others finish later.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

from ratite.core.choice import OnOffAuto
from ratite.core.disk import Access, DiskTerms, ErrorAction, JobRunner, OnError
from ratite.core.errors import ConfigError
from ratite.core.trace import TraceEvent
from ratite.devices.block.backend import BlockBackend
from ratite.devices.register import State
from ratite.devices.virtio.device import VIRTIO_DEFAULTS, VirtioDevice, VirtioOptions
from ratite.devices.virtio.feature import FeatureBit
from ratite.devices.virtio.queue import Element, VirtQueue
from ratite.qom import (
    Backend,
    Doc,
    Int32,
    Named,
    Object,
    PropertyGroup,
    Size,
    TypeName,
    UInt16,
    UInt32,
)

F_SEG_MAX = FeatureBit(2, "VIRTIO_BLK_F_SEG_MAX", "Limit on segments of a request")
F_GEOMETRY = FeatureBit(4, "VIRTIO_BLK_F_GEOMETRY", "Legacy disk geometry")
F_RO = FeatureBit(5, "VIRTIO_BLK_F_RO", "Read-only disk")
F_BLK_SIZE = FeatureBit(6, "VIRTIO_BLK_F_BLK_SIZE", "Block size of the disk")
F_FLUSH = FeatureBit(9, "VIRTIO_BLK_F_FLUSH", "Flush requests")
F_TOPOLOGY = FeatureBit(10, "VIRTIO_BLK_F_TOPOLOGY", "Preferred sizes and alignment of I/O")
F_CONFIG_WCE = FeatureBit(11, "VIRTIO_BLK_F_CONFIG_WCE", "Write cache can be switched")
F_MQ = FeatureBit(12, "VIRTIO_BLK_F_MQ", "Several request queues")
F_DISCARD = FeatureBit(13, "VIRTIO_BLK_F_DISCARD", "Discard requests")
F_WRITE_ZEROES = FeatureBit(14, "VIRTIO_BLK_F_WRITE_ZEROES", "Requests to write zeroes")

T_IN, T_OUT, T_FLUSH, T_GET_ID, T_DISCARD, T_WRITE_ZEROES = 0, 1, 4, 8, 11, 13
T_BARRIER = 1 << 31
S_OK, S_IOERR, S_UNSUPP = 0, 1, 2
WRITE_ZEROES_UNMAP = 1

HEADER = struct.Struct("<IIQ")  # type, reserved, sector
RANGE = struct.Struct("<QII")  # sector, sectors, flags: of discard and write zeroes
CONFIG = struct.Struct("<QIIHBBIBBHIBxHIIIIIB3x")
WRITEBACK_OFFSET = 32
SECTOR = 512
ID_SIZE = 20
MAX_QUEUES = 1024
AUTO_QUEUES = 0xFFFF
AUTO_GRANULARITY = 0xFFFF_FFFF


@TraceEvent
def virtio_blk_handle_read(vdev: Object, head: int, sector: int, nsectors: int) -> str:
    """The guest asks for sectors; `head` tells the request from others in flight."""
    return f"vdev {vdev.path} req {head} sector {sector} nsectors {nsectors}"


@TraceEvent
def virtio_blk_handle_write(vdev: Object, head: int, sector: int, nsectors: int) -> str:
    """The guest wants sectors written."""
    return f"vdev {vdev.path} req {head} sector {sector} nsectors {nsectors}"


@TraceEvent
def virtio_blk_rw_complete(vdev: Object, head: int, ret: int) -> str:
    """The drive has done a request, or failed to: minus the host's error number."""
    return f"vdev {vdev.path} req {head} ret {ret}"


@TraceEvent
def virtio_blk_req_complete(vdev: Object, head: int, status: int) -> str:
    """The guest is answered."""
    return f"vdev {vdev.path} req {head} status {status}"


_POLICY = TypeName("BlockdevOnError")
_POLICIES = "Error handling policy, report/ignore/enospc/stop/auto"


@dataclass(frozen=True)
class BlockOptions(PropertyGroup):
    """Properties that every disk has."""

    logical_block_size: Annotated[
        Size, Named("logical_block_size"), Doc("A power of two between 512 B and 2 MiB")
    ] = 0
    physical_block_size: Annotated[
        Size, Named("physical_block_size"), Doc("A power of two between 512 B and 2 MiB")
    ] = 0
    min_io_size: Annotated[Size, Named("min_io_size")] = 0
    opt_io_size: Annotated[Size, Named("opt_io_size")] = 0
    discard_granularity: Annotated[Size, Named("discard_granularity")] = AUTO_GRANULARITY
    backend_defaults: Annotated[
        OnOffAuto,
        Named("backend_defaults"),
        Doc("must be off or auto: files have no sizes of blocks"),
    ] = OnOffAuto.AUTO
    write_cache: Annotated[OnOffAuto, Doc("on/off/auto")] = OnOffAuto.AUTO
    share_rw: Annotated[bool, Doc("let others write to the image")] = False
    account_invalid: Annotated[OnOffAuto, Doc("on/off/auto")] = OnOffAuto.AUTO
    account_failed: Annotated[OnOffAuto, Doc("on/off/auto")] = OnOffAuto.AUTO
    rerror: Annotated[
        OnError,
        TypeName("BlockdevOnError"),
        Doc("Error handling policy, report/ignore/enospc/stop/auto"),
    ] = OnError.AUTO
    werror: Annotated[
        OnError,
        TypeName("BlockdevOnError"),
        Doc("Error handling policy, report/ignore/enospc/stop/auto"),
    ] = OnError.AUTO
    cyls: UInt32 = 0
    heads: UInt32 = 0
    secs: UInt32 = 0
    lcyls: Annotated[UInt32, Doc("cylinders for firmware, with lheads and lsecs")] = 0
    lheads: UInt32 = 0
    lsecs: UInt32 = 0

    @property
    def terms(self) -> DiskTerms:
        """How the drive is used."""
        return DiskTerms(
            self.share_rw,
            True,
            self.rerror,
            self.werror,
            self.account_invalid.chosen,
            self.account_failed.chosen,
        )


BLOCK_DEFAULTS = BlockOptions()


class VirtioBlk(VirtioDevice):
    """A disk on the backend `drive`."""

    type_name = "virtio-blk-device"
    category = "Storage"
    boot_name = "disk@0,0"
    device_id = 2
    known_features = (
        F_CONFIG_WCE,
        F_FLUSH,
        F_WRITE_ZEROES,
        F_DISCARD,
        F_MQ,
        F_TOPOLOGY,
        F_BLK_SIZE,
        F_GEOMETRY,
        F_RO,
        F_SEG_MAX,
    )

    write_cache = State(True)  # as the driver has switched it; by `save`
    stopped_requests = State[list[tuple[int, int]]](factory=lambda _: [], element=(0, 0))
    """Queue and head of requests that an error of the host's keeps until the machine runs again."""

    def __init__(
        self,
        *,
        drive: Annotated[
            BlockBackend | None,
            Backend("drive"),
            Doc("Node name or ID of a block device to use as a backend"),
        ] = None,
        serial: str | None = None,
        num_queues: UInt16 = AUTO_QUEUES,
        queue_size: UInt16 = 256,
        seg_max_adjust: bool = True,
        config_wce: bool = True,
        discard: bool = True,
        write_zeroes: bool = True,
        max_discard_sectors: UInt32 = 4194303,
        max_write_zeroes_sectors: UInt32 = 4194303,
        report_discard_granularity: Annotated[
            bool, Doc("off: as if discard_granularity were the logical block size")
        ] = True,
        x_enable_wce_if_config_wce: Annotated[
            bool, Doc("offer flushes where the driver may switch the write cache on")
        ] = True,
        iothread: Annotated[
            JobRunner | None, Backend("iothread", "link<iothread>"), Doc("does its requests")
        ] = None,
        scsi: Annotated[bool, Doc("must be off")] = False,
        bootindex: Annotated[
            Int32, Doc("its place in the order in which firmware boots; less than 0: in none")
        ] = -1,
        block: BlockOptions = BLOCK_DEFAULTS,
        virtio: VirtioOptions = VIRTIO_DEFAULTS,
    ) -> None:
        self.drive = drive
        self.serial = serial
        self.num_queues = num_queues
        self.queue_size = queue_size
        self.seg_max_adjust = seg_max_adjust
        self.config_wce = config_wce
        self.discard = discard
        self.write_zeroes = write_zeroes
        self.max_discard_sectors = max_discard_sectors
        self.max_write_zeroes_sectors = max_write_zeroes_sectors
        self.report_discard_granularity = report_discard_granularity
        self.x_enable_wce_if_config_wce = x_enable_wce_if_config_wce
        self.iothread = iothread
        self.scsi = scsi
        self.bootindex = bootindex
        self.block = block
        self._logical = block.logical_block_size or SECTOR
        self._physical = block.physical_block_size or self._logical
        self._write_cache = True  # what the drive had at realize
        super().__init__(virtio)

    # -- life

    def realize(self) -> None:
        """Make the queues. Raises ConfigError for properties that cannot be."""
        if self.drive is None:
            raise ConfigError(f"{self.type_name}: drive property not set")
        self._check()
        if self.num_queues == AUTO_QUEUES:
            self.num_queues = 1
        self.drive.attach(self, replace(self.block.terms, runner=self.iothread))
        if self.block.write_cache.chosen is not None:
            self.drive.write_cache = self.block.write_cache.chosen
        self._write_cache = self.drive.write_cache
        for _ in range(self.num_queues):
            self.add_queue(self.queue_size, self._run)
        super().realize()

    def unrealize(self) -> None:
        """Finish all requests and drop the queues."""
        super().unrealize()
        self.queues.clear()
        self._disk.detach()

    def _check(self) -> None:
        if self.scsi:
            raise ConfigError(f"{self.type_name}: scsi=on is not supported; leave it out")
        if self.block.backend_defaults is OnOffAuto.ON:
            raise ConfigError(f"{self.type_name}: backend_defaults=on is not supported")
        for name, size in (
            ("logical_block_size", self._logical),
            ("physical_block_size", self._physical),
        ):
            if not SECTOR <= size <= 2 << 20 or size & (size - 1):
                raise ConfigError(
                    f"Property .{name} doesn't take value {size} (minimum: 512, maximum: 2097152)",
                    hint="a power of two",
                )
        if self._logical > self._physical:
            raise ConfigError(
                f"{self.type_name}: logical_block_size {self._logical} is more than "
                f"physical_block_size {self._physical}"
            )
        if not 1 <= self.num_queues <= MAX_QUEUES and self.num_queues != AUTO_QUEUES:
            raise ConfigError(
                "num-queues property must be larger than 0", hint=f"and {MAX_QUEUES} at most"
            )
        size = self.queue_size
        if not 4 <= size <= 1024 or size & (size - 1):
            raise ConfigError(
                f"invalid queue-size property ({size}), must be a power of 2 (max 1024)",
                hint="4 at least",
            )

    @property
    def logical_geometry(self) -> tuple[int, int, int]:
        """Cylinders, heads and sectors for firmware; 0 if there are none."""
        return self.block.lcyls, self.block.lheads, self.block.lsecs

    @property
    def _disk(self) -> BlockBackend:
        assert self.drive is not None
        return self.drive

    def own_features(self) -> int:
        """The feature bits of this disk."""
        features = F_SEG_MAX | F_GEOMETRY | F_BLK_SIZE | F_TOPOLOGY
        if self.config_wce:
            features |= F_CONFIG_WCE
        if self._write_cache or (self.config_wce and self.x_enable_wce_if_config_wce):
            features |= F_FLUSH
        if self._disk.read_only:
            features |= F_RO
        if self.num_queues > 1:
            features |= F_MQ
        if self.discard:
            features |= F_DISCARD
        if self.write_zeroes:
            features |= F_WRITE_ZEROES
        return features

    def driver_ready(self) -> None:
        """A driver that can neither flush nor choose gets a disk without write cache."""
        if not self.has(F_CONFIG_WCE):
            self._disk.write_cache = self._write_cache and self.has(F_FLUSH)

    def stopped(self, queues: Sequence[VirtQueue]) -> None:
        """Finish the requests in flight."""
        gone = {queue.index for queue in queues}
        self.stopped_requests = [entry for entry in self.stopped_requests if entry[0] not in gone]
        if self.drive is not None and self.realized:
            self.drive.drain()
            self.drive.write_cache = self._write_cache

    def resized(self) -> None:
        """Tell the driver of the disk's new size."""
        if self.realized:
            self.config_changed()

    def retry(self) -> None:
        """Do again what errors have stopped: the machine runs."""
        waiting, self.stopped_requests = self.stopped_requests, []
        for index, head in waiting:
            queue = self.queues[index]
            element = queue.retake(head)
            if element is None or not self._start(queue, element):
                return

    def save(self) -> dict[str, object]:
        """The migrated state, with no request in flight."""
        self._disk.drain()
        self.write_cache = self._disk.write_cache
        return super().save()

    def check(self, saved: Mapping[str, Any]) -> None:
        """Raise `ConfigError` if `load` could not take this."""
        super().check(saved)
        stopped = saved["stopped_requests"]
        known = all(0 <= index < len(self.queues) for index, _ in stopped)
        if not known or len(stopped) > sum(queue.max_size for queue in self.queues):
            raise ConfigError(f"saved state of '{self.type_name}' has a wrong 'stopped_requests'")

    def loaded(self) -> None:
        """Set the queues up as they were, and the write cache."""
        super().loaded()
        self._disk.write_cache = self.write_cache

    # -- configuration space

    def read_config(self) -> bytes:
        """The disk's geometry and limits, little-endian."""
        sectors = self._disk.size // SECTOR
        heads, secs = self.block.heads or 16, self.block.secs or 63
        cyls = self.block.cyls or min(sectors // (heads * secs), 16383)
        granularity = self.block.discard_granularity
        if granularity in (0, AUTO_GRANULARITY) or not self.report_discard_granularity:
            granularity = self._logical
        seg_max = self.queue_size - 2 if self.seg_max_adjust else 126
        return CONFIG.pack(
            sectors,
            0,  # size_max
            seg_max,
            cyls & 0xFFFF,
            heads & 0xFF,
            secs & 0xFF,
            self._logical,
            (self._physical // self._logical).bit_length() - 1,
            0,  # alignment offset
            self.block.min_io_size // self._logical & 0xFFFF,
            self.block.opt_io_size // self._logical & 0xFFFF_FFFF,
            self._disk.write_cache,
            self.num_queues,
            self.max_discard_sectors if self.discard else 0,
            1 if self.discard else 0,
            granularity // SECTOR & 0xFFFF_FFFF,
            self.max_write_zeroes_sectors if self.write_zeroes else 0,
            1 if self.write_zeroes else 0,
            1 if self.write_zeroes else 0,
        )

    def write_config(self, offset: int, value: int, size: int) -> None:
        """Let the driver switch the write cache; the rest is read-only."""
        if offset == WRITEBACK_OFFSET and size == 1 and self.has(F_CONFIG_WCE):
            self._disk.write_cache = bool(value & 1)
        else:
            super().write_config(offset, value, size)

    # -- requests

    def _run(self, queue: VirtQueue) -> None:
        """Start all requests available. Runs: per notification."""
        queue.run(partial(self._start, queue))

    def _start(self, queue: VirtQueue, element: Element) -> bool:
        """Start one request; False if it broke the device. Runs: per request."""
        if element.readable_size < HEADER.size or not element.writable_size:
            self.broken(f"queue {queue.index}: a request without header or status")
            return False
        first = element.readable[0]
        if len(first) >= HEADER.size:
            kind, _, sector = HEADER.unpack_from(first)
        else:
            kind, _, sector = HEADER.unpack(element.gather(HEADER.size))
        kind &= ~T_BARRIER
        if kind == T_IN:
            self._read(queue, element, sector)
        elif kind == T_OUT:
            self._write(queue, element, sector)
        elif kind == T_FLUSH:
            self._disk.flush(partial(self._finish, queue, element, True))
        elif kind == T_GET_ID:
            self._get_id(queue, element)
        elif kind in (T_DISCARD, T_WRITE_ZEROES):
            self._erase(queue, element, kind)
        else:
            self._answer(queue, element, S_UNSUPP)
        return True

    def _in_range(self, sector: int, size: int) -> bool:
        """True if `size` bytes from `sector` on are whole blocks of the disk."""
        start = sector * SECTOR
        return not (start | size) & (self._logical - 1) and start + size <= self._disk.size

    def _read(self, queue: VirtQueue, element: Element, sector: int) -> None:
        size = element.writable_size - 1
        if trace := self.log.trace:
            trace(virtio_blk_handle_read, self, element.head, sector, size // SECTOR)
        if not self._in_range(sector, size):
            self._refuse(queue, element, Access.READ)
            return
        buffers = element.writable
        if len(buffers[-1]) == 1:
            buffers = buffers[:-1]
        else:
            buffers = [*buffers[:-1], buffers[-1][:-1]]
        done = partial(self._finish, queue, element, False)
        self._disk.readv(sector * SECTOR, buffers, done)

    def _write(self, queue: VirtQueue, element: Element, sector: int) -> None:
        size = element.readable_size - HEADER.size
        if trace := self.log.trace:
            trace(virtio_blk_handle_write, self, element.head, sector, size // SECTOR)
        if self._disk.read_only or not self._in_range(sector, size):
            self._refuse(queue, element, Access.WRITE)
            return
        done = partial(self._finish, queue, element, True)
        self._disk.writev(sector * SECTOR, _after_header(element.readable), done)

    def _get_id(self, queue: VirtQueue, element: Element) -> None:
        size = min(ID_SIZE, element.writable_size - 1)
        element.fill((self.serial or "").encode()[:size].ljust(size, b"\0"))
        self._answer(queue, element, S_OK)

    def _erase(self, queue: VirtQueue, element: Element, kind: int) -> None:
        offered = self.discard if kind == T_DISCARD else self.write_zeroes
        if not offered or element.readable_size != HEADER.size + RANGE.size:
            self._answer(queue, element, S_UNSUPP)
            return
        header = element.gather(HEADER.size + RANGE.size)
        sector, sectors, flags = RANGE.unpack_from(header, HEADER.size)
        allowed = WRITE_ZEROES_UNMAP if kind == T_WRITE_ZEROES else 0
        if flags & ~allowed:
            self._answer(queue, element, S_UNSUPP)
            return
        limit = self.max_discard_sectors if kind == T_DISCARD else self.max_write_zeroes_sectors
        size = sectors * SECTOR
        if self._disk.read_only or sectors > limit or not self._in_range(sector, size):
            access = Access.UNMAP if kind == T_DISCARD else Access.WRITE
            self._refuse(queue, element, access)
            return
        done = partial(self._finish, queue, element, True)
        if kind == T_DISCARD:
            self._disk.discard(sector * SECTOR, size, done)
        else:
            unmap = bool(flags & WRITE_ZEROES_UNMAP)
            self._disk.write_zeroes(sector * SECTOR, size, unmap, done)

    def _refuse(self, queue: VirtQueue, element: Element, access: Access) -> None:
        """Answer a request that cannot be done on this disk."""
        self._disk.refused(access)
        self._answer(queue, element, S_IOERR)

    def _finish(self, queue: VirtQueue, element: Element, is_write: bool, code: int) -> None:
        """Answer a request that the drive has done. Runs: per request."""
        if trace := self.log.trace:
            trace(virtio_blk_rw_complete, self, element.head, -code)
        action = self._disk.failed(is_write, code) if code else ErrorAction.IGNORE
        if action is not ErrorAction.STOP:
            self._answer(queue, element, S_IOERR if action is ErrorAction.REPORT else S_OK)
        elif element.epoch == queue.epoch:
            self.stopped_requests.append((queue.index, element.head))
            queue.put_aside(element)

    def _answer(self, queue: VirtQueue, element: Element, status: int) -> None:
        if element.epoch != queue.epoch:
            return  # the memory is not ours any more
        if trace := self.log.trace:
            trace(virtio_blk_req_complete, self, element.head, status)
        element.writable[-1][-1] = status
        queue.push(element, element.writable_size)  # all of it: the status is the last byte
        queue.notify()


def _after_header(buffers: list[memoryview]) -> list[memoryview]:
    """Return `buffers` without the bytes of the request header, which may be in several."""
    left = HEADER.size
    for index, view in enumerate(buffers):
        if len(view) > left:
            return [view[left:] if left else view, *buffers[index + 1 :]]
        left -= len(view)
    return []
