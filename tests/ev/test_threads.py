"""A loop runs in any one thread at a time."""

from __future__ import annotations

import gc
import signal
import threading
import warnings

import pytest

import pyev


class Running:
    """A loop that runs in a thread of its own until the end of the block."""

    def __init__(self, loop):
        self.loop = loop
        self.inside = threading.Event()
        self.error = None
        self.wake = loop.async_(lambda watcher, revents: None)
        self.end = loop.async_(lambda watcher, revents: loop.stop(pyev.EVBREAK_ALL))
        self.begin = loop.timer(0.0, 0.0, lambda watcher, revents: self.inside.set())
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            self.loop.start()
        except BaseException as error:
            self.error = error

    def __enter__(self):
        for watcher in (self.wake, self.end, self.begin):
            watcher.start()
        self.thread.start()
        self.inside.wait()
        return self

    def __exit__(self, *exc):
        self.end.send()
        self.thread.join()
        for watcher in (self.wake, self.end, self.begin):
            watcher.stop()
        assert self.error is None


@pytest.fixture
def running(loop):
    with Running(loop) as running:
        yield running


def refused(call):
    with pytest.raises(RuntimeError, match="thread") as caught:
        call()
    assert type(caught.value) is RuntimeError


@pytest.mark.every_backend
def test_runs_in_another_thread(loop, pair):
    a, b = pair
    threads = []
    seen = threading.Event()

    def callback(watcher, revents):
        threads.append(threading.current_thread())
        watcher.stop()
        seen.set()

    io = loop.io(a, pyev.EV_READ, callback)
    io.start()
    with Running(loop) as running:
        b.send(b"x")
        seen.wait()
    assert threads == [running.thread]


@pytest.mark.every_backend
def test_made_here_run_there_used_here_again(loop, calls):
    timer = loop.timer(0.001, 0.0, calls)
    timer.start()
    thread = threading.Thread(target=loop.start)
    thread.start()
    thread.join()
    assert calls == [(timer, pyev.EV_TIMER)]
    timer.set(0.001, 0.0)
    timer.start()
    loop.start()
    assert len(calls) == 2


def test_made_there_run_here(calls):
    made = []

    def make():
        loop = pyev.Loop()
        timer = loop.timer(0.001, 0.0, calls)
        timer.start()
        made.extend((loop, timer))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    made[0].start()
    assert len(calls) == 1
    made[0].close()


LOOP_CALLS = {
    "start": lambda loop: loop.start(),
    "start nowait": lambda loop: loop.start(pyev.EVRUN_NOWAIT),
    "stop": lambda loop: loop.stop(),
    "invoke": lambda loop: loop.invoke(),
    "reset": lambda loop: loop.reset(),
    "update": lambda loop: loop.update(),
    "suspend": lambda loop: loop.suspend(),
    "resume": lambda loop: loop.resume(),
    "ref": lambda loop: loop.ref(),
    "unref": lambda loop: loop.unref(),
    "verify": lambda loop: loop.verify(),
    "feed_fd_event": lambda loop: loop.feed_fd_event(0, pyev.EV_READ),
    "feed_signal_event": lambda loop: loop.feed_signal_event(signal.SIGUSR1),
    "once": lambda loop: loop.once(None, 0, 1000.0, print),
    "io_interval": lambda loop: setattr(loop, "io_interval", 1.0),
    "timeout_interval": lambda loop: setattr(loop, "timeout_interval", 1.0),
}


@pytest.mark.parametrize("name", LOOP_CALLS)
def test_the_loop_is_refused_to_other_threads(running, name):
    refused(lambda: LOOP_CALLS[name](running.loop))


def test_close_is_refused_to_other_threads(running):
    with pytest.raises((RuntimeError, pyev.Error)):
        running.loop.close()
    assert not running.loop.closed


def test_plain_reads_are_not(running):
    loop = running.loop
    assert loop.depth == 1
    assert loop.iteration > 0
    assert loop.pending >= 0
    assert loop.backend
    assert loop.default is False
    assert loop.closed is False
    assert loop.data is None
    assert loop.callback is None
    assert loop.debug is False
    assert (loop.io_interval, loop.timeout_interval) == (0.0, 0.0)
    repr(loop)


