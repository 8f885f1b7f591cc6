"""Disk images on the host."""

from ratite.block.drive import Drive, DriveStats, IoPool, Poster
from ratite.block.image import BlockNode, CacheMode, RawImage
from ratite.block.overlay import TemporaryOverlay

__all__ = [
    "BlockNode",
    "CacheMode",
    "RawImage",
    "TemporaryOverlay",
    "Drive",
    "DriveStats",
    "IoPool",
    "Poster",
]
