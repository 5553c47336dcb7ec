"""In a rush, with events in every turn, polls do not wait: nobody must be able to tell."""

from __future__ import annotations

import operator
import os
import signal
import sys
import threading
import time

import pytest

import pyev

TURNS = 40  # more than it takes to be in a rush


@pytest.fixture
def busy(loop, pair):
    """Have `work` called in every turn until it returns something true, and then `then`."""
    started = []

    def busy(work, then=lambda: None):
        def callback(watcher, revents):
            if work():
                pair[0].recv(1)
                watcher.stop()
                then()

        pair[1].send(b"x")
        watcher = loop.io(pair[0].fileno(), pyev.EV_READ, callback)
        watcher.start()
        started.append(watcher)

    yield busy
    for watcher in started:
        watcher.stop()


@pytest.fixture
def burst(busy):
    """Start an Io with an event in each of so many turns; in the last, `then` is called."""

    def burst(then):
        turns = iter(range(1, TURNS + 1))
        busy(lambda: next(turns) == TURNS, then)

    return burst


@pytest.mark.every_backend
def test_a_poll_that_finds_nothing_ends_it(loop, burst):
    timer = loop.timer(0.02, 0.0, lambda watcher, revents: None)
    before = loop.iteration
    burst(timer.start)
    assert loop.start() is False
    # The last one waits for the timer; libev may wake a little early and wait again.
    assert loop.iteration - before <= TURNS + 4


def test_there_is_one_where_turns_are_quick(loop, burst):
    """It is seen by the one poll that ends it."""
    for _ in range(300):
        timer = loop.timer(0.001, 0.0, lambda watcher, revents: None)
        turns = []
        burst(lambda timer=timer, turns=turns: (timer.start(), turns.append(loop.iteration)))
        loop.start()
        if loop.iteration - turns[0] == 2:
            return
    pytest.skip("this machine's turns are too slow for a rush")


@pytest.mark.every_backend
def test_the_last_watcher_that_stops_ends_the_loop(loop, burst):
    for _ in range(3):
        burst(lambda: None)
        assert loop.start() is False
    assert loop.pending == 0


@pytest.mark.every_backend
@pytest.mark.parametrize("name", ["prepare", "check"])
def test_who_hears_of_each_turn_hears_of_no_empty_poll(loop, burst, name):
    """Started in a rush, or there all the time."""
    called = []
    end = loop.timer(0.02, 0.0, lambda watcher, revents: loop.stop())
    watcher = getattr(loop, name)(lambda watcher, revents: called.append(loop.iteration))
    burst(lambda: (watcher.start(), end.start()))
    loop.start()
    polls = called[-1] - called[0] + 1
    assert len(called) == polls <= 3  # one wait; libev may wake a little early
    called.clear()
    burst(end.start)
    loop.start()
    watcher.stop()
    assert TURNS < len(called) <= TURNS + 3


def test_idle_is_called_in_its_own_right(loop, burst, calls):
    def idle(watcher, revents):
        calls(watcher, revents)
        if len(calls) == 5:
            watcher.stop()

    watcher = loop.idle(idle, priority=-2)
    burst(watcher.start)
    assert loop.start() is False
    assert calls == [(watcher, pyev.EV_IDLE)] * 5


@pytest.mark.every_backend
@pytest.mark.parametrize("nested", [False, True])
def test_once_waits_for_an_event(loop, burst, nested):
    seen = []
    timer = loop.timer(0.02, 0.0, lambda watcher, revents: seen.append(revents))

    def once():
        timer.start()
        loop.start(pyev.EVRUN_ONCE)
        assert seen == [pyev.EV_TIMER]

    burst(once if nested else loop.stop)
    loop.start()
    if not nested:
        once()
    assert seen == [pyev.EV_TIMER]


@pytest.mark.every_backend
def test_callback_is_called_where_there_is_something_to_invoke(loop, burst):
    pending = []

    def invoke(loop):
        pending.append(loop.pending)
        loop.invoke()

    timer = loop.timer(0.02, 0.0, lambda watcher, revents: None)

    def then():
        loop.callback = invoke
        timer.start()

    burst(then)
    loop.start()
    assert len(pending) == 1 and pending[0]


