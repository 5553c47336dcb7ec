"""Random use of pipe transports: on our loop their protocols see, step by step, what they see on
asyncio's own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import socket
import tempfile
import tty
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from net_kit import SMALL, some_bytes

import pyev
from alike_kit import Connection, End, Whole, examples

# Of each channel, the ends are a transport each, or one of them is only a descriptor. As in
# test_alike.py, what is done are steps of one end, and of its protocol's callbacks once each.

# Whole pages, but on a terminal: a pipe has so many of them, and how it fills them depends on the
# pieces that come.
PAGE = 4096
SIZES = st.sampled_from([0, PAGE, 3 * PAGE, 48 * PAGE])
MARKS = st.sampled_from([None, 0, 1, 1000, 100_000])

step = st.one_of(
    st.tuples(st.just("write"), SIZES, st.sampled_from([bytes, bytearray, memoryview])),
    st.tuples(st.just("writelines"), st.lists(SIZES, max_size=3)),
    st.tuples(st.sampled_from(["write wrong", "writelines wrong"])),
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
                "get_write_buffer_size",
                "get_write_buffer_limits",
                "set_protocol",
                "get_protocol",
                "raise",
            ]
        )
    ),
)
steps = st.lists(step, max_size=3)
events = ["made", "data", "eof", "pause", "resume", "lost"]
reactions = st.dictionaries(st.sampled_from(events), steps, max_size=3)
use = st.lists(st.tuples(st.integers(0, 1), step, st.booleans()), max_size=8)

METHODS_OF_BOTH = {"close", "is_closing", "set_protocol", "get_protocol"}
METHODS = [
    METHODS_OF_BOTH | {"pause_reading", "resume_reading", "is_reading"},
    METHODS_OF_BOTH
    | {
        *("write", "writelines", "write_eof", "can_write_eof", "abort"),
        *("set_write_buffer_limits", "get_write_buffer_limits", "get_write_buffer_size"),
    },
]


class PipeEnd(End):
    """0 reads, 1 writes."""

    file: Any = None
    sent = 0

    def react(self, event: str, step: Any) -> None:
        # What the kernel has room for then depends on how much was read at once, and on the end
        # asyncio's own calls connection_lost() twice.
        if event != "resume" or not ("write" in step[0] or step[0] in ("close", "abort")):
            self.do(step)

    def do(self, step: Any) -> None:
        what, arguments = step[0], step[1:]
        if what == "raise":
            self.note("raises")
            raise ZeroDivisionError("of the protocol")
        name, wrong, _ = what.partition(" wrong")
        transport = self.transport
        if name not in METHODS[self.number] or (name == "abort" and self.lose_twice()):
            return
        if self.run.kind == "terminal":  # it takes what it has room for when its other end is read
            arguments = tuple(number and 100 for number in arguments[:1]) + arguments[1:]
        if what == "abort":
            self.run.breaks()
        try:
            match what:
                case "write":
                    size, kind = arguments
                    result = transport.write(kind(some_bytes(size)))
                case "writelines":
                    sizes = arguments[0] if self.run.kind != "terminal" else [1, 2]
                    result = transport.writelines([some_bytes(size) for size in sizes])
                case "write wrong":
                    result = transport.write("text")
                case "writelines wrong":
                    result = transport.writelines([b"x", 7])
                case "set_protocol":
                    result = transport.set_protocol(Whole(self))
                case "get_protocol":
                    found = transport.get_protocol()
                    result = found is not None and found.end is self
                case _:
                    result = getattr(transport, name)(*arguments)
        except AssertionError:
            result = TypeError  # it is one on ours
        except Exception as error:
            result = type(error)
        else:
            if what in ("write", "writelines") and not transport.is_closing():
                self.sent += arguments[0] if what == "write" else sum(sizes)
        self.note(what, *arguments, result)

    def lose_twice(self) -> bool:
        """Whether abort() would have asyncio's own call connection_lost() twice."""
        return self.transport.is_closing() and not self.transport.get_write_buffer_size()

    def made(self, transport: Any) -> None:
        self.transport = transport
        self.saw("made", transport.get_extra_info("pipe") is self.file)


