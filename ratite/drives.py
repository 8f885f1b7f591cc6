"""From what a user says of drives and nodes to the options of the nodes."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

from ratite.block import BlockdevOptions, CacheOptions, NodeOptions, OverlayOptions
from ratite.core.errors import ConfigError
from ratite.machines.config import BlockdevConfig, DriveConfig, Media, Properties, PropertyValue
from ratite.monitor.errors import QmpError
from ratite.monitor.types import type_of

CACHE_MODES = {  # `cache=`: write cache, cache.direct, cache.no-flush
    "writeback": (True, False, False),
    "writethrough": (False, False, False),
    "none": (True, True, False),
    "directsync": (False, True, False),
    "unsafe": (True, False, True),
}
_ALONE = ("file", "host_device", "null-co", "null-aio")  # drivers without a node below

Tree = dict[str, PropertyValue]


def blockdev_options(config: BlockdevConfig) -> NodeOptions:
    """The node of `-blockdev`. Raises `ConfigError`."""
    return _parse(config.options)


def node_options(config: DriveConfig) -> NodeOptions | None:
    """The node in a drive; None if it is empty. Raises `ConfigError`."""
    tree = _drive_tree(config)
    if tree is None:
        return None
    options = _parse(tree)
    if not config.snapshot or options.read_only:
        return options
    return OverlayOptions(
        backing=replace(options, read_only=True, discard=None, detect_zeroes=None),
        cache=CacheOptions(False, True),
        discard=options.discard,
        detect_zeroes=options.detect_zeroes,
    )


def has_write_cache(config: DriveConfig) -> bool:
    """Whether writes may be reported done before they are on stable storage."""
    return CACHE_MODES[config.cache][0] if config.write_cache is None else config.write_cache


def is_read_only(config: DriveConfig) -> bool:
    """Whether the medium shall not be written."""
    return config.read_only or config.media is Media.CDROM


def _parse(tree: Properties) -> NodeOptions:
    try:
        options = type_of(BlockdevOptions).parse(dict(tree), "")
    except QmpError as error:
        raise ConfigError(str(error)) from None
    assert isinstance(options, NodeOptions)
    return options


def _drive_tree(config: DriveConfig) -> Tree | None:
    """The options of a drive's node as one tree."""
    tree: Tree = dict(config.options)
    below = tree.pop("file", None) or {}
    if isinstance(below, dict) and config.file is not None:
        kind = "host_device" if _is_block_device(config.file) else "file"
        below = {"driver": kind, "filename": str(config.file), **below}
    given = tree.pop("driver", None)
    driver = config.format or given
    if not (below or driver):
        return None
    cache = tree.get("cache")
    _, direct, no_flush = CACHE_MODES[config.cache]
    tree["cache"] = {
        "direct": direct,
        "no-flush": no_flush,
        **(cache if isinstance(cache, dict) else {}),
    }
    tree.setdefault("read-only", is_read_only(config))
    tree.setdefault("discard", "unmap" if config.discard else "ignore")
    if driver in _ALONE:
        return {**(below if isinstance(below, dict) else {}), **tree, "driver": driver}
    if not below:
        raise ConfigError("file= is missing")
    if isinstance(below, dict):
        below = {"driver": "file", **below}
        if "aio" in tree:
            below["aio"] = tree.pop("aio")
    return {**tree, "driver": driver or "raw", "file": below}


def _is_block_device(path: Path) -> bool:
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False
