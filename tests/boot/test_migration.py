"""Live migration of guests that write to memory all the time: nothing is lost, whatever happens."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ratite
from ratite.core.errors import HostError
from ratite.machines.machine import RunState
from ratite.migration.settings import Capability
from tests.boot import dirty
from tests.boot.harness import Linux, program

pytestmark = pytest.mark.boot
STEPS = 150_000_000
LONG = 100_000_000_000


@pytest.fixture(scope="module")
def image(build_program: Callable[..., Path]) -> Path:
    return dirty.build(build_program, STEPS)


@pytest.fixture(scope="module")
def endless(build_program: Callable[..., Path]) -> Path:
    return dirty.build(build_program, LONG)


@pytest.fixture(scope="module")
def expected(image: Path) -> dict[int, set[str]]:
    """What the guest says when it is left alone, by its number of harts."""
    from tests.boot.harness import make_vm

    found = {}
    for harts in (1, 2):
        with make_vm(*dirty.OPTIONS, "-smp", harts, "-kernel", image) as vm:
            vm.start()
            found[harts] = dirty.results(vm, harts)
    return found


class Destination:
    """A program that waits for a guest, in a process of its own; its serial port is a file."""

    def __init__(self, directory: Path, *words: object) -> None:
        self.output = directory / "serial"
        self.output.touch()
        serial = ["-display", "none", "-monitor", "none", "-serial", f"file:{self.output}"]
        command = [*program("system"), *map(str, words), *serial]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def results(self, harts: int) -> set[str]:
        """What the guest says in the end."""
        waiting = threading.Event()
        for _ in range(1200):
            if len(found := dirty.found(self.output.read_text(errors="replace"))) == harts:
                return found
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            waiting.wait(0.1)
        raise AssertionError(self.output.read_text(errors="replace"))

    def close(self) -> None:
        """End it; again is nothing."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def destination(tmp_path: Path) -> Iterator[Callable[..., Destination]]:
    """Starts programs that wait for guests."""
    made: list[Destination] = []

    def start(*words: object) -> Destination:
        directory = tmp_path / f"destination{len(made)}"
        directory.mkdir()
        made.append(Destination(directory, *words))
        return made[-1]

    yield start
    for one in made:
        one.close()


def await_listener(path: Path, port: int = 0) -> None:
    """Wait until somebody listens at a path or a port."""
    waiting = threading.Event()
    row = f":{port:04X} 00000000:0000 0A"
    while not path.exists() and (not port or row not in Path("/proc/net/tcp").read_text()):
        waiting.wait(0.02)


@pytest.mark.parametrize("harts", [1, 2])
@pytest.mark.parametrize("scheme", ["unix", "tcp", "exec", "file"])
def test_nothing_is_lost_on_the_way_to_another_process(
    machine: Callable[..., ratite.Vm],
    destination: Callable[..., Destination],
    image: Path,
    expected: dict[int, set[str]],
    tmp_path: Path,
    harts: int,
    scheme: str,
) -> None:
    options = [*dirty.OPTIONS, "-smp", harts, "-kernel", image]
    vm = machine(*options)
    wire, state = tmp_path / "wire", tmp_path / "state"
    port = 20_000 + hash((str(tmp_path), harts)) % 30_000
    ways = {
        "unix": (f"unix:{wire}", f"unix:{wire}"),
        "tcp": (f"tcp:127.0.0.1:{port}", f"tcp:127.0.0.1:{port}"),
        "exec": (f"exec:cat > {state}", f"exec:cat {state}"),
        "file": (f"file:{state}", f"file:{state}"),
    }
    go, come = ways[scheme]
    listens = scheme in ("unix", "tcp")
    if listens:
        there = destination(*options, "-incoming", come)
        await_listener(wire, port)
    vm.start()
    vm.serial.expect("..")
    vm.migrate(go, timeout=60)
    if not listens:
        there = destination(*options, "-incoming", come)
    assert vm.machine.run_state is RunState.POSTMIGRATE
    assert not dirty.found(vm.serial.text)
    assert there.results(harts) == expected[harts]


