"""What the random comparisons of streams stand on: what is done with them, and connections."""

from __future__ import annotations

import asyncio
import socket
import zlib
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st
from net_kit import SMALL, some_bytes

import pyev
from alike_kit import KEEPS_EMPTY_PIECES, Run, connected_pair

PIECES = st.lists(
    st.sampled_from([b"a", b"\n", b"#", b"##", b"ab\n", b"x" * 9, b"y" * 30]), max_size=5
).map(b"".join)
SIZES = st.sampled_from([-1, 0, 1, 3, 12, 40])
SEPARATORS = st.sampled_from([b"\n", b"##", b"ab\n", b"#"])
LIMITS = st.sampled_from([1, 4, 10, 1 << 16])

read = st.one_of(
    st.tuples(st.sampled_from(["read", "readexactly"]), SIZES),
    st.tuples(st.just("readuntil"), SEPARATORS),
    st.tuples(st.sampled_from(["read", "readuntil", "readline", "__anext__"])),
)

# What is wrong, and bytes that are none.
odd = st.one_of(
    st.tuples(
        st.sampled_from(["read", "readexactly"]),
        st.sampled_from([True, None, "text", 2.0, 1 << 70, -(1 << 70)]),
    ),
    st.tuples(
        st.just("readuntil"),
        st.sampled_from([b"", bytearray(b"#"), memoryview(b"b"), "text", None, 7]),
    ),
)


def short(result: Any) -> Any:
    if isinstance(result, bytes) and len(result) > 100:
        return len(result), zlib.crc32(result)
    return result


def raised(error: Any) -> Any:
    if not isinstance(error, BaseException):
        return error
    names = ("partial", "expected", "consumed", "errno")
    seen = [short(getattr(error, name, None)) for name in names]
    # The words for a wrong type differ from one Python to the next.
    plain = not isinstance(error, (asyncio.IncompleteReadError, TypeError))
    arguments = error.args if plain else ()
    return [type(error), arguments, seen, type(error.__context__), type(error.__cause__)]


# Connections. What one step or several write without a rest between them comes in one piece, if it
# is little. Of much, only what does not depend on its pieces is done: each is so large that what
# the kernel and a reader hold of it changes nothing.

MUCH = st.sampled_from([100_000, 200_000, 300_000])

at_once = st.one_of(
    st.tuples(st.just("cancel"), st.integers(0, 3)),
    st.tuples(
        st.sampled_from(
            ["write_eof", "close", "is_closing", "can_write_eof", "at_eof", "exception"]
        )
    ),
    st.tuples(st.just("write"), st.sampled_from(["text", None, 7, b""])),
    st.tuples(st.just("writelines"), st.sampled_from([["text"], 7, []])),
)
waiting = st.one_of(
    st.tuples(st.sampled_from(["drain", "wait_closed", "sleep", "is_closing", "at_eof"])),
    st.tuples(st.just("cancel"), st.integers(0, 3)),
)
writes = st.one_of(
    st.tuples(st.just("write"), PIECES),
    st.tuples(st.just("write"), PIECES.map(bytearray)),
    st.tuples(
        st.just("writelines"),
        st.lists(PIECES.filter(bool) if KEEPS_EMPTY_PIECES else PIECES, max_size=3),
    ),
)
uses = st.tuples(st.just("task"), st.lists(st.one_of(read, read, odd, waiting), max_size=4))
little = st.one_of(at_once, st.tuples(st.just("abort")), writes, writes, uses, uses, uses, uses)
writes_much = st.one_of(
    st.tuples(st.just("write much"), MUCH),
    st.tuples(st.just("writelines much"), st.lists(MUCH, max_size=2)),
)
reads_much = st.one_of(
    st.tuples(st.just("readexactly"), MUCH),
    st.tuples(st.just("read"), st.just(-1)),
)
uses_much = st.tuples(
    st.just("task"),
    st.lists(st.one_of(reads_much, reads_much, writes_much, waiting), max_size=4),
)
much = st.one_of(at_once, writes_much, writes_much, uses_much, uses_much, uses_much)


