"""Prepare: just before the loop waits."""

from __future__ import annotations

import pytest

import pyev


@pytest.mark.every_backend
def test_called_once_a_turn(loop, turn, calls):
    with loop.prepare(calls) as watcher:
        for n in range(3):
            turn()
            assert calls == [(watcher, pyev.EV_PREPARE)] * (n + 1)


def test_before_the_wait(loop, pair):
    """What a Prepare does is seen by the same turn's wait."""
    a, b = pair
    order = []
    prepare = loop.prepare(lambda watcher, revents: order.append("prepare") or b.send(b"x"))

    def readable(watcher, revents):
        order.append("readable")
        watcher.stop()
        prepare.stop()

    io = loop.io(a, pyev.EV_READ, readable)
    prepare.start()
    io.start()
    loop.start()
    assert order == ["prepare", "readable"]


def test_a_timer_started_there_is_waited_for(loop, calls):
    timer = loop.timer(0.002, 0.0, calls)

    def callback(watcher, revents):
        watcher.stop()
        timer.start()

    with loop.prepare(callback):
        loop.start()
    assert calls == [(timer, pyev.EV_TIMER)]


def test_the_last_started_first(loop, turn, calls):
    watchers = [loop.prepare(calls) for _ in range(4)]
    for watcher in watchers:
        watcher.start()
    turn()
    assert [watcher for watcher, _ in calls] == watchers[::-1]
    calls.clear()
    watchers[1].stop()
    turn()
    assert {watcher for watcher, _ in calls} == {*watchers} - {watchers[1]}
    for watcher in watchers:
        watcher.stop()


def test_higher_priorities_first(loop, turn, calls):
    watchers = [loop.prepare(calls, priority=priority) for priority in (-1, 2, 0, 1, -2)]
    for watcher in watchers:
        watcher.start()
    turn()
    assert [watcher.priority for watcher, _ in calls] == [2, 1, 0, -1, -2]
    for watcher in watchers:
        watcher.stop()


def test_stop_of_the_loop_there_skips_the_wait(loop, calls):
    with (
        loop.prepare(lambda watcher, revents: loop.stop()),
        loop.timer(1000.0, 0.0, calls),
    ):
        assert loop.start() is True
    assert calls == []


@pytest.mark.parametrize("priority", [-99, -2, 0, 2, 99])
def test_started_stopped_and_freed_in_its_callback(loop, turn, priority):
    pool = []
    seen = []

    def callback(watcher, revents):
        seen.append(revents)
        watcher.stop()
        watcher.start()
        watcher.stop()
        pool.clear()
        if len(seen) < 5:
            pool.append(loop.prepare(callback, priority=priority))
            pool[0].start()

    pool.append(loop.prepare(callback, priority=priority))
    pool[0].start()
    while pool:
        turn()
    assert seen == [pyev.EV_PREPARE] * 5
    loop.verify()
