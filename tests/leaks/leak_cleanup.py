"""Cleanup."""

import contextlib

from leak_probe import COUNT, FLAGS, Probe, failing, nothing

import pyev

probe = Probe()
loop, data = probe.loop, probe.data
probe.watcher(
    lambda callback, data: loop.cleanup(callback, data),
    lambda watcher: watcher.__init__(loop, nothing),
    [lambda: loop.cleanup(None), lambda: pyev.Cleanup(None, nothing)],
)


def called_at_close() -> None:
    with pyev.Loop(FLAGS) as short:
        watcher = short.cleanup(nothing, data)
        watcher.start()


def raised_at_close() -> None:
    short = pyev.Loop(FLAGS)
    watcher = short.cleanup(failing, data)
    watcher.start()
    with contextlib.suppress(LookupError):
        short.close()


for way in (called_at_close, raised_at_close):
    probe.run(way.__name__, way, COUNT // 5)
probe.end()
