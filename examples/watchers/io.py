"""Io: a socket echoes what it is sent, until the other end closes."""

import socket

import pyev

loop = pyev.Loop()
ours, theirs = socket.socketpair()
ours.setblocking(False)


def readable(watcher: pyev.Io, revents: int) -> None:
    data = ours.recv(4096)
    if data:
        print("received", data)
        ours.send(data.upper())
    else:
        print("the other end has closed")
        watcher.stop()


watcher = loop.io(ours, pyev.EV_READ, readable)
watcher.start()

theirs.send(b"hello")
loop.start(pyev.EVRUN_ONCE)  # one turn: wait for events, call back, return
print("echoed", theirs.recv(4096))

theirs.close()
loop.start()  # returns when no watcher is active any more
ours.close()
