"""The monitor for people: lines, keys, formats, and sharing a terminal with the guest."""

from __future__ import annotations

import socket
import sys
import termios
import time
from pathlib import Path

import pexpect
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratite.monitor.errors import QmpError
from ratite.monitor.hmp import dump
from ratite.monitor.hmp.command import COMMANDS, INFO, load
from ratite.monitor.hmp.expression import MASK, Expression, ExpressionError
from ratite.monitor.hmp.line_editor import LineEditor

from .conftest import MakeVm, QmpClient

load()


# -- expressions


def value(text: str) -> int:
    return Expression(text, {"a0": 7}.get).read()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1+2*3", 7),
        ("(1+2)*3", 9),
        ("0x10|010|10", 0x1A),
        ("1<<4>>2", 4),
        ("~0", (1 << 64) - 1),
        ("-1", (1 << 64) - 1),
        ("2-3", (1 << 64) - 1),
        ("$a0 % 4", 3),
        ("'a'", 97),
        ("+ 5", 5),
        ("1<<70", 0),
        ("16 /tmp/file", 16),
        ("16 /4", 4),
        ("-7/2", -3),
        ("7/-2", -3),
        ("-7%2", -1),
        ("0xffffffffffffffff", -1),
    ],
)
def test_expressions(text: str, wanted: int) -> None:
    assert value(text) == wanted & MASK


@pytest.mark.parametrize("text", ["", "1+", "(1", "$", "$nope", "1/0", "1%0", "'a", "08", "x"])
def test_wrong_expressions_are_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        value(text)


@given(st.text(alphabet="0123456789abcdefx+-*/%&|^~()<>$' ", max_size=30))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        assert 0 <= value(text) < 1 << 64
    except QmpError:
        pass


def test_deep_parentheses_are_refused_not_fatal(qmp: QmpClient) -> None:
    assert "nested too deeply" in qmp.hmp("p " + "(" * 3000)


# -- formats


@pytest.mark.parametrize(
    ("value", "letter", "size", "wanted"),
    [
        (0x97, "x", 1, "0x97"),
        (0, "o", 1, "  0"),
        (0o227, "o", 1, "0227"),
        (663, "u", 4, "       663"),
        (0x8613, "d", 2, "-31213"),
        (0xFFFF_FFFF_FFFF_FFFF, "d", 8, "-1".rjust(20)),
        (65, "c", 1, "'A'"),
        (0, "c", 1, "'\\x00'"),
        (10, "c", 1, "'\\n'"),
        (39, "c", 1, "'\\''"),
        (200, "c", 1, "'\\xc8'"),
    ],
)
def test_numbers(value: int, letter: str, size: int, wanted: str) -> None:
    assert dump.number(value, letter, size) == wanted


def test_formats_are_read_in_any_order() -> None:
    assert dump.parse_format("4xw") == dump.Format(4, "x", 4)
    assert dump.parse_format("16gd") == dump.Format(16, "d", 8)
    assert dump.parse_format("i") == dump.Format(1, "i", None)
    assert dump.parse_format("xbdh") == dump.Format(1, "d", 2)
    with pytest.raises(QmpError, match="invalid char in format: 's'"):
        dump.parse_format("2s")


@pytest.mark.parametrize(
    "line",
    [
        "xp/{}x 0",
        "xp {} 0",
        "print $x{}",
        "qom-set -j /machine x {}",
        "migrate fd:{}",
        "migrate tcp:a:{}",
        "chardev-add socket,id=x,host=a,port={}",
        "chardev-add file,id=x,path=/dev/fdset/{}",
        "object_add iothread,id=x,poll-max-ns=0x{}",
    ],
)
def test_a_number_of_10000_digits_is_refused_in_a_line(make_vm: MakeVm, line: str) -> None:
    answer = make_vm().client().hmp(line.format("1" * 10_000))
    assert answer.rstrip("\n")
    assert "internal error" not in answer
    assert "string conversion" not in answer


def test_a_dump_goes_on_in_the_format_of_the_last(make_vm: MakeVm, tmp_path: Path) -> None:
    path = tmp_path / "hmp.sock"
    make_vm(f"-monitor unix:{path},server=on,wait=off")
    person = Person(path)
    assert person.line("xp /2xh 0x1000") == "0000000000001000: 0x0297 0x0000\r\n"
    assert person.line("xp 0x1000") == "0000000000001000: 0x0297\r\n"
    assert person.line("x/2i 0x1000") == (
        "0x0000000000001000:  00000297          auipc                   t0,0                    "
        "# 0x1000\r\n0x0000000000001004:  02828613          addi                    a2,t0,40\r\n"
    )
    assert person.line("print /d 12") == "12\r\n"
    assert person.line("xp 0x1000") == "0000000000001000:   663\r\n"
    assert person.line("print 255") == "255\r\n"


