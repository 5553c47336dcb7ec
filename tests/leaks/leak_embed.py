"""Embed."""

from leak_probe import COUNT, Probe, nothing

import pyev

probe = Probe()
loop, data = probe.loop, probe.data
other = pyev.Loop(pyev.EVBACKEND_EPOLL)
wrong = pyev.Loop(pyev.EVBACKEND_SELECT)
probe.watcher(
    lambda callback, data: loop.embed(other, callback, data),
    lambda watcher: watcher.__init__(other, loop),
    [
        lambda: loop.embed(wrong).start(),
        lambda: loop.embed(None),
        lambda: loop.embed(other, 3),
    ],
    [other, wrong],
)


def swept() -> None:
    watcher = loop.embed(other)
    watcher.start()
    timer = other.timer(0.0, 0.0, nothing)
    timer.start()
    watcher.sweep()


def with_a_loop_of_its_own() -> None:
    inner = pyev.Loop(pyev.EVBACKEND_EPOLL)
    loop.embed(inner, None, data).start()


def its_loop_was_closed() -> None:
    inner = pyev.Loop(pyev.EVBACKEND_EPOLL)
    watcher = loop.embed(inner)
    watcher.start()
    inner.close()


probe.run("swept", swept)
for way in (with_a_loop_of_its_own, its_loop_was_closed):
    probe.run(way.__name__, way, COUNT // 5)
other.close()
wrong.close()
probe.end()
