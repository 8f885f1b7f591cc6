"""Devices, time and interrupts through qtest."""

from __future__ import annotations

import time

import pytest

from tests.qtest.client import QtestError

CLINT, PLIC, UART, RTC, TEST = 0x200_0000, 0xC00_0000, 0x1000_0000, 0x10_1000, 0x10_0000
MTIME, MTIMECMP = CLINT + 0xBFF8, CLINT + 0x4000
HART = "/machine/soc0/harts[0]"
MSI, MTI, SEI, MEI = 3, 7, 9, 11
NS_PER_TICK = 100


def test_guest_time_stands_still_unless_stepped(qtest) -> None:
    client = qtest()
    assert client.step(0) == 0
    before = client.read("q", MTIME)
    time.sleep(0.05)
    assert client.read("q", MTIME) == before == 0
    assert client.step(1_000_000) == 1_000_000
    assert client.read("q", MTIME) == 1_000_000 // NS_PER_TICK
    assert client.command("clock_set 3000000") == "3000000"
    assert client.command("clock_set 2000000") == "3000000"  # time does not go back
    assert client.read("q", MTIME) == 3_000_000 // NS_PER_TICK


def test_a_step_without_a_number_goes_to_the_next_deadline(qtest) -> None:
    client = qtest()
    client.command(f"irq_intercept_in {HART}")
    client.write("q", MTIMECMP, 5000)
    assert not client.interrupts
    assert client.step() == 5000 * NS_PER_TICK
    assert list(client.interrupts) == [("raise", MTI)]
    client.write("q", MTIMECMP, 6000)
    assert client.interrupts.pop() == ("lower", MTI)
    client.step(999 * NS_PER_TICK)
    assert len(client.interrupts) == 1
    client.step(NS_PER_TICK)
    assert client.interrupts.pop() == ("raise", MTI)


def test_software_interrupts_reach_the_hart(qtest) -> None:
    client = qtest("-smp", "2")
    client.command("irq_intercept_in /machine/soc0/harts[1]")
    client.write("l", CLINT + 4, 1)
    client.write("l", CLINT, 1)
    client.write("l", CLINT + 4, 0)
    assert list(client.interrupts) == [("raise", MSI), ("lower", MSI)]
    with pytest.raises(QtestError, match="already enabled"):
        client.command(f"irq_intercept_in {HART}")
    client.command("irq_intercept_in /machine/soc0/harts[1]")


def plic_path(client) -> str:
    """Where the PLIC is in the tree: the one object with inputs."""
    for number in range(20):
        path = f"/machine/unattached/device[{number}]"
        try:
            client.command(f"set_irq_in {path} unnamed-gpio-in 95 0")
        except QtestError:
            continue
        return path
    pytest.fail("there is no PLIC")


def enable(client, source: int) -> None:
    client.write("l", PLIC + 4 * source, 1)
    client.write("l", PLIC + 0x2000 + source // 32 * 4, 1 << source % 32)


def test_a_line_of_the_plic_is_driven_and_claimed(qtest) -> None:
    client = qtest()
    path = plic_path(client)
    client.command(f"irq_intercept_in {HART}")
    enable(client, 33)
    client.command(f"set_irq_in {path} unnamed-gpio-in 33 1")
    assert client.read("l", PLIC + 0x1004) == 2
    assert client.read("l", PLIC + 0x200004) == 33
    client.command(f"set_irq_in {path} unnamed-gpio-in 33 0")
    client.write("l", PLIC + 0x200004, 33)
    assert list(client.interrupts) == [("raise", MEI), ("lower", MEI)]


def test_a_device_reaches_the_plic_and_the_plic_the_hart(qtest) -> None:
    client = qtest("-chardev", "ringbuf,id=out", "-serial", "chardev:out")
    path = plic_path(client)
    client.command(f"irq_intercept_in {path}")
    client.write("b", UART + 1, 2)  # interrupt when the transmitter is empty
    assert client.interrupts.pop() == ("raise", 10)
    client.write("b", UART + 1, 0)
    assert client.interrupts.pop() == ("lower", 10)


def test_outputs_of_the_plic_are_numbered_through_the_harts(qtest) -> None:
    client = qtest("-smp", "2")
    path = plic_path(client)
    client.command(f"irq_intercept_out {path}")
    enable(client, 5)
    client.command(f"set_irq_in {path} unnamed-gpio-in 5 1")
    assert list(client.interrupts) == [("raise", 2)]  # machine mode comes after both harts' S mode


def test_the_clock_of_day_raises_its_alarm(qtest) -> None:
    client = qtest()
    path = plic_path(client)
    client.command(f"irq_intercept_in {path}")
    now = client.read("l", RTC) | client.read("l", RTC + 4) << 32
    assert abs(now / 1e9 - time.time()) < 5


def test_virtio_transports_identify_themselves(qtest) -> None:
    client = qtest("-device", "virtio-rng-device")
    ids = [client.read("l", 0x1000_1000 + 0x1000 * number + 8) for number in range(8)]
    assert sorted(ids) == [0] * 7 + [4]
    assert {client.read("l", 0x1000_1000 + 0x1000 * number) for number in range(8)} == {0x74726976}


def test_every_register_of_every_device_can_be_touched(qtest) -> None:
    client = qtest("-device", "virtio-rng-device", "-smp", "2")
    spans = [
        *((CLINT, 0x10000), (PLIC, 0x4000), (PLIC + 0x200000, 0x2000), (UART, 0x100), (RTC, 0x100)),
        (0x1000_1000, 0x8000),
    ]
    for base, size in spans:
        for offset in range(0, size, 0x40 if size > 0x1000 else 4):
            for letter in "bwlq":
                client.send(f"write{letter} {base + offset:#x} 0xffffffffffffffff")
                client.send(f"read{letter} {base + offset:#x}")
            assert all(client.answer().startswith("OK") for _ in range(8))


def test_a_client_comes_back_to_the_same_machine(qtest, tmp_path) -> None:
    client = qtest()
    client.write("q", 0x8000_0000, 77)
    client.command(f"irq_intercept_in {HART}")
    client.close()
    again = type(client)(f"{tmp_path}/qtest0")
    assert again.read("q", 0x8000_0000) == 77
    again.write("l", CLINT, 1)
    assert not again.interrupts
    again.command("irq_intercept_in /machine/soc0/harts[0]")
    again.write("l", CLINT, 0)
    assert list(again.interrupts) == [("lower", MSI)]


def test_a_paused_machine_answers_too(qtest) -> None:
    client = qtest("-S")
    assert client.read("l", 0x1000) != 0
    assert client.step(1000) == 0
