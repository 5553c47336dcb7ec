"""What the tests of transports stand on: protocols that remember, peers that are no transports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import struct
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

TIMEOUT = float(os.environ.get("PYEV_TEST_TIMEOUT", "40"))  # bounds a hang, measures nothing
BYTES = random.Random(1).randbytes(1 << 20)  # a piece lost or moved shows


def some_bytes(size: int, start: int = 0) -> bytes:
    start %= 4093
    if start + size > len(BYTES):
        return (BYTES[start:] + BYTES * (size // len(BYTES) + 1))[:size]
    return BYTES[start : start + size]


class Remembering:
    """Half a protocol: what it was called with, in order, and a way to wait for more of it."""

    keep_open: Any = None

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.wrong: list[str] = []  # calls that may not be
        self.data = bytearray()
        self.transport: Any = None
        self.reason: BaseException | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def note(self, name: str) -> None:
        if (name == "made") != (not self.calls) or "lost" in self.calls:
            self.wrong.append(f"{name} after {self.calls}")
        if name in ("data", "eof") and "eof" in self.calls:
            self.wrong.append(f"{name} after {self.calls}")
        self.calls.append(name)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    async def called(self, name: str) -> None:
        await self.until(lambda: name in self.calls)

    async def lost(self) -> BaseException | None:
        await self.called("lost")
        return self.reason

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("made")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.reason = exc
        self.note("lost")

    def eof_received(self) -> Any:
        self.note("eof")
        return self.keep_open

    def pause_writing(self) -> None:
        if self.paused:
            self.wrong.append("pause_writing twice")
        self.note("pause")

    def resume_writing(self) -> None:
        if not self.paused:
            self.wrong.append("resume_writing without pause_writing")
        self.note("resume")

    @property
    def paused(self) -> bool:
        return self.calls.count("pause") > self.calls.count("resume")


class Recorder(Remembering, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        if type(data) is not bytes or not data:
            self.wrong.append(f"data_received({data!r})")
        self.data += data
        self.note("data")


class BufferedRecorder(Remembering, asyncio.BufferedProtocol):
    def __init__(self, size: int = 1000) -> None:
        super().__init__()
        self.buffer = bytearray(size)

    def get_buffer(self, sizehint: int) -> Any:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if nbytes <= 0:
            self.wrong.append(f"buffer_updated({nbytes})")
        self.data += self.buffer[:nbytes]
        self.note("data")


class Peer:
    """The other end of a transport: a socket, which nobody reads but the test."""

    def __init__(self, loop: Any, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.loop, self.sock = loop, sock

    async def read(self, size: int) -> bytes:
        """So many bytes, or what there is before the end."""
        data = bytearray()
        while len(data) < size:
            piece = await self.loop.sock_recv(self.sock, min(size - len(data), 1 << 18))
            if not piece:
                break
            data += piece
        return bytes(data)

    async def read_all(self) -> bytes:
        return await self.read(1 << 40)

    def read_now(self) -> bytes:
        """What the kernel has, without a turn of the loop."""
        data = bytearray()
        with contextlib.suppress(BlockingIOError):
            while piece := self.sock.recv(1 << 18):
                data += piece
        return bytes(data)

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.sock, data)

    def shutdown(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """On TCP the transport gets a RST, on unix sockets a bare hang-up."""
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


SMALL = 16384  # for the kernel's buffers, so that it soon takes no more


class Net:
    """An event loop, and everything connected in the test: looked at and closed at its end."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.reports: list[dict[str, Any]] = []
        self.protocols: list[Any] = []
        self._stack = contextlib.ExitStack()
        self._turns = 0
        self._serial = 0
        loop.set_exception_handler(lambda loop, context: self.reports.append(context))
        if not hasattr(loop, "ev"):
            select = loop._selector.select

            def counting(timeout: float | None = None) -> Any:
                self._turns += 1
                return select(timeout)

            loop._selector.select = counting

    def run(self, coroutine: Coroutine[Any, Any, Any], timeout: float = TIMEOUT) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, timeout))

    def enter(self, thing: Any) -> Any:
        """Closed at the end of the test."""
        return self._stack.enter_context(thing)

    def abstract_name(self) -> str:
        self._serial += 1
        return f"\0pyev-test-{os.getpid()}-{id(self)}-{self._serial}"

    def listener(self, family: int = socket.AF_INET, backlog: int = 100) -> socket.socket:
        sock: socket.socket = self.enter(socket.socket(family))
        sock.bind(self.abstract_name() if family == socket.AF_UNIX else ("127.0.0.1", 0))
        sock.listen(backlog)
        sock.setblocking(False)
        return sock

    def hook(self, name: str, where: str) -> list[str]:
        """Put one's own in the place of a method of the loop; its name for each call."""
        passed: list[str] = []
        function = getattr(self.loop if where == "loop" else type(self.loop), name)

        def hooked(*args: Any, **kwargs: Any) -> Any:
            passed.append(name)
            return function(*args, **kwargs)

        if where == "loop":
            setattr(self.loop, name, hooked)
        else:
            own = type("Own", (type(self.loop),), {"__slots__": (), name: hooked})
            self.loop.__class__ = own
        return passed

    def full_listener(self) -> tuple[socket.socket, list[socket.socket]]:
        """One whose backlog is full, so that connecting to it waits, and the sockets that fill it.

        The first of these is connected and can be accepted.
        """
        listener = self.listener(backlog=0)
        fillers = [self.enter(socket.socket()) for _ in range(4)]
        for sock in fillers:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(listener.getsockname())
        return listener, fillers

    async def accept_late(self, listener: socket.socket, fillers: list[socket.socket]) -> Peer:
        """Whoever waits for a full listener. Its kernel asks again after a second."""
        for sock in fillers:
            sock.close()
        listener.accept()[0].close()
        return self.peer((await self.loop.sock_accept(listener))[0])

    def peer(self, sock: socket.socket) -> Peer:
        return Peer(self.loop, self.enter(sock))

    async def connect(self, kind: str, protocol: Any = None, *, small: bool = False) -> Any:
        """Connect a transport; return its protocol and its peer.

        On TCP the transport is the client, on unix sockets the server. small: the kernel's
        buffers between them.
        """
        protocol = self.remember(protocol or Recorder())
        if kind == "tcp":
            with socket.create_server(("127.0.0.1", 0)) as listener:
                if small:
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
                await self.loop.create_connection(lambda: protocol, *listener.getsockname())
                peer = self.peer(listener.accept()[0])
        else:
            name = self.abstract_name()
            server = await self.loop.create_unix_server(lambda: protocol, name)
            peer = self.peer(socket.socket(socket.AF_UNIX))
            peer.sock.connect(name)
            await protocol.called("made")
            server.close()
        if small:
            sock = protocol.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        return protocol, peer

    def remember(self, protocol: Any) -> Any:
        self.protocols.append(protocol)
        return protocol

    async def turn(self, count: int = 1) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    def turns(self) -> int:
        return self.loop.ev.iteration if hasattr(self.loop, "ev") else self._turns

    async def calm(self) -> None:
        """The loop comes to rest, and does not spin."""
        for _ in range(10):
            before = self.turns()
            await asyncio.sleep(0.03)
            if self.turns() - before < 15:
                return
        raise AssertionError("the loop spins")

    def reported(self, error: type[BaseException], count: int = 1) -> list[dict[str, Any]]:
        """What the exception handler was told must be this, and is forgotten."""
        reports = self.reports[:]
        self.reports.clear()
        assert [type(report.get("exception")) for report in reports] == [error] * count, reports
        return reports

    def end(self) -> None:
        async def lose() -> None:
            for protocol in self.protocols:
                if protocol.transport is not None and "lost" not in protocol.calls:
                    # asyncio's pipes for reading have no abort().
                    getattr(protocol.transport, "abort", protocol.transport.close)()
                    await protocol.lost()

        if not self.loop.is_closed():
            self.run(lose())
            self.run(self.turn(3))
            self.run(self.loop.shutdown_default_executor())
        self._stack.close()
        for protocol in self.protocols:
            assert not protocol.wrong, protocol.wrong
            assert protocol.calls.count("made") == protocol.calls.count("lost"), protocol.calls
        assert not self.reports, self.reports


