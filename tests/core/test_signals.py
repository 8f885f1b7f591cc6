"""Ending signals while a machine is built, and while something is waited for."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from ratite.core.signals import ENDING_SIGNALS, HeldSignals, Interrupted, interruptible


def send(number: signal.Signals) -> None:
    """To the main thread: a test runner's other threads do not hold signals back, as ours do."""
    ident = threading.main_thread().ident
    assert ident is not None
    signal.pthread_kill(ident, number)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in ENDING_SIGNALS]


def test_a_signal_is_held_back_until_the_release() -> None:
    before = handlers()
    came: list[str] = []
    with HeldSignals() as held:
        held.action = lambda: came.append("now")
        send(signal.SIGTERM)
        assert came == []
        held.release()
        assert came == ["now"]
        send(signal.SIGINT)
        assert came == ["now", "now"]
    assert handlers() == before
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {*ENDING_SIGNALS}


def test_one_that_came_before_a_wait_ends_it_at_once() -> None:
    with HeldSignals():
        send(signal.SIGHUP)
        with pytest.raises(Interrupted), interruptible():
            pytest.fail("waited")


@pytest.mark.parametrize("number", ENDING_SIGNALS)
def test_one_that_comes_during_a_wait_ends_it(number: signal.Signals) -> None:
    read_end, write_end = os.pipe()
    with HeldSignals():
        killer = threading.Timer(0.05, send, (number,))
        killer.start()
        with pytest.raises(Interrupted), interruptible():
            os.read(read_end, 1)
        send(number)  # held back again, and forgotten at the end
        killer.join()
    os.close(read_end)
    os.close(write_end)


def test_other_threads_have_no_signals() -> None:
    masks: list[set[int]] = []

    def look() -> None:
        with interruptible():
            masks.append({*signal.pthread_sigmask(signal.SIG_BLOCK, ())})

    with HeldSignals() as held:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        held.release()
    assert masks[0] >= {*ENDING_SIGNALS}


def test_without_held_signals_nothing_changes() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    try:
        with interruptible():
            assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
