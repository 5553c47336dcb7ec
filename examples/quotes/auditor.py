"""The auditor: a fork of the service that goes on with its own copy of the loop."""

import os
import signal
import socket
import traceback
from collections.abc import Callable
from contextlib import suppress

import pyev


class Auditor:
    """Made before there are threads or clients. Sends and is sent lines, over a socket pair.

    `told(line)` gets the auditor's lines, the first when its Fork watcher was called there;
    `ended(status)` its exit status, after close().
    """

    def __init__(
        self, loop: pyev.Loop, told: Callable[[str], None], ended: Callable[[int], None]
    ) -> None:
        self.told, self.ended = told, ended
        self.audited = 0
        ours, theirs = socket.socketpair()
        self.sock = theirs
        self.unread = b""
        fork = loop.fork(self.forked)
        fork.start()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            self.work(loop)
        fork.stop()
        theirs.close()
        self.sock = ours
        self.sock.setblocking(False)
        self.io = loop.io(self.sock, pyev.EV_READ, self.answered)
        self.io.start()
        self.child = loop.child(self.pid, False, self.exited)
        self.child.start()

    # In the service.

    def send(self, line: str) -> None:
        self.sock.send(line.encode() + b"\n")

    def answered(self, watcher: pyev.Io, revents: int) -> None:
        lines = self.receive()
        for line in lines:
            self.told(line)
        if lines is ENDED:
            watcher.stop()

    def exited(self, watcher: pyev.Child, revents: int) -> None:
        watcher.stop()
        self.ended(os.waitstatus_to_exitcode(watcher.rstatus))

    def close(self) -> None:
        """It ends when it has read all we sent."""
        self.sock.shutdown(socket.SHUT_WR)

    def abandon(self) -> None:
        self.io.stop()
        self.sock.close()
        if self.child.active:
            self.child.stop()
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    # In the auditor.

    def work(self, loop: pyev.Loop) -> None:
        """Never returns: whatever the service meant to do next is not the auditor's."""
        status = 1
        try:
            os.setpgid(0, 0)  # Ctrl-C is for the service.
            self.io = loop.io(self.sock, pyev.EV_READ, self.audit)
            self.io.start()
            loop.start()
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)

    def forked(self, watcher: pyev.Fork, revents: int) -> None:
        watcher.stop()
        self.send(f"FORKED {os.getpid()}")

    def audit(self, watcher: pyev.Io, revents: int) -> None:
        lines = self.receive()
        self.audited += len(lines)
        if lines is ENDED:
            watcher.loop.stop()
        elif lines:
            with suppress(BrokenPipeError):  # Then there is nothing more to read, either.
                self.send(f"AUDITED {self.audited}")

    # In both.

    def receive(self) -> list[str]:
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:  # The other one has gone without reading to the end.
            data = b""
        if not data:
            return ENDED
        *lines, self.unread = (self.unread + data).split(b"\n")
        return [line.decode() for line in lines]


ENDED: list[str] = []
