"""`-readconfig`: sections and settings, and what is told of a line that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ratite.cli.options import BY_SECTION, parse
from ratite.core import ConfigError, HostError, MiB
from ratite.machines.config import (
    AccelConfig,
    ChardevConfig,
    DeviceConfig,
    GlobalConfig,
    MachineConfig,
    MonitorConfig,
    MonitorMode,
    ObjectConfig,
    RebootAction,
    SmpConfig,
    TraceConfig,
)
from ratite.vm import Vm

Read = Callable[..., MachineConfig]

SAMPLE = """\
# A machine in a file.
[machine]
  type = "virt"
  aclint = "on"
  kernel = "Image"
  append = "console=ttyS0 quiet"

[memory]
  size = "64"

[smp-opts]
  cpus="2"
  maxcpus = "4"

[accel]
  accel = "tcg"   # the only one
  tb-size = "64"

[name]
  guest = "my, guest"
  debug-threads = "on"

[object "rng0"]
  qom-type = "rng-builtin"

[device "r"]
  driver = "virtio-rng-device"
  rng = "rng0"

[ chardev "c" ]
  backend = "null"
[mon "m"]
  chardev = "c"
  mode = "control"
[global]
  driver = "virtio-mmio"
  property = "force-legacy"
  value = "off"
[rtc]
  base = "localtime"
[icount]
  shift = "3"
[action]
  reboot = "shutdown"
[msg]
  timestamp = "on"
[trace]
  enable = "virtio_*"
[fw_cfg]
  name = "opt/x"
  string = "a,b"
"""


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads a file of this content, between two parts of a command line."""

    def read(content: str, before: str = "", after: str = "") -> MachineConfig:
        path = tmp_path / "c.cfg"
        path.write_text(content)
        return parse([*before.split(), "-readconfig", str(path), *after.split()])

    return read


def test_every_section_is_the_option(read: Read) -> None:
    config = read(SAMPLE)
    assert (config.board, config.properties) == ("virt", {"aclint": "on"})
    assert (config.boot.kernel, config.boot.append) == (Path("Image"), "console=ttyS0 quiet")
    assert config.memory.size == 64 * MiB
    assert config.smp == SmpConfig(2, 4, 1, 4, 1)
    assert config.accels == (AccelConfig("tcg", {"tb-size": "64"}),)
    assert config.name == "my, guest" and config.process.thread_names
    assert config.objects == (ObjectConfig("rng-builtin", "rng0"),)
    assert config.devices == (DeviceConfig("virtio-rng-device", "r", {"rng": "rng0"}),)
    assert ChardevConfig("null", "c") in config.chardevs
    assert MonitorConfig("c", MonitorMode.CONTROL) in config.monitors
    assert config.globals == (GlobalConfig("virtio-mmio", "force-legacy", "off"),)
    assert (config.rtc.base, config.icount.shift) == ("localtime", 3)
    assert config.on_reboot is RebootAction.SHUTDOWN
    assert config.messages.timestamp
    assert config.log.traces == (TraceConfig("virtio_*"),)
    assert (config.fw_cfg[0].name, config.fw_cfg[0].text) == ("opt/x", "a,b")


def test_the_names_of_sections_are_qemus() -> None:
    assert set(BY_SECTION) == set(
        "accel action add-fd boot-opts chardev device drive fw_cfg global icount machine memory "
        "mon msg name net netdev nic object overcommit rtc smp-opts trace".split()
    )


def test_the_command_line_counts_in_its_order(read: Read) -> None:
    content = '[memory]\nsize = "64"\n[machine]\ntype = "virt"\n'
    config = read(content, before="-m 32 -M spike", after="-name x")
    assert (config.memory.size, config.board, config.name) == (64 * MiB, "virt", "x")
    assert read(content, after="-m 32 -M spike").memory.size == 32 * MiB


@pytest.mark.parametrize("content", ["", "\n \n# c\n", "[machine]\n", "[memory]\n[name]\n"])
def test_nothing_said_changes_nothing(read: Read, content: str) -> None:
    assert read(content, before="-m 32") == parse(["-m", "32"])


SETTING = 'parse error; a setting is: key = "value"'
HEADER = 'parse error; a section is: [option] or [option "id"]'
FIRST = "no group defined; [machine] or another comes first"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("junk\n", f"1: {FIRST}"),
        ('\ntype = "virt"\n', f"2: {FIRST}"),
        ("[machine]\njunk\n", f"2: {SETTING}"),
        ("[machine]\ntype = virt\n", f"2: {SETTING}"),
        ('[machine]\ntype = "virt\n', f"2: {SETTING}"),
        ('[machine]\ntype = "vi"rt"\n', f"2: {SETTING}"),
        ("[machine\n", f"1: {HEADER}"),
        ("[device a]\n", f"1: {HEADER}"),
        ("[]\n", f"1: {HEADER}"),
        ('[memoy]\nsize = "1"\n', "2: There is no option group 'memoy'; did you mean 'memory'?"),
        ('[device "a"]\n', "1: Parameter 'driver' is missing"),
        ('[memory "a"]\nsize = "1"\n', "2: 'id' is not known; known: maxmem, size, slots"),
        (
            '[memory]\nfoo = "1"\nsize = "64"\n',
            "2: 'foo' is not known; known: maxmem, size, slots",
        ),
        ('[smp-opts]\ncpus = "x"\nmaxcpus = "4"\n', "2: cpus: 'x' is not a whole number"),
        (
            '[memory]\nsize = "64"\nmaxmem = "32"\n[name]\n',
            "3: maxmem (33554432) is less than size (67108864)",
        ),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(
    read: Read, tmp_path: Path, content: str, message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        read(content)
    assert str(raised.value) == f"{tmp_path}/c.cfg:{message}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[device "a"]\ndriver = "nosuch"\n', "2: 'nosuch' is not a valid device model name"),
        (
            '[device "a"]\ndriver = "virtio-rng-device"\nfoo = "x"\n[name]\n',
            "3: Property 'virtio-rng-device.foo' not found",
        ),
        (
            '[object "o"]\nqom-type = "nosuch"\n',
            "2: Parameter 'qom-type' does not accept value 'nosuch'",
        ),
        ('[chardev "c"]\nbackend = "null"\nfoo = "x"\n', "3: Property 'chardev-null.foo' not"),
        (
            '[drive "d"]\nfile = "/no/such/file"\n',
            "2: Could not open '/no/such/file': No such file or directory",
        ),
    ],
)
def test_what_turns_out_to_be_wrong_later_is_told_like_that(
    read: Read, tmp_path: Path, content: str, message: str
) -> None:
    config = read(content, before="-M virt -display none -bios none -accel qtest")
    with pytest.raises((ConfigError, HostError)) as raised:
        Vm(config=config).close()
    assert str(raised.value).startswith(f"{tmp_path}/c.cfg:{message}")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError) as raised:
        parse(["-readconfig", f"{tmp_path}/no"])
    assert str(raised.value) == (
        f"-readconfig {tmp_path}/no: Could not open '{tmp_path}/no': No such file or directory"
    )
    with pytest.raises(HostError, match="Is a directory"):
        parse(["-readconfig", str(tmp_path)])
    with pytest.raises(ConfigError, match="is no file name"):
        parse(["-readconfig", "a\0b"])
