"""The server on a running machine, byte by byte."""

from __future__ import annotations

import re
import time
from xml.etree import ElementTree

import pytest

from ratite.machines.config import IcountConfig

EXECUTORS = ("tcg", "reference")
PC, A0 = 32, 10


def counter(client, program) -> int:
    return int.from_bytes(bytes.fromhex(client.ask(f"m{program.address('counter'):x},8")), "little")


def test_a_client_finds_a_paused_machine_with_its_harts_as_threads(machine) -> None:
    client = machine(cpus=3).connect()
    features = client.ask("qSupported:multiprocess+;swbreak+;hwbreak+").split(";")
    assert "PacketSize=4000" in features and "vContSupported+" in features
    assert client.ask("?") == "T05thread:p01.01;"
    assert client.ask("qfThreadInfo") == "mp01.01,p01.02,p01.03"
    assert client.ask("qsThreadInfo") == "l"
    assert client.ask("qC") == "QCp01.01"
    assert client.ask("Hgp1.2") == "OK"
    assert client.ask("qC") == "QCp01.02"
    assert client.ask("Tp1.3") == "OK"
    assert client.ask("Tp1.4") == "E22"
    assert client.ask("Tp2.1") == "E22"
    assert bytes.fromhex(client.ask("qThreadExtraInfo,p1.3")) == b"CPU#2 [running]"
    assert client.ask("qAttached:1") == "1"
    assert client.ask("vMustReplyEmpty") == ""


def description(client) -> ElementTree.Element:
    text = ""
    while True:
        part = client.ask(f"qXfer:features:read:target.xml:{len(text):x},ffb")
        text += part[1:]
        if part[0] == "l":
            return ElementTree.fromstring(text)


def test_the_target_description_names_every_register_once(machine) -> None:
    client = machine().connect()
    root = description(client)
    names = [feature.get("name") for feature in root.iter("feature")]
    assert names == [f"org.gnu.gdb.riscv.{part}" for part in ("cpu", "fpu", "csr", "virtual")]
    registers = {reg.get("name"): reg for reg in root.iter("reg")}
    numbers = [int(reg.get("regnum")) for reg in root.iter("reg")]
    assert len(set(numbers)) == len(numbers) == len(registers)
    assert registers["sstatus"].get("regnum") == str(65 + 0x100)
    assert registers["pc"].get("type") == "code_ptr"
    for reg in root.iter("reg"):
        digits = client.ask(f"p{int(reg.get('regnum')):x}")
        assert len(digits) * 4 == int(reg.get("bitsize")), reg.attrib
    assert client.ask("pffff") == "E22"


def test_registers_are_read_and_written(machine, program) -> None:
    client = machine().connect()
    assert client.register(PC) == 0x1000
    assert client.ask("Pa=efbeadde00000000") == "OK"
    assert client.register(A0) == 0xDEADBEEF
    everything = client.ask("g")
    assert len(everything) == 33 * 16
    assert everything[A0 * 16 :][:16] == "efbeadde00000000"
    changed = "11" * 8 * 32 + (0x80000001).to_bytes(8, "little").hex()
    assert client.ask("G" + changed) == "OK"
    assert client.register(0) == 0
    assert client.register(31) == 0x1111111111111111
    assert client.register(PC) == 0x80000000
    assert client.ask("Pa=12") == "E22"
    assert client.ask("P21=000000000000f03f") == "OK"
    assert client.register(33) == 0x3FF0 << 48


def test_memory_is_read_and_written_by_either_kind_of_address(machine, program) -> None:
    client = machine().connect()
    place = program.address("table")
    assert client.ask(f"M{place:x},4:01020304") == "OK"
    assert client.ask(b"X%x,5:}\x03}]}\x0a\x00\x7f" % (place + 4)) == "OK"
    assert client.ask(f"m{place:x},9") == "01020304" + "237d2a007f"
    assert client.ask("Qqemu.PhyMemMode:1") == "OK"
    assert client.ask("qqemu.PhyMemMode") == "1"
    assert client.ask(f"m{place:x},2") == "0102"
    assert client.ask("m0,4") == "E14"
    assert client.ask("M0,1:00") == "E14"
    assert client.ask(f"X{place:x},0:") == "OK"
    assert client.ask("m1000,4") != "E14"  # ROM


