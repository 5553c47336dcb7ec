"""The same answers by each of asyncio's ways to serve.

`answer(request)` is called for each request. Clients still there at the end are hung up on.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
LINE_MAX = 1024
IDLE_AFTER = 1.5

Answer = Callable[[str], str]


class Prices:
    """The moves of prices, as they come, for each task that follows them."""

    def __init__(self, followed: Callable[[str], None]) -> None:
        self.followed = followed
        self.queues: set[asyncio.Queue[str]] = set()

    def moved(self, move: str) -> None:
        for queue in self.queues:
            queue.put_nowait(move)

    async def follow(self, count: int) -> AsyncIterator[str]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        self.queues.add(queue)
        try:
            for _ in range(count):
                move = await queue.get()
                self.followed(move)
                yield move
        finally:
            self.queues.discard(queue)


class Streams:
    """TCP or TLS: a task for each client, reading from one stream and writing to another."""

    def __init__(self, answer: Answer, prices: Prices, idled: Callable[[], None]) -> None:
        self.answer, self.prices, self.idled = answer, prices, idled
        self.tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listen(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        """Serves meanwhile; on which port."""
        server = await asyncio.start_server(self.connected, HOST, 0, ssl=tls, limit=LINE_MAX)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self.talk(reader, writer)
            await writer.drain()
        except TimeoutError:
            self.idled()
        except ConnectionError:
            pass
        except asyncio.CancelledError:  # By listen(): nobody else needs to know.
            writer.transport.abort()
        finally:
            writer.close()
            self.tasks.discard(task)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                async with asyncio.timeout(IDLE_AFTER):
                    line = await reader.readline()
            except ValueError:  # Its way to say that there is no end of the line in sight.
                writer.write(b"ERROR that line is too long\n")
                return
            match line.decode(errors="replace").split():
                case [] if not line:
                    return
                case ["QUIT"]:
                    writer.write(b"BYE\n")
                    return
                case ["FOLLOW", count] if count.isdecimal():
                    async for move in self.prices.follow(int(count)):
                        writer.write(f"{move}\n".encode())
                        await writer.drain()
                case words:
                    writer.write(f"{self.answer(' '.join(words))}\n".encode())
                    await writer.drain()


class Lines(asyncio.Protocol):
    """A unix socket: called with what has come, a connection each."""

    transport: asyncio.Transport

    def __init__(self, answer: Answer, transports: set[asyncio.Transport]) -> None:
        self.answer, self.transports = answer, transports
        self.unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.transports.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transports.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        *lines, self.unread = (self.unread + data).split(b"\n")
        # One write for each: those of one turn of the loop leave together.
        for line in lines:
            if self.transport.is_closing():
                return
            self.transport.write(f"{self.answer(line.decode(errors='replace'))}\n".encode())

    # Who does not read is not read from.

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


@asynccontextmanager
async def listen_unix(answer: Answer, path: Path) -> AsyncIterator[None]:
    transports: set[asyncio.Transport] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: Lines(answer, transports), path)
    try:
        yield
    finally:
        server.close()
        for transport in transports:
            transport.abort()


class Datagrams(asyncio.DatagramProtocol):
    """UDP: a datagram is a request, with a number before it that comes back with the answer."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    # Python 3.11's own is no asyncio.DatagramTransport.
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        number, _, request = data.decode(errors="replace").partition(" ")
        self.transport.sendto(f"{number} {self.answer(request)}".encode(), addr)


@asynccontextmanager
async def listen_udp(answer: Answer) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: Datagrams(answer), local_addr=(HOST, 0)
    )
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()
