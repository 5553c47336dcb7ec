"""Child: how a process ended, and what it printed on the way."""

import os
import sys

import pyev

loop = pyev.Loop()
program = r"import os, sys; os.write(1, b'hello from the child\n'); sys.exit(3)"


def exited(watcher: pyev.Child, revents: int) -> None:
    status = os.waitstatus_to_exitcode(watcher.rstatus)
    print("it is ours:", watcher.rpid == pid, "- it exited with status", status)
    watcher.stop()


def printed(watcher: pyev.Io, revents: int) -> None:
    output = os.read(watcher.fd, 4096)
    print(output.decode(), end="")
    if not output:
        watcher.stop()


reader, writer = os.pipe()
pid = os.posix_spawn(
    sys.executable,
    [sys.executable, "-c", program],
    os.environ,
    file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)],
)
os.close(writer)
with loop.child(pid, False, exited), loop.io(reader, pyev.EV_READ, printed):
    loop.start()
os.close(reader)
