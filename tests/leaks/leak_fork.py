"""Fork."""

from leak_probe import Probe, nothing

import pyev

probe = Probe()
loop, data = probe.loop, probe.data
probe.watcher(
    lambda callback, data: loop.fork(callback, data),
    lambda watcher: watcher.__init__(loop, nothing),
    [lambda: loop.fork(None), lambda: pyev.Fork(None, nothing)],
)


def after_a_reset() -> None:
    watcher = loop.fork(nothing, data)
    watcher.start()
    loop.reset()
    loop.start(pyev.EVRUN_NOWAIT)


probe.run("after a reset", after_a_reset)
probe.end()
