"""Netdevs from the text of a command line, and from trees of options."""

from __future__ import annotations

from collections.abc import Mapping

from ratite.core.errors import ConfigError
from ratite.core.keyval import nest, parse_keyval
from ratite.monitor.errors import QmpError
from ratite.monitor.text import from_text
from ratite.monitor.types import type_of
from ratite.net import NetdevOptions, NetdevUnion

NO_USER_NETWORK = (
    "user mode networking is not offered; use tap for the host's network, or socket, stream or "
    "dgram with a program at the other end"
)


def netdev_tree(text: str) -> dict[str, object]:
    """The options in `TYPE,id=ID[,NAME=VALUE]...`, as a tree of typed values. Raises
    `ConfigError`.
    """
    tree = nest(parse_keyval(text, "type"))
    check_kind(tree)
    if "id" not in tree:
        raise ConfigError("Parameter 'id' is missing")
    try:
        typed = from_text(type_of(NetdevUnion), tree)
    except QmpError as error:
        raise ConfigError(str(error)) from None
    assert isinstance(typed, dict)
    return typed


def check_kind(tree: Mapping[str, object]) -> None:
    """Raise `ConfigError` for a kind that people know and that there is not."""
    if tree.get("type") == "user":
        raise ConfigError(NO_USER_NETWORK)


def netdev_options(tree: Mapping[str, object]) -> NetdevOptions:
    """The options in a tree of typed values. Raises `ConfigError`."""
    try:
        options = type_of(NetdevUnion).parse(dict(tree), "")
    except QmpError as error:
        raise ConfigError(str(error)) from None
    assert isinstance(options, NetdevOptions)
    return options
