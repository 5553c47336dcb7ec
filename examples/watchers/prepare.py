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


flusher = loop.prepare(flush)
flusher.start()
timers = [loop.timer(0.0, 0.0, say, word) for word in (b"one", b"turn,", b"one", b"send")]
for timer in timers:
    timer.start()
with loop.io(theirs, pyev.EV_READ, received):
    loop.start()
flusher.stop()
