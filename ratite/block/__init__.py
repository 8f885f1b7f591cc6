"""Disk images on the host."""

from ratite.block.drive import Drive, DriveStats, IoPool, Poster
from ratite.block.image import BlockNode, CacheMode, RawImage
from ratite.block.overlay import TemporaryOverlay, open_image

__all__ = [
    "BlockNode",
    "CacheMode",
    "RawImage",
    "TemporaryOverlay",
    "open_image",
    "Drive",
    "DriveStats",
    "IoPool",
    "Poster",
]
