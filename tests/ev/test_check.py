"""Check: just after the loop has waited."""

from __future__ import annotations

import pytest

import pyev


@pytest.mark.every_backend
def test_called_once_a_turn(loop, turn, calls):
    with loop.check(calls) as watcher:
        for n in range(3):
            turn()
            assert calls == [(watcher, pyev.EV_CHECK)] * (n + 1)


@pytest.mark.every_backend
def test_before_the_events_of_its_turn(loop, pair):
    a, b = pair
    b.send(b"x")
    order = []
    with (
        loop.check(lambda watcher, revents: order.append("check")),
        loop.prepare(lambda watcher, revents: order.append("prepare")),
        loop.io(a, pyev.EV_READ, lambda watcher, revents: order.append("readable")),
    ):
        while "readable" not in order:
            loop.start(pyev.EVRUN_ONCE)
    turns = order.index("readable")
    assert order[turns - 2 : turns] == ["prepare", "check"]


def test_after_the_events_of_its_turn_with_a_lower_priority(loop, turn):
    order = []
    timer = loop.timer(0.0, 0.0, lambda watcher, revents: order.append("timer"))
    timer.start()
    pyev.sleep(0.001)
    loop.update()
    with loop.check(lambda watcher, revents: order.append("check"), priority=-1):
        turn()
    assert order == ["timer", "check"]


def test_the_last_started_first(loop, turn, calls):
    watchers = [loop.check(calls) for _ in range(4)]
    for watcher in watchers:
        watcher.start()
    turn()
    assert [watcher for watcher, _ in calls] == watchers[::-1]
    for watcher in watchers:
        watcher.stop()


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
            pool.append(loop.check(callback, priority=priority))
            pool[0].start()

    pool.append(loop.check(callback, priority=priority))
    pool[0].start()
    while pool:
        turn()
    assert seen == [pyev.EV_CHECK] * 5
    loop.verify()
