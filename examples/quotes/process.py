"""A program run beside us: its output read as it comes, and how it ended."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pyev

HERE = Path(__file__).parent


class Process:
    """`printed(line)` for each line of output, then `ended(process, status)` once.

    The status is the exit status, or minus the number of the signal that ended it.
    """

    def __init__(
        self,
        loop: pyev.Loop,
        program: str,
        arguments: list[str],
        printed: Callable[[str], None],
        ended: Callable[["Process", int], None],
    ) -> None:
        self.printed, self.ended = printed, ended
        self.name = program
        self.status: int | None = None
        self.unread = b""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        self.output = os.fdopen(reader, "rb", buffering=0)
        with os.fdopen(writer, "wb"):
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, str(HERE / f"{program}.py"), *arguments],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)],
                setpgroup=0,  # Ctrl-C is for us, and we tell the others.
            )
        self.io = loop.io(self.output, pyev.EV_READ, self.readable)
        self.child = loop.child(self.pid, False, self.exited)
        self.io.start()
        self.child.start()

    def readable(self, watcher: pyev.Io, revents: int) -> None:
        data = self.output.read(65536)
        if data is None:  # Not ready after all.
            return
        *lines, self.unread = (self.unread + data).split(b"\n")
        for line in lines:
            self.printed(line.decode())
        if not data:
            watcher.stop()
            self.output.close()
            self.end()

    def exited(self, watcher: pyev.Child, revents: int) -> None:
        watcher.stop()
        self.status = os.waitstatus_to_exitcode(watcher.rstatus)
        self.end()

    def end(self) -> None:
        """The output's end and the process's come in either order."""
        if self.status is not None and self.output.closed:
            self.ended(self, self.status)

    def terminate(self) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGTERM)

    def abandon(self) -> None:
        """End it here and now, without the loop."""
        self.io.stop()
        self.output.close()
        if self.child.active:
            self.child.stop()
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
