"""libev's own benchmark for what speaks Python: tokens passed along a ring of socket pairs.

One contender in a fresh process; bench/run.py starts it. `active` tokens go round `pairs` socket
pairs: whoever receives one byte sends one to the next pair. A contender with timeouts has one per
pair and pushes it back on each event, as a server does that closes idle connections.

Events are counted as libev's benchmark counts them, a byte received each, and only the time in the
loop counts. The first run is a warm-up. The callbacks are the same work written the same way, with
the same system calls (`os.read` and `os.write`, the fastest here); a read that brings nothing
raises, so that one counter does for libev's three. One function serves all pairs, because 8000
closures do not fit a core's cache, and finds what belongs to a pair the way its library offers:
slots of a subclass, arguments, an index.
"""

import argparse
import functools
import gc
import json
import os
import random
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import loops

Run = Callable[[int], None]  # passes that many tokens on, in a loop


class Ring:
    """The socket pairs: who reads, and where each of them writes."""

    def __init__(self, pairs: int, active: int) -> None:
        self.active = active
        self.sockets = [socket.socketpair() for _ in range(pairs)]
        for pair in self.sockets:
            for end in pair:
                end.setblocking(False)
        self.readers = [reader.fileno() for reader, _ in self.sockets]
        self.writers = [writer.fileno() for _, writer in self.sockets]
        self.following = [-1] * (max(self.readers) + 1)  # by the reader's descriptor
        for reader, writer in zip(self.readers, self.writers[1:] + self.writers[:1], strict=True):
            self.following[reader] = writer

    def feed(self) -> None:
        """Put the first tokens in, evenly spread."""
        space = len(self.sockets) // self.active
        for index in range(self.active):
            os.write(self.writers[index * space], b"e")


def patience() -> float:
    """A timeout no run is long enough for, different for each pair as in libev's benchmark."""
    return 10.0 + random.random()


def on_timeout(*arguments: object) -> None:
    raise AssertionError("a timeout that is pushed back on each event was reached")


def pyev_loop(ring: Ring, timeouts: bool) -> Run:
    import pyev

    class Reader(pyev.Io):  # type: ignore[misc]
        __slots__ = ("number", "timer", "writer")

    loop = pyev.Loop()
    stop = loop.stop
    read, write, active = os.read, os.write, ring.active
    left = 0

    def on_read(watcher: Any, revents: int) -> None:
        nonlocal left
        watcher.timer.reset()
        read(watcher.number, 1)
        left -= 1
        if left >= active:
            write(watcher.writer, b"e")
        elif not left:
            stop()

    def on_read_plain(watcher: Any, revents: int) -> None:
        nonlocal left
        read(watcher.number, 1)
        left -= 1
        if left >= active:
            write(watcher.writer, b"e")
        elif not left:
            stop()

    watchers = []
    for number in ring.readers:
        watcher: Any = Reader(number, pyev.EV_READ, loop, on_read if timeouts else on_read_plain)
        watcher.number = number
        watcher.writer = ring.following[number]
        if timeouts:
            watcher.timer = loop.timer(0.0, patience(), on_timeout)
            watcher.timer.reset()
        watcher.start()
        watchers.append(watcher)

    def run(events: int) -> None:
        nonlocal left
        left = events
        loop.start()
        assert watchers

    return run


def pyev_timeouts(ring: Ring) -> Run:
    return pyev_loop(ring, timeouts=True)


def pyev_plain(ring: Ring) -> Run:
    return pyev_loop(ring, timeouts=False)


def gevent_timeouts(ring: Ring) -> Run:
    from gevent.libev import corecext

    loop = corecext.loop(default=False)
    stop = loop.break_
    read, write, active = os.read, os.write, ring.active
    left = 0

    def on_read(number: int, writer: int, timer: Any) -> None:
        nonlocal left
        timer.again(on_timeout, update=False)  # without reading the clock: as the others do
        read(number, 1)
        left -= 1
        if left >= active:
            write(writer, b"e")
        elif not left:
            stop()

    watchers = []
    for number in ring.readers:
        timer = loop.timer(0.0, patience())
        timer.again(on_timeout, update=False)
        watcher = loop.io(number, 1)
        watcher.start(on_read, number, ring.following[number], timer)
        watchers.append(watcher)

    def run(events: int) -> None:
        nonlocal left
        left = events
        loop.run()
        assert watchers

    return run


def event_loop(name: str, ring: Ring) -> Run:
    """An asyncio event loop: a reader each, and a timeout that is cancelled and made anew."""
    loop = loops.factory(name)()
    call_later, stop = loop.call_later, loop.stop
    read, write, active = os.read, os.write, ring.active
    left = 0

    def on_read(number: int, writer: int, delay: float) -> None:
        nonlocal left
        timers[number].cancel()
        timers[number] = call_later(delay, on_timeout)
        read(number, 1)
        left -= 1
        if left >= active:
            write(writer, b"e")
        elif not left:
            stop()

    timers: list[Any] = [None] * len(ring.following)
    for number in ring.readers:
        delay = patience()
        timers[number] = call_later(delay, on_timeout)
        loop.add_reader(number, on_read, number, ring.following[number], delay)

    def run(events: int) -> None:
        nonlocal left
        left = events
        loop.run_forever()
        assert left == 0

    return run


def epoll_inline(ring: Ring) -> Run:
    """One function, no callbacks, everything in local variables: as fast as it gets by hand."""
    epoll = select.epoll()
    for reader in ring.readers:
        epoll.register(reader, select.EPOLLIN)

    def run(events: int) -> None:
        poll, read, write = epoll.poll, os.read, os.write
        active, following = ring.active, ring.following
        left = events
        while left:
            for fd, _ in poll():
                read(fd, 1)
                left -= 1
                if left >= active:
                    write(following[fd], b"e")

    return run


def epoll_callbacks(ring: Ring) -> Run:
    """A loop that knows nothing of its users: a table of callbacks by file descriptor."""
    epoll = select.epoll()
    read, write, active, following = os.read, os.write, ring.active, ring.following
    left = 0

    def on_read(fd: int, revents: int) -> None:
        nonlocal left
        read(fd, 1)
        left -= 1
        if left >= active:
            write(following[fd], b"e")

    handlers: list[Any] = [None] * len(following)
    for reader in ring.readers:
        handlers[reader] = on_read
        epoll.register(reader, select.EPOLLIN)

    def run(events: int) -> None:
        nonlocal left
        poll = epoll.poll
        left = events
        while left:
            for fd, revents in poll():
                handlers[fd](fd, revents)

    return run


CONTENDERS = {
    "pyev": pyev_timeouts,
    "pyev-plain": pyev_plain,
    "gevent": gevent_timeouts,
    "epoll": epoll_inline,
    "epoll-callbacks": epoll_callbacks,
} | {f"loop-{name}": functools.partial(event_loop, name) for name in loops.LOOPS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("pairs", type=int)
    parser.add_argument("active", type=int)
    parser.add_argument("events", type=int, help="of each run")
    parser.add_argument("runs", type=int, help="after the warm-up")
    arguments = parser.parse_args()
    ring = Ring(arguments.pairs, arguments.active)
    run = CONTENDERS[arguments.contender](ring)
    gc.disable()  # as timeit does
    found = []
    for _ in range(arguments.runs + 1):
        ring.feed()
        start = time.perf_counter_ns()
        run(arguments.events)
        found.append((time.perf_counter_ns() - start) / arguments.events)
    json.dump(found[1:], sys.stdout)


if __name__ == "__main__":
    main()
