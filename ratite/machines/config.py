"""What a user asks for, as one frozen tree: the command line and the Python API both build it.

Nothing here opens, checks or finds anything on the host; sizes are bytes, paths are as written.
`PropertyValue` mappings are the user-set properties of a type that has its own declarations: the
type checks them when it is created.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from ratite.core.disk import OnError

PropertyValue = str | int | float | bool | None | list["PropertyValue"] | dict[str, "PropertyValue"]
"""Text from `k=v`, or what the JSON form says."""

Properties = Mapping[str, PropertyValue]


@dataclass(frozen=True, slots=True)
class CpuConfig:
    """`-cpu`: a model and its properties (`zba=off`, `+sv57`), in the order given."""

    model: str | None = None  # None: the board's default
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MemoryConfig:
    """`-m`. `size` is what the guest starts with; with `slots`, it may grow to `max_size`."""

    size: int | None = None  # None: the board's default
    slots: int = 0
    max_size: int | None = None  # None: `size`


@dataclass(frozen=True, slots=True)
class SmpConfig:
    """`-smp`: how many vCPUs start, and the topology of all that may ever be there.

    `sockets * cores * threads == max_cpus >= cpus >= 1`.
    """

    cpus: int = 1
    max_cpus: int = 1
    sockets: int = 1
    cores: int = 1
    threads: int = 1


@dataclass(frozen=True)
class BootOrder:
    """`-boot`: accepted, and told to who asks; the guest's firmware decides. None: not given."""

    order: str | None = None
    once: str | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class BootConfig:
    """What is put into the guest's memory before it starts."""

    kernel: Path | None = None
    initrd: Path | None = None
    append: str = ""
    dtb: Path | None = None
    bios: str | None = None  # "none", "default", "builtin" or a file; None: the board's default
    dump_dtb: Path | None = None  # write the device tree here and end
    dt_compatible: str = ""  # of the generated tree's root; empty: the board's
    first_phandle: int = 0  # the first handle in the generated tree; 0: 1
    order: BootOrder = BootOrder()


class DriveInterface(Enum):
    """`if=`: who takes the drive."""

    NONE = "none"  # whoever names its id
    VIRTIO = "virtio"
    PFLASH = "pflash"


class Media(Enum):
    """`media=`."""

    DISK = "disk"
    CDROM = "cdrom"


@dataclass(frozen=True, slots=True)
class DriveConfig:
    """`-drive` and `-pflash`: a drive, and the block nodes in it. Without `file` and `options` it
    is empty.
    """

    id: str
    file: Path | None = None
    format: str | None = None  # None: raw
    interface: DriveInterface = DriveInterface.VIRTIO
    index: int | None = None
    unit: int | None = None
    media: Media = Media.DISK
    read_only: bool = False
    snapshot: bool = False  # keep writes in a temporary file
    cache: str = "writeback"  # none writeback writethrough directsync unsafe
    write_cache: bool | None = None  # None: as `cache` says
    discard: bool = False  # pass discards on to the host
    serial: str | None = None
    on_read_error: OnError = OnError.AUTO
    on_write_error: OnError = OnError.AUTO
    account_invalid: bool = True  # statistics: requests that cannot be are accesses
    account_failed: bool = True  # statistics: those that fail take time
    limits: Mapping[str, int] = field(default_factory=dict)  # as block_set_io_throttle takes them
    limits_group: str | None = None  # drives that share the limits
    options: Properties = field(default_factory=dict)  # more for its node, as blockdev-add has them
    origin: str = field(default="", compare=False)  # file and line of -readconfig


@dataclass(frozen=True, slots=True)
class BlockdevConfig:
    """`-blockdev`: one block node, and those described inside it, as `blockdev-add` takes them."""

    options: Properties