def test_the_format_is_kept_for_a_program_as_for_a_person(make_vm: MakeVm) -> None:
    qmp = make_vm().client()
    assert qmp.hmp("xp /2xh 0x1000") == "0000000000001000: 0x0297 0x0000\n"
    assert qmp.hmp("xp 0x1000") == "0000000000001000: 0x0297\n"


def test_characters_are_bytes_in_whatever_units_they_are_counted(qmp: QmpClient) -> None:
    assert qmp.hmp("xp /2ch 0x1000") == "0000000000001000: '\\x97' '\\x02' '\\x00' '\\x00'\n"
    assert qmp.hmp("xp /9cb 0x1000").count("\n") == 2


def test_numbers_beyond_64_bits_are_refused(qmp: QmpClient) -> None:
    for text in ("0x10000000000000000", "18446744073709551616", "9" * 5000):
        assert qmp.hmp(f"print {text}").startswith("number too large\n")


def test_a_part_of_the_tree_is_shown_by_its_name(qmp: QmpClient) -> None:
    assert qmp.hmp("info qom-tree /machine/soc0").startswith(
        "/soc0 (riscv.hart_array)\n  /harts[0]"
    )
    assert qmp.hmp("info qom-tree /").startswith("/ (container)\n")


def test_the_memory_tree_names_owners(qmp: QmpClient) -> None:
    for line in ("info mtree -o", "info mtree -f -o"):
        shown = qmp.hmp(line)
        path = "/machine/unattached"
        assert f"riscv_virt_board.mrom parent:{{obj path={path}}}" in shown
        assert f"riscv.aclint.swi owner:{{dev path={path}/device[0]}}" in shown
        assert "fwcfg.data owner:{dev path=/machine/fw_cfg}" in shown
    assert "owner" not in qmp.hmp("info mtree") and "owner" not in qmp.hmp("info mtree -f")


def test_all_types_of_devices_are_listed(qmp: QmpClient) -> None:
    listed = qmp.hmp("info qdm")
    assert 'name "riscv.sifive.plic", bus System, no-user' in listed
    assert 'name "virtio-rng-device", bus virtio-bus' in listed.splitlines()
    creatable = qmp.hmp("device_add help")
    assert "no-user" not in creatable and "plic" not in creatable


def test_page_tables_are_shown(make_vm: MakeVm) -> None:
    machine = make_vm()
    vm = machine.vm
    root, middle = 0x8010_0000, 0x8010_1000
    leaf, table = 0xCF, 0x01  # D A X W R V; V alone

    def entry(address: int, target: int, bits: int) -> None:
        vm.write_memory(address, (target >> 12 << 10 | bits).to_bytes(8, "little"))

    entry(root + 2 * 8, 0x8000_0000, leaf)  # 1 GiB at 0x80000000
    entry(root + 256 * 8, middle, table)
    entry(middle, 0x8000_0000, leaf & ~4)  # 2 MiB, twice in a row
    entry(middle + 8, 0x8020_0000, leaf & ~4)
    hart = vm.cpus[0]
    hart["satp"] = 8 << 60 | root >> 12
    qmp = machine.client()
    assert qmp.hmp("info mem") == (
        "vaddr            paddr            size             attr\n"
        "---------------- ---------------- ---------------- -------\n"
        "0000000080000000 0000000080000000 0000000040000000 rwx--ad\n"
        "ffffffc000000000 0000000080000000 0000000000400000 r-x--ad\n"
    )
    assert len(qmp.hmp("info tlb").splitlines()) == 3


# -- every command


def test_every_command_has_help_and_a_summary(qmp: QmpClient) -> None:
    for table, prefix in ((COMMANDS, ""), (INFO, "info ")):
        for name, command in table.items():
            assert command.help and command.function.__doc__
            shown = qmp.hmp(f"help {prefix}{name}")
            assert shown.endswith(f" -- {command.help}\n") or name in ("info", "log")


def test_every_info_command_answers(qmp: QmpClient) -> None:
    for name in INFO:
        assert "internal error" not in qmp.hmp(f"info {name}")


WRITE_FILES = ("memsave", "pmemsave", "dumpdtb", "dump-guest-memory", "logfile", "chardev-add")


