"""One operation of pyev at a time, in units of an empty Python callback called from a loop.

A nanosecond is worth something else on every machine; an empty Python function called from a
`for` loop is the same work on all of them, so `unit` below is what the others are compared in.

As a program this is the worker that bench/run.py starts afresh for every round: it measures
whichever `pyev` the interpreter imports and prints the samples as JSON. With `--once NAME TURNS`
it takes that many turns of one operation, warm, for bench/instructions.py or other tools to count.
"""

import argparse
import gc
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from itertools import repeat
from typing import Any, NamedTuple

from marks import marked

Run = Callable[[int], None]  # does that many turns of one operation


class Operation(NamedTuple):
    name: str
    what: str
    prepare: Callable[[Any], Run]
    genuine: float  # ns with pyev 0.9.0, on a machine whose unit was GENUINE_UNIT
    system_call: bool = False  # the kernel has a part in it
    batch: int = 1  # operations in one turn


GENUINE_UNIT = 17.0  # ns; Python 3.11

READY = 200
TIMERS = 1000


def nothing() -> None:
    pass


def callback(watcher: Any, revents: int) -> None:
    pass


def unit(pyev: Any) -> Run:
    def run(turns: int) -> None:
        for _ in repeat(None, turns):
            nothing()

    return run


def feed_invoke(pyev: Any) -> Run:
    loop = pyev.Loop()
    watcher = loop.timer(1.0, 0.0, callback)
    revents = pyev.EV_TIMER

    def run(turns: int) -> None:
        for _ in repeat(None, turns):
            watcher.feed(revents)
            loop.invoke()

    return run


def ready_ios(pyev: Any, count: int) -> Run:
    loop = pyev.Loop()
    watchers = []
    for _ in range(count):
        ours, theirs = socket.socketpair()
        theirs.send(b"x")  # never read: ready for ever
        watchers.append(loop.io(ours.fileno(), pyev.EV_READ, callback, (ours, theirs)))
        watchers[-1].start()
    nowait = pyev.EVRUN_NOWAIT

    def run(turns: int) -> None:
        for _ in repeat(None, turns):
            loop.start(nowait)
        assert watchers

    run(4)  # the backend's array of events grows to its size
    return run


def io_callback(pyev: Any) -> Run:
    return ready_ios(pyev, READY)


def io_poll(pyev: Any) -> Run:
    return ready_ios(pyev, 1)


def idle_turn(pyev: Any) -> Run:
    loop = pyev.Loop()
    watcher = loop.idle(callback)
    watcher.start()
    nowait = pyev.EVRUN_NOWAIT

    def run(turns: int) -> None:
        for _ in repeat(None, turns):
            loop.start(nowait)
        assert watcher.active

    return run


def timer_fire_outside(pyev: Any) -> Run:
    loop = pyev.Loop()
    timers = [loop.timer(0.0, 0.0, callback) for _ in range(TIMERS)]

    def run(turns: int) -> None:
        for _ in repeat(None, turns):
            for timer in timers:
                timer.start()
            loop.start()

    return run


def timer_fire(pyev: Any) -> Run:
    loop = pyev.Loop()
    timers = [loop.timer(0.0, 0.0, callback) for _ in range(TIMERS)]

    def start_them(watcher: Any, revents: int) -> None:
        for timer in timers:
            timer.start()

    first = loop.timer(0.0, 0.0, start_them)

    def run(turns: int) -> None:
        for _ in repeat(None, turns):
            first.start()
            loop.start()

    return run


def in_callback(pyev: Any, loop: Any, body: Run) -> Run:
    """Turns taken inside a callback: where a server starts, resets and stops its timers."""
    turns = 0
    timer = loop.timer(0.0, 0.0, lambda watcher, revents: body(turns))

    def run(count: int) -> None:
        nonlocal turns
        turns = count
        timer.start()
        loop.start(pyev.EVRUN_NOWAIT)

    return run


def timer_reset_outside(pyev: Any) -> Run:
    """The same while the loop does not run: pyev allows for the time gone by, which 0.9 did not."""
    return timer_reset_of(pyev.Loop())


def timer_reset(pyev: Any) -> Run:
    loop = pyev.Loop()
    return in_callback(pyev, loop, timer_reset_of(loop))


def timer_reset_of(loop: Any) -> Run:
    timer = loop.timer(0.0, 1000.0, callback)
    timer.reset()

    def run(turns: int) -> None:
        for _ in repeat(None, turns):
            timer.reset()

    return run


def start_stop_outside(pyev: Any) -> Run:
    return start_stop_of(pyev.Loop())


def start_stop(pyev: Any) -> Run:
    loop = pyev.Loop()
    return in_callback(pyev, loop, start_stop_of(loop))


