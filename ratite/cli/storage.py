"""`-drive` and `-blockdev`: from their text to the part of the configuration that they stand for.

Each function raises ConfigError without naming the option: the caller does that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from ratite.cli.convert import identifier
from ratite.cli.keyval import Settings, parse_json
from ratite.core import ConfigError
from ratite.core.disk import OnError
from ratite.core.keyval import nest, parse_keyval
from ratite.machines.config import (
    BlockdevConfig,
    DriveConfig,
    DriveInterface,
    Media,
    PropertyValue,
)

_CACHE_MODES = ("none", "writeback", "writethrough", "directsync", "unsafe")
_FORMATS = ("raw", "file", "host_device", "null-co", "null-aio")
NODE_KEYS = (
    "node-name",
    "driver",
    "detect-zeroes",
    "auto-read-only",
    "force-share",
    "aio",
    "offset",
    "size",
    "latency-ns",
    "read-zeroes",
)
"""What `-drive` takes of the options of block nodes, besides `cache.` and `file.`."""
_LIMIT = re.compile(r"(bps|iops)(_rd|_wr)?(_max)?|iops_size")
_LONG_LIMIT = re.compile(r"throttling\.(bps|iops)-(total|read|write)(-max(?:-length)?)?")
_PART = {"total": "", "read": "_rd", "write": "_wr"}


def drive(text: str) -> DriveConfig:
    """`file=F[,format=raw][,if=none|virtio|pflash][,id=ID]...`; an id may be empty."""
    settings = Settings.read(text, "file")
    file, pseudo = _file(settings)
    interface = settings.choice("if", DriveInterface.NONE)
    discard = settings.word("discard", ("ignore", "off", "unmap", "on"), "ignore")
    result = DriveConfig(
        id=(identifier(settings) if settings.left.get("id") else settings.text("id")) or "",
        file=file,
        format=settings.word("format", _FORMATS, "") or None,
        interface=interface,
        index=settings.integer("index", 0, 255),
        unit=settings.integer("unit", 0, 255),
        media=settings.choice("media", Media.DISK),
        read_only=_read_only(settings),
        snapshot=settings.switch("snapshot", False),
        cache=settings.word("cache", _CACHE_MODES, "writeback"),
        write_cache=_maybe_switch(settings, "cache.writeback"),
        discard=discard in ("unmap", "on"),
        serial=settings.text("serial"),
        on_read_error=_policy(settings, "rerror"),
        on_write_error=_policy(settings, "werror"),
        account_invalid=settings.switch("stats-account-invalid", True),
        account_failed=settings.switch("stats-account-failed", True),
        limits_group=settings.text("group") or settings.text("throttling.group"),
        limits=_limits(settings),
        options=_node_options(settings),
    )
    if settings.switch("copy-on-read", False):
        raise ConfigError("copy-on-read=on is not offered; leave it out")
    settings.done()
    if result.format and "driver" in result.options:
        raise ConfigError("Cannot specify both 'driver' and 'format'")
    result = replace(result, options={**pseudo, **result.options})
    empty = result.file is None and not result.options and result.format is None
    if empty and interface is not DriveInterface.NONE:
        raise ConfigError("file= is missing")
    return result


def _file(settings: Settings) -> tuple[Path | None, Mapping[str, PropertyValue]]:
    """A path, or what a name that is none says of the drive's nodes: `json:{...}`, `null-co://`."""
    name = settings.text("file")
    if name is None:
        return None, {}
    if not name:
        raise ConfigError("file: an empty file name")
    if name.startswith("json:"):
        return None, parse_json(name.removeprefix("json:"))
    if name in ("null-co://", "null-aio://"):
        return None, {"file": {"driver": name.removesuffix("://")}}
    return Path(name), {}


def hot_drive(text: str, taken: Iterable[str]) -> DriveConfig:
    """The same for a machine that has drives of these names."""
    wanted = drive(text)
    kinds = {DriveInterface.NONE: 0, DriveInterface.PFLASH: 4, DriveInterface.VIRTIO: 7}
    if wanted.interface is not DriveInterface.NONE:
        raise ConfigError(f"Can't hot-add drive to type {kinds[wanted.interface]}")
    names = set(taken)
    if wanted.id in names:
        raise ConfigError(f"Duplicate ID '{wanted.id}' for drive")
    free = next(f"none{n}" for n in range(len(names) + 1) if f"none{n}" not in names)
    return replace(wanted, id=wanted.id or free)


def _read_only(settings: Settings) -> bool:
    given = [_maybe_switch(settings, key) for key in ("readonly", "read-only")]
    if None not in given:
        raise ConfigError("'read-only' and its alias 'readonly' can't be used at the same time")
    return True in given


def _maybe_switch(settings: Settings, key: str) -> bool | None:
    """`on` or `off`; None: not given."""
    return None if key not in settings.left else settings.switch(key, False)


def _policy(settings: Settings, key: str) -> OnError:
    policy = settings.choice(key, OnError.AUTO)
    if key == "rerror" and policy is OnError.ENOSPC:
        raise ConfigError("'enospc' invalid read error action")
    return policy


def _limits(settings: Settings) -> dict[str, int]:
    """Limits by the names of `block_set_io_throttle`, written in its way or in the newer one."""
    found: dict[str, int] = {}
    for key in tuple(settings.left):
        short, long = _LIMIT.fullmatch(key), _LONG_LIMIT.fullmatch(key)
        name = ""
        if short:
            name = key
        elif long:
            name = long[1] + _PART[long[2]] + (long[3] or "").replace("-", "_")
        elif key == "throttling.iops-size":
            name = "iops_size"
        if name:
            found[name] = settings.integer(key, -(1 << 63), (1 << 63) - 1) or 0
    return found


def limit_keys() -> Iterator[str]:
    """The names of limits in the newer way."""
    for unit in ("bps", "iops"):
        for part in _PART:
            yield from (f"throttling.{unit}-{part}{end}" for end in ("", "-max", "-max-length"))
    yield "throttling.iops-size"


def _node_options(settings: Settings) -> dict[str, PropertyValue]:
    """What is said of the drive's node, and of the node below."""
    flat: dict[str, object] = {**settings.below("file"), **settings.below("cache")}
    for key in NODE_KEYS:
        value = settings.text(key)
        if value is not None:
            flat[key] = value
    if not flat:
        return {}
    tree = nest(flat)
    below = tree.get("file")
    typed = _typed({"driver": "raw", **tree})
    if isinstance(below, dict):
        known = _typed({"driver": "file", **below})
        typed["file"] = {key: known[key] for key in below}
    return {key: typed[key] for key in tree}


def blockdev(text: str) -> BlockdevConfig:
    """`driver=DRIVER,node-name=N,...`, or the same in JSON."""
    if text.lstrip().startswith("{"):
        return BlockdevConfig(parse_json(text))
    return BlockdevConfig(_typed(nest(parse_keyval(text, "driver"))))


def _typed(tree: Mapping[str, object]) -> dict[str, PropertyValue]:
    """A tree of texts with the types that block nodes have for them."""
    from ratite.block.options import BlockdevOptions
    from ratite.monitor.errors import QmpError
    from ratite.monitor.text import from_text
    from ratite.monitor.types import type_of

    try:
        typed = from_text(type_of(BlockdevOptions), dict(tree))
    except QmpError as error:
        raise ConfigError(str(error)) from None
    return cast("dict[str, PropertyValue]", typed)
