"""UDP, both ends on the loop."""

import asyncio
from asyncio import DatagramProtocol, Future
from itertools import repeat
from typing import Any

from rows import Stage, Work, row
from rows.sockets import CONNECTIONS

BURST = 64
MESSAGE = b"x" * 64


class Echo(DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


class Client(DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def start(self, turns: int) -> "Future[None]":
        self.left = turns
        self.done: Future[None] = asyncio.get_running_loop().create_future()
        self.transport.sendto(MESSAGE)
        return self.done

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert len(data) == len(MESSAGE)
        self.left -= 1
        if self.left:
            self.transport.sendto(MESSAGE)
        else:
            self.done.set_result(None)


@row("UDP echo 64 B, 10 clients", batch=CONNECTIONS, floor=("floors", "udp", "64"))
async def udp_echo(stage: Stage) -> Work:
    loop = stage.loop
    server, _ = await loop.create_datagram_endpoint(Echo, ("127.0.0.1", 0))
    address = server.get_extra_info("sockname")
    clients = [
        (await loop.create_datagram_endpoint(Client, remote_addr=address))[1]
        for _ in range(CONNECTIONS)
    ]

    async def run(turns: int) -> None:
        await asyncio.gather(*[client.start(turns) for client in clients])

    return run


class Sink(DatagramProtocol):
    left = 0
    done: "Future[None]"

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert len(data) == len(MESSAGE)
        self.left -= 1
        if not self.left:
            self.done.set_result(None)


@row("UDP bursts of 64", batch=BURST)
async def udp_bursts(stage: Stage) -> Work:
    loop = stage.loop
    server, sink = await loop.create_datagram_endpoint(Sink, ("127.0.0.1", 0))
    address = server.get_extra_info("sockname")
    sender, _ = await loop.create_datagram_endpoint(DatagramProtocol, remote_addr=address)

    async def run(turns: int) -> None:
        for _ in repeat(None, turns):
            sink.left, sink.done = BURST, loop.create_future()
            for _ in repeat(None, BURST):
                sender.sendto(MESSAGE)
            await sink.done

    return run
