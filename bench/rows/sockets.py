"""Transports and protocols over TCP and unix sockets, both ends on the loop."""

import asyncio
import itertools
import os
import ssl
from asyncio import AbstractEventLoop, Future, Protocol
from collections.abc import Callable
from itertools import repeat
from typing import Any

from rows import Stage, Work, row

CONNECTIONS = 10
MIB = 1 << 20
KIB = 1024
FILE = 16 * MIB
numbers = itertools.count()


class Echo(Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Client(Protocol):
    """Sends a message, and once it has come back whole, the next."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.received = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def start(self, turns: int) -> "Future[None]":
        self.left = turns
        self.done: Future[None] = asyncio.get_running_loop().create_future()
        self.transport.write(self.message)
        return self.done

    def data_received(self, data: bytes) -> None:
        self.arrived(len(data))

    def arrived(self, size: int) -> None:
        self.received += size
        if self.received < len(self.message):
            return
        assert self.received == len(self.message)
        self.received = 0
        self.left -= 1
        if self.left:
            self.transport.write(self.message)
        else:
            self.done.set_result(None)


class Buffered(asyncio.BufferedProtocol):
    """With a buffer of its own, for ever the same."""

    def __init__(self) -> None:
        self.buffer = bytearray(64 * KIB)
        self.view = memoryview(self.buffer)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer


class BufferedEcho(Buffered):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.view[:nbytes]))


class BufferedClient(Buffered):
    """A Client: how it answers what arrives is the same."""

    def __init__(self, message: bytes) -> None:
        Buffered.__init__(self)
        self.message = message
        self.received = 0

    connection_made = Client.connection_made
    start = Client.start
    arrived = Client.arrived

    def buffer_updated(self, nbytes: int) -> None:
        self.arrived(nbytes)


async def connect(
    stage: Stage,
    server: Callable[[], Any],
    client: Callable[[], Any],
    count: int = 1,
    *,
    unix: bool = False,
    tls: "tuple[ssl.SSLContext, ssl.SSLContext] | tuple[None, None]" = (None, None),
) -> list[Any]:
    """Starts a server and connects so many clients; returns the clients' protocols."""
    loop = stage.loop
    clients = []
    there: dict[str, Any] = {"ssl": tls[1]}
    if tls[1]:
        there["server_hostname"] = "localhost"
    if unix:
        path = str(stage.folder / f"{os.getpid()}-{next(numbers)}")
        await loop.create_unix_server(server, path, ssl=tls[0])
        for _ in range(count):
            clients.append((await loop.create_unix_connection(client, path, **there))[1])
    else:
        port = await listen(loop, server, ssl=tls[0])
        for _ in range(count):
            clients.append((await loop.create_connection(client, "127.0.0.1", port, **there))[1])
    return clients


async def listen(loop: AbstractEventLoop, server: Callable[[], Any], **options: Any) -> int:
    listening = await loop.create_server(server, "127.0.0.1", 0, **options)
    keep.append(listening)
    port: int = listening.sockets[0].getsockname()[1]
    return port


keep: list[Any] = []


async def echo(stage: Stage, server: Any, client: Any, size: int, **options: Any) -> Work:
    message = b"x" * size
    clients = await connect(stage, server, lambda: client(message), CONNECTIONS, **options)

    async def run(turns: int) -> None:
        await asyncio.gather(*[client.start(turns) for client in clients])

    return run


@row("TCP echo 64 B, 10 connections", batch=CONNECTIONS, floor=("floors", "tcp", "64"))
async def tcp_echo_64(stage: Stage) -> Work:
    return await echo(stage, Echo, Client, 64)


@row("TCP echo 16 KiB", batch=CONNECTIONS, floor=("floors", "tcp", "16384"))
async def tcp_echo_16k(stage: Stage) -> Work:
    return await echo(stage, Echo, Client, 16 * KIB)


@row("TCP echo 16 KiB, BufferedProtocol", batch=CONNECTIONS, floor=("floors", "tcp", "16384"))
async def tcp_echo_buffered(stage: Stage) -> Work:
    return await echo(stage, BufferedEcho, BufferedClient, 16 * KIB)


@row("unix echo 64 B", batch=CONNECTIONS, floor=("floors", "unix", "64"))
async def unix_echo_64(stage: Stage) -> Work:
    return await echo(stage, Echo, Client, 64, unix=True)


class Sink(Protocol):
    """Counts what comes; `done` when it is as much as expected."""

    expected = 0
    done: "Future[None]"

    def data_received(self, data: bytes) -> None:
        Sink.expected -= len(data)
        if Sink.expected <= 0:
            assert Sink.expected == 0
            Sink.done.set_result(None)

    @staticmethod
    def expect(size: int) -> "Future[None]":
        Sink.expected = size
        Sink.done = asyncio.get_running_loop().create_future()
        return Sink.done


class Pump(Protocol):
    """Writes chunks for as long as the transport takes them."""

    transport: Any = None  # until it is connected

    def __init__(self, chunk: bytes) -> None:
        self.chunk = chunk
        self.paused = False
        self.left = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def start(self, turns: int) -> None:
        self.left = turns
        self.pump()

    def pump(self) -> None:
        while self.left and not self.paused:
            self.left -= 1
            self.transport.write(self.chunk)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.pump()


async def bulk(stage: Stage, size: int, **options: Any) -> Work:
    (sender,) = await connect(stage, Sink, lambda: Pump(b"x" * size), **options)

    async def run(turns: int) -> None:
        done = Sink.expect(turns * size)
        sender.start(turns)
        await done

    return run


@row("TCP bulk, 64 KiB writes", unit="MiB/s", batch=1 / 16)
async def tcp_bulk_64k(stage: Stage) -> Work:
    return await bulk(stage, 64 * KIB)


@row("TCP bulk, 1 MiB writes", unit="MiB/s")
async def tcp_bulk_1m(stage: Stage) -> Work:
    return await bulk(stage, MIB)


@row("100 writes of 64 B in a turn", batch=100)
async def many_writes(stage: Stage) -> Work:
    (sender,) = await connect(stage, Sink, lambda: Pump(b"x" * 64))
    write, chunk = sender.transport.write, sender.chunk

    async def run(turns: int) -> None:
        for _ in repeat(None, turns):
            done = Sink.expect(6400)
            for _ in repeat(None, 100):
                write(chunk)
            await done

    return run


class Accepted(Protocol):
    """Tells of a connection that has come, and counts those that have gone.

    It has to hear that they have gone: a loop that tells only the side that aborts, and leaves the
    descriptor open, has not done the work.
    """

    came: "Future[None]"
    gone: "Future[None]"
    left = 0

    def connection_made(self, transport: Any) -> None:
        Accepted.came.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        Accepted.left -= 1
        if not Accepted.left:
            Accepted.gone.set_result(None)


async def connections(stage: Stage, **options: Any) -> Work:
    loop = stage.loop
    server_side, client_side = options.pop("tls", (None, None))
    port = await listen(loop, Accepted, ssl=server_side)
    if client_side:
        options |= {"ssl": client_side, "server_hostname": "localhost"}

    async def run(turns: int) -> None:
        Accepted.left, Accepted.gone = turns, loop.create_future()
        for _ in repeat(None, turns):
            Accepted.came = loop.create_future()
            transport, _ = await loop.create_connection(Protocol, "127.0.0.1", port, **options)
            await Accepted.came
            transport.abort()
        await Accepted.gone

    return run


@row("connect, accept, abort")
async def connect_abort(stage: Stage) -> Work:
    return await connections(stage)


@row("sendfile", unit="MiB/s", batch=FILE / MIB)
async def sendfile(stage: Stage) -> Work:
    path = stage.folder / "sendfile"
    if not path.exists():
        path.write_bytes(b"x" * FILE)
    file = path.open("rb")
    (sender,) = await connect(stage, Sink, lambda: Pump(b""))

    async def run(turns: int) -> None:
        for _ in repeat(None, turns):
            done = Sink.expect(FILE)
            file.seek(0)
            await stage.loop.sendfile(sender.transport, file)
            await done

    return run