@pytest.mark.parametrize("accel", EXECUTORS)
@pytest.mark.parametrize("kind", [0, 1])
def test_a_breakpoint_stops_before_its_instruction_and_leaves_memory_alone(
    machine, program, accel: str, kind: int
) -> None:
    client = machine(accel=accel).connect()
    client.ask("qSupported:swbreak+;hwbreak+")
    place = program.address("add")
    code = client.ask(f"m{place:x},8")
    assert client.ask(f"Z{kind},{place:x},2") == "OK"
    reason = ("swbreak", "hwbreak")[kind]
    for round_ in range(3):
        assert client.ask("vCont;c") == f"T05thread:01;{reason}:;"
        assert client.register(PC) == place
        assert client.register(11) == round_
        assert client.ask(f"m{place:x},8") == code
        assert client.ask("vCont;s:1") == "T05thread:01;"
        assert client.register(PC) > place
    assert client.ask(f"z{kind},{place:x},2") == "OK"
    client.send("vCont;c")
    time.sleep(0.3)
    client.interrupt()
    assert client.receive() == "T02thread:01;"


@pytest.mark.parametrize("accel", EXECUTORS)
def test_a_breakpoint_set_in_code_that_has_run_is_reached(machine, program, accel: str) -> None:
    client = machine(accel=accel).connect()
    client.send("c")
    time.sleep(0.5)
    client.interrupt()
    assert client.receive().startswith("T02")
    before = counter(client, program)
    pc = client.register(PC)
    assert program.address("endless") <= pc < program.address("endless") + 32
    assert client.ask(f"Z0,{pc:x},2") == "OK"
    assert client.ask("vCont;s") == "T05thread:01;"
    assert client.ask("vCont;c") == "T05thread:01;"
    assert client.register(PC) == pc
    assert counter(client, program) - before <= 2


def test_stepping_executes_one_instruction_at_a_time(machine, program) -> None:
    client = machine().connect()
    pcs = []
    for _ in range(6):
        pcs.append(client.register(PC))
        assert client.ask("s") == "T05thread:01;"
    assert pcs == [0x1000 + 4 * index for index in range(6)]
    assert client.register(PC) == 0x80000000


def test_a_range_is_stepped_through_at_once(machine, program) -> None:
    client = machine().connect()
    work = program.address("work")
    assert client.ask(f"Z1,{work:x},2") == "OK"
    client.ask("vCont;c")
    assert client.ask(f"vCont;r{work:x},{work + 4:x}:1") == "T05thread:01;"
    assert client.register(PC) >= work + 4
    endless = program.address("endless")
    client.ask(f"z1,{work:x},2")
    client.ask(f"Z1,{endless:x},2")
    client.ask("vCont;c")
    assert client.register(PC) == endless
    client.ask(f"z1,{endless:x},2")
    client.send(f"vCont;r{endless:x},{endless + 64:x}:1")
    time.sleep(0.3)
    client.interrupt()  # the loop never leaves the range
    assert client.receive() == "T02thread:01;"


def test_an_exception_ends_a_step_in_its_handler(machine, program) -> None:
    client = machine().connect()
    client.ask(f"Z1,{program.address('work'):x},2")
    client.ask("vCont;c")
    assert client.ask("P20=0000000000000000") == "OK"  # nothing is there
    assert client.ask("vCont;s:1") == "T05thread:01;"
    assert client.register(PC) == program.address("trap")
    assert client.register(65 + 0x342) == 1


@pytest.mark.parametrize("accel", EXECUTORS)
@pytest.mark.parametrize("kind, name", [(2, "watch"), (4, "awatch")])
def test_a_write_to_a_watchpoint_stops_before_it(
    machine, program, accel: str, kind: int, name: str
) -> None:
    """As gdb expects it of RISC-V: it steps over the access to see what has changed."""
    client = machine(accel=accel).connect()
    place = program.address("table") + 8
    assert client.ask(f"Z{kind},{place:x},8") == "OK"
    assert client.ask("c") == f"T05thread:01;{name}:{place:x};"
    assert client.ask(f"m{place:x},8") == "0000000000000000"
    access = client.register(PC)
    assert client.ask("c") == f"T05thread:01;{name}:{place:x};"
    assert (client.ask(f"m{place:x},8"), client.register(PC)) == ("0100000000000000", access)
    assert client.ask("vCont;s:1") == "T05thread:01;"
    assert access < client.register(PC) <= access + 4
    assert int.from_bytes(bytes.fromhex(client.ask(f"m{place:x},8")), "little") == sum(range(10))
    assert client.ask(f"z{kind},{place:x},8") == "OK"
    client.send("c")
    time.sleep(0.2)
    client.interrupt()
    assert client.receive().startswith("T02")