@pytest.fixture
def kept_gil():
    """Who has the GIL keeps it until it lets it go."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000.0)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.every_backend
def test_other_threads_get_their_turn(loop, pair):
    """Also where no Python code lets them: the callback is written in C."""
    end = loop.async_(lambda watcher, revents: loop.stop())
    starved = loop.timer(20.0, 0.0, lambda watcher, revents: loop.stop())

    def work():
        for _ in range(10):
            time.sleep(0)  # lets the GIL go, and needs it again
        end.send()

    thread = threading.Thread(target=work)
    start = loop.timer(0.01, 0.0, lambda watcher, revents: thread.start())
    pair[1].send(b"x")  # never read
    with end, starved, start, loop.io(pair[0].fileno(), pyev.EV_READ, operator.is_):
        loop.start()
        assert starved.active
    thread.join()


@pytest.mark.every_backend
def test_other_threads_run_while_it_waits_afterwards(loop, burst, kept_gil):
    go = threading.Event()
    end = loop.async_(lambda watcher, revents: watcher.stop())

    def work():
        go.wait()
        end.send()

    thread = threading.Thread(target=work)
    thread.start()
    end.start()
    burst(go.set)
    loop.start()
    thread.join()
    assert not end.active


def test_a_signal_ends_the_wait_afterwards(loop, burst):
    """Taken by another thread: it interrupts no system call of this one."""

    class Stop(Exception):
        pass

    def handler(signum, frame):
        raise Stop

    go = threading.Event()

    def work():
        go.wait()
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    thread = threading.Thread(target=work)
    previous = signal.signal(signal.SIGUSR1, handler)
    timer = loop.timer(1000.0, 0.0, lambda watcher, revents: None)
    try:
        thread.start()
        burst(lambda: (timer.start(), go.set()))
        with pytest.raises(Stop):
            loop.start()
    finally:
        thread.join()
        timer.stop()
        signal.signal(signal.SIGUSR1, previous)


@pytest.mark.every_backend
def test_a_child_of_a_fork_works_on(loop, burst):
    """Forked in a rush: it has the loop's watchers, and waits."""
    timer = loop.timer(0.02, 0.0, lambda watcher, revents: seen.append(revents))
    seen = []
    child = 0

    def fork():
        nonlocal child
        child = os.fork()
        timer.start()

    burst(fork)
    status = 1
    try:
        loop.start()
        status = 0 if seen == [pyev.EV_TIMER] else 2
    finally:
        if not child:
            os._exit(status)
    assert status == 0
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# Timers that are pushed back, of which libev hears later.


def pushing_back(loop, timer, seconds):
    """Push it back in every turn, for so long."""
    end = loop.now() + seconds

    def work():
        timer.reset()
        assert timer.active and not timer.pending
        assert abs(timer.remaining - timer.repeat) < 1e-6
        return loop.now() >= end

    return work


@pytest.mark.every_backend
@pytest.mark.parametrize("priority", [-2, 0, 2])
def test_a_timer_pushed_back_is_due_later(loop, busy, priority):
    """Also when the time that it was due at first comes in the rush; it holds the loop running."""
    fired = []

    def callback(watcher, revents):
        fired.append(loop.now() - reset_at)
        watcher.stop()

    timer = loop.timer(0.0, 0.03, callback, None, priority)
    push_back = pushing_back(loop, timer, 0.1)
    reset_at = 0.0

    def work():
        nonlocal reset_at
        reset_at = loop.now()
        return push_back()

    timer.reset()
    busy(work)
    loop.start()
    assert fired and min(fired) >= 0.03 - 1e-6
    assert loop.pending == 0


