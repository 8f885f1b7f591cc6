"""`-gdb` and `-s`: what they open."""

from __future__ import annotations

import pytest

from ratite.cli.options import parse
from ratite.core import ConfigError


def chardev(*words: str):
    config = parse(["-display", "none", *words])
    (found,) = [device for device in config.chardevs if device.id == config.gdb]
    return found.backend, dict(found.properties)


def test_the_short_form_listens_on_loopback_only() -> None:
    backend, properties = chardev("-s")
    assert backend == "socket"
    assert properties == {"server": True, "wait": False, "host": "127.0.0.1", "port": "1234"}
    assert chardev("-gdb", "tcp::1234") == (backend, properties)


def test_a_host_that_is_given_is_taken() -> None:
    assert chardev("-gdb", "tcp:0.0.0.0:99")[1]["host"] == "0.0.0.0"


def test_a_unix_socket_listens_too() -> None:
    expected = {"server": True, "wait": False, "path": "/run/gdb"}
    assert chardev("-gdb", "unix:/run/gdb") == ("socket", expected)
    assert chardev("-gdb", "unix:/run/gdb,server=off")[1]["server"] == "off"


def test_a_named_chardev_may_come_later() -> None:
    assert chardev("-gdb", "chardev:it", "-chardev", "null,id=it")[0] == "null"


def test_the_last_one_counts_and_none_is_none() -> None:
    assert chardev("-s", "-gdb", "tcp::99")[1]["port"] == "99"
    config = parse(["-display", "none", "-s", "-gdb", "none"])
    assert config.gdb is None
    assert "gdb" not in [device.id for device in config.chardevs]


@pytest.mark.parametrize("text", ["tcp:1", "chardev:", "chardev:nobody", "carrier:pigeon"])
def test_what_cannot_be_opened_is_refused_with_the_option_s_name(text: str) -> None:
    with pytest.raises(ConfigError, match="-gdb"):
        parse(["-display", "none", "-gdb", text])
