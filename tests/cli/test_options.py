"""The option table: every option, and what a wrong one is told."""

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratite.cli.draft import Topic, Wanted
from ratite.cli.options import BY_NAME, OPTIONS, Append, Flag, Store, parse
from ratite.core import ConfigError, GiB, HostError, MiB
from ratite.core.disk import OnError
from ratite.machines.config import (
    AccelConfig,
    AddressRange,
    BlockdevConfig,
    CpuConfig,
    DeviceConfig,
    DriveInterface,
    FwCfgConfig,
    GlobalConfig,
    IcountConfig,
    MachineConfig,
    MemoryConfig,
    ObjectConfig,
    RebootAction,
    RtcClock,
    RtcConfig,
    ShutdownAction,
    SmpConfig,
)

UUID = "550e8400-e29b-41d4-a716-446655440000"


def value_of(config: MachineConfig, field: str) -> Any:
    value: Any = config
    for name in field.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.names)
def test_every_entry_names_a_field_that_exists(option: Any) -> None:
    if isinstance(option.action, Store | Append | Flag):
        *path, last = option.action.field.split(".")
        owner = value_of(MachineConfig(), ".".join(path)) if path else MachineConfig()
        assert is_dataclass(owner)
        assert last in {field.name for field in fields(owner)}


