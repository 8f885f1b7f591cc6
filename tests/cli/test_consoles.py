"""Serial ports, monitors and what they share."""

import pytest

from ratite.cli.options import parse
from ratite.core import ConfigError
from ratite.machines.config import ChardevConfig, MachineConfig, MonitorConfig, MonitorMode


def shape(config: MachineConfig) -> tuple[list[str], list[str | None], list[str]]:
    """Backends (`*` if shared), serial ports, monitors."""
    backends = [f"{c.id}={c.backend}{'*' if c.mux else ''}" for c in config.chardevs]
    return backends, list(config.serials), [monitor.chardev for monitor in config.monitors]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", (["serial0=stdio*"], ["serial0"], ["serial0"])),
        ("-nographic", (["serial0=stdio*"], ["serial0"], ["serial0"])),
        ("-nographic -serial mon:stdio", (["serial0=stdio*"], ["serial0"], ["serial0"])),
        ("-nographic -monitor none", (["serial0=stdio"], ["serial0"], [])),
        (
            "-nographic -serial file:x",
            (["serial0=file", "compat_monitor0=stdio"], ["serial0"], ["compat_monitor0"]),
        ),
        (
            "-serial null -monitor stdio",
            (["serial0=null", "compat_monitor0=stdio"], ["serial0"], ["compat_monitor0"]),
        ),
        ("-serial stdio -monitor none", (["serial0=stdio"], ["serial0"], [])),
        ("-display none", (["serial0=null"], ["serial0"], [])),
        ("-display none -serial stdio", (["serial0=stdio"], ["serial0"], [])),
        ("-nodefaults", ([], [], [])),
        ("-serial none -monitor none", ([], [None], [])),
        (
            "-chardev pty,id=p -serial chardev:p -monitor none",
            (["p=pty"], ["p"], []),
        ),
        (
            "-chardev stdio,id=c,mux=on -serial chardev:c -mon c,mode=readline",
            (["c=stdio*"], ["c"], ["c"]),
        ),
        (
            "-chardev stdio,id=c -serial mon:chardev:c",
            (["c=stdio*"], ["c"], ["c"]),
        ),
    ],
)
def test_where_serial_ports_and_monitors_go(
    arguments: str, expected: tuple[list[str], list[str | None], list[str]]
) -> None:
    assert shape(parse(arguments.split())) == expected


@pytest.mark.parametrize(
    ("text", "backend", "properties"),
    [
        ("pty", "pty", {}),
        ("null", "null", {}),
        ("file:/a:b", "file", {"path": "/a:b"}),
        ("pipe:p", "pipe", {"path": "p"}),
        (
            "unix:/s,server=on,wait=off",
            "socket",
            {"path": "/s", "server": "on", "wait": "off"},
        ),
        ("tcp:localhost:44,server", "socket", {"host": "localhost", "port": "44", "server": "on"}),
        ("tcp::44", "socket", {"host": "", "port": "44"}),
        ("tcp:[::1]:44", "socket", {"host": "::1", "port": "44"}),
        ("telnet:h:23", "socket", {"host": "h", "port": "23", "telnet": True}),
    ],
)
def test_the_short_forms(text: str, backend: str, properties: dict[str, object]) -> None:
    config = parse(["-serial", text, "-monitor", "none"])
    assert config.chardevs == (ChardevConfig(backend, "serial0", properties=properties),)


def test_a_shared_terminal_gives_ctrl_c_to_the_guest() -> None:
    (terminal,) = parse(["-serial", "mon:stdio"]).chardevs
    assert terminal.properties == {"signal": False}


def test_a_plain_terminal_keeps_ctrl_c() -> None:
    (terminal,) = parse(["-serial", "stdio", "-monitor", "none"]).chardevs
    assert terminal.properties == {"signal": True}


def test_a_chardev_keeps_its_properties() -> None:
    config = parse("-chardev socket,id=s,path=/x,server=on,wait=off -mon s".split())
    assert config.chardevs[0] == ChardevConfig(
        "socket", "s", properties={"path": "/x", "server": "on", "wait": "off"}
    )
    assert config.monitors == (MonitorConfig("s"),)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("-serial stido", "-serial: 'stido' is no character device; did you mean 'stdio'?"),
        ("-serial chardev:x", "-serial: there is no chardev 'x'"),
        ("-mon x", "-mon: there is no chardev 'x'; known: serial0"),
        ("-serial tcp:h", "-serial: 'tcp:h' needs a port: tcp:HOST:PORT"),
        ("-serial tcp:", "-serial: 'tcp:' is incomplete: tcp:HOST:PORT"),
        ("-serial tcp:,server", "-serial: 'tcp:,server' needs a port: tcp:HOST:PORT"),
        ("-serial mon:file:", "-serial: 'file:' is incomplete: file:PATH"),
        ("-monitor unix:", "-monitor: 'unix:' is incomplete: unix:PATH"),
        ("-qmp unix:,server", "-qmp: 'unix:,server' needs a path: unix:PATH"),
        ("-monitor chardev:", "-monitor: 'chardev:' is incomplete: chardev:ID"),
        ("-serial tcp::65536", "-serial: port 65536 is out of range: 0 to 65535"),
        ("-monitor telnet::-1", "-monitor: port -1 is out of range: 0 to 65535"),
        ("-qmp tcp::99999,server", "-qmp: port 99999 is out of range: 0 to 65535"),
        ("-gdb tcp::99999", "-gdb: port 99999 is out of range: 0 to 65535"),
        (
            "-chardev socket,id=c,host=localhost,port=99999",
            "-chardev: port 99999 is out of range: 0 to 65535",
        ),
        (
            "-serial stdio -monitor stdio",
            "-chardev: serial0 and compat_monitor0 both want the terminal; share it: "
            "-serial mon:stdio",
        ),
        (
            "-chardev stdio,id=c -serial chardev:c -mon c",
            "-chardev: 'c' is used twice; share it with mux=on (or mon:)",
        ),
        (
            "-daemonize -nographic",
            "-daemonize: there is no terminal for -nographic; use -display none",
        ),
        (
            "-daemonize -serial stdio",
            "-daemonize: there is no terminal; use -serial null or a file",
        ),
    ],
)
def test_what_cannot_be_connected(arguments: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse(arguments.split())
    assert str(raised.value) == message


def test_qmp_servers_are_monitors_for_programs() -> None:
    config = parse("-qmp unix:/x,server,nowait -qmp-pretty stdio -serial null".split())
    assert [(m.chardev, m.mode, m.pretty) for m in config.monitors] == [
        ("compat_monitor0", MonitorMode.CONTROL, False),
        ("compat_monitor1", MonitorMode.CONTROL, True),
    ]
    assert dict(config.chardevs[1].properties) == {"path": "/x", "server": "on", "wait": "off"}


def test_a_monitor_for_programs_on_a_named_device() -> None:
    text = "-chardev socket,id=c,fd=7,server=on,wait=off -mon chardev=c,id=m,mode=control,pretty=on"
    assert parse(text.split()).monitors == (MonitorConfig("c", MonitorMode.CONTROL, True),)
