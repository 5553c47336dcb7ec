"""Random conversations of two transports: on our loop both protocols see, step by step, what they
see on asyncio's own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from net_kit import SMALL, some_bytes
from tls_kit import TLS_1_2, TLS_1_3, client_context, server_context

import pyev
from alike_kit import (
    KEEPS_EMPTY_PIECES,
    Buffered,
    Connection,
    End,
    Whole,
    connected_pair,
    examples,
)

# A conversation is steps, of a side each, and after some of them all that was set off comes to
# rest. A side also has what it does in its protocol's callbacks: once each, so that it ends.

SIZES = st.sampled_from([0, 1, 100, 5000, 70_000])
PIECES = SIZES.filter(bool) if KEEPS_EMPTY_PIECES else SIZES
MARKS = st.sampled_from([None, 0, 1, 1000, 100_000])

step = st.one_of(
    st.tuples(st.just("write"), SIZES, st.sampled_from([bytes, bytearray, memoryview])),
    st.tuples(st.just("writelines"), st.lists(PIECES, max_size=3)),
    st.tuples(st.just("write wrong"), st.sampled_from(["text", None, 7])),
    st.tuples(st.just("set_write_buffer_limits"), MARKS, MARKS),
    st.tuples(
        st.sampled_from(
            [
                "write_eof",
                "can_write_eof",
                "close",
                "abort",
                "pause_reading",
                "resume_reading",
                "is_reading",
                "is_closing",
                "get_write_buffer_limits",
                "set_protocol",
                "raise",
            ]
        )
    ),
)
steps = st.lists(step, max_size=3)
events = ["made", "data", "eof", "pause", "resume", "lost"]
reactions = st.dictionaries(st.sampled_from(events), steps, max_size=3)
side = st.fixed_dictionaries(
    {"reactions": reactions, "keeps open": st.booleans(), "buffered": st.booleans()}
)
conversation = st.lists(st.tuples(st.integers(0, 1), step, st.booleans()), max_size=8)


class Side(End):
    """What one of the protocols sees and does."""

    def __init__(self, run: Conversation, number: int, plan: dict[str, Any]) -> None:
        super().__init__(run, number, plan["reactions"])
        self.plan = plan
        # Whether there is no telling how much it has got: it paused, or has closed TLS.
        self.paused = self.closed = False

    def protocol(self, buffered: bool) -> Any:
        return (Buffered if buffered else Whole)(self)

    def differs(self, what: str) -> bool:
        """Whether it does something else to TLS on asyncio's own loop, as it is done there."""
        match what:
            case "set_write_buffer_limits":  # its protocol pauses at nothing, and counts records
                return True
            case "pause_reading":  # a handshake is not ended then
                return not self.run.connected
            case "close":  # what has come is still received
                return not self.run.connected
            case "abort" | "raise":  # its last records are not sent, or what is paused is read
                return not self.run.connected or self.paused
        return False

    def do(self, step: Any) -> None:
        what, arguments = step[0], step[1:]
        transport = self.transport
        other = self.run.ends[1 - self.number].transport
        if what.startswith("write") and self.run.kind == "tcp" and other and other.is_closing():
            # It is answered by a reset: what is written in one turn is one segment, or several of
            # which the second finds that. Unix sockets tell at once.
            return
        if self.run.kind.startswith("tls") and self.differs(what):
            return
        self.breaks_off(what)
        try:
            match what:
                case "write":
                    size, kind = arguments
                    result = transport.write(kind(some_bytes(size)))
                case "writelines":
                    result = transport.writelines([some_bytes(size) for size in arguments[0]])
                case "write wrong":
                    result = transport.write(arguments[0])
                case "set_protocol":
                    result = transport.set_protocol(self.protocol(not self.plan["buffered"]))
                case _:
                    result = getattr(transport, what)(*arguments)
        except Exception as error:
            result = type(error)
        self.paused = self.paused or what == "pause_reading"
        self.closed = self.closed or (what == "close" and self.run.kind.startswith("tls"))
        if what.startswith("write") and self.run.kind == "tcp":
            return
        # asyncio's own raises AttributeError for some calls after the end.
        self.note(what, *arguments, self.lost or result)

    def ended(self) -> bool:
        super().ended()
        return self.plan["keeps open"]


class Conversation(Connection):
    kind: str
    connected = False

    async def connect(self, kind: str) -> None:
        version = {"tls 1.2": TLS_1_2, "tls 1.3": TLS_1_3}.get(kind)
        ends = connected_pair(socket.AF_INET if kind == "tcp" else socket.AF_UNIX)
        tasks = []
        for end, side in zip(ends, self.ends, strict=True):
            end.setblocking(False)
            if end.family == socket.AF_UNIX:  # full at once, and empty at once: no timer decides
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
            else:  # what accept() returned has no protocol that asyncio knows
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server = side.number == 1
            options: dict[str, Any] = {}
            if version:
                context = server_context(version) if server else client_context(version)
                options = {"ssl": context} | ({} if server else {"server_hostname": "localhost"})
            factory = functools.partial(side.protocol, side.plan["buffered"])
            if server:
                connected = self.loop.connect_accepted_socket(factory, end, **options)
            else:
                connected = self.loop.create_connection(factory, sock=end, **options)
            tasks.append(self.loop.create_task(connected))
        await self.rest()
        for side, task in zip(self.ends, tasks, strict=True):
            side.note("connected", task.done())
            self.connected = True
            task.cancel()
        for side, found in zip(
            self.ends, await asyncio.gather(*tasks, return_exceptions=True), strict=True
        ):
            if isinstance(found, BaseException):
                side.note(type(found))
        await self.rest()

    async def main(self, kind: str, plans: Any, conversation: Any) -> None:
        self.kind = kind
        self.ends = [Side(self, number, plan) for number, plan in enumerate(plans)]
        await self.connect(kind)
        for number, step, rests in conversation:
            side = self.ends[number]
            if side.transport is None:
                continue
            with contextlib.suppress(ZeroDivisionError):
                side.do(step)
            if rests:
                await self.rest()
                for side in self.ends:
                    side.note("has", side.paused or side.closed or len(side.data))
        await self.rest()
        for side in self.ends:
            side.note("at rest", side.transport and side.transport.is_closing())
        for side in self.ends:
            if side.transport is not None and not side.lost:
                side.transport.resume_reading()
        await self.rest()
        for side in self.ends:
            if side.transport is not None:
                side.transport.close()
        await self.rest()
        for side in self.ends:
            side.note("at the end", side.lost, side.closed or len(side.data))
            if side.transport is not None and not side.lost:
                side.transport.abort()
        await self.rest()
        assert all(side.lost for side in self.ends if side.transport)


@pytest.mark.parametrize("kind", ["tcp", "unix", "tls 1.2", "tls 1.3"])
@examples(60)
@given(plans=st.tuples(side, side), conversation=conversation)
def test_conversations(kind: str, plans: Any, conversation: Any) -> None:
    theirs = Conversation.on(asyncio.SelectorEventLoop, kind, plans, conversation)
    # What comes after close() is an error on asyncio's own, and dropped on ours; and it looks into
    # what it has let go of, if resume_writing() closes.
    assume(not any("SSLError" in one or "AttributeError" in one for one in theirs.seen()))
    Conversation.on(pyev.new_event_loop, kind, plans, conversation).compare(theirs)