@pytest.mark.every_backend
def test_a_timer_pulled_forward_is_due_in_the_rush(loop, busy):
    """`reset()` makes one that was far away due in `repeat` seconds."""
    fired = []
    timer = loop.timer(1000.0, 0.01, lambda watcher, revents: (fired.append(1), watcher.stop()))
    turns, began = 0, loop.now()

    def work():
        nonlocal turns
        turns += 1
        if turns == TURNS:
            timer.reset()
        return fired or loop.now() > began + 20.0

    timer.start()
    busy(work, loop.stop)
    loop.start()
    timer.stop()
    assert fired


@pytest.mark.every_backend
def test_a_timer_pushed_back_goes_on_as_it_does_without(loop, busy):
    """At its interval from the time it was due, before a later one and after an earlier one."""
    order = []

    def note(name, stop):
        def callback(watcher, revents):
            order.append(name)
            if stop:
                watcher.stop()

        return callback

    pushed = loop.timer(0.0, 0.05, note("pushed", False))
    early = loop.timer(0.0, 0.02, note("early", True))
    late = loop.timer(0.0, 0.08, note("late", True))
    end = loop.timer(0.12, 0.0, lambda watcher, revents: loop.stop())
    left = TURNS

    def work():
        nonlocal left
        for timer in late, pushed, early:
            timer.reset()
        left -= 1
        if not left:
            order.clear()  # of what a slow machine has brought
            end.start()
        return not left

    for timer in pushed, early, late:
        timer.reset()
    busy(work)
    loop.start()
    pushed.stop()
    assert order == ["early", "pushed", "late", "pushed"]


@pytest.mark.parametrize("how", ["stop", "drop", "again", "repeat", "close"])
def test_a_timer_pushed_back_and_then(loop, busy, how):
    """... stopped, dropped, started anew, given another interval, its loop closed."""
    fired = []

    def callback(watcher, revents):
        fired.append(loop.now())
        watcher.stop()

    timers = [loop.timer(0.0, 0.02, callback) for _ in range(5)]
    for timer in timers:
        timer.reset()
    left = TURNS
    reset_at = 0.0

    def work():
        nonlocal left, reset_at
        for timer in timers:
            timer.reset()
        reset_at = loop.now()
        left -= 1
        if left:
            return False
        fired.clear()  # of what a slow machine has brought
        if how == "stop":
            for timer in timers[1:4]:
                timer.stop()
                assert not timer.active
        elif how == "drop":
            with pytest.warns(ResourceWarning, match="Timer"):
                del timers[1], timer
        elif how == "again":
            timers[2].stop()
            timers[2].set(0.5, 0.0)
            timers[2].start()
            assert abs(timers[2].remaining - 0.5) < 0.1
        elif how == "repeat":
            timers[2].repeat = 0.0
            assert abs(timers[2].remaining - 0.02) < 1e-6
        else:
            loop.stop()
        return True

    busy(work)
    loop.start()
    if how == "close":
        loop.close()
        assert not any(timer.active for timer in timers) and not fired
        return
    expected = {"stop": 2, "drop": 4}.get(how, 5)
    assert len(fired) == expected
    assert all(time - reset_at >= 0.02 - 1e-6 for time in fired)
    assert (fired[-1] - reset_at >= 0.5 - 0.1) == (how == "again")


@pytest.mark.parametrize("repeat", [0.02, 1e300, float("inf")])
@pytest.mark.parametrize("after", [1e300, float("inf"), 0.0])
def test_a_timer_whose_time_is_far_away_is_pushed_back(loop, busy, after, repeat):
    """So far that seconds are lost in it, and back to what is near."""
    fired = []
    timer = loop.timer(after, 1e300, lambda watcher, revents: fired.append(watcher.remaining))
    timer.start()
    if not after:
        timer.reset()
    left = TURNS

    def work():
        nonlocal left
        left -= 1
        if left > 2:
            return False
        timer.repeat = repeat
        timer.reset()
        timer.reset()
        assert timer.remaining == pytest.approx(repeat)
        return not left

    busy(work)
    end = loop.timer(0.1, 0.0, lambda watcher, revents: loop.stop())
    with end:
        loop.start()
    assert bool(fired) == (repeat < 1)
    timer.stop()


