"""The transports: streams, datagrams and pipes, opened, used, ended in every way, and dropped."""

import asyncio
import gc
import os
import socket
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

from leak_probe import COUNT, Probe

import pyev

probe = Probe()
data = probe.data
aloop = pyev.new_event_loop()
aloop.set_exception_handler(lambda loop, context: None)
chunk = b"x" * 1000


class Protocol(asyncio.Protocol, asyncio.DatagramProtocol):
    """Told of all that happens, and waits for its end."""

    def __init__(self, *, fails: bool = False) -> None:
        self.lost = aloop.create_future()
        self.fails = fails
        self.data = data

    def data_received(self, received: bytes) -> None:
        if self.fails:
            raise LookupError

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(None)


class Buffered(asyncio.BufferedProtocol):
    def __init__(self) -> None:
        self.lost = aloop.create_future()
        self.buffer = bytearray(2000)

    def get_buffer(self, size: int) -> bytearray:
        return self.buffer

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(None)


Connected = tuple[Any, Any, socket.socket]


async def connect(make: Callable[[], Any] = Protocol) -> Connected:
    ours, theirs = socket.socketpair()
    transport, protocol = await aloop.create_connection(make, sock=ours)
    return transport, protocol, theirs


async def streams() -> None:
    transport, protocol, peer = await connect()
    transport.get_extra_info("peername")
    transport.write(chunk)
    transport.write(bytearray(chunk))
    transport.writelines([chunk, memoryview(chunk)])
    transport.pause_reading()
    transport.resume_reading()
    peer.send(chunk)
    await asyncio.sleep(0)
    transport.write_eof()
    peer.close()
    await protocol.lost


async def buffered() -> None:
    transport, protocol, peer = await connect(Buffered)
    peer.send(chunk)
    await asyncio.sleep(0)
    transport.close()
    await protocol.lost
    peer.close()


async def full() -> None:
    transport, protocol, peer = await connect()
    transport.set_write_buffer_limits(high=10)
    transport.write(bytes(400_000))
    transport.write(chunk)
    await asyncio.sleep(0)
    transport.abort()
    transport.write(chunk)
    await protocol.lost
    peer.close()


async def failing() -> None:
    transport, protocol, peer = await connect(lambda: Protocol(fails=True))
    peer.send(chunk)
    await protocol.lost
    peer.close()


async def dropped() -> None:
    transport, protocol, peer = await connect()
    transport.pause_reading()
    protocol.transport = transport
    del transport, protocol
    peer.close()


async def datagrams() -> None:
    here, protocol = await aloop.create_datagram_endpoint(Protocol, ("127.0.0.1", 0))
    there, other = await aloop.create_datagram_endpoint(
        Protocol, remote_addr=here.get_extra_info("sockname")
    )
    there.sendto(chunk)
    here.sendto(chunk, there.get_extra_info("sockname"))
    await asyncio.sleep(0)
    here.close()
    there.abort()
    await protocol.lost
    await other.lost


async def pipes() -> None:
    read, write = os.pipe()
    reader, reading = await aloop.connect_read_pipe(Protocol, open(read, "rb", 0))  # noqa: SIM115
    writer, writing = await aloop.connect_write_pipe(Protocol, open(write, "wb", 0))  # noqa: SIM115
    writer.write(chunk)
    writer.close()
    await reading.lost
    await writing.lost


async def connections() -> None:
    accepted = []

    def accept() -> Protocol:
        accepted.append(Protocol())
        return accepted[0]

    server = await aloop.create_server(accept, "127.0.0.1", 0)
    transport, protocol = await aloop.create_connection(Protocol, *server.sockets[0].getsockname())
    transport.write(chunk)
    await asyncio.sleep(0)
    transport.close()
    await protocol.lost
    await accepted[0].lost
    server.close()


def way(work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    return lambda: aloop.run_until_complete(work())


def drop() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        way(dropped)()
        gc.collect()


probe.involved += [aloop, Protocol, aloop.ev]
for work in (streams, buffered, full, failing, datagrams, pipes, connections):
    for _ in range(300):
        way(work)()
    probe.run(work.__name__, way(work), COUNT // 10)
probe.run("dropped", drop, COUNT // 100)
aloop.close()
probe.end()