@pytest.mark.parametrize("name", sorted({c.names[0] for c in COMMANDS.values()} - {"quit"}))
def test_no_command_minds_nonsense(qmp: QmpClient, name: str) -> None:
    for rest in ("", " ", " zz", " 1 2 3 4", ' "', " -q", " /", " /zz 1", " ,,=,", " $pc $pc"):
        if name not in WRITE_FILES:
            assert "internal error" not in qmp.hmp(name + rest)
    qmp.hmp("stop")
    qmp.hmp("log none")


def test_a_log_can_be_switched_and_redirected(make_vm: MakeVm, tmp_path: Path) -> None:
    machine = make_vm()
    qmp = machine.client()
    file = tmp_path / "log"
    assert qmp.hmp(f'logfile "{file}"') == ""
    assert qmp.hmp("log guest_errors") == ""
    machine.vm.log.guest_error("test", "hello")
    assert file.read_text() == "test: hello\n"
    assert "Log items" in qmp.hmp("log nope")


def test_blocks_are_logged_as_soon_as_that_is_asked_for(make_vm: MakeVm, tmp_path: Path) -> None:
    machine = make_vm()
    vm, qmp, file = machine.vm, machine.client(), tmp_path / "log"
    vm.write_memory(0x8000_0000, (0x0000_006F).to_bytes(4, "little"))  # a jump to itself
    qmp.hmp(f'logfile "{file}"')
    qmp.hmp("cont")
    assert qmp.hmp("log exec,in_asm,nochain") == ""
    deadline = time.monotonic() + 20
    while "/0000000080000000/" not in file.read_text():
        assert time.monotonic() < deadline
    assert qmp.hmp("log none") == ""
    size = file.stat().st_size
    vm.stop()
    assert file.stat().st_size == size
    assert "IN: \nPriv: 3; Virt: 0\n0x0000000080000000:  0000006f " in file.read_text()


# -- the line editor


class Screen:
    """A terminal of one line, as far as the editor uses one."""

    def __init__(self, words: list[str] | None = None) -> None:
        self.lines = [""]
        self.column = 0
        self.history: list[str] = []
        self.editor = LineEditor("> ", self.history, self.show, lambda line: words or [])
        self.done: list[str] = []
        self.editor.start()

    def show(self, text: str) -> None:
        while text:
            if text.startswith("\x1b["):
                end = next(n for n, char in enumerate(text) if char.isalpha())
                self._sequence(text[2:end], text[end])
                text = text[end + 1 :]
                continue
            char, text = text[0], text[1:]
            if char == "\b":
                self.column -= 1
            elif char == "\r":
                self.column = 0
            elif char == "\n":
                self.lines.append("")
            else:
                line = self.lines[-1]
                self.lines[-1] = line[: self.column] + char + line[self.column + 1 :]
                self.column += 1

    def _sequence(self, argument: str, letter: str) -> None:
        if letter == "D":
            self.column -= int(argument)
        elif letter == "K":
            self.lines[-1] = self.lines[-1][: self.column]

    def type(self, keys: str) -> None:
        data = keys.encode()
        while data:
            line, used = self.editor.feed(data)
            data = data[used:]
            if line is not None:
                self.done.append(line)
                self.editor.start()


UP, DOWN, LEFT, HOME, DELETE = "\x1b[A", "\x1b[B", "\x1b[D", "\x1b[H", "\x1b[3~"


@pytest.mark.parametrize(
    ("keys", "shown", "column"),
    [
        ("hello", "hello", 5),
        ("hello" + LEFT * 2 + "X", "helXlo", 4),
        ("hello" + HOME + DELETE, "ello", 0),
        ("hello\x7f\x08", "hel", 3),
        ("one two\x17", "one ", 4),
        ("hello" + LEFT * 3 + "\x0b", "he", 2),
        ("hello" + LEFT * 3 + "\x15", "llo", 0),
        ("é" + LEFT + "x", "xé", 1),
        ("\x1b[1;5Cx\x1bOAy", "xy", 2),
        (LEFT + "\x7f" + DELETE + DOWN + "a", "a", 1),
    ],
)
def test_keys_edit_the_line(keys: str, shown: str, column: int) -> None:
    screen = Screen()
    screen.type(keys)
    assert (screen.lines[-1], screen.column) == (f"> {shown}", column + 2)


def test_earlier_lines_come_back() -> None:
    screen = Screen()
    screen.type("one\rtwo\r\nthr" + UP + UP)
    assert screen.done == ["one", "two"] and screen.lines[-1] == "> one"
    screen.type(DOWN + DOWN + DOWN)
    assert screen.lines[-1] == "> thr"
    screen.type(UP + "\r")
    assert screen.done[-1] == "two" and screen.history == ["one", "two"]


