"""Streams: connected, read and written in every way, ended in every way, and dropped."""

import asyncio
import contextlib
import socket
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

from leak_probe import COUNT, Probe

import pyev

probe = Probe()
aloop = pyev.new_event_loop()
aloop.set_exception_handler(lambda loop, context: None)
chunk = b"x" * 1000


async def connect(limit: int = 65536) -> tuple[Any, Any, socket.socket]:
    ours, theirs = socket.socketpair()
    return *await pyev.open_connection(sock=ours, limit=limit), theirs


async def end(writer: Any, peer: socket.socket) -> None:
    writer.close()
    await writer.wait_closed()
    peer.close()


async def reading() -> None:
    reader, writer, peer = await connect()
    peer.send(chunk + b"line\nanother\nrest")
    await reader.readexactly(1000)
    await reader.readline()
    await reader.readuntil(separator=b"other")
    await anext(reader)
    await reader.read(2)
    peer.close()
    await reader.read()
    with contextlib.suppress(asyncio.IncompleteReadError):
        await reader.readexactly(1)
    with contextlib.suppress(StopAsyncIteration):
        await anext(reader)
    with contextlib.suppress(TypeError):
        reader.readuntil(1, 2)
    await end(writer, peer)


async def waiting() -> None:
    reader, writer, peer = await connect()
    for sent in (b"line\n", b"", chunk):
        task = asyncio.ensure_future(reader.readline())
        await asyncio.sleep(0)
        if sent:
            peer.send(sent)
            await asyncio.sleep(0)
        if sent[-1:] != b"\n":
            task.cancel()
        await asyncio.wait([task])
    coroutine = reader.readexactly(5000)
    coroutine.send(None)
    with contextlib.suppress(LookupError):
        coroutine.throw(LookupError())
    coroutine = reader.readexactly(5000)
    coroutine.send(None)
    del coroutine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader.read(1)
        writer.drain()
    await end(writer, peer)


async def held_back() -> None:
    reader, writer, peer = await connect(10)
    peer.send(chunk)
    while not reader._paused:
        await asyncio.sleep(0)
    with contextlib.suppress(asyncio.LimitOverrunError):
        await reader.readuntil(b"y")
    await reader.readexactly(995)
    await end(writer, peer)


async def writing() -> None:
    reader, writer, peer = await connect()
    writer.write(chunk)
    writer.writelines([chunk, chunk])
    await writer.drain()
    writer.transport.abort()
    with contextlib.suppress(ConnectionResetError):
        await writer.drain()
    peer.close()


async def serving() -> None:
    async def connected(reader: Any, writer: Any) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    for streams in (asyncio, pyev):
        server = await streams.start_server(connected, "127.0.0.1", 0)
        reader, writer = await streams.open_connection(*server.sockets[0].getsockname())
        writer.write(b"line\n")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()


def way(work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    return lambda: aloop.run_until_complete(work())


probe.involved += [aloop, aloop.ev, pyev.StreamReader, pyev.StreamWriter]
for work in (reading, waiting, held_back, writing, serving):
    for _ in range(300):
        way(work)()
    probe.run(work.__name__, way(work), COUNT // 20)
aloop.close()
probe.end()