def test_no_name_is_used_twice() -> None:
    assert len(BY_NAME) == sum(len(option.names.split()) for option in OPTIONS)


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        ("-M virt", "board", "virt"),
        ("-machine type=virt,aclint=on", "properties", {"aclint": "on"}),
        ("-M virt -M aclint=on,type=spike", "board", "spike"),
        ("-M virt,dumpdtb=x.dtb", "boot.dump_dtb", Path("x.dtb")),
        ("-M virt,accel=kvm:tcg", "accels", (AccelConfig("kvm"), AccelConfig("tcg"))),
        ("-cpu rv64", "cpu", CpuConfig("rv64")),
        ("-cpu rv64,zba=off,+zbb,-sv57", "cpu.properties",
         {"zba": "off", "zbb": "on", "sv57": "off"}),
        ("-m 512", "memory", MemoryConfig(512 * MiB)),
        ("-m 1.5G", "memory.size", 1536 * MiB),
        ("-m size=1G,slots=2,maxmem=4G", "memory", MemoryConfig(GiB, 2, 4 * GiB)),
        ("-m 1k", "memory.size", 8192),
        ("-smp 4", "smp", SmpConfig(4, 4, 1, 4, 1)),
        ("-smp 4,sockets=2", "smp", SmpConfig(4, 4, 2, 2, 1)),
        ("-smp cpus=2,maxcpus=8,cores=4", "smp", SmpConfig(2, 8, 2, 4, 1)),
        ("-smp sockets=2,cores=2,threads=2", "smp", SmpConfig(8, 8, 2, 2, 2)),
        ("-kernel I", "boot.kernel", Path("I")),
        ("--kernel I", "boot.kernel", Path("I")),
        ("-kernel I -kernel J", "boot.kernel", Path("J")),
        ("-initrd C", "boot.initrd", Path("C")),
        ("-append x,y", "boot.append", "x,y"),
        ("-dtb D", "boot.dtb", Path("D")),
        ("-bios none", "boot.bios", "none"),
        ("-device a,id=d,p=1 -set device.d.p=2 -set device.d.q=,x", "devices",
         (DeviceConfig("a", "d", {"p": "2", "q": ",x"}),)),
        ("-device a,id=d,p=1", "devices", (DeviceConfig("a", "d", {"p": "1"}),)),
        ('-device {"driver":"a","p":1}', "devices",
         (DeviceConfig("a", None, {"p": 1}, strict=True),)),
        ("-global a.b.c=d=e", "globals", (GlobalConfig("a.b", "c", "d=e"),)),
        ("-global driver=a,property=b,value=c", "globals", (GlobalConfig("a", "b", "c"),)),
        ("-object rng-builtin,id=r", "objects", (ObjectConfig("rng-builtin", "r"),)),
        ('-object {"qom-type":"rng-builtin","id":"r"}', "objects",
         (ObjectConfig("rng-builtin", "r", strict=True),)),
        ("-accel kvm -accel tcg", "accels", (AccelConfig("kvm"), AccelConfig("tcg"))),
        ("-icount 3", "icount", IcountConfig(3)),
        ("-icount shift=auto,sleep=off", "icount", IcountConfig(None, sleep=False)),
        ("-rtc base=localtime,clock=vm", "rtc", RtcConfig("localtime", RtcClock.VIRTUAL)),
        ("-rtc 1970-01-02T00:00:01", "rtc.base", 86401),
        ("-d int,unimp", "log.items", "int,unimp"),
        ("-D log", "log.file", Path("log")),
        (
            "-dfilter 0x1000..0x1fff,0x2000+0x10,0x3000-1",
            "log.ranges",
            (
                AddressRange(0x1000, 0x1FFF),
                AddressRange(0x2000, 0x200F),
                AddressRange(0x3000, 0x3000),
            ),
        ),
        ("-echr 0x02", "echr", 2),
        ("-seed 7", "seed", 7),
        ("-fw_cfg opt/a,string=b", "fw_cfg", (FwCfgConfig("opt/a", text="b"),)),
        ("-fw_cfg name=opt/a,file=f", "fw_cfg", (FwCfgConfig("opt/a", Path("f")),)),
        ("-L a -L b", "process.data_directories", (Path("a"), Path("b"))),
        ("-name vm,process=p", "name", "vm"),
        ("-name vm,process=p", "process.name", "p"),
        ("-name vm,debug-threads=on", "process.thread_names", True),
        (f"-uuid {UUID.upper()}", "uuid", UUID),
        ("-pidfile p", "process.pid_file", Path("p")),
        ("-daemonize -display none", "process.daemonize", True),
        ("-overcommit mem-lock=on,cpu-pm=on", "process.lock_memory", True),
        ("-machine virt,usb=off,dump-guest-core=off", "dump_guest_core", False),
        ("-boot c,strict=on,menu=off", "boot.kernel", None),
        ("-audiodev none,id=a", "devices", ()),
        ('-audiodev {"driver":"none","id":"a"}', "devices", ()),
        ("-S", "start_paused", True),
        ("-no-reboot", "on_reboot", RebootAction.SHUTDOWN),
        ("-no-shutdown", "on_shutdown", ShutdownAction.PAUSE),
        ("-action reboot=shutdown,shutdown=pause", "on_reboot", RebootAction.SHUTDOWN),
        ("-action reboot=shutdown,shutdown=pause", "on_shutdown", ShutdownAction.PAUSE),
        ("-nodefaults", "default_devices", False),
    ],
)  # fmt: skip
def test_an_option_sets_its_field(arguments: str, field: str, value: object) -> None:
    assert value_of(parse(arguments.split()), field) == value


def test_a_drive_has_all_its_settings() -> None:
    text = (
        "file=a,,b.img,format=raw,if=none,id=d0,readonly=on,snapshot=on,cache=none,"
        "discard=unmap,serial=S1,media=cdrom"
    )
    (drive,) = parse(["-drive", text]).drives
    assert (drive.file, drive.format, drive.id) == (Path("a,b.img"), "raw", "d0")
    assert drive.interface is DriveInterface.NONE
    assert drive.read_only and drive.snapshot and drive.discard
    assert (drive.cache, drive.serial, drive.media.value) == ("none", "S1", "cdrom")


def test_drives_without_a_number_take_the_first_free_one() -> None:
    arguments = "-pflash a -drive file=b,if=pflash,unit=2 -pflash c -drive file=d -drive file=e"
    drives = parse(arguments.split()).drives
    assert [drive.id for drive in drives] == ["pflash0", "pflash2", "pflash1", "none0", "none1"]


def test_what_is_said_of_a_drives_nodes_has_their_types() -> None:
    text = (
        "file=a.img,if=none,id=d0,node-name=n0,file.locking=off,file.aio-max-batch=3,offset=512,"
        "cache.direct=on,detect-zeroes=on,force-share=off"
    )
    (drive,) = parse(["-drive", text]).drives
    assert drive.options == {
        "file": {"locking": "off", "aio-max-batch": 3},
        "cache": {"direct": True},
        "node-name": "n0",
        "offset": 512,
        "detect-zeroes": "on",
        "force-share": False,
    }


