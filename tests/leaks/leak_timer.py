"""Timer."""

import math

from leak_probe import Probe, failing, nothing

import pyev

probe = Probe()
loop, data = probe.loop, probe.data
probe.watcher(
    lambda callback, data: loop.timer(1000.0, 1000.0, callback, data),
    lambda watcher: watcher.__init__(1.5, 2.5, loop, nothing),
    [
        lambda: loop.timer(math.nan, 0.0, nothing),
        lambda: loop.timer(0.0, -1.0, nothing),
        lambda: loop.timer("x", 0.0, nothing),
        lambda: loop.timer(0.0, 10**400, nothing),
        lambda: pyev.Timer(0.0, 0.0, None, nothing),
    ],
)
timer = loop.timer(1.0, 1.0, nothing)


def fired() -> None:
    loop.timer(0.0, 0.0, nothing, data).start()  # Dropped: does not.
    watcher = loop.timer(0.0, 0.0, nothing, data)
    watcher.start()
    loop.start(pyev.EVRUN_NOWAIT)


def raised_as_it_fired() -> None:
    watcher = loop.timer(0.0, 0.0, failing, data)
    watcher.start()
    loop.start(pyev.EVRUN_NOWAIT)


def reset() -> None:
    timer.reset()
    timer.repeat = timer.repeat + 0.5 if timer.repeat < 9.0 else 1.0
    assert timer.remaining
    timer.stop()


for way in (fired, raised_as_it_fired, reset):
    probe.run(way.__name__, way)
probe.end()
