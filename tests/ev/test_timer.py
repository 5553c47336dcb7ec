"""Timer: relative timeouts, once or again and again."""

from __future__ import annotations

import math
import random
import time
from decimal import Decimal
from fractions import Fraction

import pytest

import pyev

INF, NAN = math.inf, math.nan


@pytest.mark.every_backend
def test_one_shot(loop, calls):
    timer = loop.timer(0.01, 0.0, calls)
    before = time.monotonic()
    timer.start()
    assert loop.start() is False
    assert time.monotonic() - before >= 0.01
    assert calls == [(timer, pyev.EV_TIMER)]
    assert not timer.active


@pytest.mark.every_backend
def test_repeating(loop, calls):
    def callback(watcher, revents):
        calls(watcher, revents)
        if len(calls) == 5:
            watcher.stop()

    timer = loop.timer(0.002, 0.002, callback)
    before = time.monotonic()
    timer.start()
    loop.start()
    assert time.monotonic() - before >= 0.01
    assert calls == [(timer, pyev.EV_TIMER)] * 5


@pytest.mark.every_backend
@pytest.mark.parametrize("after", [0.0, 0.0001, 0.0009, 0.0011, 0.003])
def test_never_early_and_never_spinning(loop, calls, after):
    for _ in range(10):
        timer = loop.timer(after, 0.0, calls)
        before = time.monotonic()
        turns = loop.iteration
        timer.start()
        loop.start()
        assert time.monotonic() - before >= after
        assert loop.iteration - turns <= 5
    assert len(calls) == 10


def test_zero_is_due_in_the_next_turn(loop, turn, calls):
    timer = loop.timer(0.0, 0.0, calls)
    timer.start()
    assert calls == []
    loop.start()
    assert calls == [(timer, pyev.EV_TIMER)]


@pytest.mark.parametrize("after", [-0.001, -1000, -1e300, -INF])
def test_negative_is_due_at_once(loop, turn, calls, after):
    timer = loop.timer(after, 0.0, calls)
    timer.start()
    turn()
    assert calls == [(timer, pyev.EV_TIMER)]
    assert not timer.active
    loop.verify()


def test_a_negative_one_that_repeats(loop, calls):
    with loop.timer(-5.0, 1000.0, calls) as timer:
        loop.start(pyev.EVRUN_NOWAIT)
        loop.start(pyev.EVRUN_NOWAIT)
        assert calls == [(timer, pyev.EV_TIMER)]
        assert 990.0 < timer.remaining <= 995.0  # from when it was due


@pytest.mark.parametrize("after", [1e9, 2.0**55, 1e300, INF])
def test_far_away_is_never_due(loop, turn, calls, after):
    with loop.timer(after, 0.0, calls) as timer, loop.timer(0.001, 0.0, calls) as near:
        while near.active:
            loop.start(pyev.EVRUN_ONCE)
        assert calls == [(near, pyev.EV_TIMER)]
        assert timer.remaining > 1e8
        loop.verify()


# Arguments


def test_nan(loop):
    with pytest.raises(ValueError, match="after"):
        loop.timer(NAN, 0.0, print)
    with pytest.raises(ValueError, match="repeat"):
        loop.timer(0.0, NAN, print)
    timer = loop.timer(1.0, 2.0, print)
    with pytest.raises(ValueError, match="after"):
        timer.set(NAN, 0.0)
    with pytest.raises(ValueError, match="repeat"):
        timer.set(0.0, NAN)
    with pytest.raises(ValueError, match="repeat"):
        timer.repeat = NAN
    assert timer.repeat == 2.0
    assert timer.remaining == 1.0


@pytest.mark.parametrize("repeat", [-1, -0.001, -INF])
def test_a_negative_repeat(loop, repeat):
    with pytest.raises(ValueError, match="repeat"):
        loop.timer(0.0, repeat, print)
    timer = loop.timer(1.0, 2.0, print)
    with pytest.raises(ValueError, match="repeat"):
        timer.set(0.0, repeat)
    with pytest.raises(ValueError, match="repeat"):
        timer.repeat = repeat
    assert timer.repeat == 2.0


