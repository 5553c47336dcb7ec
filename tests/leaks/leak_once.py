"""Once: what Loop.once() makes. Its loop keeps it until it fires."""

import os

from leak_probe import COUNT, FLAGS, Probe, failing, nothing

import pyev

probe = Probe()
loop, data = probe.loop, probe.data
r, w = os.pipe()
probe.involved.append(pyev.Once)


def timed_out() -> None:
    loop.once(None, 0, 0.0, nothing, data)
    loop.start(pyev.EVRUN_NOWAIT)


def ready() -> None:
    loop.once(w, pyev.EV_WRITE, None, nothing, data)
    loop.start(pyev.EVRUN_NOWAIT)


def ready_before_its_timeout() -> None:
    loop.once(w, pyev.EV_WRITE, 1000.0, nothing, data)
    loop.start(pyev.EVRUN_NOWAIT)


def raised() -> None:
    loop.once(None, 0, 0.0, failing, data)
    loop.start(pyev.EVRUN_NOWAIT)


def stopped() -> None:
    loop.once(r, pyev.EV_READ, 1000.0, nothing, data).stop()


def held_itself() -> None:
    watcher = loop.once(r, pyev.EV_READ, 1000.0, nothing)
    watcher.data = watcher
    watcher.stop()


def refused() -> None:
    for arguments in ((None, 0, None), (-1, 1, None), ("x", 1, None), (None, 0, float("nan"))):
        try:
            loop.once(*arguments, nothing, data)
        except (ValueError, TypeError):
            continue
        raise SystemExit(f"{arguments} were taken")


def its_loop_was_closed() -> None:
    with pyev.Loop(FLAGS) as short:
        short.once(r, pyev.EV_READ, 1000.0, nothing, data)


def its_loop_was_dropped() -> None:
    pyev.Loop(FLAGS).once(r, pyev.EV_READ, 1000.0, nothing, data)


for way in (timed_out, ready, ready_before_its_timeout, raised, stopped, held_itself, refused):
    probe.run(way.__name__, way)
for way in (its_loop_was_closed, its_loop_was_dropped):
    probe.run(way.__name__, way, COUNT // 5)
probe.end()
