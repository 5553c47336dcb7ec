"""Async."""

from leak_probe import Probe, nothing

import pyev

probe = Probe()
loop, data = probe.loop, probe.data
probe.watcher(
    lambda callback, data: loop.async_(callback, data),
    lambda watcher: watcher.__init__(loop, nothing),
    [lambda: loop.async_(None), lambda: pyev.Async(None, nothing)],
)
kept = loop.async_(nothing, data)
kept.start()


def sent() -> None:
    kept.send()
    kept.send()
    assert kept.sent in (True, 1)
    loop.start(pyev.EVRUN_NOWAIT)


def died_with_a_send_on_its_way() -> None:
    watcher = loop.async_(nothing, data)
    watcher.start()
    watcher.send()


for way in (sent, died_with_a_send_on_its_way):
    probe.run(way.__name__, way)
kept.stop()
probe.end()
