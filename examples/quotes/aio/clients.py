"""Clients that are coroutines, beside the service on its loop; they check every answer they get."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .server import HOST

SYMBOLS = ("EUR", "GBP", "JPY", "CHF")
LOST_AFTER = 0.2

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Wrong(Exception):
    """An answer that should have been another."""


def expect(answer: bytes, start: str) -> None:
    if not answer.startswith(start.encode()):
        raise Wrong(f"{answer[:60]!r} does not begin with {start!r}")


@dataclass
class Clients:
    """Where to ask, and until when. `got(what, count)` is told of right answers."""

    port: int
    tls_port: int
    tls: ssl.SSLContext | None
    path: Path
    udp_port: int
    seconds: float
    got: Callable[[str, int], None]

    def all(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        traders = [self.trader] * 3 if self.tls else []
        return [self.newcomer, *[self.follower] * 2, *traders, *[self.piper] * 3, *[self.asker] * 3]

    def going(self) -> Iterator[str]:
        """Something to ask for, as long as there is time."""
        until = asyncio.get_running_loop().time() + self.seconds
        while asyncio.get_running_loop().time() < until:
            yield random.choice(SYMBOLS)

    async def newcomer(self) -> None:
        """By TCP: a new connection for each three questions."""
        for symbol in self.going():
            async with connected(asyncio.open_connection(HOST, self.port)) as (reader, writer):
                for _ in range(3):
                    writer.write(f"GET {symbol}\n".encode())
                    expect(await reader.readline(), symbol)
                    self.got("tcp", 1)
            await asyncio.sleep(0.01)

    async def follower(self) -> None:
        """By TCP: is told of each move of the prices."""
        async with connected(asyncio.open_connection(HOST, self.port)) as (reader, writer):
            for _ in self.going():
                writer.write(b"FOLLOW 10\n")
                for _ in range(10):
                    expect((await reader.readline())[3:], " ")
                    self.got("moves", 1)
            writer.write(b"QUIT\n")
            expect(await reader.read(), "BYE")

    async def trader(self) -> None:
        """By TLS: asks, reads, thinks a little, asks again."""
        connecting = asyncio.open_connection(
            HOST, self.tls_port, ssl=self.tls, server_hostname="localhost"
        )
        async with connected(connecting) as (reader, writer):
            for symbol in self.going():
                writer.write(f"GET {symbol}\n".encode())
                expect(await reader.readline(), symbol)
                self.got("tls", 1)
                await asyncio.sleep(random.uniform(0.001, 0.005))

    async def piper(self) -> None:
        """By the unix socket: asks fifty things in one go, then reads all the answers."""
        async with connected(asyncio.open_unix_connection(self.path)) as (reader, writer):
            for symbol in self.going():
                writer.writelines([f"GET {symbol}\n".encode()] * 50)
                for _ in range(50):
                    expect(await reader.readline(), symbol)
                self.got("unix", 50)
                await asyncio.sleep(0.05)

    async def asker(self) -> None:
        """By UDP: asks again if there is no answer in time, and takes answers by their number."""
        loop = asyncio.get_running_loop()
        answers: asyncio.Queue[bytes] = asyncio.Queue()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: Answers(answers), remote_addr=(HOST, self.udp_port)
        )
        with closing(transport):
            for number, symbol in enumerate(self.going()):
                transport.sendto(f"{number} GET {symbol}".encode())
                try:
                    async with asyncio.timeout(LOST_AFTER):
                        while not (answer := await answers.get()).startswith(b"%d " % number):
                            pass
                except TimeoutError:
                    continue
                expect(answer, f"{number} {symbol}")
                self.got("udp", 1)
                await asyncio.sleep(0.005)


@asynccontextmanager
async def connected(connecting: Coroutine[Any, Any, Streams]) -> AsyncIterator[Streams]:
    reader, writer = await connecting
    try:
        yield reader, writer
        writer.close()
        await writer.wait_closed()
    finally:
        writer.transport.abort()  # Told to stop in the middle, it says no good-bye.


class Answers(asyncio.DatagramProtocol):
    def __init__(self, answers: "asyncio.Queue[bytes]") -> None:
        self.answers = answers

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.answers.put_nowait(data)
