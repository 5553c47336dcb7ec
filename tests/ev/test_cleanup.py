"""Cleanup: called when its loop is closed."""

from __future__ import annotations

import contextlib
import gc

import pytest

import pyev


@pytest.fixture
def loop():
    loop = pyev.Loop()
    yield loop
    loop.close()


def test_called_by_close(loop, calls):
    watcher = loop.cleanup(calls)
    watcher.start()
    loop.start()
    assert calls == []
    loop.close()
    assert calls == [(watcher, pyev.EV_CLEANUP)]
    assert not watcher.active
    loop.close()
    assert len(calls) == 1


def test_called_at_the_end_of_a_context(calls):
    with pyev.Loop() as loop:
        watcher = loop.cleanup(calls)
        watcher.start()
    assert calls == [(watcher, pyev.EV_CLEANUP)]


def test_called_on_the_default_loop(calls):
    loop = pyev.default_loop()
    watcher = loop.cleanup(calls)
    watcher.start()
    loop.close()
    assert calls == [(watcher, pyev.EV_CLEANUP)]


def test_a_stopped_one_is_not_called(loop, calls):
    watcher = loop.cleanup(calls)
    watcher.start()
    watcher.stop()
    loop.close()
    assert calls == []


def test_never_keeps_the_loop_running(loop, calls):
    with loop.cleanup(calls, keepalive=True):
        assert loop.start() is False


def test_priorities_and_order(loop, calls):
    watchers = [loop.cleanup(calls, n, priority) for n, priority in enumerate((0, 1, -1, 0, 1))]
    for watcher in watchers:
        watcher.start()
    loop.close()
    assert [watcher.data for watcher, _ in calls] == [4, 1, 3, 0, 2]


def test_the_loop_is_still_whole(loop, pair):
    """What a Cleanup is for: to stop what it made, while that is still possible."""
    a, _ = pair
    io = loop.io(a, pyev.EV_READ, print)
    io.start()
    seen = []

    def callback(watcher, revents):
        seen.append((loop.closed, io.active, loop.now() > 0))
        io.stop()
        seen.append(io.active)

    watcher = loop.cleanup(callback)
    watcher.start()
    loop.close()
    assert seen == [(False, True, True), False]


def test_close_inside_a_cleanup(loop, calls):
    seen = []

    def callback(watcher, revents):
        calls(watcher, revents)
        try:
            loop.close()
        except pyev.Error as error:
            seen.append(error)

    watcher = loop.cleanup(callback)
    watcher.start()
    loop.close()
    assert loop.closed
    assert len(calls) == 1


def test_start_of_the_loop_inside_a_cleanup(loop, calls):
    """Refused or run: the loop is closed all the same."""

    def callback(watcher, revents):
        calls(watcher, revents)
        timer = loop.timer(0.0, 0.0, lambda watcher, revents: None)
        with contextlib.suppress(pyev.Error), timer:
            loop.start()

    watcher = loop.cleanup(callback)
    watcher.start()
    loop.close()
    assert loop.closed
    assert len(calls) == 1


def test_watchers_started_inside_a_cleanup_are_stopped(loop, calls):
    timer = loop.timer(0.0, 0.0, calls)

    def callback(watcher, revents):
        timer.start()

    watcher = loop.cleanup(callback)
    watcher.start()
    loop.close()
    assert not timer.active
    assert calls == []


@pytest.mark.parametrize("debug", [False, True])
def test_an_exception_in_a_cleanup(loop, calls, unraisable, debug):
    """Reported by the loop's rules; the others run and the loop is closed."""

    class Mine(Exception):
        pass

    def callback(watcher, revents):
        raise Mine

    loop.debug = debug
    watchers = [loop.cleanup(calls), loop.cleanup(callback), loop.cleanup(calls)]
    for watcher in watchers:
        watcher.start()
    if debug:
        with pytest.raises(Mine):
            loop.close()
        assert unraisable == []
    else:
        loop.close()
        assert [type(report.exc_value) for report in unraisable] == [Mine]
    assert loop.closed
    assert len(calls) == 2


def test_not_called_at_collection(calls):
    loop = pyev.Loop()
    watcher = loop.cleanup(calls)
    watcher.start()
    loop.data = watcher
    with pytest.warns(ResourceWarning):
        del loop, watcher
        gc.collect()
    assert calls == []
