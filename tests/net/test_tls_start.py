"""start_tls(): a connection that becomes one with TLS, in both roles and at any moment."""

import asyncio
import contextlib
import gc
import socket
import ssl

import pytest
from net_kit import Recorder, some_bytes
from tls_kit import TlsPeer, client_context, server_context, strict

SHORT = 0.05  # seconds; nothing else in these tests would end them


def own(side):
    return client_context() if side == "client" else server_context()


def start(net, protocol, side, **options):
    """As the user does it; a task."""
    if side == "client":
        options = {"server_hostname": "localhost", **options}
    options.setdefault("sslcontext", own(side))
    coroutine = net.loop.start_tls(
        protocol.transport, protocol, server_side=side == "server", **options
    )
    return net.loop.create_task(coroutine)


@pytest.fixture
def upgrade(connect, tls, net, side):
    """A plain connection, over TCP or a unix socket, that becomes one with TLS."""

    async def upgrade(protocol=None, **options):
        protocol, peer = await connect(protocol or Recorder())
        task = start(net, protocol, side, **options)
        other = TlsPeer(peer, strict(tls.context(side)), side == "client")
        await other.handshake()
        plain, protocol.transport = protocol.transport, await task
        return plain, protocol, other

    return upgrade


async def test_both_roles_on_every_kind_of_stream(upgrade):
    plain, protocol, peer = await upgrade()
    transport = protocol.transport
    assert transport is not plain
    assert transport.get_protocol() is protocol
    assert protocol.calls == ["made"]  # once, of the plain connection
    transport.write(b"secret")
    assert await peer.read(6) == b"secret"
    await peer.send(b"too")
    await protocol.called("data")
    assert protocol.data == b"too"
    assert transport.get_extra_info("cipher") == peer.tls.cipher()
    assert transport.get_extra_info("socket").fileno() == plain.get_extra_info("socket").fileno()
    transport.close()
    assert await peer.read_all() == b""
    await peer.close()
    assert await protocol.lost() is None


async def test_what_was_said_before_was_plain(connect, tls, net, side):
    protocol, peer = await connect()
    await peer.send(b"STARTTLS\r\n")
    await protocol.until(lambda: protocol.data == b"STARTTLS\r\n")
    protocol.transport.write(b"220 go ahead\r\n")
    task = start(net, protocol, side)
    assert await peer.read(14) == b"220 go ahead\r\n"
    other = TlsPeer(peer, strict(tls.context(side)), side == "client")
    await other.handshake()
    protocol.transport = await task
    await other.send(b"secret")
    await protocol.until(lambda: protocol.data == b"STARTTLS\r\nsecret")


async def test_a_hello_behind_a_proxy_header(connect, tls, net):
    """In one packet: the protocol cuts the header off, what follows is not lost to it.

    A protocol reads the header by itself and stops there; the hello comes with the next read.
    """
    header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
    task = None

    class Proxied(asyncio.BufferedProtocol, Recorder):
        def get_buffer(self, sizehint):
            return self.buffer

        def buffer_updated(self, nbytes):
            nonlocal task
            self.data += self.buffer[:nbytes]
            self.note("data")
            if self.data == header:
                task = start(net, self, "server")

    protocol = Proxied()
    protocol.buffer = bytearray(len(header))
    protocol, peer = await connect(protocol)
    other = TlsPeer(peer, strict(client_context()), False)
    with contextlib.suppress(ssl.SSLWantReadError):
        other.tls.do_handshake()
    await peer.send(header + other.outgoing.read())
    await protocol.called("data")
    await other.handshake()
    protocol.transport = await task
    protocol.transport.set_protocol(secret := Recorder())
    secret.calls.append("made")
    await other.send(b"secret")
    await secret.called("data")
    assert secret.data == b"secret"
    assert protocol.data == header
    protocol.transport.abort()
    await secret.lost()
    protocol.calls.append("lost")


@pytest.mark.asyncio_fails("waits for the hello that it has", run=False)
async def test_a_hello_behind_what_a_stream_has_read(net, tls):
    """In one packet with the line before it: it lies in the reader's buffer by then."""

    async def serve(reader, writer):
        assert await reader.readline() == b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
        await writer.start_tls(server_context())
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        ended.set_result(None)

    ended = net.loop.create_future()
    server = net.enter(contextlib.closing(await asyncio.start_server(serve, "127.0.0.1", 0)))
    peer = net.peer(socket.create_connection(server.sockets[0].getsockname()))
    other = TlsPeer(peer, strict(client_context()), False)
    with contextlib.suppress(ssl.SSLWantReadError):
        other.tls.do_handshake()
    await peer.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + other.outgoing.read())
    await other.handshake()
    await other.send(b"secret\n")
    assert await other.read_all() == b"SECRET\n"
    await other.close()
    await ended