@pytest.mark.parametrize("accel", EXECUTORS)
def test_a_read_of_a_watchpoint_stops_before_it(machine, program, accel: str) -> None:
    client = machine(accel=accel).connect()
    place = program.address("table") + 24
    assert client.ask(f"Z3,{place:x},8") == "OK"
    assert client.ask("c") == f"T05thread:01;rwatch:{place:x};"
    assert counter(client, program) == sum(range(20))


@pytest.mark.parametrize("accel", EXECUTORS)
def test_atomics_are_watched(machine, program, accel: str) -> None:
    client = machine(accel=accel).connect()
    place = program.address("ticket")
    values = []
    client.ask(f"Z2,{place:x},4")
    for _ in range(2):
        assert client.ask("c") == f"T05thread:01;watch:{place:x};"
        values.append(client.ask(f"m{place:x},4"))
    assert values == ["00000000", "05000000"]


@pytest.mark.parametrize("accel", EXECUTORS)
@pytest.mark.parametrize("offset", [4094, 4097])
def test_an_access_across_pages_touches_either(machine, program, accel: str, offset: int) -> None:
    client = machine(accel=accel).connect()
    place = program.address("two_pages") + offset
    client.ask(f"Z4,{place:x},1")
    assert client.ask("c") == f"T05thread:01;awatch:{place:x};"
    first = program.address("two_pages") + 4093
    assert client.ask(f"m{first:x},8") != "8877665544332211"
    assert client.ask("c") == f"T05thread:01;awatch:{place:x};"
    assert client.ask(f"m{first:x},8") == "8877665544332211"
    assert client.ask(f"z4,{place:x},1") == "OK"


def test_a_hot_loop_is_watched_and_stopped_in(machine, program) -> None:
    client = machine().connect()
    client.send("c")
    time.sleep(1)  # by now it is compiled code
    client.interrupt()
    client.receive()
    place = program.address("counter")
    for kind, name in ((2, "watch"), (3, "rwatch"), (4, "awatch")):
        client.ask(f"Z{kind},{place:x},8")
        before = counter(client, program)
        assert client.ask("c") == f"T05thread:01;{name}:{place:x};"
        assert client.ask("c") == f"T05thread:01;{name}:{place:x};"
        assert counter(client, program) - before <= 2
        client.ask(f"z{kind},{place:x},8")
        client.send("c")
        time.sleep(0.2)
        client.interrupt()
        client.receive()


def test_guest_time_goes_on_with_the_instructions_of_a_step(machine, program) -> None:
    client = machine(icount=IcountConfig(3)).connect()
    time_csr = 65 + 0xC01
    client.ask(f"Z0,{program.address('work'):x},2")
    client.ask("c")
    seen = [client.register(time_csr)]
    for _ in range(300):
        client.ask("vCont;s:1")
        seen.append(client.register(time_csr))
    client.ask(f"Z0,{program.address('endless'):x},2")
    assert client.ask("c").startswith("T05")
    seen.append(client.register(time_csr))
    assert seen == sorted(seen)
    assert 300 * 8 // 100 - 1 <= seen[300] - seen[0] <= 300 * 8 // 100 + 1


def test_a_step_tells_of_a_watchpoint_too(machine, program) -> None:
    client = machine().connect()
    place = program.address("counter")
    client.ask(f"Z1,{program.address('work'):x},2")
    client.ask("vCont;c")
    client.ask(f"Z2,{place:x},8")
    replies = set()
    for _ in range(20):
        replies.add(client.ask("vCont;s:1"))
    assert f"T05thread:01;watch:{place:x};" in replies


def test_an_unaligned_part_of_a_page_is_watched_exactly(machine, program) -> None:
    client = machine().connect()
    place = program.address("table") + 19  # a byte of table[2]
    client.ask(f"Z2,{place:x},1")
    assert client.ask("c") == f"T05thread:01;watch:{place:x};"
    assert counter(client, program) == 0 + 1 + 2


def test_ctrl_c_stops_a_tight_loop_and_every_hart(machine, program) -> None:
    client = machine(cpus=2).connect()
    client.send("vCont;c")
    time.sleep(0.5)
    client.interrupt()
    assert re.fullmatch("T02thread:0[12];", client.receive())
    before = counter(client, program)
    time.sleep(0.1)
    assert counter(client, program) == before > 190
    client.ask("Hg2")
    assert client.register(65 + 0xF14) == 1
    assert client.register(PC) != 0x1000


def test_one_hart_runs_while_another_stands_still(machine, program) -> None:
    client = machine(cpus=2).connect()
    client.send("vCont;c:2")
    time.sleep(0.3)
    client.interrupt()
    client.receive()
    client.ask("Hg1")
    assert client.register(PC) == 0x1000
    client.ask("Hg2")
    assert client.register(PC) > 0x80000000


