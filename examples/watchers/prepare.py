"""Prepare: called before the loop waits. Here it sends what a turn has gathered, at once."""

import socket

import pyev

loop = pyev.Loop()
ours, theirs = socket.socketpair()
gathered: list[bytes] = []


def say(watcher: pyev.Timer, revents: int) -> None:
    gathered.append(watcher.data)


def flush(watcher: pyev.Prepare, revents: int) -> None:
    if gathered:
        print("sending", len(gathered), "pieces together")
        ours.send(b" ".join(gathered))
        gathered.clear()


def received(watcher: pyev.Io, revents: int) -> None:
    print("received", theirs.recv(4096))
    loop.stop()


timers = [loop.timer(0.0, 0.0, say, b"tick") for _ in range(4)]
for timer in timers:
    timer.start()
with ours, theirs, loop.prepare(flush), loop.io(theirs, pyev.EV_READ, received):
    loop.start()
