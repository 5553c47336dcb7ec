"""Check."""

from leak_probe import Probe, failing, nothing

import pyev

probe = Probe()
loop, data = probe.loop, probe.data
probe.watcher(
    lambda callback, data: loop.check(callback, data),
    lambda watcher: watcher.__init__(loop, nothing),
    [
        lambda: loop.check(None),
        lambda: pyev.Check(None, nothing),
        lambda: loop.check(nothing, bad=1),
    ],
)


def served() -> None:
    watcher = loop.check(nothing, data)
    watcher.start()
    loop.start(pyev.EVRUN_NOWAIT)


def raised_as_it_was_served() -> None:
    watcher = loop.check(failing, data)
    watcher.start()
    loop.start(pyev.EVRUN_NOWAIT)


def died_in_its_callback() -> None:
    holder: list[pyev.Check] = []
    holder.append(loop.check(lambda w, revents: holder.clear(), data))
    holder[0].start()
    loop.start(pyev.EVRUN_NOWAIT)


for way in (served, raised_as_it_was_served, died_in_its_callback):
    probe.run(way.__name__, way)
probe.end()
