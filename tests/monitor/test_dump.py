"""Dumps of guest memory, read back by pyelftools, readelf and gdb; refusals are QEMU's."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from ratite.cpu import core_file, riscv_inspect
from ratite.cpu.core_file import Piece, Segment

from .conftest import MakeVm, MonitoredVm, QmpClient

RAM = 0x8000_0000
SIZE = 8 << 20
SMALL = "-M virt -m 8M -smp 2 -S -nodefaults -display none -bios none"
SPIN = (0x0000_006F).to_bytes(4, "little")  # a jump to itself
PR_PID, PR_REG, PRSTATUS_SIZE = 32, 112, 376


@pytest.fixture
def machine(make_vm: MakeVm) -> MonitoredVm:
    return make_vm(options=SMALL)


@pytest.fixture
def client(machine: MonitoredVm) -> QmpClient:
    return machine.client()


def segments_of(path: Path) -> tuple[list[Any], list[bytes]]:
    """The headers and the contents of the PT_LOADs, after a look at the file as a whole."""
    with path.open("rb") as file:
        elf = ELFFile(file)
        assert (elf["e_type"], elf["e_machine"]) == ("ET_CORE", "EM_RISCV")
        loads = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
        return [load.header for load in loads], [load.data() for load in loads]


def notes_of(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        (segment,) = ELFFile(file).iter_segments("PT_NOTE")
        data = segment.data()
    found = []
    while data:
        name, size, kind = struct.unpack_from("<III", data)
        assert (name, size, kind, data[12:17]) == (5, PRSTATUS_SIZE, 1, b"CORE\0")
        found.append(data[20 : 20 + size])
        data = data[20 + size :]
    return found


def test_memory_and_registers_are_in_the_core(
    machine: MonitoredVm, client: QmpClient, tmp_path: Path
) -> None:
    machine.vm.write_memory(RAM + 0x1234, b"hello")
    for index in range(2):
        machine.vm.cpus[index]["pc"] = 0x8000_0000 + 16 * index
        machine.vm.cpus[index]["sp"] = 0x8010_0000 + index
        machine.vm.cpus[index]["t6"] = 0xFFFF_FFFF_0000_0000 + index
    path = tmp_path / "core"
    client.result("dump-guest-memory", paging=False, protocol=f"file:{path}")
    result = client.event("DUMP_COMPLETED")["data"]["result"]
    assert result == {"status": "completed", "completed": SIZE + 0xF000, "total": SIZE + 0xF000}
    assert client.result("query-dump") == result
    assert client.hmp("info dump") == "Status: completed\n"
    headers, contents = segments_of(path)
    assert [(h["p_paddr"], h["p_vaddr"], h["p_memsz"]) for h in headers] == [
        (0x1000, 0x1000, 0xF000),
        (RAM, RAM, SIZE),
    ]
    assert contents[0] == machine.vm.read_memory(0x1000, 0xF000)
    assert contents[1] == machine.vm.read_memory(RAM, SIZE)
    for index, note in enumerate(notes_of(path)):
        assert struct.unpack_from("<I", note, PR_PID) == (index + 1,)
        registers = struct.unpack_from("<32Q", note, PR_REG)
        assert registers[0] == 0x8000_0000 + 16 * index  # pc, then x1 and so on
        assert registers[2] == 0x8010_0000 + index
        assert registers[31] == 0xFFFF_FFFF_0000_0000 + index
    assert not stat.S_IMODE(path.stat().st_mode) & 0o077  # it holds the guest's secrets


def test_the_core_is_laid_out_like_qemus(
    client: QmpClient, make_qemu: Callable[..., QmpClient], tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    qemu = make_qemu(options=SMALL)
    for peer, path in ((client, ours), (qemu, theirs)):
        peer.result("dump-guest-memory", paging=False, protocol=f"file:{path}")
    known = ("p_paddr", "p_vaddr", "p_filesz", "p_memsz")
    shapes = [
        [[header[key] for key in known] for header in segments_of(path)[0]]
        for path in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]
    mine, others = notes_of(ours), notes_of(theirs)
    assert [note[:PR_REG] for note in mine] == [note[:PR_REG] for note in others]
    assert struct.unpack_from("<Q", mine[0], PR_REG) == struct.unpack_from("<Q", others[0], PR_REG)
    assert client.result("query-dump") == qemu.result("query-dump")


@pytest.mark.skipif(not shutil.which("readelf"), reason="readelf is not installed")
def test_readelf_has_no_complaints(client: QmpClient, tmp_path: Path) -> None:
    path = tmp_path / "core"
    client.result("dump-guest-memory", paging=False, protocol=f"file:{path}")
    done = subprocess.run(
        ["readelf", "-a", path], capture_output=True, text=True, timeout=60, check=True
    )
    assert not done.stderr and done.stdout.count("NT_PRSTATUS") == 2


@pytest.mark.skipif(not shutil.which("gdb-multiarch"), reason="gdb-multiarch is not installed")
def test_gdb_sees_threads_registers_and_memory(
    machine: MonitoredVm, client: QmpClient, tmp_path: Path
) -> None:
    machine.vm.write_memory(RAM + 0x100, struct.pack("<Q", 0x1122_3344_5566_7788))
    machine.vm.cpus[1]["a0"] = 0x4242
    path = tmp_path / "core"
    client.result("dump-guest-memory", paging=False, protocol=f"file:{path}")
    words = ["set architecture riscv:rv64", f"core-file {path}", "info threads", "thread 2"]
    words += ["print/x $a0", f"x/gx {RAM + 0x100:#x}"]
    commands = [part for word in words for part in ("-ex", word)]
    done = subprocess.run(
        ["gdb-multiarch", "-nx", "-batch", *commands], capture_output=True, text=True, timeout=120
    )
    assert "= 0x4242" in done.stdout and "0x1122334455667788" in done.stdout, done
    assert "LWP 2" in done.stdout or "Thread 2" in done.stdout or " 2 " in done.stdout


def map_pages(machine: MonitoredVm) -> None:
    """Hart 0 gets an Sv39 table: two pages in a row, one of a device, and a gigabyte of RAM."""
    root, middle, leaf = RAM + 0x10_0000, RAM + 0x10_1000, RAM + 0x10_2000
    entry = lambda gpa, flags: struct.pack("<Q", gpa >> 12 << 10 | flags)  # noqa: E731
    machine.vm.write_memory(root, entry(middle, 1))
    machine.vm.write_memory(root + 8 * 511, entry(RAM, 0xC7))  # r, w: the top gigabyte
    machine.vm.write_memory(middle + 8, entry(leaf, 1))
    for slot, gpa, flags in ((4, RAM + 0x5000, 0xCB), (5, RAM + 0x6000, 0xCB)):
        machine.vm.write_memory(leaf + 8 * slot, entry(gpa, flags))
    machine.vm.write_memory(leaf + 8 * 9, entry(0x1000_0000, 0xC7))
    machine.vm.cpus[0]["satp"] = 8 << 60 | root >> 12


def test_with_paging_memory_is_found_by_virtual_addresses(
    machine: MonitoredVm, client: QmpClient, tmp_path: Path
) -> None:
    map_pages(machine)
    machine.vm.write_memory(RAM + 0x5000, b"five")
    path = tmp_path / "core"
    client.result("dump-guest-memory", paging=True, protocol=f"file:{path}")
    headers, contents = segments_of(path)
    top = 0xFFFF_FFFF_C000_0000
    assert [(h["p_vaddr"], h["p_paddr"], h["p_filesz"], h["p_flags"]) for h in headers] == [
        (0x20_4000, RAM + 0x5000, 0x2000, 5),
        (top, RAM, SIZE, 6),
    ]
    assert contents[0] == machine.vm.read_memory(RAM + 0x5000, 0x2000)
    assert contents[0][:4] == b"five" and contents[1] == machine.vm.read_memory(RAM, SIZE)


def test_a_page_table_without_an_end_is_refused(
    machine: MonitoredVm, client: QmpClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(riscv_inspect, "MOST_TABLES", 100)
    root = RAM + 0x10_0000
    for slot in range(512):  # each entry is the table again
        machine.vm.write_memory(root + 8 * slot, struct.pack("<Q", root >> 12 << 10 | 1))
    machine.vm.cpus[0]["satp"] = 10 << 60 | root >> 12
    path = tmp_path / "core"
    text = client.error("dump-guest-memory", paging=True, protocol=f"file:{path}")[1]
    assert text == "CPU 0: its page table has more than 100 parts"
    assert not path.exists() and client.result("query-dump")["status"] == "failed"
    assert "more than 100 parts" in client.hmp("info tlb")


def test_many_segments_are_counted_where_elf_counts_them() -> None:
    class Cpu:
        elf_machine = 243

        def prstatus(self, pid: int) -> bytes:
            return bytes(PRSTATUS_SIZE)

    pieces = [Piece(RAM, memoryview(bytes(4096)))]
    segments = [Segment(4096 * n, RAM, 4096) for n in range(70_000)]
    parts = core_file.header([Cpu()], pieces, segments)  # type: ignore[list-item]
    head = b"".join(data for _, data in parts)
    elf = ELFFile(__import__("io").BytesIO(head + bytes(4096)))
    assert elf.num_segments() == 70_001
    assert elf.get_segment(70_000)["p_offset"] == len(head)


def test_a_part_of_memory(machine: MonitoredVm, client: QmpClient, tmp_path: Path) -> None:
    machine.vm.write_memory(RAM + 0x1000, bytes(range(256)))
    path = tmp_path / "core"
    client.hmp(f"dump-guest-memory {path} {RAM + 0x1010:#x} 0x20")
    headers, contents = segments_of(path)
    assert [(h["p_paddr"], h["p_memsz"]) for h in headers] == [(RAM + 0x1010, 0x20)]
    assert contents == [bytes(range(0x10, 0x30))]


def test_a_guest_that_runs_is_paused_and_goes_on(
    machine: MonitoredVm, client: QmpClient, tmp_path: Path
) -> None:
    machine.vm.write_memory(RAM, SPIN)
    client.result("cont")
    for detach in (False, True):
        client.events.clear()
        path = tmp_path / f"core{detach}"
        client.result("dump-guest-memory", paging=False, protocol=f"file:{path}", detach=detach)
        for name in ("STOP", "DUMP_COMPLETED", "RESUME"):
            client.event(name)
        assert client.result("query-status")["status"] == "running"
        assert len(segments_of(path)[1][1]) == SIZE


def test_what_would_change_the_guest_waits_for_a_dump_in_the_background(
    machine: MonitoredVm, client: QmpClient, tmp_path: Path
) -> None:
    machine.vm.write_memory(RAM, SPIN)
    client.result("cont")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    client.hmp(f"dump-guest-memory -d {fifo}")  # the pipe is full soon, and it waits
    assert client.result("query-status")["status"] == "save-vm"
    found = client.result("query-dump")
    assert found["status"] == "active" and found["completed"] < found["total"]
    assert client.hmp("info dump").startswith("Status: active\nFinished: ")
    busy = ("GenericError", "There is a dump in process, please wait.")
    other = tmp_path / "other"
    assert client.error("dump-guest-memory", paging=False, protocol=f"file:{other}") == busy
    assert client.error("cont") == busy
    assert client.error("system_reset") == busy
    machine.vm.loop.call(machine.vm.reset)  # as the guest may have asked for just before
    assert client.result("query-status")["status"] == "save-vm"
    assert not machine.vm.debugger.can_run  # gdb's `continue` is answered at once
    assert not other.exists()
    refused = "Live migration disabled: dump-guest-memory in progress"
    assert client.error("migrate", uri=f"file:{other}")[1] == refused
    os.set_blocking(reader, True)
    with open(reader, "rb") as file:
        assert len(file.read()) > SIZE
    assert client.event("DUMP_COMPLETED")["data"]["result"]["status"] == "completed"
    assert client.result("query-status")["status"] == "running"


def test_a_dump_in_the_background_does_not_outlive_the_machine(
    make_vm: MakeVm, tmp_path: Path
) -> None:
    machine = make_vm(options=SMALL)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    machine.vm.write_memory(RAM, SPIN)
    client = machine.client()
    client.result("cont")
    client.hmp(f"dump-guest-memory -d {fifo}")
    assert client.result("query-status")["status"] == "save-vm"
    machine.close_clients()
    machine.vm.close()  # nobody reads the pipe
    os.close(reader)


def test_whoever_waits_for_a_dump_holds_nobody_else_up(make_vm: MakeVm, tmp_path: Path) -> None:
    second = tmp_path / "second.sock"
    machine = make_vm(f"-qmp unix:{second},server=on,wait=off", SMALL)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    waits, other = machine.client(), machine.client(second)
    arguments = {"paging": False, "protocol": f"file:{fifo}"}
    waits.send(json.dumps({"execute": "dump-guest-memory", "arguments": arguments}))
    while other.result("query-dump")["status"] != "active":
        time.sleep(0.01)
    other.result("quit")  # nobody reads the pipe
    assert machine.vm.wait(20)
    machine.close_clients()
    machine.vm.close()
    os.close(reader)


def test_a_pipe_without_a_reader_does_not_hold_up_the_machine(
    client: QmpClient, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    text = client.error("dump-guest-memory", paging=False, protocol=f"file:{fifo}")[1]
    assert text == f"Could not open '{fifo}': No such device or address"


def test_a_full_disk_is_an_error_and_leaves_no_file(
    client: QmpClient, make_qemu: Callable[..., QmpClient], tmp_path: Path
) -> None:
    qemu = make_qemu(options=SMALL)
    for detach in (False, True):
        for peer in (client, qemu):
            peer.command(
                "dump-guest-memory", paging=False, protocol="file:/dev/full", detach=detach
            )
        ours, theirs = (peer.event("DUMP_COMPLETED")["data"] for peer in (client, qemu))
        assert ours == theirs and "No space left on device" in ours["error"]
    assert client.result("query-dump")["status"] == "failed"


def test_a_limit_of_the_host_leaves_no_half_file(make_vm: MakeVm, tmp_path: Path) -> None:
    import resource

    client = make_vm(options=SMALL).client()
    path = tmp_path / "core"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        text = client.error("dump-guest-memory", paging=False, protocol=f"file:{path}")[1]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert text == "dump: failed to save memory: File too large"
    assert not path.exists()


def test_a_descriptor_of_the_clients(client: QmpClient, tmp_path: Path) -> None:
    path = tmp_path / "core"
    with path.open("wb") as file:
        message = b'{"execute": "getfd", "arguments": {"fdname": "out"}}'
        socket.send_fds(client.socket, [message], [file.fileno()])
        assert client.reply() == {"return": {}}
    client.result("dump-guest-memory", paging=False, protocol="fd:out")
    assert len(segments_of(path)[1][1]) == SIZE
    assert client.error("dump-guest-memory", paging=False, protocol="fd:out")[1] == (
        "File descriptor named 'out' has not been found"
    )


REFUSED: tuple[dict[str, Any], ...] = (
    {"protocol": "file:/nope/x"},
    {"protocol": "fd:zz"},
    {"protocol": "zz"},
    {"protocol": "file"},
    {"protocol": "file:{}", "begin": 0},
    {"protocol": "file:{}", "length": 5},
    {"protocol": "file:{}", "begin": 0, "length": 5},
    {"protocol": "file:{}", "format": "kdump-zlib", "paging": True},
    {"protocol": "file:{}", "format": "kdump-zlib", "begin": 0, "length": 4},
    {"protocol": "file:{}", "format": "kdump-lzo"},
    {"protocol": "file:{}", "format": "kdump-snappy"},
    {"protocol": "file:{}", "format": "win-dmp"},
    {"protocol": "file:{}", "format": "nope"},
)


def test_what_cannot_be_is_refused_as_by_qemu(
    client: QmpClient, make_qemu: Callable[..., QmpClient], tmp_path: Path
) -> None:
    qemu = make_qemu(options=SMALL)
    for wanted in REFUSED:
        arguments = {"paging": False, **wanted}
        arguments["protocol"] = wanted["protocol"].format(tmp_path / "core")
        request = {"execute": "dump-guest-memory", "arguments": arguments}
        assert client.ask(request) == qemu.ask(request), wanted
    assert client.result("query-dump") == qemu.result("query-dump")
    for line in (
        "dump-guest-memory",
        "dump-guest-memory -x /nope",
        "dump-guest-memory -z -l /nope",
        "dump-guest-memory -s /nope",
        "dump-guest-memory /nope/x 0",
        "info dump",
    ):
        assert client.hmp(line) == qemu.hmp(line)


def test_there_is_one_format(client: QmpClient) -> None:
    assert client.result("query-dump-guest-memory-capability") == {"formats": ["elf"]}
    assert client.hmp("info dump") == "Status: none\n"
