"""`-netdev`, `-nic` and `-net`."""

from __future__ import annotations

from typing import Any

import pytest

import ratite
from ratite.cli.catalogue import answer
from ratite.cli.draft import Topic, Wanted
from ratite.cli.options import parse
from ratite.core import ConfigError, HostError
from ratite.machines.config import DeviceConfig

CARD = "virtio-net-device"
QUIET = ["-display", "none", "-serial", "null", "-bios", "none", "-m", "64M"]


def netdevs(*words: str) -> list[Any]:
    return [wanted.options for wanted in parse(words).netdevs]


@pytest.mark.parametrize(
    "text",
    [
        "stream,id=n0,server=on,addr.type=inet,addr.host=,addr.port=0,addr.to=9",
        '{"type": "stream", "id": "n0", "server": true,'
        ' "addr": {"type": "inet", "host": "", "port": "0", "to": 9}}',
    ],
)
def test_both_forms_say_the_same(text: str) -> None:
    address = {"type": "inet", "host": "", "port": "0", "to": 9}
    assert netdevs("-netdev", text) == [
        {"type": "stream", "id": "n0", "server": True, "addr": address}
    ]


def test_nic_is_a_netdev_and_its_card() -> None:
    words = ["-nic", "hubport,hubid=1", "-nic", "tap,id=t,ifname=x,model=virtio,mac=52:54:0:0:0:1"]
    config = parse([*words, "-nic", "none", "-net", "none", "-netdev", "hubport,id=nic2,hubid=0"])
    assert [wanted.options["id"] for wanted in config.netdevs] == ["nic0", "t", "nic2"]
    assert config.devices == (
        DeviceConfig(CARD, None, {"netdev": "nic0"}),
        DeviceConfig(CARD, None, {"netdev": "t", "mac": "52:54:0:0:0:1"}),
    )


def test_net_nic_is_a_card() -> None:
    config = parse(["-net", "nic", "-net", "nic,netdev=n0,macaddr=52:54:0:0:0:1,model=virtio,id=c"])
    assert config.devices == (
        DeviceConfig(CARD, None, {}),
        DeviceConfig(CARD, "c", {"mac": "52:54:0:0:0:1", "netdev": "n0"}),
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("-netdev user,id=n0,hostfwd=x", "-netdev: user mode networking is not offered; use tap"),
        ('-netdev {"type":"user","id":"n0"}', "-netdev: user mode networking is not offered"),
        ("-nic user", "-nic: user mode networking is not offered; use tap"),
        ("-netdev hubport", "-netdev: Parameter 'id' is missing"),
        ("-netdev id=a", "-netdev: Parameter 'type' is missing"),
        ("-netdev foo,id=n0", "-netdev: Parameter 'type' does not accept value 'foo'"),
        ("-netdev hubport,id=n0", "-netdev: Parameter 'hubid' is missing"),
        ("-netdev hubport,id=n0,hubid=x", "-netdev: Parameter 'hubid' expects integer"),
        ("-netdev hubport,id=n0,hubid=0,foo=1", "-netdev: Parameter 'foo' is unexpected"),
        ("-netdev stream,id=n0,addr=x", "-netdev: Invalid parameter type for 'addr', expected: o"),
        (
            "-netdev hubport,id=n0,hubid=0 -netdev hubport,id=n0,hubid=0",
            "-netdev: Duplicate ID 'n0' for netdev",
        ),
        ("-nic hubport,hubid=0,model=e1000", f"-nic: model: there is no 'e1000' here; {CARD}"),
        ("-nic hubport,hubid=0,mac=zz", "-nic: mac: invalid syntax for ethernet address"),
        ("-net nic,macaddr=zz", "-net: macaddr: invalid syntax for ethernet address"),
        ("-net nic,vlan=1", "-net: Invalid parameter 'vlan'"),
        ("-net tap", "-net: 'tap' would join hub 0, which is not offered; use -nic tap,"),
        ("-netdev foo,help", "-netdev: 'foo' is not a known type"),
    ],
)
def test_a_wrong_option_is_told_in_one_line(words: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        try:
            parse(words.split())
        except Wanted as wanted:
            answer(wanted)
    assert str(caught.value).startswith(text) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("-netdev socket,id=n0", "-netdev n0: exactly one of listen=, connect=, mcast= or udp="),
        ("-netdev hubport,id=1n,hubid=0", "-netdev 1n: Parameter 'id' expects an identifier"),
        ("-netdev tap,id=n0,vhost=on", "-netdev n0: vhost=on is not offered; leave it out"),
        (
            "-netdev stream,id=n0,server=on,addr.type=unix,addr.path=/nonexistent/x",
            "-netdev n0: cannot listen on 'unix:/nonexistent/x': No such file or directory",
        ),
        (
            f"-device {CARD},netdev=nope",
            f"-device {CARD}: Property '{CARD}.netdev' can't find value 'nope'",
        ),
        (
            f"-netdev hubport,id=n,hubid=0 -device {CARD},netdev=n -device {CARD},netdev=n",
            f"-device {CARD}: Property '{CARD}.netdev' can't take value 'n', it's in use",
        ),
        ("-M spike -nic hubport,hubid=0", f"-device {CARD}: No 'virtio-bus' bus found"),
    ],
)
def test_what_cannot_be_made_is_told_in_one_line(words: str, text: str) -> None:
    with pytest.raises((ConfigError, HostError)) as caught:
        ratite.Vm(config=parse([*QUIET, *words.split()])).close()
    assert str(caught.value).startswith(text)


def test_cables_that_lead_nowhere_are_told_of(capfd: pytest.CaptureFixture[str]) -> None:
    words = "-netdev hubport,id=n0,hubid=0 -net nic -netdev hubport,id=n1,hubid=0 "
    words += f"-device {CARD},netdev=n1"
    ratite.Vm(config=parse([*QUIET, *words.split()])).close()
    lines = capfd.readouterr().err.splitlines()
    assert [line.partition("warning: ")[2] for line in lines] == [
        "netdev n0 has no peer",
        f"nic {CARD}.0 has no peer",
    ]


def test_help_lists_the_kinds_and_their_options() -> None:
    kinds = "socket stream dgram hubport tap".split()
    listed = answer(Wanted(Topic.NETDEVS)).splitlines()
    assert listed == ["Available netdev backend types:", *kinds]
    assert "  hubid=<integer>" in answer(Wanted(Topic.NETDEVS, "hubport"))
    with pytest.raises(Wanted) as caught:
        parse(["-netdev", "tap,help"])
    assert (caught.value.topic, caught.value.name) == (Topic.NETDEVS, "tap")
