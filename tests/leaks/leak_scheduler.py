"""Scheduler."""

import contextlib

from leak_probe import Probe, nothing

import pyev

probe = Probe()
loop, data = probe.loop, probe.data


def later(watcher: pyev.Scheduler, now: float) -> float:
    return now + 1e6


def at_once(watcher: pyev.Scheduler, now: float) -> float:
    return now


def raising(watcher: pyev.Scheduler, now: float) -> float:
    raise LookupError


probe.watcher(
    lambda callback, data: loop.scheduler(later, callback, data),
    lambda watcher: watcher.__init__(later, loop, nothing),
    [lambda: loop.scheduler(None, nothing), lambda: loop.scheduler(later, None)],
    [later, at_once, raising],
)


def fired() -> None:
    watcher = loop.scheduler(at_once, nothing, data)
    watcher.start()
    loop.start(pyev.EVRUN_NOWAIT)
    loop.start(pyev.EVRUN_NOWAIT)


def wrong_at_start(answer: object) -> None:
    watcher = loop.scheduler(lambda w, now: answer, nothing, data)
    with contextlib.suppress(Exception):
        watcher.start()


def raised_at_start() -> None:
    watcher = loop.scheduler(raising, nothing, data)
    with contextlib.suppress(LookupError):
        watcher.start()


def raised_after_an_event() -> None:
    watcher = loop.scheduler(at_once, nothing, data)
    watcher.start()
    watcher.scheduler = raising
    loop.start(pyev.EVRUN_NOWAIT)
    loop.start(pyev.EVRUN_NOWAIT)


def died_in_a_cycle_with_its_scheduler() -> None:
    holder: list[object] = [data]
    watcher = loop.scheduler(lambda w, now: now + len(holder), nothing)
    holder.append(watcher)
    watcher.start()


for way in (fired, raised_at_start, raised_after_an_event, died_in_a_cycle_with_its_scheduler):
    probe.run(way.__name__, way)
for answer in ("x", -1.0, float("nan"), None):
    probe.run(f"wrong {answer!r} at start", lambda answer=answer: wrong_at_start(answer))
probe.end()
