"""Idle: when there is nothing else to do."""

from __future__ import annotations

import pytest

import pyev


@pytest.mark.every_backend
def test_called_again_and_again(loop, calls):
    def callback(watcher, revents):
        calls(watcher, revents)
        if len(calls) == 5:
            watcher.stop()

    watcher = loop.idle(callback)
    watcher.start()
    assert loop.start() is False
    assert calls == [(watcher, pyev.EV_IDLE)] * 5


@pytest.mark.every_backend
def test_the_loop_does_not_wait(loop, calls):
    with loop.idle(calls), loop.timer(1000.0, 0.0, calls):
        loop.start(pyev.EVRUN_ONCE)
        loop.start(pyev.EVRUN_ONCE)
    assert calls.revents == [pyev.EV_IDLE] * 2


def test_not_called_while_others_are_pending(loop, calls):
    with loop.idle(calls) as idle, loop.timer(0.0, 0.0, calls) as timer:
        pyev.sleep(0.001)
        loop.update()
        loop.start(pyev.EVRUN_NOWAIT)
        assert calls == [(timer, pyev.EV_TIMER)]
        loop.start(pyev.EVRUN_NOWAIT)
        assert calls == [(timer, pyev.EV_TIMER), (idle, pyev.EV_IDLE)]


def test_called_before_pending_ones_of_lower_priority(loop, turn, calls):
    low = loop.timer(0.0, 0.0, calls, priority=-1)
    with loop.idle(calls, priority=1) as idle:
        low.start()
        pyev.sleep(0.001)
        loop.update()
        turn()
    assert calls == [(idle, pyev.EV_IDLE), (low, pyev.EV_TIMER)]


def test_only_the_highest_priority_is_called(loop, turn, calls):
    with loop.idle(calls, priority=-1) as low, loop.idle(calls, priority=1) as high:
        turn()
        turn()
        assert calls == [(high, pyev.EV_IDLE)] * 2
        high.stop()
        turn()
        assert calls[2:] == [(low, pyev.EV_IDLE)]


def test_all_of_one_priority_are_called(loop, turn, calls):
    watchers = [loop.idle(calls) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    turn()
    assert [watcher for watcher, _ in calls] == watchers[::-1]
    for watcher in watchers:
        watcher.stop()


@pytest.mark.parametrize("priority", [-99, -2, -1, 0, 1, 2, 99])
def test_started_stopped_and_freed_in_its_callback(loop, turn, calls, priority):
    pool = []

    def callback(watcher, revents):
        calls(None, revents)
        watcher.stop()
        watcher.start()
        watcher.stop()
        pool.clear()
        if len(calls) < 5:
            pool.append(loop.idle(callback, priority=priority))
            pool[0].start()

    pool.append(loop.idle(callback, priority=priority))
    pool[0].start()
    assert loop.start() is False
    assert len(calls) == 5
    loop.verify()


def test_stopping_the_others_of_its_batch(loop, turn, calls):
    def callback(watcher, revents):
        calls(watcher, revents)
        for other in watchers:
            other.stop()

    watchers = [loop.idle(callback) for _ in range(5)]
    for watcher in watchers:
        watcher.start()
    assert turn() is False
    assert len(calls) == 1