def open_ends(kind: str) -> list[Any]:
    """The files that are read and written."""
    if kind == "pipe":
        read, write = os.pipe()
    elif kind == "fifo":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "fifo"
            os.mkfifo(path)
            read = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            write = os.open(path, os.O_WRONLY)
    elif kind == "socket":
        ends = socket.socketpair()
        for end in ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        read, write = (end.detach() for end in ends)
    else:
        read, write = pty.openpty()
        tty.setraw(write)
    return [open(read, "rb", 0), open(write, "wb", 0)]


class Pipes(Connection):
    """The use of a channel on a loop."""

    async def main(self, kind: str, plans: Any, alone: int | None, use: Any) -> None:
        self.kind = kind
        self.ends = [PipeEnd(self, number, plan) for number, plan in enumerate(plans)]
        tasks = []
        for end, file in zip(self.ends, open_ends(kind), strict=True):
            end.file = file
            if end.number == alone:
                os.set_blocking(file.fileno(), False)
                continue
            name = "connect_write_pipe" if end.number else "connect_read_pipe"
            connected = getattr(self.loop, name)(lambda end=end: Whole(end), file)
            tasks.append(self.loop.create_task(connected))
        await self.rest()
        for transport, found in await asyncio.gather(*tasks):
            found.end.note("connected", transport is found.end.transport)
        for number, step, rests in use:
            end = self.ends[number]
            if number == alone:
                await self.rest()
                self.by_hand(end, step)
                await self.rest()
                continue
            with contextlib.suppress(ZeroDivisionError):
                end.do(step)
            if rests:
                await self.settle()
        await self.settle()
        for end in self.ends:
            if end.transport is not None and not end.lost:
                end.note("at rest", end.transport.is_closing())
                if end.number == 0:
                    end.transport.resume_reading()
        await self.settle()
        for end in self.ends:
            if end.transport is not None:
                end.transport.close()
        await self.rest()
        for end in self.ends:
            end.note("at the end", end.lost, len(end.data), end.file.closed)
            if end.number == 1 and end.transport is not None and not end.lost:
                end.transport.abort()
        await self.rest()
        assert all(end.lost for end in self.ends if end.transport)
        for end in self.ends:
            end.file.close()

    async def rest(self) -> None:
        """A terminal's bytes are brought by a thread of the kernel's."""
        await super().rest()
        reading, writing = self.ends
        while (
            self.kind == "terminal"
            and self.known is None
            and reading.transport.is_reading()
            and len(reading.data) < writing.sent
        ):
            await super().rest()

    async def settle(self) -> None:
        await self.rest()
        for end in self.ends:
            end.note("has", len(end.data))

    def by_hand(self, end: PipeEnd, step: Any) -> None:
        """A step of an end that is no transport."""
        if end.file.closed:
            return
        try:
            match step[0]:
                case "write" | "get_write_buffer_size" if end.number == 1:
                    end.note("writes", end.file.write(some_bytes(100)))
                case "write" | "get_write_buffer_size":
                    end.note("reads", end.file.read(PAGE))
                case "writelines" | "is_closing" if self.kind == "socket":
                    # A socket has both directions, and nobody is to write in this one.
                    end.note(os.write(end.file.fileno(), b"x") if end.number == 0 else None)
                case "close" | "abort":
                    end.file.close()
        except OSError as error:
            end.note(type(error))


@pytest.mark.parametrize("kind", ["pipe", "fifo", "socket", "terminal"])
@examples(80)
@given(
    plans=st.tuples(reactions, reactions),
    alone=st.sampled_from([None, None, 0, 1]),
    use=use,
)
def test_use(kind: str, plans: Any, alone: int | None, use: Any) -> None:
    if kind == "terminal":
        alone = None
    theirs = Pipes.on(asyncio.SelectorEventLoop, kind, plans, alone, use)
    ours = Pipes.on(pyev.new_event_loop, kind, plans, alone, use)
    ours.compare(theirs)
