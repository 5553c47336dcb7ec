"""With thousands of watchers their memory is fetched ahead: nobody must be able to tell."""

from __future__ import annotations

import os
import random
import signal

import pytest

import pyev

CROWD = 1200  # more than it takes
EVENTS = 12


def nothing(watcher, revents):
    pass


@pytest.fixture
def crowd(loop):
    return [loop.timer(1.0, 0.0, nothing) for _ in range(CROWD)]


class Named(pyev.Io):
    __slots__ = ("empty", "name")


class Walk:
    """Watchers whose callbacks do something to others that may be pending, by chance."""

    KINDS = ("io", "named", "timer", "async", "once", "signal")

    def __init__(self, loop, pipes, seed):
        self.loop = loop
        self.random = random.Random(seed)
        self.log = []
        self.nested = 0
        self.guard = loop.signal(signal.SIGUSR1, nothing)  # without one the signal ends the process
        self.guard.start()
        self.watchers = [self.make(index, *pipes[index]) for index in range(len(pipes))]

    def make(self, index, reader, writer):
        kind = self.random.choice(self.KINDS)
        os.write(writer, b"x")

        def callback(watcher, revents):
            self.log.append((index, kind, revents))
            self.act(watcher)

        if kind == "once":
            return self.loop.once(reader, pyev.EV_READ, None if index else 0.0, callback)
        leading = {
            "io": (reader, pyev.EV_READ),
            "named": (reader, pyev.EV_READ, self.loop),
            "timer": (index - 100.0, 0.0),  # due, in an order that does not depend on the clock
            "async": (),
            "signal": (signal.SIGUSR1,),
        }[kind]
        make = Named if kind == "named" else getattr(self.loop, kind + "_" * (kind == "async"))
        watcher = make(*leading, callback, index, self.random.randrange(-2, 3))
        if kind == "named":
            watcher.name = str(index)
        watcher.start()
        return watcher

    def act(self, watcher):
        index = self.random.randrange(len(self.watchers))
        other = self.watchers[index]
        what = self.random.randrange(12)
        if what == 0:
            other.stop()
        elif what == 1:
            self.log.append(other.clear())
        elif what == 2 and other.active:
            other.feed(pyev.EV_CUSTOM)
        elif what == 3 and self.nested < 2:
            self.nested += 1
            self.loop.start(pyev.EVRUN_NOWAIT)
            self.nested -= 1
        elif what == 4:
            self.loop.invoke()
        elif what == 5:
            other.stop()
            self.watchers[index] = watcher
            del other
        elif what == 6:
            self.loop.stop()
        elif what == 7:
            self.log.append((other.active, other.pending))
        elif what == 8:
            other.start()
        elif what == 9 and isinstance(other, pyev.Async):
            other.send()

    def run(self):
        for _ in range(6):
            for watcher in self.watchers:
                if isinstance(watcher, pyev.Async):
                    watcher.send()
                if isinstance(watcher, pyev.Timer):
                    watcher.start()
            os.kill(os.getpid(), signal.SIGUSR1)
            self.loop.start(pyev.EVRUN_NOWAIT)
        for watcher in (self.guard, *self.watchers):
            watcher.stop()
        return self.log


@pytest.mark.parametrize("seed", range(60))
def test_a_crowd_changes_nothing(seed):
    logs = []
    pipes = [os.pipe() for _ in range(EVENTS)]
    for size in (0, CROWD):
        with pyev.Loop(debug=True) as loop:
            crowd = [loop.timer(1.0, 0.0, nothing) for _ in range(size)]
            logs.append(Walk(loop, pipes, seed).run())
            assert len(crowd) == size
    for pipe in pipes:
        for fd in pipe:
            os.close(fd)
    assert logs[0] == logs[1]
    assert len([entry for entry in logs[0] if isinstance(entry, tuple)]) >= EVENTS


@pytest.mark.every_backend
def test_they_are_invoked_by_priority(loop, crowd, pair):
    calls = []
    pair[1].send(b"x")
    watchers = [
        loop.io(pair[0].fileno(), pyev.EV_READ, lambda watcher, _: calls.append(watcher.data))
        for _ in range(EVENTS)
    ]
    for number, watcher in enumerate(watchers):
        watcher.data = number % 5 - 2
        watcher.priority = watcher.data
        watcher.start()
    loop.start(pyev.EVRUN_ONCE)
    for watcher in watchers:
        watcher.stop()
    assert calls == sorted(calls, reverse=True)
    assert len(calls) == EVENTS


@pytest.mark.every_backend
@pytest.mark.parametrize("how", ["stop", "clear", "drop"])
def test_one_that_is_stopped_by_another_is_not_called(loop, crowd, pair, how):
    called = []

    def callback(watcher, revents):
        called.append(watcher.data)
        for other in watchers:
            if other is not watcher and how == "clear":
                other.clear()
            elif other is not watcher:
                other.stop()
        if how == "drop":
            watchers[:] = [watcher]

    pair[1].send(b"x")
    watchers = [loop.io(pair[0].fileno(), pyev.EV_READ, callback) for _ in range(EVENTS)]
    for watcher in watchers:
        watcher.start()
    loop.start(pyev.EVRUN_ONCE)
    assert len(called) == 1
    for watcher in watchers:
        watcher.stop()


@pytest.mark.every_backend
def test_pythons_signals_are_heard_beside_it(loop, crowd, pair):
    """What wakes the loop for them is told of in the next turn, with all the others."""
    calls = []

    def callback(watcher, revents):
        if not calls:
            signal.raise_signal(signal.SIGUSR2)
        calls.append(watcher.data)

    heard = []
    before = signal.signal(signal.SIGUSR2, lambda *_: heard.append(len(calls)))
    pair[1].send(b"x")
    watchers = [loop.io(pair[0].fileno(), pyev.EV_READ, callback, n) for n in range(EVENTS)]
    for watcher in watchers:
        watcher.start()
    for _ in range(3):
        loop.start(pyev.EVRUN_ONCE)
    for watcher in watchers:
        watcher.stop()
    signal.signal(signal.SIGUSR2, before)
    assert heard == [0]
    assert sorted(calls) == sorted(3 * list(range(EVENTS)))
