"""Random datagrams between two endpoints, and random calls of sock_recv() and its kin: on our loop
all goes, step by step, as on asyncio's own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from net_kit import SMALL, some_bytes

import pyev
from alike_kit import Run, connected_pair, examples


class Sockets(Run):
    """What is done with sockets on a loop."""

    def socket(self, family: int, kind: int) -> socket.socket:
        """Which has a name."""
        sock = self.stack.enter_context(socket.socket(family, kind))
        sock.bind(("127.0.0.1", 0) if family == socket.AF_INET else "")
        sock.setblocking(False)
        if family == socket.AF_UNIX:  # full at once, and empty at once
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        return sock


def raised(error: BaseException) -> Any:
    return [type(error), getattr(error, "errno", None)]


# Endpoints. Both of a pair have names: asyncio takes an end without one for not connected. Not all
# versions of asyncio send what is empty, and count 8 bytes more for each datagram that waits: the
# sizes and marks are such that this makes no difference.

SIZES = st.sampled_from([1, 700, 5000])
MARKS = st.sampled_from([None, 0, 4000, 100_000])
PLACES = st.sampled_from(["none", "other", "itself", "peer", "nobody"])

sends = st.tuples(st.just("sendto"), SIZES, st.sampled_from([bytes, bytearray, memoryview]), PLACES)
many = st.tuples(
    st.just("send many"), st.integers(2, 12), SIZES, st.sampled_from(["none", "other"])
)
step = st.one_of(
    sends,
    many,
    many,
    st.tuples(st.just("peer sends"), st.sampled_from([0, 1, 700])),
    st.tuples(st.just("send wrong"), st.sampled_from(["text", None, 7, [b"a"]])),
    st.tuples(
        st.just("send nowhere"),
        st.sampled_from(["text", 7, (), ("127.0.0.1",), ("127.0.0.1", 65536), ("127.0.0.1", "x")]),
    ),
    st.tuples(st.just("set_write_buffer_limits"), MARKS, MARKS),
    st.tuples(
        st.sampled_from(
            [
                "close",
                "abort",
                "is_closing",
                "pause_reading",
                "resume_reading",
                "is_reading",
                "get_write_buffer_limits",
                "set_protocol",
                "raise",
            ]
        )
    ),
)
# What it does in a callback, once: one of them, as their order is nobody's promise.
events = st.sampled_from(["made", "datagram", "error", "pause", "resume", "lost"])
reactions = st.dictionaries(events, st.lists(step, max_size=3), max_size=1)
talk = st.lists(st.tuples(st.integers(0, 1), step, st.booleans()), max_size=10)


class End:
    """What a protocol sees and does."""

    def __init__(self, run: Endpoints, number: int, reactions: Any) -> None:
        self.run, self.number, self.reactions = run, number, dict(reactions)
        self.transport: Any = None
        self.received: list[Any] = []
        self.trace: list[Any] = []
        self.lost = asyncio.Event()

    def saw(self, event: str, *what: Any) -> None:
        (self.received if event == "datagram" else self.trace).append([event, *what])
        if steps := self.reactions.pop(event, ()):
            self.run.reacts(steps)
        for step in steps:
            self.do(step)

    def is_lost(self, error: BaseException | None) -> None:
        self.lost.set()
        self.saw("lost", error and raised(error))

    def do(self, step: Any) -> None:
        what, arguments = step[0], step[1:]
        transport, run = self.transport, self.run
        if what == "raise":
            raise ZeroDivisionError("of the protocol")
        if what.startswith("send") and transport.is_closing():
            # Dropped; asyncio's own sends it without a remote_addr, as long as nothing waits.
            return
        if what == "set_write_buffer_limits" and transport.is_closing():
            return  # asyncio's own still counts what abort() has dropped
        if what == "send nowhere" and transport.get_write_buffer_size():
            return  # it ends the endpoint later, and asyncio's own looks into what it let go of
        try:
            match what:
                case "sendto":
                    size, kind, place = arguments
                    place = run.places[self.number][place]
                    result = transport.sendto(kind(some_bytes(size)), place)
                case "send many":
                    count, size, place = arguments
                    for number in range(count):
                        data = some_bytes(size, number)
                        result = transport.sendto(data, run.places[self.number][place])
                case "peer sends":
                    run.peer_sends(self.number, some_bytes(arguments[0]))
                    return
                case "send wrong":
                    result = transport.sendto(*arguments)
                case "send nowhere":
                    result = transport.sendto(b"nowhere", *arguments)
                case "set_protocol":
                    result = transport.set_protocol(Protocol(self))
                case _:
                    result = getattr(transport, what)(*arguments)
        except Exception as error:
            result = raised(error)
        # asyncio's own raises AttributeError for some calls after the end.
        self.trace.append([what, *map(str, arguments), self.lost.is_set() or result])


class Protocol(asyncio.DatagramProtocol):
    def __init__(self, end: End) -> None:
        self.end = end
        self.connection_lost = end.is_lost
        self.error_received = lambda error: end.saw("error", raised(error))
        self.pause_writing = lambda: end.saw("pause")
        self.resume_writing = lambda: end.saw("resume")

    def connection_made(self, transport: Any) -> None:
        self.end.transport = transport
        self.end.saw("made")

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.end.saw("datagram", data, self.end.run.names.get(address, address))


class Endpoints(Sockets):
    """Two of them."""

    ends: list[End]
    names: dict[Any, str]
    places: list[dict[str, Any]]
    # How much was noted at the last rest before one end acted on the other's acts at once.
    known: list[Any] | None = None
    rested: list[Any]

    def reacts(self, steps: Any) -> None:
        ends = ("close", "abort", "send nowhere")
        if self.known is None and any(step[0] in ends for step in steps):
            self.known = self.rested

    def connected(self, kind: str, number: int) -> bool:
        return kind.endswith("connected") or (kind.endswith("remote") and number == 0)

    def peer_sends(self, number: int, data: bytes) -> None:
        with contextlib.suppress(OSError):  # to who has gone, or is full
            self.peer.sendto(data, self.addresses[number])

    def state(self) -> Any:
        return [[len(end.received), len(end.trace)] for end in self.ends]

    async def connect(self, kind: str) -> None:
        family = socket.AF_UNIX if kind.startswith("unix") else socket.AF_INET
        pair = [self.socket(family, socket.SOCK_DGRAM) for _ in range(2)]
        self.peer = self.socket(family, socket.SOCK_DGRAM)
        nobody = self.socket(family, socket.SOCK_DGRAM)
        self.addresses = [sock.getsockname() for sock in pair]
        self.places = [
            {
                # Without an address the kernel says what is wrong, on asyncio's own the socket.
                "none": None if self.connected(kind, number) else self.addresses[1 - number],
                "other": self.addresses[1 - number],
                "itself": self.addresses[number],
                "peer": self.peer.getsockname(),
                "nobody": nobody.getsockname(),
            }
            for number in range(2)
        ]
        self.names = dict(zip(self.addresses, "ab", strict=True))
        self.names[self.peer.getsockname()] = "peer"
        nobody.close()
        if kind.endswith("connected"):
            for sock, other in zip(pair, reversed(pair), strict=True):
                sock.connect(other.getsockname())
        for sock, end in zip(pair, self.ends, strict=True):
            options: dict[str, Any] = {"sock": sock}
            if kind.endswith("remote"):
                local, remote = sock.getsockname(), self.places[end.number]["other"]
                sock.close()
                if end.number == 0:  # and the other is not connected
                    options = {"local_addr": local, "remote_addr": remote}
                else:
                    options = {"local_addr": local}
                if family == socket.AF_UNIX:
                    options = {one: name.decode() for one, name in options.items()}
                    options["family"] = family
                if end.number == 0:
                    later, options = options, {}
                    continue
            await self.loop.create_datagram_endpoint(lambda end=end: Protocol(end), **options)
        if kind.endswith("remote"):
            await self.loop.create_datagram_endpoint(lambda: Protocol(self.ends[0]), **later)

    async def main(self, kind: str, reactions: Any, steps: Any) -> None:
        self.ends = [End(self, number, given) for number, given in enumerate(reactions)]
        if kind.endswith("remote"):  # the other is to connect to it
            self.ends[1].reactions.pop("made", None)
        self.rested = self.state()
        await self.connect(kind)
        await self.rest()
        self.rested = self.state()
        for number, step, rests in steps:
            with contextlib.suppress(ZeroDivisionError):
                self.ends[number].do(step)
            if rests:
                await self.rest()
                self.note("at rest")
        await self.rest()
        self.note("after all")
        for end in self.ends:
            if not end.lost.is_set():
                end.transport.resume_reading()
        await self.rest()
        self.note("resumed")
        for end in self.ends:
            end.transport.close()
        await self.rest()
        self.note("closed")
        for end in self.ends:
            if not end.lost.is_set():
                end.transport.abort()
        await self.rest()
        assert all(end.lost.is_set() for end in self.ends)

    def note(self, when: str) -> None:
        for end in self.ends:
            end.trace.append([when, end.lost.is_set(), len(end.received)])
        self.rested = self.state()


@pytest.mark.parametrize(
    "kind",
    ["udp", "udp connected", "udp remote", "unix", "unix connected", "unix remote"],
)
@examples(40)
@given(reactions=st.tuples(reactions, reactions), steps=talk)
def test_endpoints(kind: str, reactions: Any, steps: Any) -> None:
    theirs = Endpoints.on(asyncio.SelectorEventLoop, kind, reactions, steps)
    ours = Endpoints.on(pyev.new_event_loop, kind, reactions, steps)
    known = [one.known for one in (ours, theirs) if one.known is not None]
    if not known:
        assert ours.reports == theirs.reports
    for our, their in zip(ours.ends, theirs.ends, strict=True):
        received = min([one[our.number][0] for one in known], default=None)
        trace = min([one[our.number][1] for one in known], default=None)
        assert our.trace[:trace] == their.trace[:trace]
        assert our.received[:received] == their.received[:received]


# Operations on sockets.

AMOUNTS = st.sampled_from([0, 1, 10, 1000])
names = st.sampled_from(["sock_recv", "sock_recvfrom", "sock_recv_into", "sock_recvfrom_into"])

operation = st.one_of(
    st.tuples(names, st.sampled_from([0, 1, 10, 1000])),
    st.tuples(names, st.sampled_from([1, 10, 1000])),
    st.tuples(st.sampled_from(["sock_sendall", "sock_sendto"]), AMOUNTS),
    st.tuples(st.just("sock_recvfrom_into part"), st.integers(0, 20)),
    st.tuples(st.sampled_from(["sock_accept", "sleep"])),
    st.tuples(st.just("sock_connect"), st.sampled_from(["listener", "nobody", "wrong", "none"])),
    st.tuples(
        st.sampled_from(["recv wrong", "send wrong", "send to wrong"]),
        st.sampled_from(["text", None, -1, (), b"bytes"]),
    ),
)
on_sockets = st.one_of(
    st.tuples(st.just("task"), st.lists(operation, min_size=1, max_size=3)),
    st.tuples(st.just("task"), st.lists(operation, min_size=1, max_size=3)),
    st.tuples(st.just("send"), AMOUNTS),
    st.tuples(st.just("fill")),
    st.tuples(st.just("empty")),
    st.tuples(st.just("cancel"), st.integers(0, 3)),
    st.tuples(st.just("shutdown")),
    st.tuples(st.sampled_from(["add_reader", "add_writer", "remove_reader", "remove_writer"])),
)
calls = st.lists(st.tuples(st.integers(0, 1), on_sockets, st.booleans()), max_size=10)


class Operations(Sockets):
    """Two sockets that are connected to each other, and one that listens."""

    async def main(self, family: int, kind: int, steps: Any) -> None:
        self.family = family
        if kind == socket.SOCK_DGRAM:
            self.pair = [self.socket(family, kind) for _ in range(2)]
            for sock, other in zip(self.pair, reversed(self.pair), strict=True):
                sock.connect(other.getsockname())
        else:
            self.pair = [self.stack.enter_context(sock) for sock in connected_pair(family)]
        for sock in self.pair:
            sock.setblocking(False)
        self.listener = self.socket(family, socket.SOCK_STREAM)
        self.listener.listen()
        self.nobody = self.socket(family, socket.SOCK_STREAM)  # who does not listen
        self.addresses = {
            sock.getsockname(): name for sock, name in zip(self.pair, "ab", strict=True)
        }
        self.tasks: list[list[asyncio.Task[None]]] = [[], []]
        self.done: list[list[list[Any]]] = [[], []]
        self.ready: list[list[Any]] = [[], []]
        self.trace: list[Any] = []
        for number, step, rests in steps:
            try:
                result = self.do(number, step)
            except Exception as error:
                result = raised(error)
            self.trace.append([number, step[0], result])
            if rests:
                await self.rest()
                self.note()
        await self.rest()
        self.note()
        for tasks in self.tasks:
            for task in tasks:
                task.cancel()
        await self.rest()
        self.note()
        for sock in self.pair:
            self.trace.append([self.loop.remove_reader(sock), self.loop.remove_writer(sock)])

    def state(self) -> Any:
        return [[len(done) for done in both] for both in [*self.done, self.ready]]

    def note(self) -> None:
        for number in range(2):
            for task, done in zip(self.tasks[number], self.done[number], strict=True):
                self.trace.append([*done, task.done()])
                done.clear()
            self.trace.append(self.ready[number])
            self.ready[number] = []

    def do(self, number: int, step: Any) -> Any:
        what, arguments = step[0], step[1:]
        sock, tasks = self.pair[number], self.tasks[number]
        match what:
            case "task":
                done: list[Any] = []
                self.done[number].append(done)
                tasks.append(asyncio.ensure_future(self.coroutine(sock, done, arguments[0])))
            case "cancel":
                return arguments[0] < len(tasks) and tasks[arguments[0]].cancel()
            case "send":
                return sock.send(some_bytes(arguments[0]))
            case "fill":
                with contextlib.suppress(BlockingIOError):
                    for _ in range(100):  # UDP would never be full
                        sock.send(bytes(5000))
            case "empty":
                with contextlib.suppress(BlockingIOError):
                    while sock.recv(1 << 20):
                        pass
            case "shutdown":
                return sock.shutdown(socket.SHUT_WR)
            case "add_reader" | "add_writer":
                remove = getattr(self.loop, what.replace("add", "remove"))

                def ready() -> None:
                    self.ready[number].append([what, remove(sock)])

                getattr(self.loop, what)(sock, ready)
            case _:
                return getattr(self.loop, what)(sock)

    async def coroutine(self, sock: Any, done: list[Any], steps: list[Any]) -> None:
        for step in steps:
            try:
                result = await self.operation(sock, *step)
            except asyncio.CancelledError:
                done.append("cancelled")
                raise
            except Exception as error:
                result = raised(error)
            done.append([step[0], result])

    async def operation(self, sock: Any, what: str, argument: Any = None) -> Any:
        loop = self.loop
        address = self.nobody.getsockname()
        match what:
            case "sock_recv":
                return await loop.sock_recv(sock, argument)
            case "sock_recvfrom":
                data, sender = await loop.sock_recvfrom(sock, argument)
                return data, self.addresses.get(sender, sender)
            case "sock_recv_into":
                buffer = bytearray(argument)
                return await loop.sock_recv_into(sock, buffer), buffer
            case "sock_recvfrom_into" | "sock_recvfrom_into part":
                part = [argument] if what.endswith("part") else []
                buffer = bytearray(10 if part else argument)
                size, sender = await loop.sock_recvfrom_into(sock, buffer, *part)
                return size, self.addresses.get(sender, sender), buffer
            case "sock_sendall":
                return await loop.sock_sendall(sock, some_bytes(argument))
            case "sock_sendto":
                other = self.pair[1 - self.pair.index(sock)].getsockname()
                return await loop.sock_sendto(sock, some_bytes(argument), other)
            case "sock_accept":
                accepted, _ = await loop.sock_accept(self.listener)
                with accepted:
                    return accepted.gettimeout()
            case "sock_connect":
                where = {"listener": self.listener.getsockname(), "nobody": address, "none": None}
                with socket.socket(self.family) as own:
                    own.setblocking(False)
                    return await loop.sock_connect(own, where.get(argument, ("127.0.0.1",)))
            case "recv wrong":
                return await loop.sock_recv(sock, argument)
            case "send wrong":
                return await loop.sock_sendall(sock, argument)
            case "send to wrong":
                return await loop.sock_sendto(sock, b"data", argument)
            case _:
                return await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        pytest.param(socket.AF_INET, socket.SOCK_STREAM, id="tcp"),
        pytest.param(socket.AF_INET, socket.SOCK_DGRAM, id="udp"),
        pytest.param(socket.AF_UNIX, socket.SOCK_STREAM, id="unix"),
        pytest.param(socket.AF_UNIX, socket.SOCK_DGRAM, id="unix datagrams"),
    ],
)
@examples(60)
@given(steps=calls)
def test_operations(family: int, kind: int, steps: Any) -> None:
    theirs = Operations.on(asyncio.SelectorEventLoop, family, kind, steps)
    ours = Operations.on(pyev.new_event_loop, family, kind, steps)
    assert ours.trace == theirs.trace
    assert ours.reports == theirs.reports