def test_limits_are_written_in_two_ways() -> None:
    text = "file=a,bps=1,iops_wr_max=2,throttling.bps-read-max-length=3,throttling.iops-size=4"
    (drive,) = parse(["-drive", f"{text},group=g"]).drives
    assert drive.limits == {"bps": 1, "iops_wr_max": 2, "bps_rd_max_length": 3, "iops_size": 4}
    assert drive.limits_group == "g"


def test_a_drive_says_what_becomes_of_errors() -> None:
    (drive,) = parse(["-drive", "file=a,werror=stop,rerror=ignore,stats-account-failed=off"]).drives
    assert (drive.on_write_error, drive.on_read_error) == (OnError.STOP, OnError.IGNORE)
    assert drive.account_invalid and not drive.account_failed


BLOCKDEV = BlockdevConfig(
    {
        "driver": "raw",
        "node-name": "n",
        "read-only": True,
        "cache": {"direct": True},
        "file": {"driver": "file", "filename": "x", "locking": "off"},
        "offset": 512,
    }
)


@pytest.mark.parametrize(
    "text",
    [
        "raw,node-name=n,read-only=on,cache.direct=on,"
        "file.driver=file,file.filename=x,file.locking=off,offset=0x200",
        '{"driver":"raw","node-name":"n","read-only":true,"cache":{"direct":true},"offset":512,'
        '"file":{"driver":"file","filename":"x","locking":"off"}}',
    ],
)
def test_a_blockdev_reads_the_same_in_both_forms(text: str) -> None:
    assert parse(["-blockdev", text]).blockdevs == (BLOCKDEV,)


