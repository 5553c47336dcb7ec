"""With events in every turn the event loop polls without waiting: nobody must be able to tell."""

import os
import signal
import threading
import time

import pytest

import pyev

TURNS = 40  # more than it takes to be in a rush


@pytest.fixture
def burst(pair):
    """Have a reader called in so many turns, one after another; in the last, `then` is called."""

    def burst(loop, then):
        left = TURNS

        def callback():
            nonlocal left
            left -= 1
            if not left:
                pair[0].recv(1)
                loop.remove_reader(pair[0])
                then()

        pair[1].send(b"x")
        loop.add_reader(pair[0], callback)

    return burst


def test_a_timer_is_waited_for_afterwards(aloop, burst):
    """Waited for, not polled for: processor time would tell of that."""
    before = os.times()
    burst(aloop, lambda: aloop.call_later(0.3, aloop.stop))
    began = aloop.time()
    aloop.run_forever()
    after = os.times()
    assert aloop.time() - began >= 0.3
    assert after.user + after.system - before.user - before.system < 0.2


def test_there_is_one_where_turns_are_quick(ours, burst):
    """It is seen by the one poll that ends it."""
    polls = []

    def then():
        polls.append(-ours.ev.iteration)
        ours.call_later(0.001, ours.stop)

    for _ in range(300):
        burst(ours, then)
        ours.run_forever()
        polls[-1] += ours.ev.iteration
        # The poll that ends it, and the one that waits.
        if polls[-1] == 2:
            return
    pytest.skip("this machine's turns are too slow for a rush")


@pytest.mark.parametrize("name", ["prepare", "check"])
def test_who_hears_of_each_turn_hears_of_no_empty_poll(ours, burst, name):
    called = []
    watcher = getattr(ours.ev, name)(lambda watcher, revents: called.append(ours.ev.iteration))
    burst(ours, lambda: (watcher.start(), ours.call_later(0.02, ours.stop)))
    ours.run_forever()
    watcher.stop()
    assert 1 <= len(called) <= 2  # one wait, which may end a little early


def test_another_thread_wakes_it_afterwards(aloop, burst):
    go = threading.Event()

    def work():
        go.wait()
        aloop.call_soon_threadsafe(aloop.stop)

    thread = threading.Thread(target=work)
    thread.start()
    burst(aloop, go.set)
    aloop.run_forever()
    thread.join()


def test_a_signal_ends_the_wait_afterwards(aloop, burst):
    """Taken by another thread: it interrupts no system call of this one."""
    go = threading.Event()

    def work():
        go.wait()
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    thread = threading.Thread(target=work)
    thread.start()
    aloop.add_signal_handler(signal.SIGUSR1, aloop.stop)
    burst(aloop, go.set)
    aloop.run_forever()
    thread.join()
    aloop.remove_signal_handler(signal.SIGUSR1)


def test_a_timer_is_pushed_back_from_the_time_of_the_call(ours, burst):
    """Not from the turn's: that a callback takes long makes no timer early."""
    fired = []

    def callback(watcher, revents):
        fired.append(time.monotonic())
        watcher.stop()
        ours.stop()

    timer = ours.ev.timer(0.0, 0.2, callback)

    def then():
        timer.reset()
        time.sleep(0.15)
        timer.reset()
        fired.append(time.monotonic())

    timer.reset()
    burst(ours, then)
    ours.run_forever()
    assert fired[1] - fired[0] >= 0.19


def test_none_outlasts_the_run(ours, burst):
    burst(ours, ours.stop)
    ours.run_forever()
    seen = []
    idle = ours.ev.idle(lambda watcher, revents: (seen.append(revents), ours.stop()))
    with idle:
        ours.run_forever()
    assert seen == [pyev.EV_IDLE]
    assert ours.ev.pending == 0
