"""QEMU's command line as one table: an option is one entry.

Source: QEMU's manual, chapter "Invocation". Names, forms and meanings are QEMU's, so that scripts
and management tools written for it work.

To add an option, add an entry to `OPTIONS`: names, group, the form of its value, one line of help,
and where its value goes. `-h`, parsing, error texts and the tests follow from that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from ratite.cli import (
    consoles,
    convert,
    debugging,
    host_options,
    log_options,
    machine_option,
    network,
    storage,
)
from ratite.cli.draft import Draft, Topic, Wanted, drive_from_pflash
from ratite.cli.keyval import Settings, suggest
from ratite.cli.readconfig import FileError, read_sections
from ratite.cli.topology import parse_smp
from ratite.core import ConfigError
from ratite.machines.config import (
    MachineConfig,
    RebootAction,
    ShutdownAction,
)

Convert = Callable[[str], object]


class Group(Enum):
    """The headings of `-h`."""

    MACHINE = "Machine"
    BOOT = "Boot"
    STORAGE = "Storage"
    NETWORK = "Network"
    DEVICES = "Devices"
    CONSOLE = "Consoles and monitor"
    RUN = "Running"
    DEBUG = "Looking inside"
    HELP = "Help"


@dataclass(frozen=True, slots=True)
class Store:
    """The converted value replaces a field of the configuration, named with dots."""

    field: str
    convert: Convert


@dataclass(frozen=True, slots=True)
class Append:
    """The converted value is added to a tuple of the configuration."""

    field: str
    convert: Convert


@dataclass(frozen=True, slots=True)
class Flag:
    """The option takes no value and sets a field."""

    field: str
    value: object


@dataclass(frozen=True, slots=True)
class Call:
    """Anything else. The value is "" for an option without one."""

    handler: Callable[[Draft, str], None]


Action = Store | Append | Flag | Call


@dataclass(frozen=True, slots=True)
class Option:
    """One entry. `form` is the value as `-h` shows it, empty for an option without a value."""

    names: str  # separated by spaces, the usual one first, without dashes
    group: Group
    form: str
    help: str
    action: Action
    topic: Topic | None = None  # what `help` as its value shows
    section: str = ""  # its name in files of -readconfig, and where options are asked for
    keys: str = ""  # further ones, as `form` has them


def _text(text: str) -> str:
    return text


def _actions(draft: Draft, text: str) -> None:
    settings = Settings.read(text)
    draft.set("on_reboot", settings.choice("reboot", draft.config.on_reboot))
    draft.set("on_shutdown", settings.choice("shutdown", draft.config.on_shutdown))
    draft.set("on_panic", settings.choice("panic", draft.config.on_panic))
    draft.set("on_watchdog", settings.choice("watchdog", draft.config.on_watchdog))
    settings.done()


def _name(draft: Draft, text: str) -> None:
    settings = Settings.read(text, "guest")
    draft.set("name", settings.text("guest") or draft.config.name)
    draft.set("process.name", settings.text("process") or draft.config.process.name)
    threads = settings.switch("debug-threads", draft.config.process.thread_names)
    draft.set("process.thread_names", threads)
    settings.done()


def _messages(draft: Draft, text: str) -> None:
    settings = Settings.read(text)
    before = draft.config.messages
    draft.set("messages.timestamp", settings.switch("timestamp", before.timestamp))
    draft.set("messages.guest_name", settings.switch("guest-name", before.guest_name))
    settings.done()


def _read_config(draft: Draft, text: str) -> None:
    for section in read_sections(convert.path(text)):
        option = BY_SECTION.get(section.name)
        if option is None:
            hint = suggest(section.name, BY_SECTION)
            raise section.wrong(f"There is no option group '{section.name}'{hint}")
        if not section.text and isinstance(option.action, Store):
            continue
        try:
            _apply(draft, option, section.text)
        except ConfigError as error:
            raise section.wrong(str(error)) from None
        if isinstance(option.action, Append):
            draft.locate(option.action.field, section.where)


_SETTABLE = {"device": "devices", "chardev": "chardevs", "object": "objects"}


def _set(draft: Draft, text: str) -> None:
    """`-set GROUP.ID.PROP=VALUE`: a property of something that an earlier option made."""
    parts = re.fullmatch(r"([^.=]+)\.([^.=]+)\.([^=]+)=(.*)", text, re.DOTALL)
    if parts is None:
        raise ConfigError(f'can\'t parse: "{text}"', hint="it is GROUP.ID.PROP=VALUE")
    group, id, name, value = parts.groups()
    if group not in BY_SECTION:
        raise ConfigError(f"There is no option group '{group}'{suggest(group, _SETTABLE)}")
    if group not in _SETTABLE:
        raise ConfigError(f"properties of '{group}' cannot be set{suggest(group, _SETTABLE)}")
    if not draft.set_property(_SETTABLE[group], id, name, value):
        raise ConfigError(f'there is no {group} "{id}" defined', hint="it must come before -set")


def _nothing(draft: Draft, text: str) -> None:
    """An option without effect, for command lines written for QEMU."""


def _wanted(topic: Topic) -> Call:
    def ask(draft: Draft, text: str) -> None:
        raise Wanted(topic)

    return Call(ask)


M, B, S, N, D = Group.MACHINE, Group.BOOT, Group.STORAGE, Group.NETWORK, Group.DEVICES
C, R, G, H = Group.CONSOLE, Group.RUN, Group.DEBUG, Group.HELP

# fmt: off
OPTIONS: tuple[Option, ...] = (
    Option("machine M", M, "[type=]NAME[,PROP=VALUE]...", "the board and its properties; "
           "dumpdtb=FILE writes its device tree", Call(machine_option.machine), Topic.MACHINES,
           section="machine"),
    Option("cpu", M, "MODEL[,PROP=on|off]...", "the CPU model, features switched on or off",
           Store("cpu", convert.cpu), Topic.CPUS),
    Option("accel", M, "NAME[,PROP=VALUE]...", "how guest code runs; several are tried in order",
           Append("accels", convert.accel), Topic.ACCELS, section="accel"),
    Option("smp", M, "[cpus=]N[,maxcpus=N][,sockets=N][,cores=N][,threads=N]",
           "number and topology of the CPUs", Store("smp", parse_smp), section="smp-opts"),
    Option("m", M, "[size=]SIZE[,slots=N,maxmem=SIZE]", "guest memory, in MiB without a suffix",
           Store("memory", convert.memory), section="memory"),
    Option("rtc", M, "[base=]utc|localtime|DATE[,clock=host|rt|vm]", "the guest's clock of day",
           Store("rtc", convert.rtc), section="rtc"),
    Option("icount", M, "[shift=]N|auto[,sleep=on|off][,align=on|off]",
           "guest time from instructions executed, 2^N ns each; such runs can be repeated",
           Store("icount", convert.icount), section="icount"),
    Option("seed", M, "N", "seed of the guest's random numbers",
           Store("seed", convert.integer(0, (1 << 64) - 1))),
    Option("overcommit", M, "[mem-lock=on|off][,cpu-pm=on|off]", "mem-lock=on: the host keeps the "
           "whole process in memory", Call(host_options.overcommit), section="overcommit"),
    Option("name", M, "[guest=]NAME[,process=NAME][,debug-threads=on|off]",
           "a name for the guest; one for the process; whether the host shows threads' names",
           Call(_name), section="name"),
    Option("uuid", M, "UUID", "the guest's UUID", Store("uuid", convert.uuid)),

    Option("kernel", B, "FILE", "a kernel: Image, plain or compressed, or ELF",
           Store("boot.kernel", convert.path)),
    Option("initrd", B, "FILE", "its initial file system", Store("boot.initrd", convert.path)),
    Option("append", B, "TEXT", "its command line", Store("boot.append", _text)),
    Option("dtb", B, "FILE", "a device tree in place of the generated one",
           Store("boot.dtb", convert.path)),
    Option("bios", B, "none|default|builtin|FILE", "the firmware",
           Store("boot.bios", _text)),
    Option("boot", B, "[order=DRIVES][,once=DRIVES][,menu=off][,strict=on|off]",
           "accepted: the firmware decides what it boots", Call(host_options.boot),
           section="boot-opts"),
    Option("pflash", B, "FILE", "an image for the board's flash memory",
           Append("drives", drive_from_pflash)),
    Option("fw_cfg", B, "[name=]NAME,file=FILE|string=TEXT", "an item for the guest's firmware",
           Append("fw_cfg", convert.fw_cfg), section="fw_cfg"),
    Option("L", B, "DIRECTORY", "look for firmware here first",
           Append("process.data_directories", convert.path)),

    Option("drive", S, "file=FILE[,format=raw][,if=none|virtio|pflash][,id=ID][,readonly=on|off]"
           "[,snapshot=on|off][,cache=MODE][,discard=unmap|ignore][,serial=TEXT]"
           "[,media=disk|cdrom][,index=N][,unit=N][,werror=POLICY][,rerror=POLICY]"
           "[,detect-zeroes=on|off|unmap][,aio=threads|native|io_uring][,node-name=NAME]"
           "[,bps=N][,iops=N][,group=NAME][,throttling.LIMIT=N][,file.OPTION=VALUE]",
           "a drive with a disk image; -device or if= says what uses it",
           Append("drives", storage.drive), section="drive",
           keys="read-only=on|off,stats-account-invalid=on|off,stats-account-failed=on|off,"
           "copy-on-read=off"),
    Option("blockdev", S, "driver=raw|file|host_device|null-co,node-name=NAME[,...], or JSON",
           "a block node, with the options of blockdev-add", Append("blockdevs", storage.blockdev)),

    Option("netdev", N, "socket|stream|dgram|hubport|tap,id=ID[,NAME=VALUE]..., or JSON",
           "a network backend, with the options of netdev_add; -device says what uses it",
           Append("netdevs", network.netdev), Topic.NETDEVS, section="netdev"),
    Option("nic", N, "TYPE[,mac=MAC][,model=virtio][,NAME=VALUE]...|none",
           "a network backend and its card in one", Call(network.nic), section="nic"),
    Option("net", N, "nic[,netdev=ID][,macaddr=MAC][,model=virtio]|none", "a network card; "
           "none: accepted, as there is none by default", Call(network.net), section="net"),

    Option("device", D, "TYPE[,id=ID][,PROP=VALUE]..., or JSON", "a device; "
           "TYPE,help lists its properties", Append("devices", convert.device), Topic.DEVICES,
           section="device"),
    Option("global", D, "TYPE.PROP=VALUE", "another default for a property of a device type",
           Append("globals", convert.global_), section="global",
           keys="driver=TYPE,property=PROP,value=TEXT"),
    Option("set", D, "GROUP.ID.PROP=VALUE", "a property of a device, chardev or object that an "
           "earlier option made", Call(_set)),
    Option("object", D, "TYPE,id=ID[,PROP=VALUE]..., or JSON", "a backend object",
           Append("objects", convert.object_), Topic.OBJECTS, section="object"),
    Option("audiodev", D, "[driver=]none,id=ID, or JSON", "accepted: no machine has sound",
           Call(host_options.audiodev)),
    Option("nodefaults", D, "", "no devices but those asked for", Call(consoles.no_defaults)),
    Option("readconfig", D, "FILE", "options from a file: sections [option \"id\"], settings "
           "key = \"value\"", Call(_read_config)),
    Option("no-user-config", D, "", "accepted: there are no configuration files", Call(_nothing)),

    Option("chardev", C, "BACKEND,id=ID[,mux=on|off][,PROP=VALUE]...", "a character device",
           Append("chardevs", convert.chardev), Topic.CHARDEVS, section="chardev"),
    Option("serial", C, "DEV", "what a serial port is connected to: stdio, mon:stdio, pty, null, "
           "none, file:PATH, unix:PATH, tcp:HOST:PORT, chardev:ID", Call(consoles.serial)),
    Option("monitor", C, "DEV", "the same for the monitor", Call(consoles.monitor)),
    Option("mon", C, "[chardev=]ID[,mode=readline|control][,pretty=on|off]",
           "a monitor on a character device, for people or for programs", Call(consoles.mon),
           section="mon"),
    Option("qmp", C, "DEV", "a monitor for programs, which speaks QMP", Call(consoles.qmp)),
    Option("qmp-pretty", C, "DEV", "the same with indented answers", Call(consoles.qmp_pretty)),
    Option("add-fd", C, "fd=N,set=N[,opaque=TEXT]", "a descriptor that /dev/fdset/N means",
           Append("add_fds", convert.add_fd), section="add-fd"),
    Option("nographic", C, "", "serial port and monitor share this terminal (the default)",
           Call(consoles.nographic)),
    Option("display", C, "none", "no display; serial port and monitor only where asked for",
           Call(consoles.display), Topic.DISPLAYS),
    Option("echr", C, "CODE", "the terminal's escape character (1: Ctrl-A)",
           Store("echr", convert.integer(0, 255))),

    Option("S", R, "", "do not start the CPUs yet", Flag("start_paused", True)),
    Option("preconfig", R, "", "wait for a monitor's x-exit-preconfig before the machine is built",
           Flag("preconfig", True)),
    Option("loadvm", R, "TAG", "go on from a snapshot that savevm made",
           Store("load_snapshot", _text)),
    Option("incoming", R, "tcp:HOST:PORT|unix:PATH|fd:NAME|exec:COMMAND|file:PATH|defer",
           "take over the guest of another machine, from there", Store("incoming", _text)),
    Option("only-migratable", R, "", "refuse devices whose state cannot be saved",
           Flag("only_migratable", True)),
    Option("no-reboot", R, "", "end where the guest reboots",
           Flag("on_reboot", RebootAction.SHUTDOWN)),
    Option("no-shutdown", R, "", "stay, paused, where the guest powers off",
           Flag("on_shutdown", ShutdownAction.PAUSE)),
    Option("action", R, "[reboot=reset|shutdown][,shutdown=poweroff|pause]"
           "[,panic=pause|shutdown|exit-failure|none]"
           "[,watchdog=reset|shutdown|poweroff|inject-nmi|pause|debug|none]",
           "what the guest's reboot, power-off and panic do", Call(_actions),
           section="action"),
    Option("daemonize", R, "", "go on in the background", Flag("process.daemonize", True)),
    Option("pidfile", R, "FILE", "write the process id here",
           Store("process.pid_file", convert.path)),

    Option("gdb", G, "DEV|none", "serve gdb there: tcp:[HOST]:PORT, unix:PATH, chardev:ID; "
           "on this host only, unless HOST is given", Call(debugging.gdb)),
    Option("s", G, "", "short for -gdb tcp::1234", Call(debugging.short_gdb)),
    Option("qtest", G, "DEV|none", "let a test program drive the machine; see -accel qtest",
           Call(debugging.qtest)),
    Option("qtest-log", G, "FILE|none", "the log of it (default: standard error)",
           Store("qtest_log", _text)),
    Option("d", G, "ITEM[,ITEM]...", "log what is named",
           Store("log.items", log_options.items), Topic.LOG),
    Option("D", G, "FILE", "log to this file", Store("log.file", convert.path)),
    Option("dfilter", G, "START..LAST|START+SIZE[,...]", "log guest code only at these addresses",
           Store("log.ranges", convert.ranges)),
    Option("trace", G, "[[enable=]PATTERN][,events=FILE][,file=FILE]",
           "log trace events: those that PATTERN or a line of the file names, without those that "
           "a '-' stands before; to this file", Call(log_options.trace), Topic.TRACE,
           section="trace"),
    Option("msg", G, "[timestamp=on|off][,guest-name=on|off]",
           "what messages and trace events begin with", Call(_messages), section="msg"),
    Option("dump-vmstate", G, "FILE", "write which state devices save to this file, and end",
           Store("dump_vmstate", convert.path)),
    Option("perfmap", G, "", "name generated code for Linux perf, in /tmp/perf-PID.map",
           Flag("log.perf_map", True)),

    Option("version", H, "", "the version", _wanted(Topic.VERSION)),
    Option("help h", H, "", "this text; many options take 'help' as their value",
           _wanted(Topic.OPTIONS)),
)
# fmt: on

BY_NAME: dict[str, Option] = {name: entry for entry in OPTIONS for name in entry.names.split()}
BY_SECTION: dict[str, Option] = {entry.section: entry for entry in OPTIONS if entry.section}


def parse(arguments: Sequence[str], draft: Draft | None = None) -> MachineConfig:
    """Read a command line, without the program's name, into a new draft or this one.

    Raises `Wanted` where help is asked for, else `ConfigError`, or `HostError` for a file of
    options: one line that names the option. The draft then has what stood before.
    """
    draft = draft or Draft()
    words = iter(arguments)
    for word in words:
        option, name = _find(word), word.lstrip("-")
        value = ""
        if option.form:
            taken = next(words, None)
            if taken is None:
                raise ConfigError(f"-{name}: needs a value: {option.form}")
            value = taken
        try:
            _apply(draft, option, value)
        except FileError:
            raise
        except ConfigError as error:
            raise ConfigError(f"-{name}: {error}") from None
    consoles.complete(draft)
    debugging.check(draft)
    if draft.config.incoming is not None and draft.config.load_snapshot is not None:
        raise ConfigError("'incoming' and 'loadvm' options are mutually exclusive")
    return draft.finish()


def _find(word: str) -> Option:
    name = word.removeprefix("-").removeprefix("-")
    if name == word or not name:
        raise ConfigError(
            f"'{word}' is no option: options begin with '-'; an image is -drive file={word}"
        )
    option = BY_NAME.get(name)
    if option is None:
        hint = suggest(name, BY_NAME)
        hint = hint.replace("'", "'-", 1) if "did you mean" in hint else "; -h lists the options"
        raise ConfigError(f"{word}: no such option{hint}")
    return option


def _apply(draft: Draft, option: Option, value: str) -> None:
    if option.topic is not None and option.form:
        _check_help(option.topic, value)
    match option.action:
        case Store(field, convert):
            draft.set(field, convert(value))
        case Append(field, convert):
            draft.append(field, convert(value))
        case Flag(field, constant):
            draft.set(field, constant)
        case Call(handler):
            handler(draft, value)


def _check_help(topic: Topic, value: str) -> None:
    """`help`, `?` or `NAME,help` ask for help on the option's topic."""
    first, _, rest = value.partition(",")
    if first in ("help", "?"):
        raise Wanted(topic)
    if rest in ("help", "?"):
        raise Wanted(topic, first.partition("=")[2] or first)