def in_child(function: Callable[[], Any]) -> None:
    """Called in a child that is forked here, which ends then."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            function()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


async def refuses_a_view_with_gaps(protocol: Any, peer: Any) -> None:
    """Whoever writes one is told, and the connection goes on."""
    gaps = memoryview(b"g-a-p-s-")[::2]
    with pytest.raises(BufferError):
        protocol.transport.write(gaps)
    with pytest.raises(BufferError):
        protocol.transport.writelines([b"none of ", gaps])
    protocol.transport.write(b"it goes on")
    assert await peer.read(10) == b"it goes on"


def open_sockets() -> dict[int, str]:
    """The loop's own descriptors, which it may make when it first waits, are none."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own descriptor is gone by now
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return {fd: target for fd, target in found.items() if target.startswith("socket:")}


@contextlib.contextmanager
def socket_at(number: int) -> Iterator[socket.socket]:
    """Another socket gets this number; the end that it is connected to."""
    a, b = socket.socketpair()
    for end in (a, b):
        end.setblocking(False)
    with a, b:
        if number in (a.fileno(), b.fileno()):
            yield b if number == a.fileno() else a
            return
        os.dup2(a.fileno(), number)
        try:
            yield b
        finally:
            os.close(number)


@contextlib.contextmanager
def few_descriptors() -> Iterator[None]:
    """No descriptor can be opened."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open("/dev/null") as lowest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest.fileno(), limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