@pytest.mark.parametrize("accel", ["tcg", "tcg,tier=0"])
def test_a_guest_goes_to_and_fro(
    machine: Callable[..., ratite.Vm],
    image: Path,
    expected: dict[int, set[str]],
    tmp_path: Path,
    accel: str,
) -> None:
    options = [*dirty.OPTIONS, "-smp", 2, "-kernel", image, "-accel", accel]
    here = machine(*options)
    here.start()
    here.serial.expect(".")
    said = ""
    for turn in range(6):
        there = machine(*options, "-incoming", f"unix:{tmp_path}/{turn}")
        here.migrate(f"unix:{tmp_path}/{turn}", timeout=60)
        said += here.serial.text
        if not any(
            line.startswith("0:") for line in dirty.found(said)
        ):  # on a fast host it is done
            there.serial.expect(r"[.\n]", timeout=120, regex=True)
        here.close()
        here = there
    assert dirty.results(here, 2, earlier=said) == expected[2]


def test_a_guest_whose_destination_dies_goes_on(
    machine: Callable[..., ratite.Vm],
    destination: Callable[..., Destination],
    image: Path,
    expected: dict[int, set[str]],
    tmp_path: Path,
) -> None:
    options = [*dirty.OPTIONS, "-smp", 2, "-kernel", image]
    vm = machine(*options)
    wire = tmp_path / "wire"
    there = destination(*options, "-incoming", f"unix:{wire}")
    await_listener(wire)
    vm.start()
    vm.serial.expect(".")
    vm.migration.parameters = vm.migration.parameters.changed({"max_bandwidth": 2 << 20})
    outgoing = vm.loop.call(lambda: vm.migration.start(f"unix:{wire}", int))
    while outgoing.progress.transferred < 1 << 20:
        assert not outgoing.wait(0.02), outgoing.error
    there.close()
    assert outgoing.wait(30)
    assert outgoing.status.value == "failed" and outgoing.error
    assert vm.machine.run_state is RunState.RUNNING
    assert dirty.results(vm, 2) == expected[2]


def test_cancelling_again_and_again_harms_nothing(
    machine: Callable[..., ratite.Vm], image: Path, expected: dict[int, set[str]], tmp_path: Path
) -> None:
    vm = machine(*dirty.OPTIONS, "-smp", 2, "-kernel", image)
    vm.start()
    vm.serial.expect(".")
    for turn in range(8):
        outgoing = vm.loop.call(lambda: vm.migration.start("exec:cat > /dev/null", int))
        outgoing.wait(0.02 * turn)
        vm.loop.call(vm.migration.cancel)
        assert outgoing.wait(30)
        if outgoing.status.value == "completed":
            vm.start()
    assert dirty.results(vm, 2) == expected[2]


def test_auto_converge_slows_a_guest_that_writes_faster_than_the_wire(
    machine: Callable[..., ratite.Vm], endless: Path
) -> None:
    vm = machine(*dirty.OPTIONS, "-smp", 2, "-kernel", endless)
    vm.start()
    vm.serial.expect(".")
    vm.migration.capabilities.set({Capability.AUTO_CONVERGE: True})
    vm.migration.parameters = vm.migration.parameters.changed(
        {"max_bandwidth": 20 << 20, "downtime_limit": 1, "cpu_throttle_increment": 30}
    )
    outgoing = vm.loop.call(lambda: vm.migration.start("exec:cat > /dev/null", int))
    while not outgoing.throttle:
        assert not outgoing.wait(0.05), outgoing.error
    assert vm.runner.throttle.percent >= 20
    vm.loop.call(vm.migration.cancel)
    assert outgoing.wait(30)
    assert vm.runner.throttle.percent == 0
    vm.serial.expect(".")


def test_linux_moves_with_its_disk(
    boot: Callable[..., Linux], guest: object, machine: Callable[..., ratite.Vm], tmp_path: Path
) -> None:
    from tests.boot.harness import kernel_options

    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(16 << 20))
    drive = [
        *("-smp", 2, "-drive", f"file={disk},format=raw,if=none,id=d0"),
        *("-device", "virtio-blk-device,drive=d0"),
    ]
    linux = boot(*drive)
    linux.run("echo here > /tmp/mark; echo here | dd of=/dev/vda conv=sync 2>/dev/null; sync")
    wire = f"unix:{tmp_path}/wire"
    there = machine(*kernel_options(guest), *drive, "-incoming", wire)  # type: ignore[arg-type]
    linux.vm.migrate(wire, timeout=60)
    moved = Linux(there)
    look = "cat /tmp/mark; dd if=/dev/vda count=1 iflag=direct 2>/dev/null | head -n 1"
    assert moved.run(look).split() == ["here", "here"]
    moved.run("echo there | dd of=/dev/vda conv=sync 2>/dev/null; sync")
    with pytest.raises(HostError, match="Failed to get"):
        linux.vm.start()
    moved.power_off()