def test_what_follows_a_line_is_kept_for_the_next() -> None:
    editor = LineEditor("> ", [], lambda text: None, lambda line: [])
    assert editor.feed(b"one\ntwo\n") == ("one", 4)


def test_the_tab_key_completes() -> None:
    screen = Screen(["registers"])
    screen.type("info re\t")
    assert screen.lines[-1] == "> info registers "
    screen = Screen(["qom-get", "qom-list"])
    screen.type("q\t")
    assert screen.lines[-1] == "> qom-"
    screen.type("\t")
    assert screen.lines[-2:] == ["qom-get   qom-list", "> qom-"]


@given(st.binary(max_size=200))
def test_no_keys_break_the_editor(data: bytes) -> None:
    editor = LineEditor("> ", [], lambda text: None, lambda line: ["word", "world"])
    while data:
        _, used = editor.feed(data)
        assert used
        data = data[used:]


# -- on a socket


class Person:
    """Someone at the other end of a socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self.greeting = self.until("(qemu) ")

    def until(self, text: str) -> str:
        """What comes, up to `text`."""
        seen = b""
        while not seen.endswith(text.encode()):
            piece = self.socket.recv(4096)
            assert piece, seen
            seen += piece
        return seen.decode().removesuffix(text)

    def line(self, text: str) -> str:
        """What a line prints."""
        self.socket.sendall(text.encode() + b"\r")
        return self.until("(qemu) ").partition("\r\n")[2]


def test_nothing_follows_quit(make_vm: MakeVm, tmp_path: Path) -> None:
    path = tmp_path / "hmp.sock"
    machine = make_vm(f"-monitor unix:{path},server=on,wait=off")
    person = Person(path)
    person.socket.sendall(b"quit\rinfo status\r")
    assert person.until("quit\r\n") == ""
    machine.vm.close()
    assert person.socket.recv(100) == b""


def test_a_person_on_a_socket(make_vm: MakeVm, tmp_path: Path) -> None:
    path = tmp_path / "hmp.sock"
    make_vm(f"-monitor unix:{path},server=on,wait=off -name guest1")
    person = Person(path)
    assert person.greeting.startswith("ratite ")
    assert "type 'help' for more information\r\n" in person.greeting
    assert person.line("info name") == "guest1\r\n"
    assert person.line("info status") == "VM status: paused (prelaunch)\r\n"
    assert "unknown command: 'nope'" in person.line("nope")
    assert person.line("info history").splitlines()[0] == "0: 'info name'"
    person.socket.sendall(b"inf\tname\r")
    assert person.until("(qemu) ") == "info name\r\nguest1\r\n"
    person.socket.sendall(b"info n\t")
    assert "name     network  numa" in person.until("(qemu) info n")
    person.socket.sendall(b"\x15qom-list /machine/unattached/device[1\t")
    assert "device[10]" in person.until("(qemu) qom-list /machine/unattached/device[1")


def test_many_lines_at_once_are_done_in_order(make_vm: MakeVm, tmp_path: Path) -> None:
    path = tmp_path / "hmp.sock"
    make_vm(f"-monitor unix:{path},server=on,wait=off")
    person = Person(path)
    person.socket.sendall(b"".join(b"print %d\n" % n for n in range(200)))
    text = ""
    while text.count("(qemu) ") < 200:
        text += person.until("(qemu) ") + "(qemu) "
    assert [line for line in text.split("\r\n") if line and line[0] == "0"] == [
        hex(n) if n else "0" for n in range(200)
    ]


# -- on a terminal


@pytest.mark.slow
def test_the_terminal_is_shared_with_the_guest(tmp_path: Path) -> None:
    program = "import sys; from ratite.cli.system import main; sys.exit(main())"
    options = "-M virt -bios none -S -nographic"
    terminal = pexpect.spawn(sys.executable, ["-c", program, *options.split()], timeout=120)
    try:
        deadline = time.monotonic() + 120
        while termios.tcgetattr(terminal.child_fd)[3] & termios.ICANON:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        terminal.send("x")  # to the guest
        terminal.send("\x01c")
        terminal.expect_exact("(qemu) ")
        assert b"type 'help' for more information" in terminal.before
        terminal.send("info status\r")
        terminal.expect_exact("VM status: paused (prelaunch)")
        terminal.expect_exact("(qemu) ")
        terminal.send("\x01c\x01c")  # to the guest and back
        terminal.expect_exact("(qemu) ")
        terminal.send("quit\r")
        terminal.expect(pexpect.EOF)
        terminal.wait()
        assert terminal.exitstatus == 0
    finally:
        terminal.close(force=True)