@pytest.mark.parametrize(
    ("arguments", "topic", "name"),
    [
        ("-h", Topic.OPTIONS, None),
        ("--help", Topic.OPTIONS, None),
        ("-version", Topic.VERSION, None),
        ("-M help", Topic.MACHINES, None),
        ("-machine ?", Topic.MACHINES, None),
        ("-M virt,help", Topic.MACHINES, "virt"),
        ("-cpu help", Topic.CPUS, None),
        ("-accel help", Topic.ACCELS, None),
        ("-device help", Topic.DEVICES, None),
        ("-device virtio-blk-device,help", Topic.DEVICES, "virtio-blk-device"),
        ("-device driver=virtio-blk-device,help", Topic.DEVICES, "virtio-blk-device"),
        ("-object rng-random,help", Topic.OBJECTS, "rng-random"),
        ("-chardev help", Topic.CHARDEVS, None),
        ("-display help", Topic.DISPLAYS, None),
        ("-d help", Topic.LOG, None),
        ("-d int,trace:help", Topic.TRACE, None),
        ("-trace help", Topic.TRACE, None),
        ("-trace enable=?", Topic.TRACE, None),
    ],
)
def test_help_is_asked_for(arguments: str, topic: Topic, name: str | None) -> None:
    with pytest.raises(Wanted) as raised:
        parse(arguments.split())
    assert (raised.value.topic, raised.value.name) == (topic, name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("-krenel x", "-krenel: no such option; did you mean '-kernel'?"),
        ("-zzz", "-zzz: no such option; -h lists the options"),
        ("x.img", "'x.img' is no option: options begin with '-'; an image is -drive file=x.img"),
        ("-kernel", "-kernel: needs a value: FILE"),
        ("-smp 2,cores=0", "-smp: cores: 0 is out of range: 1 to 512"),
        ("-smp two", "-smp: cpus: 'two' is not a whole number"),
        ("-smp cpsu=2", "-smp: 'cpsu' is not known; did you mean 'cpus'?"),
        (
            "-smp 4,sockets=3",
            "-smp: sockets (3) * cores (1) * threads (1) = 3, but maxcpus is 4",
        ),
        ("-smp 4,maxcpus=2", "-smp: cpus (4) is more than maxcpus (2)"),
        ("-m 0", "-m: a guest without memory cannot start"),
        ("-m 1G,maxmem=2G", "-m: maxmem above size needs slots for the memory to come"),
        ("-m 1G,slots=2", "-m: slots needs maxmem: the size that they can add up to"),
        ("-drive if=virtio", "-drive: file= is missing"),
        ("-drive file=x,iops=many", "-drive: iops: 'many' is not a whole number"),
        ("-drive file=x,rerror=enospc", "-drive: 'enospc' invalid read error action"),
        ("-drive file=x,werror=no", "-drive: werror: 'no' is not known; known: auto, enospc, "
         "ignore, report, stop"),
        ("-drive file=x,bsp=1", "-drive: 'bsp' is not known"),
        ("-drive file=x,copy-on-read=on", "-drive: copy-on-read=on is not offered; leave it out"),
        ("-drive file=x,readonly=on,read-only=on",
         "-drive: 'read-only' and its alias 'readonly' can't be used at the same time"),
        ("-drive file=x,format=raw,driver=raw",
         "-drive: Cannot specify both 'driver' and 'format'"),
        ("-drive file=x,id=1", "-drive: Parameter 'id' expects an identifier; a letter "
         "first, then letters, digits, '-', '.', '_'"),
        ("-drive file=x,offset=half", "-drive: Parameter 'offset' expects integer"),
        ("-blockdev file,read-only=maybe", "-blockdev: Parameter 'read-only' expects 'on' or "
         "'off'"),
        ("-blockdev raw,file.driver=raw,file.size=1k",
         "-blockdev: Parameter 'file.size' expects integer"),
        ("-blockdev file,filename=a,filename.x=b",
         "-blockdev: 'filename' is a setting and has settings: 'filename.x'"),
        ("-drive file=x,if=foo", "-drive: if: 'foo' is not known; known: none, pflash, virtio"),
        ("-drive file=x,readonly=maybe", "-drive: readonly: 'maybe' is neither 'on' nor 'off'"),
        (
            "-drive file=x,id=d -drive file=y,id=d",
            "-drive: Duplicate ID 'd' for drive",
        ),
        (
            "-drive file=x,index=1 -drive file=y,index=1",
            "-drive: two drives with if=none,index=1",
        ),
        ("-device id=x", "-device: Parameter 'driver' is missing"),
        ("-device a,id=1x",
         "-device: Parameter 'id' expects an identifier; a letter first, then letters, digits, "
         "'-', '.', '_'"),
        ("-object rng-builtin", "-object: Parameter 'id' is missing"),
        ("-icount 11", "-icount: shift: 11 is out of range: 0 to 10"),
        ("-action reboot=no", "-action: reboot: 'no' is not known; known: reset, shutdown"),
        ("-d intt", "-d: 'intt' is no log item; did you mean 'int'?"),
        ("-trace foo=x", "-trace: 'foo' is not known; known: enable, events, file"),
        ("-trace events=", "-trace: events: an empty file name"),
        ("-display gtk", "-display: 'gtk' is not known; known: none"),
        ("-echr 256", "-echr: 256 is out of range: 0 to 255"),
        ("-fw_cfg opt/x", "-fw_cfg: one of file= and string= is needed"),
        ("-dfilter 5", "-dfilter: '5' is no range: START..LAST, START+SIZE or START-SIZE"),
        ("-uuid x", "-uuid: 'x' is not like 550e8400-e29b-41d4-a716-446655440000"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_told_in_one_line(arguments: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse(arguments.split())
    assert str(raised.value) == message


NAMES = st.sampled_from([f"-{name}" for name in BY_NAME])
VALUES = st.text(alphabet="a0,=.:+-{}\"'[]xkM /\n\0é", max_size=20)


@given(st.lists(NAMES | VALUES, max_size=6))
def test_no_command_line_makes_the_parser_fail(arguments: list[str]) -> None:
    try:
        config = parse(arguments)
    except (ConfigError, HostError) as error:
        assert str(error)
    except Wanted:
        pass
    else:
        assert isinstance(config, MachineConfig)
