"""Connecting: to whom, with what errors, cancelled at any moment, raced."""

import asyncio
import contextlib
import errno
import gc
import socket
import sys

import pytest
from net_kit import Recorder, open_sockets, socket_at


@pytest.fixture
def silent(net):
    """The address of a listener whose backlog is full: connecting to it waits."""
    return net.full_listener()[0].getsockname()


@pytest.fixture
def refusing(net):
    """An address where nobody listens."""
    sock = net.enter(socket.socket())
    sock.bind(("127.0.0.1", 0))
    return sock.getsockname()


def resolving(net, *addresses):
    """Whatever name is looked up has these addresses."""

    async def getaddrinfo(host, port, **options):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    net.loop.getaddrinfo = getaddrinfo


async def test_host_and_port(net):
    listener = net.listener()
    protocol = net.remember(Recorder())
    transport, returned = await net.loop.create_connection(
        lambda: protocol, *listener.getsockname()
    )
    assert returned is protocol
    assert transport is protocol.transport  # connection_made came first
    assert isinstance(transport, asyncio.Transport)
    peer = net.peer(listener.accept()[0])
    assert transport.get_extra_info("sockname") == peer.sock.getpeername()
    assert transport.get_extra_info("peername") == listener.getsockname()
    sock = transport.get_extra_info("socket")
    assert sock.getsockname() == peer.sock.getpeername()
    assert sock.family == socket.AF_INET and sock.type == socket.SOCK_STREAM
    assert transport.get_extra_info("sslcontext") is None


async def test_name(net):
    listener = net.listener()
    port = listener.getsockname()[1]
    protocol = net.remember(Recorder())
    await net.loop.create_connection(lambda: protocol, "localhost", port, family=socket.AF_INET)


async def test_socket_passed_in(net):
    listener = net.listener()
    sock = socket.create_connection(listener.getsockname())
    protocol = net.remember(Recorder())
    transport, _ = await net.loop.create_connection(lambda: protocol, sock=sock)
    assert sock.getblocking() is False
    assert transport.get_extra_info("socket").fileno() == sock.fileno()
    transport.close()
    await protocol.lost()
    await net.turn()
    assert sock.fileno() == -1


async def test_accepted_socket(net):
    listener = net.listener()
    peer = net.peer(socket.create_connection(listener.getsockname()))
    accepted, _ = listener.accept()
    protocol = net.remember(Recorder())
    await net.loop.connect_accepted_socket(lambda: protocol, accepted)
    await peer.send(b"x")
    await protocol.called("data")
    protocol.transport.write(b"y")
    assert await peer.read(1) == b"y"


async def test_local_address(net):
    listener = net.listener()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    protocol = net.remember(Recorder())
    transport, _ = await net.loop.create_connection(
        lambda: protocol, *listener.getsockname(), local_addr=("127.0.0.1", port)
    )
    assert transport.get_extra_info("sockname") == ("127.0.0.1", port)


async def test_local_address_taken(net):
    listener, other = net.listener(), net.listener()
    with pytest.raises(OSError, match="error while attempting to bind on address"):
        await net.loop.create_connection(
            Recorder, *listener.getsockname(), local_addr=other.getsockname()
        )


async def test_refused(net, refusing):
    with pytest.raises(ConnectionRefusedError):
        await net.loop.create_connection(Recorder, *refusing)


async def test_the_second_address(net, refusing):
    listener = net.listener()
    resolving(net, refusing, listener.getsockname())
    protocol = net.remember(Recorder())
    transport, _ = await net.loop.create_connection(lambda: protocol, "somewhere", 1)
    assert transport.get_extra_info("peername") == listener.getsockname()


async def test_every_address_fails(net, refusing):
    """One error if they say the same, all of them otherwise."""
    resolving(net, refusing, refusing)
    with pytest.raises(ConnectionRefusedError):
        await net.loop.create_connection(Recorder, "somewhere", 1)
    resolving(net, refusing, ("255.255.255.255", 1))
    with pytest.raises(OSError, match=r"refused|Multiple exceptions: "):
        await net.loop.create_connection(Recorder, "somewhere", 1)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="of Python 3.12")
