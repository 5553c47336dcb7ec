"""Datagrams: each whole or not at all, and errors that end nothing."""

import asyncio
import contextlib
import errno
import gc
import os
import socket
import sys
import tempfile
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from net_kit import Remembering, some_bytes


class Receiver(Remembering, asyncio.DatagramProtocol):
    def __init__(self):
        super().__init__()
        self.received = []
        self.errors = []

    def datagram_received(self, data, addr):
        if type(data) is not bytes:
            self.wrong.append(f"datagram_received({data!r})")
        self.received.append((data, addr))
        self.note("datagram")

    def error_received(self, exc):
        assert sys.exc_info()[1] is exc
        self.errors.append(exc)
        self.note("error")

    async def got(self, count):
        await self.until(lambda: len(self.received) >= count)


async def endpoint(net, **options):
    protocol = net.remember(Receiver())
    if not options:
        options = {"local_addr": ("127.0.0.1", 0)}
    transport, returned = await net.loop.create_datagram_endpoint(lambda: protocol, **options)
    assert returned is protocol
    assert transport is protocol.transport
    if hasattr(net.loop, "ev") or sys.version_info >= (3, 12):
        assert isinstance(transport, asyncio.DatagramTransport)
    return protocol


@pytest.fixture
def peer(net):
    sock = net.enter(socket.socket(type=socket.SOCK_DGRAM))
    sock.bind(("127.0.0.1", 0))
    return net.peer(sock)


def name(protocol):
    return protocol.transport.get_extra_info("sockname")


async def test_to_and_fro(net, peer):
    protocol = await endpoint(net)
    peer.sock.sendto(b"question", name(protocol))
    await protocol.got(1)
    assert protocol.received == [(b"question", peer.sock.getsockname())]
    protocol.transport.sendto(b"answer", peer.sock.getsockname())
    assert await net.loop.sock_recvfrom(peer.sock, 100) == (b"answer", name(protocol))