def test_others_go_on_while_one_hart_is_stepped(machine, program) -> None:
    client = machine(cpus=2).connect()
    place = program.address("other_harts") + 8

    def progress() -> int:
        return int.from_bytes(bytes.fromhex(client.ask(f"m{place:x},8")), "little")

    for _ in range(20):
        assert client.ask("vCont;s:1;c") == "T05thread:01;"
    assert client.ask("Hg1") == "OK" and client.register(PC) > 0x80000000
    first = progress()
    assert first > 0
    client.ask("vCont;s:1")
    assert progress() == first


def test_a_breakpoint_on_several_harts_is_told_one_by_one(machine, program) -> None:
    client = machine(cpus=2).connect()
    client.ask(f"Z0,{program.address('start_c'):x},2")
    threads = set()
    for _ in range(2):
        reply = client.ask("vCont;c")
        threads.add(reply)
        client.ask(f"vCont;s:{reply[10:12]}")
    assert threads == {"T05thread:01;", "T05thread:02;"}


def test_a_client_that_detaches_leaves_the_guest_running(machine, program) -> None:
    debugged = machine()
    client = debugged.connect()
    client.ask(f"Z0,{program.address('endless'):x},2")
    client.ask(f"Z2,{program.address('counter'):x},8")
    client.ask("c")
    assert client.ask("D") == "OK"
    client.close()
    assert_running(debugged, program)


def assert_running(debugged, program) -> None:
    place = program.address("counter")
    deadline = time.monotonic() + 10
    first = debugged.vm.read_memory(place, 8)
    while debugged.vm.read_memory(place, 8) == first:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("last_words", [b"", b"$m80000", b"$vCont;c#a8", b"\x03", b"$qSupp#0"])
def test_a_client_that_vanishes_leaves_the_guest_running(
    machine, program, last_words: bytes
) -> None:
    debugged = machine()
    debugged.vm.start()
    for _ in range(3):
        client = debugged.connect()
        assert client.ask("?").startswith("T05")
        assert not debugged.vm.runner.running
        client.ask(f"Z0,{program.address('endless'):x},2")
        client.socket.sendall(last_words)
        client.close()
        assert_running(debugged, program)


def test_a_machine_that_never_ran_is_not_started_by_a_visit(machine) -> None:
    debugged = machine()
    client = debugged.connect()
    client.ask("vCont;s")
    client.close()
    again = debugged.connect()
    assert again.register(PC) == 0x1004


def test_without_acks_none_are_sent(machine) -> None:
    client = machine().connect()
    assert client.ask("QStartNoAckMode") == "OK"
    client.acks = False
    client.send("?")
    assert client.byte() == b"$"


def test_a_damaged_packet_is_asked_for_again_and_answers_are_repeated(machine) -> None:
    client = machine().connect()
    client.socket.sendall(b"$?#00")
    assert client.byte() == b"-"
    client.acks = False
    first = client.ask("?")
    client.socket.sendall(b"-")
    assert client.receive() == first


def test_kill_ends_the_machine(machine) -> None:
    debugged = machine()
    client = debugged.connect()
    assert client.ask("vKill;1") == "OK"
    assert debugged.vm.wait(10)


def test_the_end_of_the_machine_is_told(machine) -> None:
    debugged = machine()
    client = debugged.connect()
    client.send("c")
    time.sleep(0.1)
    debugged.vm.close()
    assert client.receive() == "W00"


def test_a_pause_by_somebody_else_is_told(machine) -> None:
    debugged = machine()
    client = debugged.connect()
    client.send("c")
    time.sleep(0.1)
    debugged.vm.loop.call(debugged.vm.stop)
    assert client.receive() == "T02thread:01;"
    client.send("c")
    time.sleep(0.1)
    assert debugged.vm.runner.running
    client.interrupt()
    client.receive()


def test_monitor_commands_reach_the_monitor(machine) -> None:
    debugged = machine()
    debugged.vm.debugger.monitor = lambda command: f"you said {command}\n" * 400
    client = debugged.connect()
    client.send("qRcmd," + b"info".hex())
    text = ""
    while (reply := client.receive()) != "OK":
        assert reply[0] == "O"
        text += bytes.fromhex(reply[1:]).decode()
    assert text == "you said info\n" * 400


def test_tcp_listens_on_loopback_unless_told_otherwise(machine) -> None:
    debugged = machine(device="tcp::0")
    assert debugged.vm.backends.chardevs["gdb"].filename.startswith("disconnected:tcp:127.0.0.1:")
