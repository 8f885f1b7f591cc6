"""Whatever a client says, the server answers or ignores it, and the machine is unharmed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ratite
from ratite.core.char import CharEvent
from ratite.gdb import GdbServer
from ratite.gdb.packet import frame
from ratite.machines.config import AccelConfig, BootConfig, MachineConfig, MemoryConfig, SmpConfig


class Stream:
    """A stream that takes what it is given, in bounded pieces."""

    def __init__(self) -> None:
        self.output = b""
        self.room = 1 << 20

    def write(self, data: bytes) -> int:
        taken = data[: self.room]
        self.output += taken
        self.room -= len(taken)
        return len(taken)

    def attach(self, frontend: object) -> None:
        pass

    def release(self) -> None:
        pass

    def accept_input(self) -> None:
        pass


class Host:
    """An owner whose machine cannot be ended."""

    can_run = True

    def __init__(self, vm: ratite.Vm) -> None:
        self.start = vm.start
        self.stop = vm.stop
        self.debug_stop = vm.stop

    def quit(self) -> None:
        pass


@pytest.fixture(scope="module")
def vm() -> Iterator[ratite.Vm]:
    config = MachineConfig(
        memory=MemoryConfig(16 << 20),
        smp=SmpConfig(2, 2, 1, 2, 1),
        boot=BootConfig(bios="none"),
        accels=(AccelConfig("qtest"),),
        default_devices=False,
    )
    with ratite.Vm(config=config) as made:
        yield made


HEX = st.integers(0, (1 << 64) - 1).map("{:x}".format) | st.sampled_from(["0", "1", "80000000"])
NAMES = st.sampled_from(
    "? ! D D;1 g G H Hg Hc k m M p P T z0, Z0, Z2, Z4, X c s C05 S05 qSupported: QStartNoAckMode "
    "qXfer:features:read: qXfer:features:read:target.xml: qC qfThreadInfo qsThreadInfo "
    "qThreadExtraInfo, qAttached:1 qRcmd, qqemu.Supported qqemu.sstep Qqemu.sstep=0x "
    "Qqemu.PhyMemMode: vCont vCont? vCont;c vCont;s:p1.1 vCont;r vKill; vAttach; vMustReplyEmpty "
    "vCont;t bs bc i qOffsets".split()
)
TAIL = st.lists(
    HEX | st.sampled_from([",", ":", ";", "=", "p1.", "-1", ".", "_", " ", "0x", "*", "}"]),
    max_size=6,
).map("".join)
COMMANDS = st.tuples(NAMES, TAIL).map("".join).map(str.encode) | st.binary(max_size=40)
INPUT = COMMANDS.map(frame) | st.binary(max_size=20) | st.sampled_from([b"+", b"-", b"\x03"])


@given(st.lists(INPUT, max_size=12), st.integers(1, 50))
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_no_input_breaks_the_server(vm: ratite.Vm, pieces: list[bytes], size: int) -> None:
    stream = Stream()
    with vm.machine.lock:
        server = GdbServer(vm.machine, vm.runner, vm.loop, Host(vm), stream)
        server.event(CharEvent.OPENED)
        data = b"".join(pieces)
        for start in range(0, len(data), size):
            server.receive(data[start : start + size])
        server.event(CharEvent.CLOSED)
        server.close()
    assert all(vcpu.on_debug() is None for vcpu in vm.machine.vcpus)


def test_a_client_that_does_not_read_is_not_heard(vm: ratite.Vm) -> None:
    stream = Stream()
    stream.room = 100
    with vm.machine.lock:
        server = GdbServer(vm.machine, vm.runner, vm.loop, Host(vm), stream)
        server.event(CharEvent.OPENED)
        assert server.can_receive() > 0
        server.receive(frame(b"g"))
        assert server.can_receive() == 0
        stream.room = 1 << 20
        server.event(CharEvent.WRITABLE)
        assert server.can_receive() > 0
        assert stream.output.endswith(b"#" + stream.output[-2:])
        server.close()