async def test_an_address_by_another_name(net):
    """Whoever answers is told as ever, however the address was written."""
    sock = net.enter(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    try:
        sock.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6")
    peer, port = net.peer(sock), sock.getsockname()[1]
    protocol = await endpoint(net, local_addr=("::1", 0))
    for address in [("::1", port), ("::0001", port, 0), ("0:0:0:0:0:0:0:1", port, 0, 0)]:
        protocol.received.clear()
        protocol.transport.sendto(b"question", address)
        assert await net.loop.sock_recvfrom(peer.sock, 100) == (b"question", name(protocol))
        for answer in (b"a", b"b"):
            peer.sock.sendto(answer, name(protocol))
        await protocol.got(2)
        assert protocol.received == [(b"a", sock.getsockname()), (b"b", sock.getsockname())]


async def test_connected(net, peer):
    protocol = await endpoint(net, remote_addr=peer.sock.getsockname())
    assert protocol.transport.get_extra_info("peername") == peer.sock.getsockname()
    protocol.transport.sendto(b"a")
    protocol.transport.sendto(b"b", None)
    protocol.transport.sendto(b"c", peer.sock.getsockname())
    for expected in (b"a", b"b", b"c"):
        assert await net.loop.sock_recv(peer.sock, 100) == expected
    with pytest.raises(ValueError, match="Invalid address"):
        protocol.transport.sendto(b"x", ("127.0.0.1", 9))
    peer.sock.sendto(b"d", name(protocol))
    await protocol.got(1)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_buffers(net, peer, kind):
    protocol = await endpoint(net)
    data = bytearray(b"data") if kind is not bytes else b"data"
    protocol.transport.sendto(kind(data), peer.sock.getsockname())
    if kind is not bytes:
        data[:] = b"else"
        data.clear()
    assert await net.loop.sock_recv(peer.sock, 100) == b"data"
    for nonsense in ("text", 7, None, [b"x"]):
        with pytest.raises(TypeError, match="data argument must be a bytes-like object"):
            protocol.transport.sendto(nonsense, peer.sock.getsockname())


async def test_received_empty(net, peer):
    protocol = await endpoint(net)
    for data in (b"", b"x", b""):
        peer.sock.sendto(data, name(protocol))
    await protocol.got(3)
    assert [data for data, _ in protocol.received] == [b"", b"x", b""]


@pytest.mark.parametrize("connected", [False, True])
async def test_sent_empty(net, peer, connected):
    """It is a datagram as any other; older asyncios send nothing."""
    protocol = await endpoint(
        net, **({"remote_addr": peer.sock.getsockname()} if connected else {})
    )
    address = None if connected else peer.sock.getsockname()
    protocol.transport.sendto(b"", address)
    protocol.transport.sendto(b"x", address)
    first = await net.loop.sock_recv(peer.sock, 100)
    if first == b"" or hasattr(net.loop, "ev"):
        assert first == b""
        first = await net.loop.sock_recv(peer.sock, 100)
    assert first == b"x"


async def test_largest(net, peer):
    protocol = await endpoint(net)
    protocol.transport.sendto(some_bytes(65507), peer.sock.getsockname())
    assert await net.loop.sock_recv(peer.sock, 1 << 17) == some_bytes(65507)
    peer.sock.sendto(some_bytes(65507), name(protocol))
    await protocol.got(1)
    assert protocol.received[0][0] == some_bytes(65507)


@pytest.mark.parametrize("connected", [False, True])
async def test_too_large(net, peer, connected):
    """error_received, and the next one is sent."""
    protocol = await endpoint(
        net, **({"remote_addr": peer.sock.getsockname()} if connected else {})
    )
    address = None if connected else peer.sock.getsockname()
    protocol.transport.sendto(bytes(70_000), address)
    protocol.transport.sendto(b"x", address)
    await protocol.called("error")
    assert [error.errno for error in protocol.errors] == [errno.EMSGSIZE]
    assert await net.loop.sock_recv(peer.sock, 100) == b"x"


async def test_refused(net, peer):
    """By ICMP: error_received, and the endpoint is as good as before."""
    address = peer.sock.getsockname()
    protocol = await endpoint(net, remote_addr=address)
    peer.close()
    protocol.transport.sendto(b"x")
    await protocol.called("error")
    assert isinstance(protocol.errors[0], ConnectionRefusedError)
    assert not protocol.transport.is_closing()
    again = net.enter(socket.socket(type=socket.SOCK_DGRAM))
    again.bind(address)
    again.setblocking(False)
    for _ in range(3):  # the first may get what is left of the refusal
        protocol.transport.sendto(b"y")
        await net.turn()
    assert await net.loop.sock_recv(again, 100) == b"y"
    again.sendto(b"z", name(protocol))
    await protocol.got(1)


async def test_refused_again_and_again(net, peer):
    protocol = await endpoint(net, remote_addr=peer.sock.getsockname())
    peer.close()
    for number in range(1, 6):
        protocol.transport.sendto(b"x")
        await protocol.until(lambda number=number: len(protocol.errors) >= number)
    await net.calm()
    assert protocol.calls.count("lost") == 0


@pytest.mark.parametrize("address", [("127.0.0.1", 65536), ("127.0.0.1", -1), ("127.0.0.1",)])
async def test_sent_to_no_address(net, peer, address):
    """What the socket module says to it ends the endpoint, as an error in the program does."""
    protocol = await endpoint(net)
    protocol.transport.sendto(b"x", address)
    reason = await protocol.lost()
    assert isinstance(reason, (OverflowError, TypeError))
    net.reported(type(reason))


@pytest.mark.asyncio_fails("takes an end without a name for not connected")
async def test_connected_to_no_name(net):
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    b = net.peer(b)
    protocol = await endpoint(net, sock=a)
    protocol.transport.sendto(b"x")
    assert b.read_now() == b"x"
    b.sock.send(b"y")
    await protocol.got(1)
    assert protocol.received == [(b"y", None)]


async def test_sent_to_nobody_at_all(net):
    """An unconnected endpoint needs an address."""
    protocol = await endpoint(net)
    protocol.transport.sendto(b"x")
    await net.turn(3)
    if "lost" in protocol.calls:
        net.reported(TypeError)
    else:
        assert [error.errno for error in protocol.errors] == [errno.EDESTADDRREQ]


class Duck:
    """What has a socket's methods, and no socket's descriptor."""

    family, type, proto = socket.AF_UNSPEC, socket.SOCK_DGRAM, 0

    def __init__(self, descriptor, given):
        self.descriptor, self.given = descriptor, given

    def fileno(self):
        return self.descriptor

    def recvfrom(self, size):
        os.read(self.descriptor, 1)
        return self.given

    def getsockname(self):
        raise OSError

    def getpeername(self):
        raise OSError

    def setblocking(self, blocking):
        os.set_blocking(self.descriptor, blocking)

    def close(self):
        os.close(self.descriptor)


@pytest.mark.parametrize("given", [(), (b"x",), (b"x", None, None), 7, [b"x", "there"]])
async def test_what_a_socket_of_ones_own_brings(net, given):
    """What is no datagram and its address ends the endpoint, as asyncio's unpacking does."""
    read, write = os.pipe()
    protocol = net.remember(Receiver())
    await net.loop.create_datagram_endpoint(lambda: protocol, sock=Duck(read, given))
    os.write(write, b"x")
    os.close(write)
    if isinstance(given, list):
        await protocol.got(1)
        assert protocol.received == [(b"x", "there")]
        protocol.transport.abort()
        await protocol.lost()
        return
    reason = await protocol.lost()
    assert isinstance(reason, TypeError if given == 7 else ValueError)
    net.reported(type(reason))


class Oops(Exception):
    pass


@pytest.mark.parametrize("error", [Oops, FileNotFoundError])
async def test_datagram_received_raises(net, peer, error):
    """Reported; the endpoint lives, as a callback that raises is all it is."""

    class Raising(Receiver):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"bad":
                raise error

    protocol = net.remember(Raising())
    await net.loop.create_datagram_endpoint(lambda: protocol, local_addr=("127.0.0.1", 0))
    peer.sock.sendto(b"bad", name(protocol))
    await protocol.got(1)
    await net.turn(2)
    net.reported(error)
    peer.sock.sendto(b"good", name(protocol))
    await protocol.got(2)


async def test_error_received_raises(net, peer):
    class Raising(Receiver):
        def error_received(self, exc):
            super().error_received(exc)
            raise Oops

    protocol = net.remember(Raising())
    await net.loop.create_datagram_endpoint(lambda: protocol, remote_addr=peer.sock.getsockname())
    peer.close()
    protocol.transport.sendto(b"x")
    await protocol.called("error")
    await net.turn(2)
    net.reported(Oops)
    assert not protocol.transport.is_closing()


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_what_leaves_the_loop(net, peer, leaving):
    class Raising(Receiver):
        def datagram_received(self, data, addr):
            raise leaving

    protocol = net.remember(Raising())
    net.run(net.loop.create_datagram_endpoint(lambda: protocol, local_addr=("127.0.0.1", 0)))
    peer.sock.sendto(b"x", name(protocol))
    with pytest.raises(leaving):
        net.run(asyncio.sleep(20))


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_nothing_is_lost_by_what_leaves_the_loop(net, peer, leaving):
    """What was read with it comes when the loop runs again."""

    class Raising(Receiver):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if len(self.received) in leaves_at:
                raise leaving

    leaves_at = {1, 2, 7}
    protocol = net.remember(Raising())
    net.run(net.loop.create_datagram_endpoint(lambda: protocol, local_addr=("127.0.0.1", 0)))
    sent = [b"%d" % i for i in range(10)]
    for data in sent:
        peer.sock.sendto(data, name(protocol))
    for _ in leaves_at:
        with pytest.raises(leaving):
            net.run(asyncio.sleep(20))
    net.run(protocol.got(10))
    assert [data for data, _ in protocol.received] == sent


# Closing


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_no_callback_after_the_end(net, peer, how):
    protocol = await endpoint(net)
    for _ in range(5):
        peer.sock.sendto(b"x", name(protocol))
    getattr(protocol.transport, how)()
    assert protocol.transport.is_closing()
    protocol.transport.close()
    protocol.transport.abort()
    assert await protocol.lost() is None
    await net.calm()
    assert protocol.calls == ["made", "lost"]
    if hasattr(net.loop, "ev"):  # asyncio's has no socket then, and says so by AttributeError
        protocol.transport.sendto(b"x", peer.sock.getsockname())


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_ended_in_datagram_received(net, peer, how):
    class Ending(Receiver):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            getattr(self.transport, how)()

    protocol = net.remember(Ending())
    await net.loop.create_datagram_endpoint(lambda: protocol, local_addr=("127.0.0.1", 0))
    for _ in range(5):
        peer.sock.sendto(b"x", name(protocol))
    await protocol.lost()
    assert len(protocol.received) == 1


async def test_ended_in_error_received(net, peer):
    class Ending(Receiver):
        def error_received(self, exc):
            super().error_received(exc)
            self.transport.close()

    protocol = net.remember(Ending())
    await net.loop.create_datagram_endpoint(lambda: protocol, remote_addr=peer.sock.getsockname())
    protocol.transport.sendto(bytes(70_000))
    assert await protocol.lost() is None


def test_dropped(net):
    """It says so, and does not crash."""
    protocol = net.run(endpoint(net))
    net.loop.close()
    net.protocols.remove(protocol)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        protocol.transport = None
        del protocol
        gc.collect()
    assert {warning.category for warning in seen} == {ResourceWarning}


# Many


async def test_burst(net, peer):
    """Each arrives whole and in order."""
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    protocol = await endpoint(net)
    sent = [b"%d," % number * 20 for number in range(100)]
    for data in sent:
        protocol.transport.sendto(data, peer.sock.getsockname())
    assert [await net.loop.sock_recv(peer.sock, 1000) for _ in sent] == sent


@pytest.fixture
def unix_pair(net):
    """Datagram sockets that lose nothing, and are full soon."""
    a, b = two_unix_sockets(net)
    a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return a, net.enter(b)


def two_unix_sockets(net):
    """With names: asyncio takes an end without one for not connected."""
    ends = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    for end in ends:
        end.setblocking(False)
        end.bind(net.abstract_name())
    ends[0].connect(ends[1].getsockname())
    ends[1].connect(ends[0].getsockname())
    return ends


@pytest.mark.asyncio_fails(
    "counts a header that it never takes off again", when=(3, 13) <= sys.version_info < (3, 13, 6)
)
async def test_bounded(net, unix_pair):
    """What the kernel does not take is kept in order, and the protocol told to pause."""
    a, b = unix_pair
    protocol = await endpoint(net, sock=a)
    sent = [some_bytes(1000, number) for number in range(200)]
    for data in sent:
        protocol.transport.sendto(data)
    await protocol.called("pause")
    size = protocol.transport.get_write_buffer_size()
    assert size > 65536
    received = [await net.loop.sock_recv(b, 5000) for _ in sent]
    assert received == sent
    await protocol.called("resume")
    assert protocol.transport.get_write_buffer_size() == 0
    assert protocol.calls == ["made", "pause", "resume"]


async def test_close_delivers_what_was_sent(net, unix_pair):
    a, b = unix_pair
    protocol = await endpoint(net, sock=a)
    sent = [some_bytes(1000, number) for number in range(50)]
    for data in sent:
        protocol.transport.sendto(data)
    protocol.transport.close()
    assert [await net.loop.sock_recv(b, 5000) for _ in sent] == sent
    assert await protocol.lost() is None


async def test_abort_drops(net, unix_pair):
    a, b = unix_pair
    protocol = await endpoint(net, sock=a)
    for _ in range(200):
        protocol.transport.sendto(some_bytes(1000))
    protocol.transport.abort()
    assert await protocol.lost() is None


async def test_mutable_while_it_waits(net, unix_pair):
    a, b = unix_pair
    protocol = await endpoint(net, sock=a)
    buffers = [bytearray(some_bytes(1000, number)) for number in range(50)]
    expected = [bytes(buffer) for buffer in buffers]
    for buffer in buffers:
        protocol.transport.sendto(buffer)
        buffer[:] = bytes(1000)
        buffer.clear()
    assert [await net.loop.sock_recv(b, 5000) for _ in buffers] == expected


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(sizes=st.lists(st.integers(1, 3000), max_size=60), burst=st.integers(1, 20))
def test_any_datagrams(net, sizes, burst):
    async def main():
        a, b = two_unix_sockets(net)
        first, second = await endpoint(net, sock=a), await endpoint(net, sock=b)
        for number, size in enumerate(sizes):
            first.transport.sendto(some_bytes(size, number))
            second.transport.sendto(some_bytes(size, number + 1))
            if number % burst == 0:
                await net.turn()
        await first.got(len(sizes))
        await second.got(len(sizes))
        assert [data for data, _ in second.received] == [
            some_bytes(size, number) for number, size in enumerate(sizes)
        ]
        assert [data for data, _ in first.received] == [
            some_bytes(size, number + 1) for number, size in enumerate(sizes)
        ]
        for protocol in (first, second):
            protocol.transport.close()
            await protocol.lost()

    net.run(main())


async def test_a_peer_that_never_stops(net, peer):
    """Others come to their turn."""
    protocol = await endpoint(net)

    async def flood():
        while True:
            for _ in range(20):
                peer.sock.sendto(b"x" * 100, name(protocol))
            await asyncio.sleep(0)

    flooding = asyncio.ensure_future(flood())
    for _ in range(20):
        await asyncio.sleep(0.0005)
    flooding.cancel()
    assert protocol.received


# Unix datagrams, and how endpoints are made


async def test_unix(net):
    with tempfile.TemporaryDirectory() as directory:
        paths = [os.path.join(directory, end) for end in ("a", "b")]
        protocol = await endpoint(net, local_addr=paths[0], family=socket.AF_UNIX)
        other = await endpoint(net, local_addr=paths[1], family=socket.AF_UNIX)
        protocol.transport.sendto(b"x", paths[1])
        await other.got(1)
        assert other.received == [(b"x", paths[0])]


async def test_unix_without_a_name(net):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "a")
        protocol = await endpoint(net, local_addr=path, family=socket.AF_UNIX)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nameless:
            nameless.sendto(b"x", path)
            await protocol.got(1)
        assert protocol.received[0][0] == b"x"
        assert not protocol.received[0][1]