def conversation(step: Any) -> Any:
    return st.lists(st.tuples(st.integers(0, 1), step, st.booleans()), max_size=8)


class End:
    """A reader and a writer, and what was done with them."""

    closed = False

    def __init__(self) -> None:
        self.reader: Any = None
        self.writer: Any = None
        self.tasks: list[asyncio.Task[None]] = []
        self.done: list[list[Any]] = []
        self.trace: list[Any] = []

    def has(self, reader: Any, writer: Any) -> None:
        self.reader, self.writer = reader, writer

    def do(self, step: Any) -> Any:
        what, arguments = step[0], step[1:]
        self.closed = self.closed or what in ("close", "abort")
        match what:
            case "task":
                self.done.append([])
                coroutine = self.coroutine(self.done[-1], *arguments)
                self.tasks.append(asyncio.ensure_future(coroutine))
            case "cancel":
                return arguments[0] < len(self.tasks) and self.tasks[arguments[0]].cancel()
            case "abort":
                return self.writer.transport.abort()
            case "sleep":
                return asyncio.sleep(0)
            case "exception":
                return raised(self.reader.exception())
            case "write much":
                return self.writer.write(some_bytes(arguments[0]))
            case "writelines much":
                return self.writer.writelines(list(map(some_bytes, arguments[0])))
            case _:
                its = self.reader if hasattr(self.reader, what) else self.writer
                return getattr(its, what)(*arguments)

    def step(self, step: Any) -> None:
        try:
            result = self.do(step)
        except Exception as error:
            # asyncio's own raises AttributeError for some calls after the end.
            result = self.lost() or self.wrong(step, error)
        self.trace.append([step[0], self.lost() or result])

    async def coroutine(self, done: list[Any], steps: list[Any]) -> None:
        for step in steps:
            try:
                result = self.do(step)
                if asyncio.iscoroutine(result):
                    result = await result
            except asyncio.CancelledError:
                done.append("cancelled")
                raise
            except (Exception, StopAsyncIteration) as error:
                result = self.wrong(step, error)
            done.append([step[0], short(result)])

    def wrong(self, step: Any, error: BaseException) -> Any:
        # What is wrong first with writelines(), each version of asyncio says in its own way; at the
        # end of a connection newer ones do not look.
        if step[0].startswith("writelines"):
            return None if self.writer.is_closing() else True
        return raised(error)

    def lost(self) -> bool:
        return bool(self.writer._protocol._connection_lost)

    def broken(self) -> bool:
        return self.reader.exception() is not None

    def at_rest(self, pieces: bool) -> None:
        """What has been done since, of each task in its order."""
        for number, done in enumerate(self.done):
            self.trace.append([number, *done, self.tasks[number].done()])
            done.clear()
        reader = self.reader
        held = [bytes(reader._buffer), reader._paused] if pieces else []
        self.trace.append([self.lost(), reader._eof, *held])


