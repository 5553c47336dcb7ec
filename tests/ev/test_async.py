"""Async: woken from any thread or signal handler."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import deque

import pytest

import pyev

pytestmark = pytest.mark.every_backend


def until(loop, ready):
    while not ready():
        loop.start(pyev.EVRUN_ONCE)


def test_send(loop, calls):
    with loop.async_(calls) as watcher:
        loop.start(pyev.EVRUN_NOWAIT)
        assert calls == []
        assert watcher.send() is None
        until(loop, lambda: calls)
        loop.start(pyev.EVRUN_NOWAIT)
    assert calls == [(watcher, pyev.EV_ASYNC)]


def test_sent(loop, calls):
    with loop.async_(calls) as watcher:
        assert watcher.sent is False
        watcher.send()
        assert watcher.sent is True
        until(loop, lambda: calls)
        assert watcher.sent is False
        with pytest.raises(AttributeError):
            watcher.sent = True


def test_sends_before_it_is_seen_are_one(loop, calls):
    with loop.async_(calls) as watcher:
        for _ in range(1000):
            watcher.send()
        until(loop, lambda: calls)
        loop.start(pyev.EVRUN_NOWAIT)
    assert calls == [(watcher, pyev.EV_ASYNC)]


def test_only_the_one_sent_to_is_called(loop, calls):
    watchers = [loop.async_(calls) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    watchers[1].send()
    until(loop, lambda: calls)
    assert calls == [(watchers[1], pyev.EV_ASYNC)]
    watchers[0].send()
    watchers[2].send()
    until(loop, lambda: len(calls) == 3)
    for watcher in watchers:
        watcher.stop()


def test_from_another_thread_wakes_a_loop_that_waits(loop, calls):
    def callback(watcher, revents):
        calls(watcher, revents)
        watcher.stop()

    watcher = loop.async_(callback)
    thread = threading.Thread(target=watcher.send)
    started = []

    def prepare(_, revents):
        if not started:
            started.append(thread.start())

    with watcher, loop.prepare(prepare, keepalive=False):
        assert loop.start() is False
    thread.join()
    assert calls == [(watcher, pyev.EV_ASYNC)]


def test_nothing_sent_by_many_threads_is_lost(loop):
    """Every value put before a send is seen after it."""
    threads, each = 8, 500
    queue, seen = deque(), []

    def callback(watcher, revents):
        while queue:
            seen.append(queue.popleft())
        if len(seen) == threads * each:
            watcher.stop()

    watcher = loop.async_(callback)

    def work(n):
        for i in range(each):
            queue.append((n, i))
            watcher.send()

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    watcher.start()
    for worker in workers:
        worker.start()
    loop.start()
    for worker in workers:
        worker.join()
    for n in range(threads):
        assert [i for who, i in seen if who == n] == list(range(each))


def test_ping_pong_between_two_loops(loop, new_loop):
    other = new_loop()
    rounds = []

    def here(watcher, revents):
        rounds.append(1)
        if len(rounds) == 200:
            watcher.stop()
        theirs.send()

    def there(watcher, revents):
        if len(rounds) == 200:
            watcher.stop()
        else:
            ours.send()

    ours, theirs = loop.async_(here), other.async_(there)
    ours.start()
    theirs.start()
    thread = threading.Thread(target=other.start)
    thread.start()
    ours.send()
    loop.start()
    thread.join()
    assert len(rounds) == 200
    ours.stop()
    theirs.stop()


def test_from_a_signal_handler(loop, calls):
    with loop.async_(calls) as watcher:
        before = signal.signal(signal.SIGUSR1, lambda signum, frame: watcher.send())
        try:
            signal.raise_signal(signal.SIGUSR1)
            until(loop, lambda: calls)
        finally:
            signal.signal(signal.SIGUSR1, before)
    assert calls == [(watcher, pyev.EV_ASYNC)]


def test_from_its_own_callback(loop, calls):
    def callback(watcher, revents):
        calls(watcher, revents)
        if len(calls) == 5:
            watcher.stop()
        else:
            watcher.send()

    with loop.async_(callback) as watcher:
        watcher.send()
        loop.start()
    assert calls == [(watcher, pyev.EV_ASYNC)] * 5


def test_send_to_a_stopped_one_is_no_error(loop, calls):
    watcher = loop.async_(calls)
    watcher.send()
    loop.start(pyev.EVRUN_NOWAIT)
    assert calls == []
    with watcher:
        watcher.send()
        until(loop, lambda: calls)
    watcher.send()
    loop.start(pyev.EVRUN_NOWAIT)
    assert calls[-1] == (watcher, pyev.EV_ASYNC)


def test_send_to_one_of_a_closed_loop(loop, calls):
    watcher = loop.async_(calls)
    watcher.start()
    loop.close()
    try:
        watcher.send()
    except pyev.Error as error:
        assert "closed" in str(error)
    assert calls == []


def test_send_while_the_loop_is_closed_by_its_owner(new_loop, calls):
    """Late senders meet a closed loop, never freed memory."""
    loop = new_loop()
    watcher = loop.async_(calls)
    watcher.start()
    go, end = threading.Event(), threading.Event()

    def work():
        go.set()
        while not end.is_set():
            with contextlib.suppress(pyev.Error):
                watcher.send()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    go.wait()
    loop.start(pyev.EVRUN_NOWAIT)
    loop.close()
    end.set()
    for worker in workers:
        worker.join()


def test_priority(loop):
    order = []
    low = loop.async_(lambda watcher, revents: order.append("low"), priority=-1)
    high = loop.async_(lambda watcher, revents: order.append("high"), priority=1)
    with low, high:
        low.send()
        high.send()
        until(loop, lambda: len(order) == 2)
    assert order == ["high", "low"]


@pytest.mark.every_backend
def test_a_send_that_nothing_came_of_does_not_swallow_the_next(loop, turn, calls):
    """Sent while it was not active, or stopped while one was on its way."""
    watcher = loop.async_(calls)
    watcher.send()
    watcher.start()
    watcher.send()
    turn()
    assert calls == [(watcher, pyev.EV_ASYNC)]
    watcher.send()
    watcher.stop()
    watcher.start()
    watcher.send()
    turn()
    watcher.stop()
    assert calls == [(watcher, pyev.EV_ASYNC)] * 2
