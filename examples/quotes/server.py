"""Lines over TCP, by hand: what arrives in pieces is put together, what does not fit waits."""

import socket
from collections.abc import Callable
from contextlib import suppress

import pyev

READ_MAX = 65536
LINE_MAX = 1024
# Above this much unsent, a client's requests wait until it has read its answers.
UNSENT_MAX = 262_144


class Connection:
    """One client. Held by its server; its Io and Timer hold it in turn, until close()."""

    def __init__(self, server: "Server", sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.unread = bytearray()
        self.unsent = bytearray()
        self.leaving = False
        self.io = server.loop.io(sock, pyev.EV_READ, self.ready)
        self.io.start()
        # Not started but reset(): the way to say "that long from now, again" at each sign of life.
        self.idle = server.clock.timer(0.0, server.idle_after, self.idled)
        self.idle.reset()

    def ready(self, watcher: pyev.Io, revents: int) -> None:
        self.idle.reset()
        try:
            if revents & pyev.EV_WRITE:
                self.flush()
            if revents & pyev.EV_READ and self in self.server.connections:
                self.read()
        except OSError:
            self.close()

    def read(self) -> None:
        try:
            data = self.sock.recv(READ_MAX)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        *lines, self.unread = (self.unread + data).split(b"\n")
        if self.unread:
            self.server.split_reads += 1
        for line in lines:
            if line == b"QUIT":
                self.say("BYE")
                self.leaving = True
                return
            self.say(self.server.answer(line.decode(errors="replace")))
        if len(self.unread) > LINE_MAX:
            self.say("ERROR that line is too long")
            self.leaving = True

    def say(self, answer: str) -> None:
        """To be sent with everything else of this turn."""
        self.unsent += answer.encode() + b"\n"
        self.server.unflushed.add(self)

    def flush(self) -> None:
        """Send what fits now, and wait for the rest to fit, or for more requests, or both."""
        with suppress(BlockingIOError):
            del self.unsent[: self.sock.send(self.unsent)]
        if self.unsent:
            self.server.part_writes += 1
        elif self.leaving:
            self.close()
            return
        reading = len(self.unsent) < UNSENT_MAX and not self.leaving
        self.watch((pyev.EV_READ if reading else 0) | (pyev.EV_WRITE if self.unsent else 0))

    def watch(self, events: int) -> None:
        if self.io.events != events:
            self.io.stop()
            self.io.set(self.sock, events)
            self.io.start()

    def idled(self, watcher: pyev.Timer, revents: int) -> None:
        self.server.idled()
        self.close()

    def close(self) -> None:
        self.io.stop()
        self.idle.stop()
        # First shut down: on io_uring the kernel may keep a closed socket open a while.
        with suppress(OSError):  # The client has gone before us.
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.server.connections.discard(self)
        self.server.unflushed.discard(self)


class Server:
    """Listens on a port of its own; Io watchers on `loop`, Timers on `clock`.

    Two loops, because Timers of an embedded one wait until something else wakes it.
    """

    def __init__(
        self,
        loop: pyev.Loop,
        clock: pyev.Loop,
        answer: Callable[[str], str],
        idled: Callable[[], None],
        idle_after: float,
    ) -> None:
        self.loop, self.clock = loop, clock
        self.answer, self.idled = answer, idled
        self.idle_after = idle_after
        self.connections: set[Connection] = set()
        self.unflushed: set[Connection] = set()
        self.split_reads = self.part_writes = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        # Small, so that a long answer really does not fit; accepted sockets inherit it.
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32_768)
        self.io = loop.io(self.listener, pyev.EV_READ, self.accept)
        self.io.start()

    @property
    def port(self) -> int:
        port: int = self.listener.getsockname()[1]
        return port

    def accept(self, watcher: pyev.Io, revents: int) -> None:
        try:
            sock, _ = self.listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        sock.setblocking(False)
        self.connections.add(Connection(self, sock))

    def flush(self) -> int:
        """One send for each client that was answered; how many that were."""
        ready, self.unflushed = self.unflushed, set()
        for connection in ready:
            try:
                connection.flush()
            except OSError:
                connection.close()
        return len(ready)

    def close(self) -> int:
        """Stop listening and hang up; how many were still there."""
        self.io.stop()
        self.listener.close()
        still = list(self.connections)
        for connection in still:
            connection.close()
        return len(still)