def start_stop_of(loop: Any) -> Run:
    timer = loop.timer(1000.0, 0.0, callback)

    def run(turns: int) -> None:
        for _ in repeat(None, turns):
            timer.start()
            timer.stop()

    return run


def io_start_stop(pyev: Any) -> Run:
    loop = pyev.Loop()
    ours, theirs = socket.socketpair()
    watcher = loop.io(ours.fileno(), pyev.EV_READ, callback, (ours, theirs))

    def run(turns: int) -> None:
        for _ in repeat(None, turns):
            watcher.start()
            watcher.stop()

    return run


def timer_new(pyev: Any) -> Run:
    loop = pyev.Loop()

    def run(turns: int) -> None:
        for _ in repeat(None, turns):
            loop.timer(1.0, 0.0, callback)

    return run


def async_send(pyev: Any) -> Run:
    loop = pyev.Loop()
    watcher = getattr(loop, "async")(callback)
    watcher.start()
    watcher.send()

    def run(turns: int) -> None:
        for _ in repeat(None, turns):
            watcher.send()

    return run


def async_round_trip(pyev: Any) -> Run:
    loop = pyev.Loop()
    watcher = getattr(loop, "async")(callback)
    watcher.start()
    once = pyev.EVRUN_ONCE

    def run(turns: int) -> None:
        for _ in repeat(None, turns):
            watcher.send()
            loop.start(once)

    return run


OPERATIONS = (
    Operation("unit", "an empty Python callback", unit, GENUINE_UNIT),
    Operation("feed_invoke", "feed and invoke", feed_invoke, 63),
    Operation("io_callback", "one callback of 200 ready Io", io_callback, 111, True, READY),
    Operation("io_poll", "one poll with one ready Io", io_poll, 588, True),
    Operation("idle_turn", "an Idle turn", idle_turn, 275, True),
    Operation("timer_fire", "a one-shot Timer started, fired", timer_fire, 96, False, TIMERS),
    Operation(
        "timer_fire_outside",
        "… while the loop is not running",
        timer_fire_outside,
        96,
        False,
        TIMERS,
    ),
    Operation("timer_reset", "Timer reset", timer_reset, 17),
    Operation("timer_reset_outside", "… while the loop is not running", timer_reset_outside, 17),
    Operation("start_stop", "Timer start and stop", start_stop, 45),
    Operation("start_stop_outside", "… while the loop is not running", start_stop_outside, 45),
    Operation("io_start_stop", "Io start and stop", io_start_stop, 45, True),
    Operation("timer_new", "a new Timer", timer_new, 110),
    Operation("async_send", "Async send, one on its way", async_send, 35),
    Operation("async_round_trip", "Async round trip", async_round_trip, 452, True),
)
BY_NAME = {operation.name: operation for operation in OPERATIONS}


def turns_for(run: Run, seconds: float) -> int:
    """How many turns take about that long; the runs it takes to find out are the warm-up."""
    turns = 1
    while True:
        start = time.perf_counter()
        run(turns)
        spent = time.perf_counter() - start
        if spent > seconds / 4:
            return max(1, round(turns * seconds / spent))
        turns *= 2


def measure(samples: int, seconds: float) -> dict[str, list[float]]:
    """Nanoseconds per operation, sample by sample, the operations taken in turns."""
    import pyev

    gc.disable()  # as timeit does
    runs = {operation: operation.prepare(pyev) for operation in OPERATIONS}
    turns = {operation: turns_for(run, seconds) for operation, run in runs.items()}
    found: dict[str, list[float]] = {operation.name: [] for operation in OPERATIONS}
    for _ in range(samples):
        for operation, run in runs.items():
            start = time.perf_counter_ns()
            run(turns[operation])
            spent = time.perf_counter_ns() - start
            found[operation.name].append(spent / turns[operation] / operation.batch)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--samples", type=int, default=15, help="samples of each operation (15)")
    parser.add_argument("--seconds", type=float, default=0.004, help="length of a sample (0.004)")
    parser.add_argument("--cpu", type=int, help="the core to stay on")
    parser.add_argument("--once", nargs=2, metavar=("NAME", "TURNS"), help="run one, time nothing")
    parser.add_argument("--marks", metavar="LIBRARY", help="marks.c compiled: callgrind counts")
    arguments = parser.parse_args()
    if arguments.cpu is not None:
        os.sched_setaffinity(0, {arguments.cpu})
    if arguments.once:
        import pyev

        gc.disable()
        name, turns = arguments.once
        run = BY_NAME[name].prepare(pyev)
        for count in marked(int(turns), arguments.marks):
            run(count)
        return
    json.dump(measure(arguments.samples, arguments.seconds), sys.stdout)


if __name__ == "__main__":
    main()