async def test_plain_bytes_where_a_handshake_should_be(connect, tls, net, side):
    """Injected by somebody in between: never taken for protected data."""
    protocol, peer = await connect()
    task = start(net, protocol, side)
    await peer.send(b"EHLO nobody\r\nRCPT TO:<victim>\r\n")
    with pytest.raises(ssl.SSLError) as caught:
        await task
    assert caught.value.reason == "WRONG_VERSION_NUMBER"
    await protocol.lost() if "lost" in protocol.calls else None
    assert protocol.data == b""
    protocol.calls.append("lost") if "lost" not in protocol.calls else None


async def test_streams(net, tls):
    """StreamWriter.start_tls, at both ends."""

    async def serve(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        await writer.drain()
        await writer.start_tls(server_context())
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        ended.set_result(None)

    ended = net.loop.create_future()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"STARTTLS\n")
    assert await reader.readline() == b"go\n"
    await writer.start_tls(client_context(), server_hostname="localhost")
    writer.write(b"secret\n")
    assert await reader.readline() == b"SECRET\n"
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    await ended
    server.close()


async def test_tls_in_tls(tls, net, side):
    """Through a proxy that speaks TLS itself."""
    protocol, outer = await tls.connect(side)
    task = start(net, protocol, side)

    class Through:
        """What the inner peer takes for a socket."""

        loop = net.loop

        async def send(self, data):
            await outer.send(data)

    inner = TlsPeer(Through(), strict(tls.context(side)), side == "client")

    async def work(function, *args):
        while True:
            try:
                return function(*args)
            except ssl.SSLWantReadError:
                await inner.flush()
                data = await outer.do(outer.tls.read, 1 << 14)
                inner.incoming.write(data) if data else inner.incoming.write_eof()
            finally:
                await inner.flush()

    inner.do = work
    await inner.handshake()
    protocol.transport = await task
    data = some_bytes(200_000)
    protocol.transport.write(data)
    assert await inner.read(len(data)) == data
    for at in range(0, 30_000, 10_000):
        await inner.send(data[at : at + 10_000])
    await protocol.until(lambda: len(protocol.data) == 30_000)
    assert protocol.data == data[:30_000]
    protocol.transport.close()
    assert await inner.read_all() == b""
    await outer.send(inner.ending())
    assert await outer.read_all() == b""
    await outer.close()
    assert await protocol.lost() is None


@pytest.mark.asyncio_fails("its new protocol was not there when it was asked to pause", run=False)
async def test_paused_for_writing(connect, tls, net, side):
    """What waits goes first, and the protocol is told when it may go on."""
    protocol, peer = await connect(small=True)
    data = some_bytes(1_000_000)
    protocol.transport.write(data)
    await net.turn(2)
    assert protocol.paused
    task = start(net, protocol, side)
    assert await peer.read(len(data)) == data
    other = TlsPeer(peer, strict(tls.context(side)), side == "client")
    await other.handshake()
    protocol.transport = await task
    protocol.transport.write(b"secret")
    assert await other.read(6) == b"secret"
    # asyncio forgets to say that it may write again: `paused` is as it may be.
    protocol.calls = [call for call in protocol.calls if call not in ("pause", "resume")]


@pytest.mark.parametrize("what", ["timeout", "eof", "reset", "rubbish", "cancel", "abort"])
async def test_failing_midway(connect, tls, net, side, what):
    """The connection ends; connection_lost() comes at most once. Only an abort raises nothing."""
    protocol, peer = await connect()
    plain = protocol.transport
    options = {"ssl_handshake_timeout": SHORT} if what == "timeout" else {}
    task = start(net, protocol, side, **options)
    await net.turn(3)
    if what == "eof":
        peer.shutdown()
    elif what == "reset":
        peer.reset()
    elif what == "rubbish":
        await peer.send(bytes(100))
    elif what == "cancel":
        task.cancel()
    elif what == "abort":
        plain.abort()
    expected = {
        "timeout": ConnectionAbortedError,
        "eof": ConnectionResetError,
        "reset": ConnectionResetError,
        "rubbish": ssl.SSLError,
        "cancel": asyncio.CancelledError,
        "abort": None,
    }[what]
    if expected:
        with pytest.raises(expected):
            await task
    else:
        assert await task is None
    await net.turn(5)
    assert plain.is_closing()
    assert protocol.calls.count("lost") <= 1
    if "lost" not in protocol.calls:
        protocol.calls.append("lost")
    if what != "reset":
        with contextlib.suppress(ConnectionError):
            await peer.read_all()


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_what_is_being_closed(connect, net, how):
    """No exception: whoever asks for TLS is told by None that there is no transport."""
    protocol, peer = await connect()
    plain = protocol.transport
    getattr(plain, how)()
    upgraded = await net.loop.start_tls(
        plain, protocol, client_context(), server_hostname="localhost"
    )
    assert upgraded is None
    await net.turn(2)
    assert protocol.calls == ["made", "lost"]
    assert await peer.read_all() == b""


