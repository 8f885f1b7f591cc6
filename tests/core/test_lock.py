"""The machine lock."""

from __future__ import annotations

import threading

import pytest

from ratite.core import MachineLock


def test_one_thread_may_take_it_again() -> None:
    lock = MachineLock()
    with lock:
        with lock:
            assert lock.held
        assert lock.held
    assert not lock.held


def test_it_keeps_other_threads_out_until_released() -> None:
    lock = MachineLock()
    order: list[str] = []

    def other() -> None:
        with lock:
            order.append("other")

    with lock:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.05)
        order.append("first")
        assert thread.is_alive()
    thread.join(5)
    assert order == ["first", "other"]


def test_releasing_without_having_it_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        MachineLock().release()


def test_it_can_be_given_up_entirely_for_a_while() -> None:
    lock = MachineLock()

    def other() -> None:
        with lock:
            pass

    with lock, lock:
        with lock.unlocked():
            assert not lock.held
            thread = threading.Thread(target=other)
            thread.start()
            thread.join(5)
            assert not thread.is_alive()
        assert lock.held
    assert not lock.held


def test_giving_up_a_lock_that_another_thread_has_changes_nothing() -> None:
    lock = MachineLock()
    lock.acquire()

    def other() -> None:
        with lock.unlocked():
            lock_free.wait(5)

    lock_free = threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    lock.release()
    lock_free.set()
    thread.join(5)
    with lock:
        assert lock.held
    assert not lock.held
