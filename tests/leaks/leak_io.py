"""Io."""

import os
import socket

from leak_probe import Probe, nothing

import pyev

probe = Probe()
loop, data = probe.loop, probe.data
a, b = socket.socketpair()
a.setblocking(False)
closed = os.dup(0)
os.close(closed)


class File:
    def fileno(self) -> int:
        return a.fileno()


file = File()
probe.watcher(
    lambda callback, data: loop.io(a, pyev.EV_READ, callback, data),
    lambda watcher: watcher.__init__(file, pyev.EV_WRITE, loop, nothing),
    [
        lambda: loop.io(-1, 1, nothing),
        lambda: loop.io("x", 1, nothing),
        lambda: loop.io(0, 64, nothing),
        lambda: loop.io(2**40, 1, nothing),
        lambda: loop.io(closed, 1, nothing).start(),
        lambda: loop.io(0, 1, None),
        lambda: pyev.Io(0, 1, None, nothing),
    ],
    [a, file],
)
io = loop.io(a, pyev.EV_READ, lambda w, revents: a.recv(10))


def served() -> None:
    io.start()
    b.send(b"x")
    loop.start(pyev.EVRUN_NOWAIT)
    io.stop()


def changed_events() -> None:
    io.set(a, pyev.EV_READ | pyev.EV_WRITE)
    io.start()
    loop.start(pyev.EVRUN_NOWAIT)
    io.stop()
    io.set(a, pyev.EV_READ)


def died_under_its_watcher() -> None:
    fd = os.dup(b.fileno())
    watcher = loop.io(fd, pyev.EV_READ, nothing, data)
    watcher.start()
    os.close(fd)
    try:
        loop.start(pyev.EVRUN_NOWAIT)
    except OSError:
        return
    raise SystemExit("not reported")


def died_in_its_callback() -> None:
    holder = []

    def callback(watcher: pyev.Watcher, revents: int) -> None:
        holder.clear()

    holder.append(loop.io(b, pyev.EV_WRITE, callback, data))
    holder[0].start()
    loop.start(pyev.EVRUN_NOWAIT)


for way in (served, changed_events, died_under_its_watcher, died_in_its_callback):
    probe.run(way.__name__, way)
probe.end()
