"""Periodic."""

import math

from leak_probe import Probe, nothing

import pyev

probe = Probe()
loop, data = probe.loop, probe.data
probe.watcher(
    lambda callback, data: loop.periodic(0.0, 1e6, callback, data),
    lambda watcher: watcher.__init__(1.0, 1e6, loop, nothing),
    [
        lambda: loop.periodic(0.0, math.nan, nothing),
        lambda: loop.periodic(-1.0, 1.0, nothing),
        lambda: loop.periodic(0.0, math.inf, nothing),
    ],
)
periodic = loop.periodic(0.0, 1e6, nothing)


def fired() -> None:
    watcher = loop.periodic(1.0, 0.0, nothing, data)
    watcher.start()
    loop.start(pyev.EVRUN_NOWAIT)


def reset() -> None:
    periodic.start()
    periodic.offset = 3.5
    periodic.interval = 2e6
    periodic.reset()
    assert periodic.at
    periodic.stop()


for way in (fired, reset):
    probe.run(way.__name__, way)
probe.end()
