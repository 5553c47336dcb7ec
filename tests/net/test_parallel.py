"""Transports of loops that run in threads at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import threading
import warnings

import pytest
from net_kit import some_bytes
from tls_kit import client_context, server_context

import pyev

THREADS = 4
SANITIZED = bool(os.environ.get("PYEV_SANITIZED"))
TIMES = 10 if SANITIZED else 50


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Asking(asyncio.Protocol):
    """Sends messages of growing size, each when the one before has come back."""

    def __init__(self, times):
        self.times = times
        self.done = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()
        self.missing = b""
        self.sent = 0

    def connection_made(self, transport):
        self.transport = transport
        self.ask()

    def ask(self):
        if self.sent == self.times:
            self.done.set_result(None)
            return
        self.missing = some_bytes(1 + 997 * self.sent, self.sent)
        self.sent += 1
        self.transport.write(self.missing)

    def data_received(self, data):
        assert self.missing.startswith(data)
        self.missing = self.missing[len(data) :]
        if not self.missing:
            self.ask()

    def connection_lost(self, exc):
        self.lost.set_result(exc)
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("ended"))


async def end(protocol):
    protocol.transport.close()
    assert await protocol.lost is None


async def talk_plain(contexts):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    _, protocol = await loop.create_connection(lambda: Asking(TIMES), *address)
    await protocol.done
    await end(protocol)
    server.close()
    await server.wait_closed()


async def talk_tls(contexts):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=contexts[0])
    address = server.sockets[0].getsockname()
    for _ in range(3):
        _, protocol = await loop.create_connection(
            lambda: Asking(TIMES), *address, ssl=contexts[1], server_hostname="localhost"
        )
        await protocol.done
        await end(protocol)
    server.close()
    await server.wait_closed()


async def talk_streams(contexts):
    async def serve(reader, writer):
        async for line in reader:
            writer.write(line)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for i in range(TIMES):
        line = b"%d\n" % i * (i + 1)
        writer.write(line)
        assert await reader.readexactly(len(line)) == line
    writer.close()
    await writer.wait_closed()
    assert await reader.read() == b""
    server.close()
    await server.wait_closed()


async def talk_datagrams(contexts):
    class Datagrams(asyncio.DatagramProtocol):
        def __init__(self, answers):
            self.answers = answers
            self.got = asyncio.Queue()

        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, address):
            self.got.put_nowait(data)
            if self.answers:
                self.transport.sendto(data, address)

    loop = asyncio.get_running_loop()
    there, _ = await loop.create_datagram_endpoint(
        lambda: Datagrams(True), local_addr=("127.0.0.1", 0)
    )
    here, protocol = await loop.create_datagram_endpoint(
        lambda: Datagrams(False), remote_addr=there.get_extra_info("sockname")
    )
    for i in range(TIMES):
        here.sendto(b"%d" % i)
        assert await protocol.got.get() == b"%d" % i
    here.close()
    there.close()
    await asyncio.sleep(0)


async def talk_pipes(contexts):
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    source, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0)
    )
    sink, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(writing, "wb", 0))
    for i in range(TIMES):
        sink.write(b"%d\n" % i)
        assert await reader.readline() == b"%d\n" % i
    sink.close()
    assert await reader.read() == b""
    source.close()
    await asyncio.sleep(0)


TALKS = {
    name.removeprefix("talk_"): talk
    for name, talk in list(globals().items())
    if name.startswith("talk_")
}


@pytest.fixture
def contexts():
    """Of TLS, for all threads: of the server, and of the client."""
    return server_context(), client_context()


@pytest.mark.parametrize("kind", [*TALKS, "all"])
def test_each_with_its_connections(factory, at_once, contexts, kind):
    talks = list(TALKS.values()) if kind == "all" else [TALKS[kind]] * THREADS

    def work(number):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(talks[number](contexts))

    at_once(len(talks), work)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_server_and_its_clients(factory, at_once, contexts, tls):
    """One loop serves what the others ask."""
    address = []
    serving = threading.Event()
    left = threading.Barrier(THREADS)

    async def serve():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            Echo, "127.0.0.1", 0, ssl=contexts[0] if tls else None, backlog=100
        )
        address.extend(server.sockets[0].getsockname())
        serving.set()
        await loop.run_in_executor(None, left.wait)
        server.close()

    async def ask():
        options = {"ssl": contexts[1], "server_hostname": "localhost"} if tls else {}
        loop = asyncio.get_running_loop()
        made = [
            await loop.create_connection(lambda: Asking(TIMES // 5), *address, **options)
            for _ in range(5)
        ]
        for _, protocol in made:
            await protocol.done
            await end(protocol)

    def work(number):
        with asyncio.Runner(loop_factory=factory) as runner:
            if number == 0:
                runner.run(serve())
                return
            serving.wait()
            try:
                runner.run(ask())
            finally:
                left.wait()

    at_once(THREADS, work)


@pytest.mark.parametrize("how", ["dropped", "collected"])
def test_transports_of_a_running_loop_go(ours, at_once, how):
    """Nobody closes them, and their last references are in other threads."""
    garbage = []
    over = threading.Event()

    async def make():
        for i in range(4 * TIMES):
            a, b = socket.socketpair()
            protocol = Echo()
            transport, _ = await ours.create_connection(lambda protocol=protocol: protocol, sock=a)
            transport.pause_reading()
            transport.write(b"x")
            b.close()
            if how == "dropped":
                protocol.transport = None
            garbage.append(transport)
            del transport, protocol
            if i % 10 == 0:
                await asyncio.sleep(0)
        over.set()

    def work(number):
        if number == 0:
            return ours.run_until_complete(make())
        dropped = 0
        while not over.is_set() or garbage:
            with contextlib.suppress(IndexError):
                garbage.pop()
                dropped += 1
                if how == "collected" and dropped % 10 == 0:
                    gc.collect()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        at_once(3, work)
        gc.collect()


def test_used_by_mistake_in_another_thread(ours, at_once):
    """It may do anything but break."""
    ours.set_debug(False)
    ours.set_exception_handler(lambda loop, context: None)
    transports = []
    over = threading.Event()

    async def main():
        ends = []
        for _ in range(4):
            a, b = socket.socketpair()
            for one in (a, b):
                transport, _ = await ours.create_connection(Echo, sock=one)
                ends.append(transport)
        transports.extend(ends)
        for _ in range(TIMES):
            for transport in ends:
                transport.write(b"y" * 1000)
            await asyncio.sleep(0.0001)
        over.set()
        for transport in ends:
            transport.abort()
        await asyncio.sleep(0.01)

    def work(number):
        if number == 0:
            return ours.run_until_complete(main())
        while not over.is_set():
            for transport in list(transports):
                transport.write(b"x")
                transport.pause_reading()
                transport.get_extra_info("socket"), transport.get_write_buffer_size()
                repr(transport)
                transport.resume_reading()
                transport.get_protocol()

    at_once(3, work)
    transports.clear()


def test_native_streams_in_each_thread(at_once):
    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async def main():
        server = await pyev.start_server(serve, "127.0.0.1", 0)
        reader, writer = await pyev.open_connection(*server.sockets[0].getsockname())
        for i in range(TIMES):
            writer.write(b"%d\n" % i)
            assert await reader.readuntil(b"\n") == b"%d\n" % i
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    at_once(THREADS, lambda number: pyev.run(main()))
