"""Signal."""

import signal

from leak_probe import Probe, nothing

import pyev

probe = Probe()
loop, data = probe.loop, probe.data


def handler(signum: int, frame: object) -> None:
    raise AssertionError


signal.signal(signal.SIGUSR1, handler)
other = pyev.Loop()
taken = other.signal(signal.SIGUSR2, nothing)
taken.start()
probe.watcher(
    lambda callback, data: loop.signal(signal.SIGUSR1, callback, data),
    lambda watcher: watcher.__init__(signal.SIGUSR1, loop, nothing),
    [
        lambda: loop.signal(0, nothing),
        lambda: loop.signal(9, nothing),
        lambda: loop.signal("x", nothing),
        lambda: loop.signal(signal.SIGUSR2, nothing).start(),
    ],
    [handler],
)
watcher = loop.signal(signal.SIGUSR1, nothing)


def delivered() -> None:
    watcher.start()
    signal.raise_signal(signal.SIGUSR1)
    loop.start(pyev.EVRUN_NOWAIT)
    loop.start(pyev.EVRUN_NOWAIT)
    watcher.stop()


def fed_to_all() -> None:
    pyev.feed_signal(signal.SIGUSR2)
    other.start(pyev.EVRUN_NOWAIT)


for way in (delivered, fed_to_all):
    probe.run(way.__name__, way)
taken.stop()
other.close()
assert signal.getsignal(signal.SIGUSR1) is handler
probe.end()
