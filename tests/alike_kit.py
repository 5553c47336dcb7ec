"""What the random comparisons of our loop with asyncio's own stand on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from typing import Any

from hypothesis import HealthCheck, settings

EXAMPLES = os.environ.get("PYEV_TEST_EXAMPLES")

# From 3.12 on asyncio's writelines() keeps an empty piece, and its loop busy with it, in versions
# that have not heard of it (gh-155888).
KEEPS_EMPTY_PIECES = (3, 12) <= sys.version_info < (3, 14, 8)


def examples(number: int) -> settings:
    """Of one test: so many, always the same, unless the environment wants more."""
    return settings(
        max_examples=int(EXAMPLES or number),
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


class Run:
    """Something that is done on a loop, and a way to wait until nothing happens any more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.reports: list[Any] = []
        loop.set_exception_handler(self.on_exception)
        self.stack = contextlib.ExitStack()  # of what is closed at the end
        self.knocker, self.door = map(self.stack.enter_context, socket.socketpair())

    def on_exception(self, loop: Any, context: dict[str, Any]) -> None:
        self.reports.append(type(context.get("exception")))

    def state(self) -> Any:
        """What differs while something happens."""

    async def poll(self) -> None:
        """What the kernel has ready by now has been seen to."""
        future = self.loop.create_future()
        self.loop.add_reader(self.door, lambda: future.done() or future.set_result(None))
        self.knocker.send(b"k")
        await future
        self.loop.remove_reader(self.door)
        self.door.recv(1)

    async def rest(self) -> None:
        """Until nothing happens any more."""
        quiet = 0
        before: Any = None
        while quiet < 8:
            await self.poll()
            await asyncio.sleep(0)
            now = self.state()
            quiet = quiet + 1 if now == before else 0
            before = now

    async def main(self, *arguments: Any) -> None:
        raise NotImplementedError

    @classmethod
    def on(cls, factory: Any, *arguments: Any) -> Any:
        """What is done, on a new loop."""
        loop = factory()
        try:
            it = cls(loop)
            with it.stack:
                loop.run_until_complete(asyncio.wait_for(it.main(*arguments), 30))
            return it
        finally:
            loop.close()


class Steps(Run):
    """Steps, and what came of each."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.trace: list[Any] = []

    def note(self, *what: Any) -> None:
        self.trace.append(what)

    def state(self) -> Any:
        return len(self.trace)

    def seen(self) -> Any:
        return self.trace, sorted(map(repr, self.reports))


class End:
    """What the protocol of one end of a connection sees, and what is done there."""

    def __init__(self, run: Connection, number: int, reactions: Any) -> None:
        self.run, self.number, self.reactions = run, number, dict(reactions)
        self.transport: Any = None
        self.data = bytearray()
        self.trace: list[Any] = []
        self.lost = False

    def do(self, step: Any) -> None:
        raise NotImplementedError

    def react(self, event: str, step: Any) -> None:
        self.do(step)

    def breaks_off(self, what: str) -> None:
        """If the step is one after which who looks first decides what is seen."""
        if what in ("abort", "raise"):
            self.run.breaks()
        if what == "raise":
            self.note("raises")
            raise ZeroDivisionError("of the protocol")

    def note(self, *what: Any) -> None:
        self.trace.append(what)

    def saw(self, event: str, *what: Any) -> None:
        self.note(event, *what)
        for step in self.reactions.pop(event, ()):  # once, so that there is an end
            self.react(event, step)

    def made(self, transport: Any) -> None:
        self.transport = transport
        self.saw("made")

    def got(self, data: bytes) -> None:
        self.data += data
        if len(self.data) == len(data):  # in how many pieces it comes is nobody's promise
            self.saw("data")

    def ended(self) -> Any:
        self.saw("eof")

    def is_lost(self, error: BaseException | None) -> None:
        self.lost = True
        if error is not None:
            self.run.breaks()
        self.saw("lost", type(error))


class Connection(Run):
    """Two ends, until it breaks: what is seen then depends on who looks first."""

    ends: list[Any]
    known: list[int] | None = None  # how much was noted when it broke

    def breaks(self) -> None:
        if self.known is None:
            self.known = [len(end.trace) for end in self.ends]

    def state(self) -> Any:
        return [(len(end.trace), len(end.data)) for end in self.ends]

    def seen(self) -> list[str]:
        return [repr(end.trace) for end in self.ends] + sorted(map(repr, self.reports))

    def limit(self, number: int) -> int:
        return len(self.ends[number].trace) if self.known is None else self.known[number]

    def compare(self, other: Connection) -> None:
        if self.known is None and other.known is None:
            assert self.seen() == other.seen()
        for number, (end, others) in enumerate(zip(self.ends, other.ends, strict=True)):
            both = slice(min(self.limit(number), other.limit(number)))
            assert end.trace[both] == others.trace[both]


class Calls:
    """The calls of a protocol, which are its end's."""

    def __init__(self, end: End) -> None:
        self.end = end
        self.connection_made = end.made
        self.eof_received = end.ended
        self.connection_lost = end.is_lost
        self.pause_writing = lambda: end.saw("pause")
        self.resume_writing = lambda: end.saw("resume")


class Whole(Calls, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        self.end.got(data)


class Buffered(Calls, asyncio.BufferedProtocol):
    def __init__(self, end: End) -> None:
        super().__init__(end)
        self.buffer = bytearray(10_000)

    def get_buffer(self, hint: int) -> memoryview:
        # asyncio's own TLS reads what follows a record into a copy of a bytearray's rest.
        return memoryview(self.buffer)

    def buffer_updated(self, size: int) -> None:
        self.end.got(self.buffer[:size])


def connected_pair(family: int) -> tuple[socket.socket, socket.socket]:
    if family == socket.AF_UNIX:
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return socket.create_connection(listener.getsockname()), listener.accept()[0]
