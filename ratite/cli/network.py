"""`-netdev`, `-nic` and `-net`: from their text to the part of the configuration that they stand
for.

Each function raises ConfigError without naming the option: the caller does that.
"""

from __future__ import annotations

from typing import cast

from ratite.cli.draft import Draft
from ratite.cli.keyval import parse_json
from ratite.core import ConfigError
from ratite.core.ethernet import parse_mac
from ratite.core.keyval import parse_keyval
from ratite.machines.config import DeviceConfig, NetdevConfig, PropertyValue

CARD = "virtio-net-device"
_MODELS = (CARD, "virtio-net", "virtio")


def netdev(text: str) -> NetdevConfig:
    """`TYPE,id=ID[,NAME=VALUE]...`, or the same in JSON."""
    from ratite.monitor.netdev_text import check_kind, netdev_options, netdev_tree

    if text.lstrip().startswith("{"):
        tree = parse_json(text)
        check_kind(tree)
    else:
        tree = cast("dict[str, PropertyValue]", netdev_tree(text))
    netdev_options(tree)
    return NetdevConfig(tree)


def nic(draft: Draft, text: str) -> None:
    """`TYPE[,mac=MAC][,model=MODEL][,NAME=VALUE]...`: a netdev and its card; `none` is nothing."""
    given = parse_keyval(text, "type")
    if given == {"type": "none"}:
        return
    card = _card(given, "mac")
    given.setdefault("id", _free_id(draft))
    escaped = (f"{key}={value.replace(',', ',,')}" for key, value in given.items())
    draft.append("netdevs", netdev(",".join(escaped)))
    draft.append("devices", DeviceConfig(CARD, None, {"netdev": given["id"], **card}))


def net(draft: Draft, text: str) -> None:
    """`none`, or `nic[,netdev=ID][,macaddr=MAC][,model=MODEL]`: a card."""
    given = parse_keyval(text, "type")
    kind = given.pop("type", "")
    if kind == "none" and not given:
        return
    if kind != "nic":
        raise ConfigError(
            f"'{kind}' would join hub 0, which is not offered; use -nic {kind or 'TYPE'},..., or "
            f"-netdev with -device {CARD}"
        )
    card = _card(given, "macaddr")
    if "netdev" in given:
        card["netdev"] = given.pop("netdev")
    id = given.pop("id", None)
    if given:
        raise ConfigError(f"Invalid parameter '{min(given)}'")
    draft.append("devices", DeviceConfig(CARD, id, card))


def _card(given: dict[str, str], mac: str) -> dict[str, PropertyValue]:
    """The properties of the card, taken out of what was given."""
    model = given.pop("model", CARD)
    if model not in _MODELS:
        raise ConfigError(f"model: there is no '{model}' here; {CARD} is the card there is")
    address = given.pop(mac, "")
    if address and parse_mac(address) is None:
        raise ConfigError(f"{mac}: invalid syntax for ethernet address")
    return {"mac": address} if address else {}


def _free_id(draft: Draft) -> str:
    taken = {str(wanted.options.get("id")) for wanted in draft.config.netdevs}
    return next(f"nic{n}" for n in range(len(taken) + 1) if f"nic{n}" not in taken)