class Conversation(Run):
    """A conversation on a loop."""

    module: Any
    kind: str
    pieces: bool

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.ends = [End(), End()]
        # How much was noted at the last rest before the connection broke: what is seen after that
        # depends on who looks first.
        self.known: list[int] | None = None
        self.rested = [0, 0]

    def on_exception(self, loop: Any, context: dict[str, Any]) -> None:
        self.reports.append([context["message"], raised(context.get("exception"))])

    def state(self) -> Any:
        return [[len(end.reader._buffer), *map(len, end.done), end.lost()] for end in self.ends]

    async def rest(self) -> None:
        await super().rest()
        if self.known is None and any(end.broken() for end in self.ends):
            self.known = self.rested
        for end in self.ends:
            end.at_rest(self.pieces)
        self.rested = [len(end.trace) for end in self.ends]

    def prepare(self, end: socket.socket) -> None:
        end.setblocking(False)
        if end.family == socket.AF_INET:  # what accept() returned has no protocol asyncio knows
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        elif not self.pieces:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)

    def options(self, server: bool) -> dict[str, Any]:
        """For what connects and serves."""
        return {}

    async def secure(self, end: End, server: bool) -> None:
        """What is to be done with a new connection before it is used."""

    def spared(self, end: End, other: End, step: Any) -> bool:
        """Whether a step is left out now."""
        # What is written to who has closed is answered by a reset, which this or the next one to
        # write finds.
        return step[0].startswith("write") and self.kind == "tcp" and other.writer.is_closing()

    async def before_close(self) -> None:
        """Whatever has to be over by then."""

    async def opened(self, limits: Any) -> None:
        ends = connected_pair(socket.AF_INET if self.kind == "tcp" else socket.AF_UNIX)
        for end, sock, limit in zip(self.ends, ends, limits, strict=True):
            self.prepare(sock)
            end.has(*await self.module.open_connection(sock=sock, limit=limit))

    async def served(self, limits: Any, steps: list[Any], fails: bool) -> None:
        """The second is a server's."""
        came = self.loop.create_future()
        end = self.ends[1]

        def welcome(reader: Any, writer: Any) -> None:
            self.prepare(writer.get_extra_info("socket"))
            end.has(reader, writer)
            came.set_result(None)

        async def serve(reader: Any, writer: Any) -> None:
            welcome(reader, writer)
            await self.secure(end, True)
            end.do(("task", steps))
            await end.tasks[0]
            if fails and not self.spared(end, self.ends[0], ("close",)):
                end.closed = True
                raise LookupError("of the callback")

        family = socket.AF_INET if self.kind == "tcp" else socket.AF_UNIX
        with socket.socket(family) as listener:
            listener.bind(("127.0.0.1", 0) if self.kind == "tcp" else "")
            listener.listen()
            listener.setblocking(False)
            start = (
                self.module.start_server if self.kind == "tcp" else (self.module.start_unix_server)
            )
            server = await start(
                serve if steps else welcome,
                sock=listener,
                limit=limits[1],
                **self.options(True),
            )
            sock = socket.socket(family)
            sock.connect(listener.getsockname())
            self.prepare(sock)
            client = self.ends[0]
            connected = self.module.open_connection(
                sock=sock, limit=limits[0], **self.options(False)
            )
            client.has(*await connected)
            await came
            both = [self.secure(client, False), *([] if steps else [self.secure(end, True)])]
            await asyncio.gather(*both)
            server.close()

    @classmethod
    def alike(cls, streams: str, kind: str, pieces: bool, *arguments: Any) -> None:
        theirs = cls.on(asyncio.SelectorEventLoop, asyncio, kind, pieces, *arguments)
        module = {"asyncio": asyncio, "pyev": pyev}[streams]
        ours = cls.on(pyev.new_event_loop, module, kind, pieces, *arguments)
        if theirs.known is None and ours.known is None:
            assert ours.reports == theirs.reports
        for our, their, both in zip(ours.ends, theirs.ends, limits(ours, theirs), strict=True):
            assert our.trace[:both] == their.trace[:both]

    async def main(
        self, module: Any, kind: str, pieces: bool, plan: Any, conversation: Any
    ) -> None:
        self.module, self.kind, self.pieces = module, kind, pieces
        if plan["served"] is None:
            await self.opened(plan["limits"])
        else:
            await self.served(plan["limits"], *plan["served"])
        await self.rest()
        for number, step, rests in conversation:
            end, other = self.ends[number], self.ends[1 - number]
            if self.spared(end, other, step):
                continue
            if step[0] == "close":
                await self.before_close()
            end.step(step)
            if rests:
                await self.rest()
        await self.rest()
        for end, other in zip(self.ends, self.ends[::-1], strict=True):
            if not self.spared(end, other, ("close",)):
                end.step(("close",))
        await self.rest()
        for end in self.ends:
            if not end.lost():
                end.writer.transport.abort()
        await self.rest()
        assert all(end.lost() for end in self.ends)
        for end in self.ends:
            for task in end.tasks:
                task.cancel()
            await asyncio.gather(*end.tasks, return_exceptions=True)
            end.at_rest(self.pieces)


def limits(*runs: Conversation) -> Iterator[int | None]:
    known = [run.known for run in runs if run.known is not None]
    return iter(map(min, zip(*known, strict=True)) if known else [None, None])