async def test_broadcast(net):
    protocol = await endpoint(net, local_addr=("127.0.0.1", 0), allow_broadcast=True)
    sock = protocol.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)


async def test_wrong_arguments(net):
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        for error, options in [
            (ValueError, {}),
            (ValueError, {"sock": stream}),
            (ValueError, {"sock": datagram, "local_addr": ("127.0.0.1", 0)}),
            (ValueError, {"local_addr": "x", "family": socket.AF_INET}),
            (TypeError, {"local_addr": 7, "family": socket.AF_UNIX}),
        ]:
            with pytest.raises((error, TypeError)):
                await net.loop.create_datagram_endpoint(Receiver, **options)
        with pytest.raises((OSError, ValueError)):
            await net.loop.create_datagram_endpoint(
                Receiver, local_addr=("127.0.0.1", 0), remote_addr=("::1", 9)
            )


async def test_address_in_use(net, peer):
    with pytest.raises(OSError, match="in use"):
        await net.loop.create_datagram_endpoint(Receiver, local_addr=peer.sock.getsockname())


async def test_the_socket_is_guarded(net):
    protocol = await endpoint(net)
    sock = protocol.transport.get_extra_info("socket")
    with pytest.raises(RuntimeError, match="is used by transport"):
        net.loop.add_reader(sock, print)
    with pytest.raises(RuntimeError, match="is used by transport"):
        net.loop.remove_writer(sock.fileno())


async def test_closed_behind_the_back_in_resume_writing(net):
    """The end is told once."""
    near, far = two_unix_sockets(net)
    net.enter(far)

    class Closing(asyncio.DatagramProtocol):
        lost = 0

        def resume_writing(self):
            near.close()

        def connection_lost(self, exc):
            self.lost += 1

    transport, protocol = await net.loop.create_datagram_endpoint(Closing, sock=near)
    transport.set_write_buffer_limits(high=0)
    while not transport.get_write_buffer_size():
        transport.sendto(b"x")
    while near.fileno() >= 0:
        with contextlib.suppress(BlockingIOError):
            far.recv(10)
        await net.turn()
    await net.turn(3)
    transport.abort()
    await net.turn(3)
    assert protocol.lost == 1
    net.reports.clear()  # asyncio's own goes on watching it, and says so


async def test_many_wait(net):
    """In the order in which they were sent."""
    near, far = two_unix_sockets(net)
    net.enter(far)
    transport, _ = await net.loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=near)
    for number in range(2000):
        transport.sendto(b"%d" % number)
    got = [await net.loop.sock_recv(far, 10) for _ in range(2000)]
    assert got == [b"%d" % number for number in range(2000)]
    transport.close()
    await net.turn(2)
