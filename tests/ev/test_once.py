"""Loop.once: a descriptor or a timeout, whichever comes first, one time."""

from __future__ import annotations

import gc
import math
import os
import warnings
import weakref

import pytest

import pyev

RW = pyev.EV_READ | pyev.EV_WRITE


@pytest.mark.every_backend
def test_the_descriptor(loop, pair, calls):
    a, b = pair
    once = loop.once(a, pyev.EV_READ, 1000.0, calls)
    assert isinstance(once, pyev.Once)
    assert isinstance(once, pyev.Watcher)
    assert once.active
    b.send(b"x")
    assert loop.start() is False
    assert calls == [(once, pyev.EV_READ)]
    assert not once.active


@pytest.mark.every_backend
def test_the_timeout(loop, pair, calls):
    once = loop.once(pair[0], pyev.EV_READ, 0.005, calls)
    assert loop.start() is False
    assert calls == [(once, pyev.EV_TIMER)]
    assert not once.active


def test_both_in_one_turn(loop, pair, calls):
    a, b = pair
    once = loop.once(a, RW, 0.001, calls)
    b.send(b"x")
    pyev.sleep(0.01)
    loop.update()
    loop.start()
    assert len(calls) == 1
    assert calls[0][0] is once
    assert calls[0][1] & RW


def test_without_a_timeout(loop, pair, calls):
    a, b = pair
    for timeout in (None, -1.0):
        calls.clear()
        once = loop.once(a, pyev.EV_WRITE, timeout, calls)
        loop.start()
        assert calls == [(once, pyev.EV_WRITE)]


def test_without_a_descriptor(loop, calls):
    once = loop.once(None, 0, 0.001, calls)
    loop.start()
    assert calls == [(once, pyev.EV_TIMER)]


def test_a_timeout_of_zero(loop, pair, calls):
    once = loop.once(pair[0], pyev.EV_READ, 0, calls)
    loop.start()
    assert calls == [(once, pyev.EV_TIMER)]


def test_neither(loop):
    for timeout in (None, -1.0):
        with pytest.raises(ValueError, match="timeout"):
            loop.once(None, 0, timeout, print)
    assert loop.start() is False


def test_kept_by_its_loop(loop, pair, calls):
    a, b = pair
    loop.once(a, pyev.EV_READ, None, calls, "data")
    gc.collect()
    b.send(b"x")
    loop.start()
    assert calls.revents == [pyev.EV_READ]
    assert calls[0][0].data == "data"
    gone = weakref.ref(calls[0][0])
    calls.clear()
    gc.collect()
    assert gone() is None


def test_arguments(loop, pair, calls):
    data = object()
    once = loop.once(
        fd=pair[0], events=pyev.EV_WRITE, timeout=1.0, callback=calls, data=data, priority=2
    )
    assert once.loop is loop
    assert once.data is data
    assert once.priority == 2
    assert once.callback is calls
    once.stop()
    once = loop.once(pair[0], pyev.EV_WRITE, 1.0, calls, data, 1)
    assert (once.data, once.priority) == (data, 1)
    once.stop()


def test_stopped(loop, pair, calls):
    a, b = pair
    once = loop.once(a, pyev.EV_READ, 0.001, calls)
    gone = weakref.ref(once)
    once.stop()
    assert not once.active
    b.send(b"x")
    assert loop.start() is False
    assert calls == []
    del once
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("how", ["stop", "clear"])
def test_stopped_after_its_time_has_come(loop, how):
    """And before it was called: nobody keeps it any more."""
    waits = []

    def callback(watcher, revents):
        (other,) = (wait for wait in waits if wait is not watcher)
        assert other.pending
        getattr(other, how)()

    waits += [loop.once(None, 0, 0.001, callback) for _ in range(2)]
    gone = [weakref.ref(wait) for wait in waits]
    pyev.sleep(0.01)
    assert loop.start() is False
    waits.clear()
    assert [wait() for wait in gone] == [None, None]


def test_ended_by_close(calls):
    with pyev.Loop() as loop:
        once = loop.once(None, 0, 1000.0, calls)
        gone = weakref.ref(once)
    assert not once.active
    assert calls == []
    del once, loop
    gc.collect()
    assert gone() is None


def test_a_loop_dropped_with_one(calls):
    """Loop and once hold each other: collected together."""
    loop = pyev.Loop()
    gone = weakref.ref(loop), weakref.ref(loop.once(None, 0, 1000.0, calls))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del loop
        gc.collect()
    assert [ref() for ref in gone] == [None, None]
    assert calls == []


def test_keeps_the_loop_running_unless_told(loop, calls):
    once = loop.once(None, 0, 1000.0, calls)
    assert loop.start(pyev.EVRUN_NOWAIT) is True
    once.keepalive = False
    assert loop.start() is False
    assert once.active
    once.stop()
    with pytest.raises(pyev.Error):
        loop.unref()


def test_stop_in_its_callback(loop, calls):
    def callback(watcher, revents):
        watcher.stop()
        calls(watcher, revents)

    loop.once(None, 0, 0.0, callback)
    loop.start()
    assert len(calls) == 1


def test_another_in_its_callback(loop, calls):
    def callback(watcher, revents):
        calls(watcher, revents)
        if len(calls) < 5:
            loop.once(None, 0, 0.0, callback)

    loop.once(None, 0, 0.0, callback)
    loop.start()
    assert len({watcher for watcher, _ in calls}) == 5


def test_many(loop, calls):
    for n in range(100):
        loop.once(None, 0, n / 10000, calls, n)
    gc.collect()
    assert loop.start() is False
    assert [watcher.data for watcher, _ in calls] == list(range(100))


def test_not_made_by_hand(loop):
    with pytest.raises(TypeError):
        pyev.Once()
    with pytest.raises(TypeError):
        pyev.Once(0, 1, 1.0, loop, print)
    with pytest.raises(TypeError):
        type("Mine", (pyev.Once,), {})
    with pytest.raises(TypeError):
        pyev.Once.__new__(pyev.Once)


def test_bad_arguments(loop, pair):
    a, _ = pair
    r, w = os.pipe()
    os.close(r)
    os.close(w)
    with pytest.raises(OSError, match="Errno 9"):
        loop.once(r, pyev.EV_READ, 1.0, print)
    with pytest.raises(ValueError, match="file descriptor"):
        loop.once(-1, pyev.EV_READ, 1.0, print)
    with pytest.raises(TypeError):
        loop.once("0", pyev.EV_READ, 1.0, print)
    with pytest.raises(pyev.Error, match="event"):
        loop.once(a, pyev.EV_TIMER, 1.0, print)
    with pytest.raises(TypeError):
        loop.once(a, "read", 1.0, print)
    with pytest.raises(TypeError):
        loop.once(a, pyev.EV_READ, "1", print)
    with pytest.raises(ValueError, match="timeout"):
        loop.once(a, pyev.EV_READ, math.nan, print)
    with pytest.raises(TypeError, match="callback"):
        loop.once(a, pyev.EV_READ, 1.0, None)
    with pytest.raises(TypeError):
        loop.once(a, pyev.EV_READ, 1.0)
    assert loop.start() is False


def test_a_generic_alias():
    assert pyev.Once[int].__origin__ is pyev.Once


def test_repr(loop, pair):
    once = loop.once(pair[0], pyev.EV_READ, 1000.0, print)
    active = repr(once)
    assert "Once" in active
    assert f"fd={pair[0].fileno()} timeout=1000.0" in active
    with loop.once(None, 0, 1.0, print) as timeout:
        assert "fd=" not in repr(timeout)
    once.stop()
    assert repr(once) != active