@pytest.mark.parametrize("wrong", [None, "1", [], 1j])
def test_arguments_of_a_wrong_type(loop, wrong):
    with pytest.raises(TypeError):
        loop.timer(wrong, 0.0, print)
    with pytest.raises(TypeError):
        loop.timer(0.0, wrong, print)
    timer = loop.timer(1.0, 2.0, print)
    with pytest.raises(TypeError):
        timer.set(wrong, 0.0)
    with pytest.raises(TypeError):
        timer.repeat = wrong
    assert timer.repeat == 2.0


def test_a_number_no_float_holds(loop):
    with pytest.raises(OverflowError):
        loop.timer(10**400, 0.0, print)


def test_numbers_of_other_types(loop, turn, calls):
    timer = loop.timer(Fraction(1, 2), Decimal("0.25"), calls)
    assert timer.remaining == 0.5
    assert timer.repeat == 0.25
    timer.set(0, True)
    assert timer.repeat == 1.0


# set, repeat, remaining


def test_set(loop, turn, calls):
    timer = loop.timer(1000.0, 1000.0, calls)
    timer.set(0.0, 0.0)
    assert timer.repeat == 0.0
    timer.start()
    loop.start()
    assert len(calls) == 1
    timer.set(1000.0, 0.0)
    with timer:
        assert timer.remaining == pytest.approx(1000.0, abs=1.0)
        turn()
    assert len(calls) == 1


def test_remaining(loop, calls):
    timer = loop.timer(5.0, 0.0, calls)
    assert timer.remaining == 5.0
    with timer:
        assert timer.remaining == pytest.approx(5.0, abs=1e-6)
        pyev.sleep(0.01)
        loop.update()
        assert timer.remaining < 5.0
    with pytest.raises(AttributeError):
        timer.remaining = 1.0


def test_remaining_of_one_overdue_is_negative(loop, calls):
    with loop.timer(0.001, 0.0, calls) as timer:
        pyev.sleep(0.01)
        loop.update()
        assert timer.remaining < 0


def test_repeat_is_writable_at_any_time(loop, turn, calls):
    with loop.timer(0.0, 0.001, calls) as timer:
        timer.repeat = 1000.0
        assert timer.repeat == 1000.0
        while not calls:
            loop.start(pyev.EVRUN_ONCE)
        assert 990.0 < timer.remaining <= 1000.0
    timer.repeat = 0
    assert timer.repeat == 0.0
    with pytest.raises(TypeError, match="repeat"):
        del timer.repeat


def test_repeat_made_zero_while_active_ends_it(loop, calls):
    timer = loop.timer(0.0, 0.001, calls)
    timer.start()
    timer.repeat = 0.0
    assert loop.start() is False
    assert len(calls) == 1
    assert not timer.active


# reset


def test_reset_starts_a_stopped_one(loop, calls):
    timer = loop.timer(1000.0, 0.001, calls)
    assert timer.reset() is None
    assert timer.active
    while not calls:
        loop.start(pyev.EVRUN_ONCE)
    timer.stop()
    assert calls[0] == (timer, pyev.EV_TIMER)


def test_reset_pushes_back(loop, turn, calls):
    with loop.timer(0.001, 1000.0, calls) as timer:
        timer.reset()
        pyev.sleep(0.01)
        loop.update()
        turn()
        assert calls == []
        assert 999.0 < timer.remaining < 1000.0


def test_reset_of_an_active_one_shot_stops_it(loop, turn, calls):
    timer = loop.timer(0.0, 0.0, calls)
    timer.start()
    timer.reset()
    assert not timer.active
    assert turn() is False
    assert calls == []


def test_reset_of_a_stopped_one_shot_does_nothing(loop, calls):
    timer = loop.timer(5.0, 0.0, calls)
    timer.reset()
    assert not timer.active
    assert loop.start() is False


