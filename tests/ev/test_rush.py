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
def burst(loop, pair):
    """Start an Io with an event in each of so many turns; in the last, `then` is called."""
    started = []

    def burst(then, turns=TURNS):
        left = turns

        def callback(watcher, revents):
            nonlocal left
            left -= 1
            if not left:
                pair[0].recv(1)
                watcher.stop()
                then()

        pair[1].send(b"x")
        watcher = loop.io(pair[0].fileno(), pyev.EV_READ, callback)
        watcher.start()
        started.append(watcher)

    yield burst
    for watcher in started:
        watcher.stop()


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