@pytest.mark.parametrize("delay", [None, 0, 0.001])
async def test_all_errors(net, refusing, delay):
    resolving(net, refusing, refusing)
    with pytest.raises(ExceptionGroup) as caught:
        await net.loop.create_connection(
            Recorder, "somewhere", 1, all_errors=True, happy_eyeballs_delay=delay
        )
    assert [type(error) for error in caught.value.exceptions] == [ConnectionRefusedError] * 2


async def test_no_address(net):
    resolving(net)
    with pytest.raises(OSError, match="empty list"):
        await net.loop.create_connection(Recorder, "somewhere", 1)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_factory_raises(net):
    """Whatever was connected is closed; asyncio leaves that to the collector."""
    listener = net.listener()

    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await net.loop.create_connection(fail, *listener.getsockname())
    gc.collect()
    peer = net.peer(listener.accept()[0])
    assert await peer.read_all() == b""


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_what_is_said_of_a_refusal(net, host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.bind((host, 0))
        address = sock.getsockname()
        with pytest.raises(ConnectionRefusedError) as caught:
            await net.loop.create_connection(Recorder, *address[:2])
    assert caught.value.args == (errno.ECONNREFUSED, f"Connect call failed {address}")


async def test_peer_of_an_unspecified_address(net):
    listener = net.listener()
    protocol = net.remember(Recorder())
    port = listener.getsockname()[1]
    transport, _ = await net.loop.create_connection(lambda: protocol, "0.0.0.0", port)
    assert transport.get_extra_info("peername") == ("127.0.0.1", port)


@pytest.mark.parametrize("port", [None, "0", True, 65536, -1])
async def test_ports_of_other_kinds(net, port):
    with pytest.raises((OSError, OverflowError)) as caught:
        await net.loop.create_connection(Recorder, "127.0.0.1", port)
    sock = net.enter(socket.socket())
    if port in (None, "0"):
        port = 0
    with pytest.raises((OSError, OverflowError)) as expected:
        sock.connect(("127.0.0.1", port))
    assert type(caught.value) is type(expected.value)


@pytest.mark.parametrize("name", ["sock_connect", "_make_socket_transport", "create_future"])
@pytest.mark.parametrize("where", ["loop", "class"])
async def test_hooks_of_ones_own_are_passed(net, name, where):
    """Connecting to a numeric address passes what a program has put into asyncio's way."""
    passed = net.hook(name, where)
    listener = net.listener()
    protocol = net.remember(Recorder())
    await net.loop.create_connection(lambda: protocol, *listener.getsockname())
    assert name in passed


async def test_a_socket_class_put_in_place(net, monkeypatch):
    made = []

    class Own(socket.socket):
        def __init__(self, *args, **kwargs):
            made.append(self)
            super().__init__(*args, **kwargs)

    listener = net.listener()
    monkeypatch.setattr(socket, "socket", Own)
    protocol = net.remember(Recorder())
    await net.loop.create_connection(lambda: protocol, *listener.getsockname())
    assert made


async def test_wrong_arguments(net):
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        for error, args, kwargs in [
            (ValueError, (), {}),
            (ValueError, ("127.0.0.1", 1), {"sock": stream}),
            (ValueError, (), {"sock": datagram}),
            (ValueError, ("127.0.0.1", 1), {"server_hostname": "x"}),
            (ValueError, ("127.0.0.1", 1), {"ssl_handshake_timeout": 1}),
            (ValueError, ("127.0.0.1", 1), {"ssl_shutdown_timeout": 1}),
            (ValueError, (), {"ssl": True, "sock": stream}),
        ]:
            with pytest.raises(error):
                await net.loop.create_connection(Recorder, *args, **kwargs)


# Cancelled


async def cancelled_after(net, turns, coroutine):
    task = net.loop.create_task(coroutine)
    await net.turn(turns)
    done = task.done()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await net.turn(3)
    return done


@pytest.mark.parametrize("turns", range(12))
async def test_cancelled_at_each_await(net, turns):
    """No descriptor is left, and the number is free for anything."""
    listener = net.listener()
    before = open_sockets()
    protocol = net.remember(Recorder())
    await cancelled_after(
        net, turns, net.loop.create_connection(lambda: protocol, *listener.getsockname())
    )
    if protocol.transport is not None:
        protocol.transport.abort()
        await protocol.lost()
    await net.turn(3)
    assert open_sockets() == before
    await works(net, listener)


async def test_cancelled_while_it_waits(net, silent):
    before = open_sockets()
    assert not await cancelled_after(net, 5, net.loop.create_connection(Recorder, *silent))
    assert open_sockets() == before
    await works(net, net.listener())


async def test_answered_late(net):
    listener, fillers = net.full_listener()
    protocol = net.remember(Recorder())
    task = net.loop.create_task(
        net.loop.create_connection(lambda: protocol, *listener.getsockname())
    )
    await net.turn(3)
    assert not task.done()
    peer = await net.accept_late(listener, fillers)
    assert (await task)[1] is protocol
    protocol.transport.write(b"there")
    assert await peer.read(5) == b"there"


async def works(net, listener):
    """The next connections, at the same numbers, are as good as any."""
    for _ in range(2):
        protocol = net.remember(Recorder())
        await net.loop.create_connection(lambda: protocol, *listener.getsockname())  # noqa: B023
        protocol.transport.write(b"x")
        protocol.transport.close()
        await protocol.lost()
    a, b = socket.socketpair()
    with a, b:
        ready = asyncio.Event()
        net.loop.add_reader(a, ready.set)
        b.send(b"x")
        await ready.wait()
        net.loop.remove_reader(a)


async def test_timed_out(net, silent):
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(net.loop.create_connection(Recorder, *silent), 0.01)


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("name", ["connect", "recv", "recv_into", "recvfrom", "accept", "sendall"])
async def test_cancelled_sock_operation(net, silent, name, turns):
    """Unregistered before the socket is closed: its number is usable at once."""
    a, b = socket.socketpair()
    listener = net.listener()
    with a, b, socket.socket() as client:
        for sock in (a, b, client):
            sock.setblocking(False)
        sock, arguments = {
            "connect": (client, (silent,)),
            "recv": (a, (10,)),
            "recv_into": (a, (bytearray(10),)),
            "recvfrom": (a, (10,)),
            "accept": (listener, ()),
            "sendall": (a, (bytes(3_000_000),)),
        }[name]
        operation = getattr(net.loop, f"sock_{name}")(sock, *arguments)
        done = await cancelled_after(net, turns, operation)
        assert not done
        number = sock.fileno()
        assert not net.loop.remove_reader(number)
        assert not net.loop.remove_writer(number)
        sock.close()
    with socket_at(number) as other:
        ready = asyncio.Event()
        net.loop.add_reader(number, ready.set)
        other.send(b"x")
        await ready.wait()
        assert net.loop.remove_reader(number)


# Happy eyeballs


@pytest.fixture
def accepted(net):
    """Those who connected to a listener."""

    def accept(listener):
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(net.peer(listener.accept()[0]))
        return found

    return accept


async def test_the_first_does_not_answer(net, silent):
    listener = net.listener()
    resolving(net, silent, listener.getsockname())
    protocol = net.remember(Recorder())
    before = len(open_sockets())
    transport, _ = await net.loop.create_connection(
        lambda: protocol, "somewhere", 1, happy_eyeballs_delay=0.01
    )
    assert transport.get_extra_info("peername") == listener.getsockname()
    await net.turn(3)
    assert len(open_sockets()) == before + 1


async def test_two_winners(net, accepted):
    """One is taken, the other closed."""
    first, second = net.listener(), net.listener()
    resolving(net, first.getsockname(), second.getsockname())
    for _ in range(5):
        protocol = net.remember(Recorder())
        await net.loop.create_connection(
            lambda: protocol,  # noqa: B023
            "somewhere",
            1,
            happy_eyeballs_delay=0,
        )
        await net.turn(3)
        peers = accepted(first) + accepted(second)
        assert 1 <= len(peers) <= 2
        protocol.transport.write(b"won")
        protocol.transport.close()
        ends = [await read_all(peer) for peer in peers]
        assert sorted(ends, reverse=True)[0] == b"won"
        assert all(end == b"" for end in sorted(ends, reverse=True)[1:])


async def read_all(peer):
    try:
        return await peer.read_all()
    except ConnectionResetError:
        return b""


async def test_all_lose(net, refusing):
    resolving(net, refusing, refusing, refusing)
    before = open_sockets()
    with pytest.raises(ConnectionRefusedError):
        await net.loop.create_connection(Recorder, "somewhere", 1, happy_eyeballs_delay=0.01)
    await net.turn(3)
    assert open_sockets() == before


@pytest.mark.parametrize("turns", [1, 3, 5, 8, 30])
async def test_cancelled_in_the_race(net, silent, turns):
    """It is cancelled, and every socket closed."""
    resolving(net, silent, silent, silent)
    before = open_sockets()
    task = net.loop.create_task(
        net.loop.create_connection(Recorder, "somewhere", 1, happy_eyeballs_delay=0)
    )
    await net.turn(turns)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await net.turn(5)
    assert open_sockets() == before


async def test_interleaved(net, refusing):
    listener = net.listener()
    resolving(net, refusing, listener.getsockname())
    protocol = net.remember(Recorder())
    await net.loop.create_connection(
        lambda: protocol, "somewhere", 1, happy_eyeballs_delay=0.25, interleave=2
    )


@pytest.mark.skipif(sys.version_info < (3, 13, 1), reason="asyncio's race was not ready for it")
async def test_eager_tasks(net, silent, refusing):
    listener = net.listener()
    net.loop.set_task_factory(asyncio.eager_task_factory)
    for addresses in ([listener.getsockname()], [refusing, listener.getsockname()]):
        resolving(net, *addresses)
        protocol = net.remember(Recorder())
        await net.loop.create_connection(
            lambda: protocol,  # noqa: B023
            "somewhere",
            1,
            happy_eyeballs_delay=0.01,
        )
    net.loop.set_task_factory(None)


async def test_many_at_once(net):
    listener = net.listener()
    protocols = [net.remember(Recorder()) for _ in range(50)]
    await asyncio.gather(
        *(
            net.loop.create_connection(lambda p=protocol: p, *listener.getsockname())
            for protocol in protocols
        )
    )
    for protocol in protocols:
        protocol.transport.write(b"x")
        protocol.transport.close()
        await protocol.lost()


class Tracked(socket.socket):
    """Sees what passes."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []

    def recv(self, *args):
        self.seen.append("recv")
        return super().recv(*args)

    def send(self, *args):
        self.seen.append("send")
        return super().send(*args)

    def accept(self):
        self.seen.append("accept")
        return super().accept()


def test_a_socket_class_of_ones_own_sees_what_passes(aloop):
    listener = Tracked()
    listener.bind(("127.0.0.1", 0))

    async def serve(reader, writer):
        writer.write(await reader.readexactly(1))
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, sock=listener)
        sock = Tracked()
        sock.setblocking(False)
        await aloop.sock_connect(sock, listener.getsockname())
        reader, writer = await asyncio.open_connection(sock=sock)
        writer.write(b"x")
        assert await reader.read() == b"x"
        writer.close()
        server.close()
        return sock.seen

    seen = aloop.run_until_complete(main())
    assert {"recv", "send"} <= set(seen)
    assert "accept" in listener.seen


async def test_a_class_put_in_place_sees_what_passes(net, monkeypatch):
    made = []

    class Own(Tracked):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    address = net.listener().getsockname()
    monkeypatch.setattr(socket, "socket", Own)
    protocol = net.remember(Recorder())
    await net.loop.create_connection(lambda: protocol, *address)
    protocol.transport.write(b"x")
    assert made[0].seen == ["send"]


async def test_a_function_in_the_place_of_the_socket_class(net, monkeypatch):
    """A mock puts one there; what it makes are sockets as ever."""
    plain = socket.socket
    monkeypatch.setattr(socket, "socket", lambda *args, **kwargs: plain(*args, **kwargs))
    accepted, protocol = net.remember(Recorder()), net.remember(Recorder())
    server = await net.loop.create_server(lambda: accepted, "127.0.0.1", 0)
    await net.loop.create_connection(lambda: protocol, *server.sockets[0].getsockname())
    await accepted.called("made")
    transport, _ = await net.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, ("127.0.0.1", 0)
    )
    transport.close()
    server.close()


@pytest.mark.asyncio_fails("it does not look, or closes it", strict=False, run=False)
async def test_a_socket_given_twice_goes_on_where_it_was_given_first(net):
    ours, theirs = (net.enter(end) for end in socket.socketpair())
    protocol = net.remember(Recorder())
    await net.loop.create_connection(lambda: protocol, sock=ours)
    with pytest.raises(RuntimeError, match="is used by transport"):
        await net.loop.create_connection(Recorder, sock=ours)
    theirs.send(b"heard")
    await protocol.until(lambda: protocol.data == b"heard")