def test_reset_clears_what_is_pending(loop, turn, calls):
    with loop.timer(1000.0, 1000.0, calls) as timer:
        timer.feed(pyev.EV_TIMER)
        timer.reset()
        assert not timer.pending
        turn()
    assert calls == []


def test_reset_in_the_callback(loop, calls):
    def callback(watcher, revents):
        calls(watcher, revents)
        if len(calls) == 3:
            watcher.repeat = 0.0
        else:
            watcher.repeat = 0.001 * len(calls)
        watcher.reset()

    timer = loop.timer(0.0, 0.0, callback)
    timer.start()
    loop.start()
    assert len(calls) == 3
    assert not timer.active


def test_a_one_shot_started_again_is_due_at_once(loop, turn, calls):
    timer = loop.timer(0.05, 0.0, calls)
    timer.start()
    loop.start()
    timer.start()
    assert timer.remaining <= 0.0
    turn()
    assert len(calls) == 2
    timer.set(1000.0, 0.0)
    with timer:
        turn()
        assert len(calls) == 2


def test_a_timer_stopped_early_goes_on_where_it_was(loop, calls):
    timer = loop.timer(1000.0, 0.0, calls)
    timer.start()
    timer.stop()
    assert timer.remaining == pytest.approx(1000.0, abs=1.0)


# Which time it counts from


def test_made_long_after_its_loop(loop, calls):
    """While the loop does not run, the time gone by is allowed for first."""
    pyev.sleep(0.05)
    timer = loop.timer(0.05, 0.0, calls)
    before = time.monotonic()
    timer.start()
    loop.start()
    assert time.monotonic() - before >= 0.05


def test_reset_long_after_its_loop(loop, calls):
    timer = loop.timer(0.05, 0.05, calls)
    timer.start()
    pyev.sleep(0.04)
    before = time.monotonic()
    timer.reset()
    loop.start(pyev.EVRUN_ONCE)
    while not calls:
        loop.start(pyev.EVRUN_ONCE)
    assert time.monotonic() - before >= 0.05
    timer.stop()


def test_counts_from_the_turn_while_running(loop, calls):
    seen = []

    def callback(watcher, revents):
        now = loop.now()
        pyev.sleep(0.05)
        with loop.timer(1000.0, 0.0, calls) as timer:
            seen.append((timer.remaining, loop.now() - now))
            loop.update()
            seen.append((timer.remaining, loop.now() - now))

    timer = loop.timer(0.0, 0.0, callback)
    timer.start()
    loop.start()
    assert seen[0] == (pytest.approx(1000.0, abs=1e-6), 0.0)
    assert seen[1][0] <= 1000.0 - 0.049
    assert seen[1][1] >= 0.049


# Many


def test_order_of_many(loop, calls):
    delays = [i / 10000 for i in range(100)]
    shuffled = random.Random(4).sample(delays, len(delays))
    timers = [loop.timer(after, 0.0, calls, after) for after in shuffled]
    for timer in timers:
        timer.start()
    loop.verify()
    loop.start()
    assert [timer.data for timer, _ in calls] == delays


def test_stopped_in_any_order(loop, turn, calls):
    timers = [loop.timer(1000.0 + i, 0.0, calls) for i in range(200)]
    for timer in timers:
        timer.start()
    random.Random(4).shuffle(timers)
    for n, timer in enumerate(timers):
        timer.stop()
        if n % 20 == 0:
            loop.verify()
    assert turn() is False


def test_started_and_stopped_in_each_others_callbacks(loop, calls):
    def callback(watcher, revents):
        calls(watcher, revents)
        other = second if watcher is first else first
        if len(calls) < 6:
            other.set(0.0, 0.0)
            other.start()

    first = loop.timer(0.0, 0.0, callback)
    second = loop.timer(1000.0, 0.0, callback)
    first.start()
    assert loop.start() is False
    assert [watcher for watcher, _ in calls] == [first, second] * 3


def test_repr(loop):
    shown = repr(loop.timer(1.5, 2.5, print))
    assert "Timer" in shown
    assert "2.5" in shown
