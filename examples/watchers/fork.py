"""Fork: called in the child, in the first turn of its copy of the loop."""

import os

import pyev

loop = pyev.Loop()


def forked(watcher: pyev.Fork, revents: int) -> None:
    print("child: the loop has found itself in another process", flush=True)
    watcher.stop()


def exited(watcher: pyev.Child, revents: int) -> None:
    print("parent: the child's status is", os.waitstatus_to_exitcode(watcher.rstatus))
    watcher.stop()


fork = loop.fork(forked)
fork.start()
pid = os.fork()
if pid == 0:
    loop.start()
    os._exit(0)
fork.stop()
with loop.child(pid, False, exited):
    loop.start()
