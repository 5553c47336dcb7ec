"""Embed: a loop inside another, where its watchers wait until they are swept."""

import socket
import sys

import pyev

backend = pyev.embeddable_backends() & pyev.supported_backends() & pyev.EVBACKEND_EPOLL
if not backend:
    sys.exit("there is no epoll to embed here")
inner, outer = pyev.Loop(backend), pyev.Loop()
ours, theirs = socket.socketpair()


def readable(watcher: pyev.Io, revents: int) -> None:
    print("the inner loop received", ours.recv(4096))
    watcher.stop()


def ready(watcher: pyev.Embed, revents: int) -> None:
    print("the inner loop has events")
    watcher.sweep()  # without a callback, pyev sweeps by itself
    watcher.stop()


reader = inner.io(ours, pyev.EV_READ, readable)
reader.start()
later = outer.timer(0.1, 0.0, lambda watcher, revents: theirs.send(b"hello"))
with ours, theirs, outer.embed(inner, ready), later:
    outer.start()
