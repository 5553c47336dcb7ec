"""What the tests of TLS stand on: certificates, and peers that do TLS by hand.

Which way TLS is done by our loop is the environment's choice (`PYEV_TLS=stdlib`): these tests pass
both ways, `PYEV_TLS=stdlib pytest tests/net/test_tls*.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import trustme
from net_kit import Net, Peer, Recorder

RECORD = 1 << 14  # the most that a record holds
TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@functools.cache
def authority(name: str) -> trustme.CA:
    return trustme.CA()


@functools.cache
def certificate(host: str, by: str) -> trustme.LeafCert:
    expires = datetime.datetime(2020, 1, 1) if by == "expired" else None
    return authority("ours" if by == "expired" else by).issue_cert(host, not_after=expires)


def server_context(
    version: ssl.TLSVersion | None = None, *, host: str = "localhost", by: str = "ours"
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate(host, by).configure_cert(context)
    return of_version(context, version)


def client_context(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority("ours").configure_trust(context)
    return of_version(context, version)


def of_version(context: ssl.SSLContext, version: ssl.TLSVersion | None) -> ssl.SSLContext:
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def strict(context: ssl.SSLContext) -> ssl.SSLContext:
    """For it the end of the bytes is no end of the conversation. Python's own contexts are lax."""
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return context


class TlsPeer:
    """One end of TLS over a socket that is no transport: what is sent, and when, is the test's."""

    def __init__(self, peer: Peer, context: ssl.SSLContext, server_side: bool) -> None:
        self.peer = peer
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_side,
            server_hostname=None if server_side else "localhost",
        )

    async def do(self, work: Callable[..., Any], *args: Any) -> Any:
        """A call of its SSLObject, with the socket read and written as it needs it."""
        while True:
            try:
                return work(*args)
            except ssl.SSLWantReadError:
                await self.flush()
                data = await self.peer.loop.sock_recv(self.peer.sock, 1 << 18)
                if data:
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()
            finally:
                await self.flush()

    async def flush(self) -> None:
        if self.outgoing.pending:
            await self.peer.send(self.outgoing.read())

    async def handshake(self) -> None:
        await self.do(self.tls.do_handshake)

    def records(self, data: bytes, size: int = RECORD) -> bytes:
        """These bytes in records of that size, as they go over the wire."""
        for start in range(0, len(data), size):
            self.tls.write(data[start : start + size])
        return self.outgoing.read()

    async def send(self, data: bytes) -> None:
        await self.peer.send(self.records(data))

    async def read(self, size: int) -> bytes:
        """So many bytes, or what there is before the peer says that it ends."""
        data = bytearray()
        while len(data) < size:
            try:
                piece = await self.do(self.tls.read, min(size - len(data), RECORD))
            except ssl.SSLZeroReturnError:  # both ends have said so
                break
            if not piece:
                break
            data += piece
        return bytes(data)

    async def read_all(self) -> bytes:
        return await self.read(1 << 40)

    def ending(self) -> bytes:
        """The record that says that nothing more comes."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.outgoing.read()

    async def close(self) -> None:
        """Says that nothing more comes, and does not wait for the answer."""
        await self.peer.send(self.ending())
        self.peer.close()


class Tls:
    """Connections with TLS, on the loop and by hand."""

    def __init__(self, net: Net) -> None:
        self.net, self.loop = net, net.loop

    async def dial(
        self,
        side: str,
        protocol: Any,
        *,
        context: ssl.SSLContext | None = None,
        family: int = socket.AF_INET,
        **options: Any,
    ) -> tuple[Peer, asyncio.Task[Any]]:
        """A transport on its side has a bare socket for a peer, and begins its handshake.

        The task ends as create_connection() does, or when the server's protocol is connected.
        """
        self.net.remember(protocol)
        unix = family == socket.AF_UNIX
        if side == "client":
            options = {"server_hostname": "localhost", **options}
            listener = self.net.listener(family)
            create = self.loop.create_unix_connection if unix else self.loop.create_connection
            where = [listener.getsockname()] if unix else listener.getsockname()
            coroutine = create(
                lambda: protocol,
                *([where[0].decode()] if unix else where),
                ssl=context or client_context(),
                **options,
            )
            task = self.loop.create_task(coroutine)
            peer = self.net.peer((await self.loop.sock_accept(listener))[0])
            return peer, task
        name = self.net.abstract_name()
        create = self.loop.create_unix_server if unix else self.loop.create_server
        server = await create(
            lambda: protocol,
            *([name] if unix else ["127.0.0.1", 0]),
            ssl=context or server_context(),
            **options,
        )
        peer = self.net.peer(socket.socket(family))
        await self.loop.sock_connect(peer.sock, server.sockets[0].getsockname())
        self.net.enter(contextlib.closing(server))
        return peer, self.loop.create_task(protocol.called("made"))

    async def connect(
        self,
        side: str,
        protocol: Any = None,
        *,
        peer_context: ssl.SSLContext | None = None,
        small: bool = False,
        **options: Any,
    ) -> tuple[Any, TlsPeer]:
        """A transport on its side, its protocol connected, and its peer by hand."""
        protocol = protocol or Recorder()
        peer, task = await self.dial(side, protocol, **options)
        if small:
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        other = TlsPeer(peer, peer_context or strict(self.context(side)), side == "client")
        await other.handshake()
        await task
        if small:
            sock = protocol.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
        return protocol, other

    def context(self, side: str, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """What the peer of a transport on that side uses."""
        return server_context(version) if side == "client" else client_context(version)

    @contextlib.asynccontextmanager
    async def serving(
        self, make: Callable[[], Any], context: ssl.SSLContext | None = None, **options: Any
    ) -> AsyncIterator[tuple[str, int]]:
        """A server on the loop; where it is."""
        server = await self.loop.create_server(
            lambda: self.net.remember(make()),
            "127.0.0.1",
            0,
            ssl=context or server_context(),
            **options,
        )
        try:
            yield server.sockets[0].getsockname()
        finally:
            server.close()

    async def call(
        self,
        protocol: Any,
        address: tuple[str, int],
        context: ssl.SSLContext | None = None,
        **options: Any,
    ) -> Any:
        """A client on the loop; its protocol."""
        self.net.remember(protocol)
        options = {"server_hostname": "localhost", **options}
        await self.loop.create_connection(
            lambda: protocol, *address, ssl=context or client_context(), **options
        )
        return protocol

    async def pair(
        self,
        client: Any = None,
        server: Any = None,
        contexts: tuple[ssl.SSLContext | None, ssl.SSLContext | None] = (None, None),
        **options: Any,
    ) -> tuple[Any, Any]:
        """Both ends on the loop, client and server."""
        client, server = client or Recorder(), server or Recorder()
        async with self.serving(lambda: server, contexts[1]) as address:
            await self.call(client, address, contexts[0], **options)
            await server.called("made")
        return client, server

    def refused(self, *errors: type[OSError]) -> None:
        """In debug mode only, a server says which connections it could not welcome, and why."""
        if self.loop.get_debug():
            reports = [report.get("exception") for report in self.net.reports]
            self.net.reports.clear()
            assert len(reports) == len(errors), reports
            assert all(map(isinstance, reports, errors)), reports
