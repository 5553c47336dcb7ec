"""Connections with TLS: short ones, those that end in every way, and handshakes that fail.

PYEV_LEAK_TLS=1 is for 15,000 and 10,000 of them; by default it is a tenth.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from leak_probe import SANITIZED, Probe

import pyev

sys.path.insert(0, str(Path(__file__).parents[1] / "net"))

from tls_kit import client_context, server_context

SHARE = 1 if "PYEV_LEAK_TLS" in os.environ else 50 if SANITIZED else 10
# Bytes a connection: after some thousands of them ssl and OpenSSL by themselves, without a loop,
# take half a megabyte once. Whatever is left of a connection is more.
SPARE = 64
probe = Probe()
data = probe.data
aloop = pyev.new_event_loop()
aloop.set_exception_handler(lambda loop, context: None)
server, client, elsewhere = server_context(), client_context(), server_context(host="example.org")
chunk = b"x" * 1000


class Protocol(asyncio.Protocol):
    def __init__(self) -> None:
        self.lost = aloop.create_future()
        self.came = aloop.create_future()
        self.data = data

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, received: bytes) -> None:
        if not self.came.done():
            self.came.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(None)


class Echo(Protocol):
    def data_received(self, received: bytes) -> None:
        self.transport.write(received)


async def connect(context: ssl.SSLContext = server) -> tuple[Any, Any]:
    """Both ends' protocols."""
    ours, theirs = socket.socketpair()
    served = Echo()
    serving = aloop.create_task(aloop.connect_accepted_socket(lambda: served, ours, ssl=context))
    try:
        _, protocol = await aloop.create_connection(
            Protocol, sock=theirs, ssl=client, server_hostname="localhost"
        )
    finally:
        await asyncio.wait([serving])
        with contextlib.suppress(OSError):
            serving.result()
    return protocol, served


async def short() -> None:
    protocol, served = await connect()
    protocol.transport.write(chunk)
    await protocol.came
    protocol.transport.get_extra_info("peercert")
    protocol.transport.close()
    await protocol.lost
    await served.lost


async def aborted() -> None:
    protocol, served = await connect()
    protocol.transport.write(bytes(300_000))
    protocol.transport.write(chunk)
    await protocol.came
    protocol.transport.abort()
    await protocol.lost
    await served.lost


async def paused() -> None:
    protocol, served = await connect()
    protocol.transport.write(chunk)
    protocol.transport.pause_reading()
    await asyncio.sleep(0)
    protocol.transport.resume_reading()
    await protocol.came
    served.transport.close()
    await protocol.lost
    await served.lost


async def started() -> None:
    """start_tls() at both ends."""
    ours, theirs = socket.socketpair()
    plain, protocol = await aloop.create_connection(Protocol, sock=ours)
    other, served = await aloop.create_connection(Echo, sock=theirs)
    served.transport, protocol.transport = await asyncio.gather(
        aloop.start_tls(other, served, server, server_side=True),
        aloop.start_tls(plain, protocol, client, server_hostname="localhost"),
    )
    protocol.transport.write(chunk)
    await protocol.came
    protocol.transport.close()
    await protocol.lost
    await served.lost


async def wrong_host() -> None:
    with contextlib.suppress(ssl.SSLCertVerificationError):
        await connect(elsewhere)


async def not_tls(said: bytes = b"GET / HTTP/1.1\r\n\r\n") -> None:
    """At a server, and from one."""
    for side in (server, client):
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.send(said)
            if side is client:
                coroutine = aloop.create_connection(
                    Protocol, sock=ours, ssl=client, server_hostname="localhost"
                )
            else:
                coroutine = aloop.connect_accepted_socket(Protocol, ours, ssl=server)
            task = aloop.create_task(coroutine)
            if not said:
                await asyncio.sleep(0)
                theirs.close()
            await asyncio.wait([task])
            assert isinstance(task.exception(), OSError)


async def gone() -> None:
    await not_tls(b"")


async def cut_short() -> None:
    await not_tls(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 80)


async def cancelled() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        task = aloop.create_task(
            aloop.create_connection(Protocol, sock=ours, ssl=client, server_hostname="localhost")
        )
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])


def way(work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    return lambda: aloop.run_until_complete(work())


probe.involved += [aloop, aloop.ev, Protocol, Echo, server, client, elsewhere]
for work, count in {
    short: 15_000,
    aborted: 3_000,
    paused: 3_000,
    started: 3_000,
    wrong_host: 10_000,
    not_tls: 10_000,
    gone: 10_000,
    cut_short: 10_000,
    cancelled: 10_000,
}.items():
    probe.run(work.__name__, way(work), count // SHARE, SPARE * count // SHARE)
aloop.close()
probe.end()
