"""Loop.once: a descriptor or a timeout, whichever comes first. Nothing to keep or to stop."""

import socket

import pyev

loop = pyev.Loop()
ours, theirs = socket.socketpair()


def answered(watcher: pyev.Once, revents: int) -> None:
    if revents & pyev.EV_READ:
        print("answered:", ours.recv(4096))
    else:
        print("no answer")


with ours, theirs:
    loop.once(ours, pyev.EV_READ, 0.1, answered)
    loop.start()

    loop.once(ours, pyev.EV_READ, 10.0, answered)
    theirs.send(b"hello")
    loop.start()

loop.once(None, 0, 0.0, lambda watcher, revents: print("and a timeout alone"))
loop.start()