@dataclass(frozen=True, slots=True)
class NetdevConfig:
    """`-netdev`, and the netdev of `-nic`, as `netdev_add` takes it."""

    options: Properties
    origin: str = field(default="", compare=False)  # file and line of -readconfig


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """`-device`."""

    driver: str
    id: str | None = None
    properties: Properties = field(default_factory=dict)
    origin: str = field(default="", compare=False)  # file and line of -readconfig
    strict: bool = False  # the properties have the types of JSON: a text is no number


@dataclass(frozen=True, slots=True)
class ObjectConfig:
    """`-object`."""

    type_name: str
    id: str
    properties: Properties = field(default_factory=dict)
    origin: str = field(default="", compare=False)  # file and line of -readconfig
    strict: bool = False  # as in `DeviceConfig`


@dataclass(frozen=True, slots=True)
class GlobalConfig:
    """`-global`: another default for one property of one driver."""

    driver: str
    property: str
    value: str


@dataclass(frozen=True, slots=True)
class ChardevConfig:
    """`-chardev`, and what `-serial` and `-monitor` say in their short form."""

    backend: str
    id: str
    mux: bool = False  # several users share it, Ctrl-A C switches
    properties: Properties = field(default_factory=dict)
    origin: str = field(default="", compare=False)  # file and line of -readconfig
    option: str = field(default="", compare=False)  # of whose short form it was made: `-serial`


class MonitorMode(Enum):
    """`-mon mode=`: for people or for programs."""

    READLINE = "readline"
    CONTROL = "control"


@dataclass(frozen=True, slots=True)
class MonitorConfig:
    """`-mon`, `-monitor`, `-qmp`: a monitor on a character backend."""

    chardev: str  # its id
    mode: MonitorMode = MonitorMode.READLINE
    pretty: bool = False  # answers of mode control in several lines, indented


@dataclass(frozen=True, slots=True)
class AddFdConfig:
    """`-add-fd`: a descriptor that the process was started with, as a member of a set."""

    fd: int
    set_id: int
    opaque: str | None = None


@dataclass(frozen=True, slots=True)
class AccelConfig:
    """`-accel`: one accelerator; the first of the list that works is taken."""

    name: str
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IcountConfig:
    """`-icount`: guest time from the instructions executed, 2**shift ns each."""

    shift: int | None  # 0 to 10; None: adapt to the host's speed
    sleep: bool = True  # an idle guest waits for real time to pass
    align: bool = False


class RtcClock(Enum):
    """`-rtc clock=`: what drives the guest's clock of day."""

    HOST = "host"
    REALTIME = "rt"
    VIRTUAL = "vm"


@dataclass(frozen=True, slots=True)
class RtcConfig:
    """`-rtc`. `base` is "utc", "localtime", or the start time in seconds since 1970, UTC."""

    base: str | int = "utc"
    clock: RtcClock = RtcClock.HOST


@dataclass(frozen=True, slots=True)
class AddressRange:
    """Guest addresses from `first` to `last`, both included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class TraceConfig:
    """`-trace`: which trace events are on."""

    pattern: str = ""  # of events to switch on; with a `-` in front, off
    file: Path | None = None  # more of them, one in each line


@dataclass(frozen=True, slots=True)
class LogConfig:
    """`-d`, `-D`, `-dfilter`, `-perfmap`, `-trace`."""

    items: str = ""  # comma-separated, as `-d` takes them
    file: Path | None = None  # None: standard error
    traces: tuple[TraceConfig, ...] = ()
    trace_file: Path | None = None  # `-trace file=`: in place of `file`
    ranges: tuple[AddressRange, ...] = ()  # empty: everywhere
    perf_map: bool = False


@dataclass(frozen=True, slots=True)
class MessageConfig:
    """`-msg`: what messages on standard error begin with."""

    timestamp: bool = False
    guest_name: bool = False  # if it has one


@dataclass(frozen=True, slots=True)
class FwCfgConfig:
    """`-fw_cfg`: one item that the guest's firmware can read; from `file`, else `text`."""

    name: str
    file: Path | None = None
    text: str = ""


