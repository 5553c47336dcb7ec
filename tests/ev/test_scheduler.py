"""Scheduler: a function of the user's says when."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from fractions import Fraction

import pytest

import pyev


class Unhappy(Exception):
    pass


def raising(watcher, now):
    raise Unhappy("no time")


# What a scheduler may not return, and what is then reported.
BAD = {
    "an exception": (raising, Unhappy),
    "nothing": (lambda watcher, now: None, TypeError),
    "text": (lambda watcher, now: "tomorrow", TypeError),
    "the past": (lambda watcher, now: now - 1.0, pyev.Error),
    "just before now": (lambda watcher, now: math.nextafter(now, 0.0), pyev.Error),
    "NaN": (lambda watcher, now: math.nan, pyev.Error),
    "minus infinity": (lambda watcher, now: -math.inf, pyev.Error),
    "a huge integer": (lambda watcher, now: 10**400, OverflowError),
}
each_bad = pytest.mark.parametrize(("scheduler", "error"), BAD.values(), ids=list(BAD))


@pytest.mark.every_backend
def test_asked_at_start_and_after_each_event(loop, calls):
    asked = []

    def scheduler(watcher, now):
        asked.append((watcher, now))
        return now + 0.002

    def callback(watcher, revents):
        calls(watcher, revents)
        if len(calls) == 3:
            watcher.stop()

    watcher = loop.scheduler(scheduler, callback)
    assert asked == []
    watcher.start()
    assert len(asked) == 1
    loop.start()
    assert calls == [(watcher, pyev.EV_PERIODIC)] * 3
    assert len(asked) == 4
    assert {who for who, _ in asked} == {watcher}
    assert all(type(now) is float for _, now in asked)
    assert [now for _, now in asked] == sorted(now for _, now in asked)


def test_now_is_the_time_of_the_turn(loop):
    asked = []

    def scheduler(watcher, now):
        asked.append((now, loop.now()))
        return now + 0.001

    with loop.scheduler(scheduler, print):
        while len(asked) < 3:
            loop.start(pyev.EVRUN_ONCE)
    for now, of_turn in asked:
        assert now == of_turn


@pytest.mark.parametrize("method", ["start", "reset"])
def test_started_long_after_its_loop(loop, calls, method):
    """As with Timer: while the loop does not run, the time gone by is allowed for first."""

    def callback(watcher, revents):
        calls(watcher, time.time())
        watcher.stop()

    watcher = loop.scheduler(lambda watcher, now: now + 0.05, callback)
    pyev.sleep(0.05)
    before = time.time()
    getattr(watcher, method)()
    loop.start()
    # To the microsecond: libev reads the wall clock by gettimeofday().
    assert calls[0][1] - before >= 0.05 - 2e-6


def test_at(loop):
    asked = []

    def scheduler(watcher, now):
        asked.append(now)
        return now + 100.0

    watcher = loop.scheduler(scheduler, print)
    assert type(watcher.at) is float
    with watcher:
        assert watcher.at == asked[0] + 100.0
    with pytest.raises(AttributeError):
        watcher.at = 1.0


def test_now_itself_is_legal(loop, turn, calls):
    with loop.scheduler(lambda watcher, now: now, calls) as watcher:
        while not calls:
            turn()
        assert watcher.active
    assert calls[0] == (watcher, pyev.EV_PERIODIC)


@pytest.mark.parametrize("far", [1e18, 1e300, math.inf])
def test_far_away(loop, turn, calls, far):
    with loop.scheduler(lambda watcher, now: far, calls):
        turn()
        loop.verify()
    assert calls == []


def test_numbers_of_other_types(loop):
    with loop.scheduler(lambda watcher, now: int(now) + 100, print) as watcher:
        assert watcher.at == int(loop.now()) + 100
    with loop.scheduler(lambda watcher, now: Fraction(int(now) + 100), print) as watcher:
        assert watcher.at == int(loop.now()) + 100


def test_reset_asks_again(loop):
    asked = []

    def scheduler(watcher, now):
        asked.append(now)
        return now + 100.0 * len(asked)

    with loop.scheduler(scheduler, print) as watcher:
        assert watcher.reset() is None
        assert len(asked) == 2
        assert watcher.at == pytest.approx(loop.now() + 200.0, abs=1.0)
        loop.verify()


def test_reset_starts_a_stopped_one(loop):
    watcher = loop.scheduler(lambda watcher, now: now + 100.0, print)
    watcher.reset()
    assert watcher.active
    watcher.stop()


def test_there_is_no_set(loop):
    assert not hasattr(loop.scheduler(lambda watcher, now: now, print), "set")


# scheduler


def test_scheduler_is_writable_at_any_time(loop):
    def first(watcher, now):
        return now + 100.0

    def second(watcher, now):
        return now + 200.0

    with loop.scheduler(first, print) as watcher:
        assert watcher.scheduler is first
        watcher.scheduler = second
        assert watcher.scheduler is second
        watcher.reset()
        assert watcher.at == pytest.approx(loop.now() + 200.0, abs=1.0)


@pytest.mark.parametrize("wrong", [None, 1, "scheduler"])
def test_a_scheduler_that_cannot_be_called(loop, wrong):
    with pytest.raises(TypeError, match="scheduler"):
        loop.scheduler(wrong, print)
    watcher = loop.scheduler(max, print)
    with pytest.raises(TypeError, match="scheduler"):
        watcher.scheduler = wrong
    with pytest.raises(TypeError, match="scheduler"):
        del watcher.scheduler
    assert watcher.scheduler is max


def test_a_scheduler_that_replaces_itself(loop):
    def make():
        big = [object()]

        def scheduler(watcher, now):
            watcher.scheduler = lambda watcher, now: now + 200.0
            gc.collect()
            assert big
            return now + 100.0

        return scheduler

    with loop.scheduler(make(), print) as watcher:
        assert watcher.at == pytest.approx(loop.now() + 100.0, abs=1.0)
        watcher.reset()
        assert watcher.at == pytest.approx(loop.now() + 200.0, abs=1.0)


# Bad schedulers


@each_bad
def test_bad_at_start(loop, turn, calls, unraisable, scheduler, error):
    watcher = loop.scheduler(scheduler, calls)
    watcher.start()
    turn()
    assert not watcher.active
    assert calls == []
    assert [type(report.exc_value) for report in unraisable] == [error]
    assert turn() is False
    loop.verify()


@pytest.mark.parametrize("keepalive", [True, False])
def test_bad_at_start_though_it_has_started_itself(loop, turn, unraisable, keepalive):
    def scheduler(watcher, now):
        if watcher.active:
            return now
        if asked:
            return now + 100.0
        asked.append(now)
        watcher.start()
        raise LookupError("and yet it runs")

    asked = []
    watcher = loop.scheduler(scheduler, print, keepalive=keepalive)
    watcher.start()
    assert not watcher.active
    assert [type(report.exc_value) for report in unraisable] == [LookupError]
    loop.verify()
    with pytest.raises(pyev.Error, match="unref"):
        loop.unref()
    assert turn() is False


@each_bad
def test_bad_at_start_in_debug(loop, calls, unraisable, scheduler, error):
    loop.debug = True
    watcher = loop.scheduler(scheduler, calls)
    with pytest.raises(error):  # there, or from the start of the loop
        watcher.start() or loop.start(pyev.EVRUN_NOWAIT)
    assert not watcher.active
    assert unraisable == []
    assert loop.start(pyev.EVRUN_NOWAIT) is False
    loop.verify()


@each_bad
@pytest.mark.parametrize("debug", [False, True])
def test_bad_after_an_event(loop, calls, unraisable, scheduler, error, debug):
    loop.debug = debug
    asked = []

    def later(watcher, now):
        asked.append(now)
        return now if len(asked) == 1 else scheduler(watcher, now)

    watcher = loop.scheduler(later, calls)
    watcher.start()
    if debug:
        with pytest.raises(error):
            loop.start()
        assert unraisable == []
    else:
        loop.start()
        assert [type(report.exc_value) for report in unraisable] == [error]
    assert not watcher.active
    assert len(asked) == 2
    assert loop.start(pyev.EVRUN_NOWAIT) is False
    loop.verify()


@each_bad
def test_bad_at_reset(loop, turn, calls, unraisable, scheduler, error):
    watcher = loop.scheduler(lambda watcher, now: now + 100.0, calls)
    watcher.start()
    watcher.scheduler = scheduler
    watcher.reset()
    turn()
    assert not watcher.active
    assert [type(report.exc_value) for report in unraisable] == [error]
    assert turn() is False
    loop.verify()


def test_a_bad_one_leaves_the_others_alone(loop, calls, unraisable):
    good = [loop.scheduler(lambda watcher, now: now + 0.001, calls) for _ in range(5)]
    asked = []

    def late(watcher, now):
        asked.append(now)
        if len(asked) > 1:
            raise Unhappy
        return now

    bad = loop.scheduler(late, calls)
    for watcher in (*good[:2], bad, *good[2:]):
        watcher.start()
    while len(asked) < 2 or {watcher for watcher, _ in calls} < set(good):
        loop.start(pyev.EVRUN_ONCE)
        loop.verify()
    assert not bad.active
    assert all(watcher.active for watcher in good)
    assert len(unraisable) == 1
    for watcher in good:
        watcher.stop()


def test_asked_again_when_its_event_was_cleared(loop, calls):
    watcher = loop.scheduler(lambda watcher, now: now + 0.01, calls)

    def clear(check, revents):
        if watcher.clear():
            check.stop()

    with (
        watcher,
        loop.check(clear, None, pyev.EV_MAXPRI),
        loop.timer(0.2, 0.0, lambda watcher, revents: loop.stop()),
    ):
        loop.start()
        assert watcher.at < pyev.time() + 1.0
    assert calls


def test_a_bad_one_can_be_started_again(loop, calls, unraisable):
    watcher = loop.scheduler(raising, calls)
    watcher.start()
    loop.start(pyev.EVRUN_NOWAIT)
    watcher.scheduler = lambda watcher, now: now + 100.0
    watcher.start()
    assert watcher.active
    watcher.stop()
    assert len(unraisable) == 1


@pytest.mark.parametrize("debug", [False, True])
def test_keyboard_interrupt_leaves_the_loop(loop, calls, debug):
    loop.debug = debug
    asked = []

    def scheduler(watcher, now):
        asked.append(now)
        if len(asked) > 1:
            raise KeyboardInterrupt
        return now

    watcher = loop.scheduler(scheduler, calls)
    watcher.start()
    with pytest.raises(KeyboardInterrupt):
        loop.start()
    assert not watcher.active


# What a scheduler may do to its watcher and its loop


def test_stop_inside_the_scheduler(loop, turn, calls):
    asked = []

    def scheduler(watcher, now):
        asked.append(now)
        if len(asked) > 1:
            watcher.stop()
        return now

    watcher = loop.scheduler(scheduler, calls)
    watcher.start()
    while len(asked) < 2:
        turn()
    turn()
    loop.verify()
    watcher.stop()
    assert turn() is False


def test_other_watchers_touched_inside_the_scheduler(loop, turn, calls):
    """libev is in the middle of its heap: what is asked for happens, or is refused clearly."""
    others = [loop.periodic(0.0, 1000.0 + i, calls) for i in range(10)]
    for other in others[:5]:
        other.start()
    asked = []

    def scheduler(watcher, now):
        asked.append(now)
        for other in others:
            with contextlib.suppress(pyev.Error):
                other.stop() if other.active else other.start()
        return now

    with loop.scheduler(scheduler, calls):
        while len(asked) < 5:
            turn()
            loop.verify()
    for other in others:
        other.stop()
    loop.verify()


def test_start_of_the_loop_inside_the_scheduler(loop, calls, unraisable):
    seen = []

    def scheduler(watcher, now):
        try:
            loop.start(pyev.EVRUN_NOWAIT)
        except pyev.Error as error:
            seen.append(error)
        return now + 100.0

    with loop.scheduler(scheduler, calls) as watcher:
        loop.start(pyev.EVRUN_NOWAIT)
        assert watcher.active
    loop.verify()


def test_dropped_by_its_scheduler(loop, turn, calls):
    holder = []
    asked = []

    def scheduler(watcher, now):
        asked.append(now)
        if len(asked) > 1:
            holder.clear()
        return now

    holder.append(loop.scheduler(scheduler, lambda watcher, revents: calls.append(revents)))
    holder[0].start()
    with pytest.warns(ResourceWarning):
        while holder:
            turn()
        gc.collect()
    loop.verify()
    assert turn() is False