def test_a_timer_pushed_back_is_suspended(loop, busy):
    """Time that goes by meanwhile does not count."""
    timer = loop.timer(0.0, 0.05, lambda watcher, revents: watcher.stop())
    timer.reset()
    left = TURNS

    def work():
        nonlocal left
        timer.reset()
        left -= 1
        if not left:
            loop.suspend()
            time.sleep(0.1)
            loop.resume()
            assert abs(timer.remaining - 0.05) < 0.04
        return not left

    busy(work)
    loop.start()


def test_an_event_fed_to_a_timer_pushed_back(loop, busy):
    seen = []
    timer = loop.timer(0.0, 0.02, lambda watcher, revents: seen.append(watcher.remaining))
    timer.reset()
    left = TURNS

    def work():
        nonlocal left
        timer.reset()
        left -= 1
        if not left:
            seen.clear()  # of what a slow machine has brought
            timer.feed(pyev.EV_TIMER)
            timer.repeat = 0.02
            assert timer.pending
            loop.stop()
        return not left

    busy(work)
    loop.start()
    assert len(seen) == 1 and abs(seen[0] - 0.02) < 0.015
    timer.stop()


def test_a_timer_is_pushed_back_before_an_exception(loop, busy):
    """Or before stop(): it is due as it was told, in the next start()."""
    timer = loop.timer(0.0, 0.05, lambda watcher, revents: watcher.stop())
    timer.reset()
    loop.debug = True
    left = TURNS

    def work():
        nonlocal left
        timer.reset()
        left -= 1
        if not left:
            raise ArithmeticError
        return False

    busy(work)
    with pytest.raises(ArithmeticError):
        loop.start()
    assert 0.0 < timer.remaining <= 0.05 + 1e-6


@pytest.mark.every_backend
def test_the_time_that_a_timer_had_before_ends_no_wait(loop, busy):
    timer = loop.timer(0.0, 0.03, lambda watcher, revents: watcher.stop())

    def polls_after_the_rush():
        last = []

        def work():
            timer.reset()
            last.append(loop.iteration)
            return loop.now() - began > 0.01

        timer.repeat = 0.03
        timer.reset()
        timer.repeat = 0.06
        began = loop.now()
        busy(work)
        loop.start()
        return loop.iteration - last[-1]

    # The rush's last, and one that waits. libev may wake a little early, but not each time.
    assert min(polls_after_the_rush() for _ in range(20)) <= 2


def test_a_timer_pushed_back_and_stopped_goes_on_where_it_was(loop, busy):
    """As it does without a rush: with the time that it had left by then."""
    timer = loop.timer(0.0, 1000.0, lambda watcher, revents: None)
    timer.reset()
    timer.repeat = 500.0
    left = TURNS
    times = []

    def work():
        nonlocal left
        timer.reset()
        left -= 1
        if not left:
            timer.repeat = 5000.0
            timer.reset()
            timer.stop()
            times.append(timer.remaining)
            timer.start()
            times.append(timer.remaining)
            timer.stop()
        return not left

    busy(work)
    loop.start()
    assert times == pytest.approx([5000.0, 5000.0])


def test_a_timer_pushed_back_is_not_early_beside_one_far_away(loop, busy):
    """Of whose time libev has no fraction of a second as small as a turn."""
    pushed_at = 0.0
    early = []

    def callback(watcher, revents):
        if loop.now() - pushed_at < 0.0005:
            early.append(loop.now() - pushed_at)

    far = loop.timer(0.0, 4.9e8, callback)
    near = [loop.timer(0.0, 0.001 + i * 1e-5, callback) for i in range(20)]
    end = time.monotonic() + 1.5

    def work():
        nonlocal pushed_at
        pushed_at = loop.now()
        for timer in far, *near:
            timer.reset()
        return time.monotonic() > end

    def stop():
        for timer in far, *near:
            timer.stop()

    for timer in far, *near:
        timer.reset()
    busy(work, stop)
    loop.start()
    assert not early