class RebootAction(Enum):
    """What a guest's reboot does."""

    RESET = "reset"
    SHUTDOWN = "shutdown"


class ShutdownAction(Enum):
    """What a guest's power-off does."""

    POWEROFF = "poweroff"
    PAUSE = "pause"


class PanicAction(Enum):
    """What a guest's panic does."""

    PAUSE = "pause"
    SHUTDOWN = "shutdown"
    EXIT_FAILURE = "exit-failure"
    NONE = "none"


class WatchdogAction(Enum):
    """What a watchdog that expires does."""

    RESET = "reset"
    SHUTDOWN = "shutdown"
    POWEROFF = "poweroff"
    PAUSE = "pause"
    DEBUG = "debug"
    NONE = "none"
    INJECT_NMI = "inject-nmi"


@dataclass(frozen=True, slots=True)
class ProcessConfig:
    """What concerns the host process, not the guest."""

    pid_file: Path | None = None
    daemonize: bool = False
    data_directories: tuple[Path, ...] = ()  # -L: searched for firmware before the usual ones
    name: str | None = None  # of the process, as ps shows it
    thread_names: bool = False
    lock_memory: bool = False  # -overcommit mem-lock=


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """One machine, whole. Tuples keep the command line's order."""

    board: str | None = None  # -M; None: the default board
    properties: Properties = field(default_factory=dict)  # -M, but its type and dumpdtb
    cpu: CpuConfig = CpuConfig()
    memory: MemoryConfig = MemoryConfig()
    memory_backend: str | None = None  # -machine memory-backend=: where main memory comes from
    merge_memory: bool = True  # -machine mem-merge=: the host may keep equal pages once
    dump_guest_core: bool = True  # -machine dump-guest-core=: whether core dumps have guest memory
    smp: SmpConfig = SmpConfig()
    boot: BootConfig = BootConfig()
    drives: tuple[DriveConfig, ...] = ()
    blockdevs: tuple[BlockdevConfig, ...] = ()
    netdevs: tuple[NetdevConfig, ...] = ()
    devices: tuple[DeviceConfig, ...] = ()
    objects: tuple[ObjectConfig, ...] = ()
    globals: tuple[GlobalConfig, ...] = ()
    chardevs: tuple[ChardevConfig, ...] = ()
    serials: tuple[str | None, ...] = ()  # chardev ids, port by port; None: no such port
    monitors: tuple[MonitorConfig, ...] = ()
    add_fds: tuple[AddFdConfig, ...] = ()
    gdb: str | None = None  # the chardev on which gdb is served
    qtest: str | None = None  # the chardev on which a test drives the machine
    qtest_log: str | None = None  # the file of its log; None: standard error; "none"
    default_devices: bool = True  # -nodefaults
    accels: tuple[AccelConfig, ...] = ()  # empty: the default
    icount: IcountConfig | None = None
    rtc: RtcConfig = RtcConfig()
    log: LogConfig = LogConfig()
    messages: MessageConfig = MessageConfig()
    fw_cfg: tuple[FwCfgConfig, ...] = ()
    on_reboot: RebootAction = RebootAction.RESET
    on_shutdown: ShutdownAction = ShutdownAction.POWEROFF
    on_panic: PanicAction = PanicAction.SHUTDOWN
    on_watchdog: WatchdogAction = WatchdogAction.RESET
    start_paused: bool = False  # -S
    preconfig: bool = False  # build the machine only when a monitor says so
    load_snapshot: str | None = None  # -loadvm: a tag
    incoming: str | None = None  # a URI, or "defer"
    only_migratable: bool = False
    dump_vmstate: Path | None = None  # write the declared state's layout here and end
    name: str | None = None
    uuid: str | None = None  # lower case, with dashes
    echr: int = 1  # code of the escape character of a multiplexed terminal: Ctrl-A
    seed: int | None = None  # of the guest's random numbers; None: the host's
    process: ProcessConfig = ProcessConfig()