def test_the_watchers_are_refused_to_other_threads(loop, kind, calls):
    watcher = kind.new(loop, calls, "data")
    before = watcher.priority
    with Running(loop):
        refused(watcher.start)
        refused(watcher.stop)
        refused(lambda: watcher.feed(pyev.EV_CUSTOM))
        refused(watcher.clear)
        refused(lambda: watcher.invoke(pyev.EV_CUSTOM))
        refused(lambda: setattr(watcher, "priority", 1))
        refused(lambda: setattr(watcher, "keepalive", False))
        refused(watcher.__enter__)
        refused(lambda: watcher.__init__(*kind.args, loop, calls))
        for name in ("reset", "sweep"):
            if hasattr(watcher, name):
                refused(getattr(watcher, name))
        if hasattr(watcher, "set"):
            refused(lambda: watcher.set(*kind.args))
        assert watcher.active is False
        assert watcher.pending is False
        assert watcher.loop is loop
        assert watcher.data == "data"
        assert watcher.callback is calls
        repr(watcher)
    assert watcher.priority == before
    assert watcher.keepalive is True
    assert calls == []
    loop.verify()


def test_an_active_watcher_is_refused_too(loop, calls):
    with loop.timer(1000.0, 0.0, calls) as timer:
        with Running(loop):
            refused(timer.stop)
            refused(timer.reset)
            refused(lambda: setattr(timer, "repeat", 1.0))
            assert timer.active
            assert timer.repeat == 0.0
        assert timer.active


def test_async_send_is_not_refused(loop):
    seen = threading.Event()
    watcher = loop.async_(lambda watcher, revents: seen.set())
    with watcher, Running(loop):
        watcher.send()
        seen.wait()


def test_feed_signal_is_not_refused(loop):
    seen = threading.Event()
    with loop.signal(signal.SIGUSR1, lambda watcher, revents: seen.set()), Running(loop):
        pyev.feed_signal(signal.SIGUSR1)
        seen.wait()


def test_refused_while_a_callback_runs(loop):
    """Not only while the loop waits."""
    inside, over = threading.Event(), threading.Event()

    def callback(watcher, revents):
        inside.set()
        over.wait()

    with loop.timer(0.0, 0.0, callback):
        thread = threading.Thread(target=loop.start)
        thread.start()
        inside.wait()
        refused(loop.update)
        refused(lambda: loop.timer(0.0, 0.0, print).start())
        over.set()
        thread.join()
    loop.update()


def test_its_own_thread_is_not_refused(loop):
    """In a callback, nested start included, everything is allowed."""
    seen = []

    def callback(watcher, revents):
        loop.update()
        with loop.timer(0.0, 0.0, lambda watcher, revents: seen.append(loop.depth)):
            loop.start()
        loop.verify()

    timer = loop.timer(0.0, 0.0, callback)
    timer.start()
    thread = threading.Thread(target=loop.start)
    thread.start()
    thread.join()
    assert seen == [2]


def test_two_threads_want_to_run_it(loop):
    """One does; the other is told."""
    errors = []
    barrier = threading.Barrier(2)
    refusals = threading.Event()

    def run():
        barrier.wait()
        try:
            loop.start()
        except RuntimeError as error:
            errors.append(error)
            refusals.set()
            stop.send()

    stop = loop.async_(lambda watcher, revents: watcher.stop())
    stop.start()
    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 1
    assert "thread" in str(errors[0])
    loop.verify()


def test_many_threads_many_loops():
    """Loops of different threads know nothing of each other."""
    counts = []

    def work():
        with pyev.Loop() as loop:
            seen = []

            def callback(watcher, revents):
                seen.append(revents)
                if len(seen) == 50:
                    watcher.stop()

            with loop.timer(0.0, 0.0001, callback):
                loop.start()
            counts.append(len(seen))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [50] * 8


@pytest.mark.every_backend
def test_other_threads_run_while_it_waits(loop, calls):
    done = threading.Event()
    ready = loop.async_(lambda watcher, revents: watcher.stop())

    def work():
        n = 0
        while n < 100000:
            n += 1
        done.set()
        ready.send()

    thread = threading.Thread(target=work)
    with ready:
        thread.start()
        loop.start()
    assert done.is_set()
    thread.join()


def test_other_threads_run_during_io_interval(loop, pair, calls):
    a, b = pair
    loop.io_interval = 0.2
    turned = []
    seen_inside = []
    thread = threading.Thread(target=lambda: turned.append(1))

    def callback(watcher, revents):
        seen_inside.extend(turned)
        watcher.stop()

    with loop.io(a, pyev.EV_READ, callback), loop.timer(1000.0, 0.0, calls, keepalive=False):
        b.send(b"x")
        thread.start()
        loop.start()
    thread.join()
    assert seen_inside == [1]


def test_a_watcher_dropped_in_another_thread(loop):
    """Its last reference goes elsewhere while the loop runs: stopped, sooner or later, safely."""
    holder = [loop.timer(1000.0, 0.0, print) for _ in range(100)]
    for watcher in holder:
        watcher.start()
    del watcher
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        with Running(loop) as running:
            holder.clear()
            gc.collect()
            for _ in range(10):
                running.wake.send()
        loop.verify()
    assert loop.start(pyev.EVRUN_NOWAIT) is False
