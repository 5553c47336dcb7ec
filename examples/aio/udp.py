#!/usr/bin/env python3
"""A UDP service: what time is it there, and how far is that from here?

    udp.py                           clients ask a service that loses each third datagram
    udp.py --serve 7002              tells the time until Ctrl-C
    udp.py --ask 127.0.0.1 7002      asks there

Datagrams get lost, so a client asks again when there is no answer, and takes the answers by the
number of the question, in whichever order they come.
"""

import argparse
import asyncio
import itertools
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pyev

QUESTION = struct.Struct("!4sQ")
ANSWER = struct.Struct("!4sQd")
ASK, TOLD = b"ask?", b"told"
PATIENCE = 0.05
TRIES = 10


class Clock(asyncio.DatagramProtocol):
    """The service. What is no question is not answered, so two of these never talk for ever."""

    transport: asyncio.DatagramTransport

    def __init__(self, lose: int = 0) -> None:
        self.lose, self.lost, self.answered = lose, 0, 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if len(data) != QUESTION.size:
            return
        word, number = QUESTION.unpack(data)
        if word != ASK:
            return
        if self.lose and (self.answered + self.lost + 1) % self.lose == 0:
            self.lost += 1
            return
        self.answered += 1
        self.transport.sendto(ANSWER.pack(TOLD, number, time.time()), addr)


class Asker(asyncio.DatagramProtocol):
    transport: asyncio.DatagramTransport

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.waiting: dict[int, asyncio.Future[float]] = {}

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if len(data) != ANSWER.size:
            return
        word, number, there = ANSWER.unpack(data)
        if word == TOLD and number in self.waiting and not self.waiting[number].done():
            self.waiting[number].set_result(there)

    def error_received(self, exc: Exception) -> None:
        """The other machine says that nobody listens; who waits is told so at once."""
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(exc)

    async def ask(self) -> float:
        """By how much their clock is ahead of ours, give or take half the way there and back."""
        for _ in range(TRIES):
            number = next(self.numbers)
            self.waiting[number] = asyncio.get_running_loop().create_future()
            began = time.time()
            self.transport.sendto(QUESTION.pack(ASK, number))
            try:
                async with asyncio.timeout(PATIENCE):
                    there = await self.waiting[number]
                return there - (began + time.time()) / 2
            except TimeoutError:
                continue
            finally:
                del self.waiting[number]
        raise TimeoutError("no answer")


@asynccontextmanager
async def clock(port: int, lose: int = 0) -> AsyncIterator[tuple[Clock, int]]:
    """Serves meanwhile: who, and on which port."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: Clock(lose), local_addr=("127.0.0.1", port)
    )
    try:
        yield protocol, transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


@asynccontextmanager
async def asker(host: str, port: int) -> AsyncIterator[Asker]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Asker, remote_addr=(host, port))
    try:
        yield protocol
    finally:
        transport.close()


async def serve(port: int) -> None:
    async with clock(port) as (_, port):
        print(f"telling the time on 127.0.0.1:{port}", flush=True)
        await asyncio.Event().wait()


async def ask(host: str, port: int) -> None:
    async with asker(host, port) as client:
        print(f"{await client.ask() * 1000:+.3f} ms")


async def demonstrate() -> None:
    async with clock(0, lose=3) as (service, port):

        async def client(questions: int) -> list[float]:
            async with asker("127.0.0.1", port) as client:
                return [await client.ask() for _ in range(questions)]

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(client(20)) for _ in range(10)]
        offsets = [offset for task in tasks for offset in task.result()]
        print(f"{len(tasks)} clients were told the time {len(offsets)} times")
        print("asked again what was lost:", service.lost >= len(offsets) // 3)
        print("our own clock is right:", all(abs(offset) < 1.0 for offset in offsets))
    try:
        await ask("127.0.0.1", port)
    except ConnectionRefusedError:
        print("nobody is there any more")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--serve", type=int, metavar="PORT", help="0 for any that is free")
    parser.add_argument("--ask", nargs=2, metavar=("HOST", "PORT"), help="ask the service there")
    options = parser.parse_args()
    try:
        if options.ask:
            pyev.run(ask(options.ask[0], int(options.ask[1])))
        else:
            pyev.run(demonstrate() if options.serve is None else serve(options.serve))
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError) as error:
        print(f"udp: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