@pytest.mark.asyncio_fails("waits for ever", run=False)
async def test_what_is_lost(connect, net):
    """None as well, and at once: of it nobody hears any more."""
    protocol, peer = await connect()
    protocol.transport.abort()
    await protocol.lost()
    upgraded = await net.loop.start_tls(
        protocol.transport, protocol, client_context(), server_hostname="localhost"
    )
    assert upgraded is None


@pytest.mark.asyncio_fails("waits for ever", run=False)
async def test_what_is_lost_through_tls(tls, net, side):
    protocol, peer = await tls.connect(side)
    protocol.transport.abort()
    await protocol.lost()
    assert await start(net, protocol, side) is None


@pytest.mark.parametrize(("how", "size"), [("close", 7), ("abort", 7), ("close", 3_000_000)])
async def test_written_before_the_end_below(upgrade, how, size):
    """It arrives: asyncio has handed it down when write() returns."""
    plain, protocol, peer = await upgrade()
    protocol.transport.write(some_bytes(size))
    getattr(plain, how)()
    assert await peer.read(size) == some_bytes(size)
    assert await protocol.lost() is None


@pytest.mark.parametrize(("how", "size"), [("close", 7), ("abort", 7), ("close", 3_000_000)])
async def test_written_before_the_end_below_in_tls_in_tls(tls, net, how, size):
    client, server = await tls.pair()
    below = client.transport
    tasks = [start(net, server, "server"), start(net, client, "client")]
    server.transport, client.transport = await asyncio.gather(*tasks)
    client.transport.write(some_bytes(size))
    getattr(below, how)()
    await server.lost()
    assert server.data == some_bytes(size)
    client.calls = [call for call in client.calls if call not in ("pause", "resume")]


@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
async def test_resume_writing_lets_go_of_the_transport(upgrade, net):
    """Nobody else refers to it, and it is sending."""

    class Leaving(Recorder):
        plain = None

        def resume_writing(self):
            super().resume_writing()
            if self.plain:
                self.plain.set_protocol(Recorder())
                self.plain = self.transport = None
                gc.collect()

    plain, protocol, peer = await upgrade(Leaving())
    protocol.plain = plain
    protocol.transport.write(some_bytes(8_000_000))
    for _ in range(80):
        if protocol.plain:  # on asyncio's own loop nothing is paused
            assert len(await peer.read(100_000)) == 100_000
    plain.abort()
    await net.turn(3)
    protocol.calls = ["made", "lost"]  # of one that is no protocol any more


async def test_what_cannot_be_upgraded(net, tls, connect):
    protocol, peer = await connect()
    loop = net.loop
    with pytest.raises(TypeError):
        await loop.start_tls(protocol.transport, protocol, "no context")
    with pytest.raises(TypeError):
        await loop.start_tls(protocol.transport, protocol, None)
    with pytest.raises(TypeError):
        await loop.start_tls(object(), protocol, client_context())
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    net.enter(b)
    datagrams, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=a)
    with pytest.raises(TypeError):
        await loop.start_tls(datagrams, protocol, client_context())
    datagrams.close()
    protocol.transport.write(b"as before")
    assert await peer.read(9) == b"as before"
    await net.turn(2)


async def test_unix_servers_and_clients(tls, side):
    protocol, peer = await tls.connect(side, family=socket.AF_UNIX)
    protocol.transport.write(b"there")
    assert await peer.read(5) == b"there"
    await peer.send(b"and back")
    await protocol.until(lambda: protocol.data == b"and back")
    protocol.transport.close()
    assert await peer.read_all() == b""
    await peer.close()
    assert await protocol.lost() is None
