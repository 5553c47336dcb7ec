"""Servers: what they accept, what they do when they cannot, and how they end."""

import asyncio
import contextlib
import contextvars
import errno
import gc
import socket
import sys
import warnings

import pytest
import seccomp
from net_kit import Recorder, few_descriptors


class Serving:
    """A server that remembers its connections."""

    def __init__(self, net, kind, make=Recorder):
        self.net, self.kind, self.make = net, kind, make
        self.protocols = []

    def factory(self):
        protocol = self.net.remember(self.make())
        self.protocols.append(protocol)
        return protocol

    async def start(self, **options):
        loop = self.net.loop
        if self.kind == "tcp":
            self.server = await loop.create_server(self.factory, "127.0.0.1", 0, **options)
        else:
            name = self.net.abstract_name()
            self.server = await loop.create_unix_server(self.factory, name, **options)
        self.address = self.server.sockets[0].getsockname()
        return self.server

    def client(self):
        """A peer that is connected already, whether accepted or not."""
        family = socket.AF_INET if self.kind == "tcp" else socket.AF_UNIX
        sock = socket.socket(family)
        sock.connect(self.address)
        return self.net.peer(sock)

    async def connections(self, count):
        while sum("made" in protocol.calls for protocol in self.protocols) < count:
            await asyncio.sleep(0.001)


left_to_the_collector = pytest.mark.asyncio_fails(
    "does not close a connection that gets no protocol", run=False
)


@pytest.fixture(params=["tcp", "unix"])
def serving(request, net):
    return lambda make=Recorder: Serving(net, request.param, make)


VARIABLE = contextvars.ContextVar("VARIABLE", default="")


class Reading(Recorder):
    """What it finds in VARIABLE: when it is made, and in its calls."""

    def __init__(self):
        super().__init__()
        self.found = [VARIABLE.get()]

    def note(self, name):
        self.found.append(VARIABLE.get())
        VARIABLE.set(name)
        super().note(name)


# A transport had none of its own on asyncio's loop: each call had another copy.
before_contexts = pytest.mark.asyncio_fails(
    "forgets what the call before has set", when=sys.version_info < (3, 15), run=False
)


@before_contexts
async def test_a_connection_has_a_context(serving, net):
    """It begins as a copy of the server's: that one's is not changed by it."""
    serving = serving(Reading)
    VARIABLE.set("made")
    await serving.start(start_serving=False)
    VARIABLE.set("started")
    await serving.server.start_serving()
    VARIABLE.set("later")
    for _ in range(2):
        peer = serving.client()
        await peer.send(b"x")
        peer.close()
    await serving.connections(2)
    # From Python 3.15 on it is where the server was made that counts, not where it was started.
    begun = "made" if sys.version_info >= (3, 15) else "started"
    for protocol in serving.protocols:
        await protocol.lost()
        assert protocol.found == [begun, begun, "made", "data", "eof"]
    serving.server.close()


@before_contexts
async def test_nobody_elses_context_is_the_connections(serving, net):
    """Not that of a task which has resumed its reading."""

    class Resumed(Reading):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()
            self.task = asyncio.ensure_future(self.resume())

        async def resume(self):
            VARIABLE.set("of the task")
            self.transport.resume_reading()

    serving = serving(Resumed)
    await serving.start()
    peer = serving.client()
    await peer.send(b"x")
    peer.close()
    await serving.connections(1)
    await serving.protocols[0].lost()
    assert serving.protocols[0].found == ["", "", "made", "data", "eof"]
    serving.server.close()


async def test_serves(serving, net):
    service = serving()
    server = await service.start()
    assert server.is_serving()
    assert server.get_loop() is net.loop
    assert len(server.sockets) == 1
    peers = [service.client() for _ in range(10)]
    await service.connections(10)
    for number, peer in enumerate(peers):
        await peer.send(b"%d" % number)
    for protocol in service.protocols:
        await protocol.called("data")
    assert {bytes(protocol.data) for protocol in service.protocols} == {
        b"%d" % number for number in range(10)
    }
    server.close()
    assert not server.is_serving()
    assert tuple(server.sockets) == ()
    server.close()
    for peer in peers:
        peer.close()
    for protocol in service.protocols:
        await protocol.lost()
    await server.wait_closed()


@pytest.mark.parametrize("name", ["_make_socket_transport", "_accept_connection2"])
@pytest.mark.parametrize("where", ["loop", "class"])
async def test_hooks_of_ones_own_are_passed(serving, net, name, where):
    """By each connection that comes in, as by those that are made."""
    passed = net.hook(name, where)
    service = serving()
    server = await service.start()
    for _ in range(2):
        service.client()
    await service.connections(2)
    assert passed == [name] * 2
    server.close()


async def test_extra_info(serving):
    service = serving()
    await service.start()
    peer = service.client()
    await service.connections(1)
    transport = service.protocols[0].transport
    assert transport.get_extra_info("sockname") == service.address
    assert transport.get_extra_info("peername") == peer.sock.getsockname()
    assert transport.get_extra_info("socket").getpeername() == peer.sock.getsockname()
    assert isinstance(transport, asyncio.Transport)
    service.server.close()


async def test_not_serving_yet(serving, net):
    service = serving()
    server = await service.start(start_serving=False)
    assert not server.is_serving()
    await net.calm()
    await server.start_serving()
    await server.start_serving()
    assert server.is_serving()
    service.client()
    await service.connections(1)
    server.close()


async def test_many_at_once(serving):
    service = serving()
    await service.start()
    for _ in range(90):
        service.client()
    await service.connections(90)
    service.server.close()


async def test_as_many_as_the_backlog_in_one_turn(serving, net):
    """And the other callbacks of the turn are not forgotten over them."""
    service = serving()
    await service.start(start_serving=False, backlog=5)
    service.server.sockets[0]._sock.listen(90)
    for _ in range(90):
        service.client()
    await service.server.start_serving()
    await service.connections(90)
    service.server.close()


# What goes wrong in accept


@pytest.mark.asyncio_fails("reports once per connection it may accept", run=False)
async def test_no_descriptors_left(serving, net):
    """One report; served about a second later, when there are some again."""
    service = serving()
    await service.start()
    other = serving()
    await other.start()
    await net.calm()  # what the loop needs for waiting, it has now
    peer = service.client()
    with few_descriptors():
        await net.calm()
        (report,) = net.reported(OSError)
        assert report["exception"].errno == errno.EMFILE
        assert report["message"] == "socket.accept() out of system resource"
        assert report["socket"].fileno() == service.server.sockets[0].fileno()
        await net.calm()
        assert not service.protocols
    service.client()
    other.client()
    await other.connections(1)
    await service.connections(2)
    await peer.send(b"x")
    service.server.close()
    other.server.close()
    await net.turn(3)
    net.reports.clear()


@pytest.mark.asyncio_fails("reports once per connection it may accept", run=False)
@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_the_system_lacks_something(serving, net, code):
    """Any of these passes: the same one report, and the same wait."""
    service = serving()
    net.run(service.start())
    peer = service.client()

    def lacking():
        net.run(net.calm())
        (report,) = net.reported(OSError)
        assert report["exception"].errno == code
        net.run(net.calm())
        assert not service.protocols

    if not seccomp.without(lacking, "accept4", code=code):
        pytest.skip("no seccomp here")
    service.client()
    net.run(service.connections(2))
    net.run(peer.send(b"x"))
    service.server.close()


@pytest.mark.asyncio_fails("starts serving again", run=False)
async def test_closed_while_it_has_no_descriptors(serving, net):
    """It is not woken up again."""
    service = serving()
    await service.start()
    await net.calm()
    service.client()
    with few_descriptors():
        await net.calm()
        net.reported(OSError)
        service.server.close()
    await asyncio.sleep(1.1)
    assert not service.protocols


async def test_connection_reset_before_it_is_accepted(net):
    """Or accepted and lost at once; the next one is served."""
    service = Serving(net, "tcp")
    await service.start(start_serving=False)
    service.server.sockets[0]._sock.listen()
    for _ in range(5):
        service.client().reset()
    await service.server.start_serving()
    service.client()
    while not any(p.calls == ["made"] for p in service.protocols):
        await asyncio.sleep(0.001)
    service.server.close()


@left_to_the_collector
async def test_factory_raises(serving, net):
    """The connection is closed, the others are served."""
    service = serving()
    good = service.factory
    failures = iter([True, False])

    def factory():
        if next(failures):
            raise ZeroDivisionError
        return good()

    service.factory = factory
    await service.start()
    bad = service.client()
    assert await bad.read_all() == b""
    peer = service.client()
    await service.connections(1)
    await peer.send(b"x")
    await service.protocols[0].called("data")
    if net.loop.get_debug():
        net.reported(ZeroDivisionError)
    service.server.close()


@left_to_the_collector
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_factory_leaves_the_loop(serving, net, error):
    async def main():
        service = serving()

        def factory():
            raise error

        service.factory = factory
        await service.start()
        return service

    service = net.run(main())
    service.client()
    with pytest.raises(error):
        net.run(asyncio.sleep(20))
    service.server.close()
    net.run(net.turn(2))
    net.reports.clear()


# Closing


async def test_closed_in_connection_made(serving):
    class Closing(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            service.server.close()

    service = serving(Closing)
    await service.start()
    for _ in range(3):
        service.client()
    await service.connections(1)
    assert not service.server.is_serving()


async def test_closed_with_connections_waiting(serving, net):
    """Those that nobody accepted are refused by the kernel."""
    service = serving()
    server = await service.start()
    peer = service.client()
    server.close()
    with contextlib.suppress(ConnectionResetError):
        assert await peer.read_all() == b""
    await net.calm()
    for protocol in service.protocols:
        assert protocol.calls[:1] in ([], ["made"])


async def test_connections_outlive_their_server(serving):
    service = serving()
    await service.start()
    peer = service.client()
    await service.connections(1)
    service.server.close()
    await peer.send(b"x")
    await service.protocols[0].called("data")


@pytest.mark.skipif(sys.version_info < (3, 12, 1), reason="waits for connections since 3.12.1")
async def test_wait_closed_waits_for_connections(serving, net):
    service = serving()
    server = await service.start()
    peer = service.client()
    await service.connections(1)
    server.close()
    waiting = asyncio.ensure_future(server.wait_closed())
    await net.calm()
    assert not waiting.done()
    peer.close()
    await waiting
    await server.wait_closed()


async def test_wait_closed_of_one_that_serves(serving, net):
    service = serving()
    server = await service.start()
    waiting = asyncio.ensure_future(server.wait_closed())
    await net.turn(3)
    if sys.version_info >= (3, 12, 1):
        assert not waiting.done()
        server.close()
        await waiting
    else:
        waiting.cancel()
        await asyncio.wait([waiting])
        server.close()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="of Python 3.13")
@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
async def test_its_clients(serving, net, how):
    service = serving()
    server = await service.start()
    peers = [service.client() for _ in range(3)]
    await service.connections(3)
    for protocol in service.protocols:
        protocol.transport.write(b"bye")
    server.close()
    getattr(server, how)()
    await server.wait_closed()
    for protocol in service.protocols:
        assert await protocol.lost() is None
    if how == "close_clients":
        for peer in peers:
            assert await peer.read_all() == b"bye"


@pytest.mark.skipif(sys.version_info < (3, 13), reason="of Python 3.13")
async def test_a_stuck_client_is_aborted(serving, net):
    service = serving()
    server = await service.start()
    service.client()
    await service.connections(1)
    service.protocols[0].transport.write(bytes(20_000_000))
    server.close()
    server.close_clients()
    await net.calm()
    assert "lost" not in service.protocols[0].calls
    server.abort_clients()
    await server.wait_closed()


async def test_serve_forever(serving, net):
    service = serving()
    server = await service.start(start_serving=False)
    serving_forever = asyncio.ensure_future(server.serve_forever())
    await net.turn(2)
    peer = service.client()
    await service.connections(1)
    with pytest.raises(RuntimeError, match="already being awaited"):
        await server.serve_forever()
    peer.close()
    await service.protocols[0].lost()
    serving_forever.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving_forever
    assert not server.is_serving()
    with pytest.raises(RuntimeError, match="is closed"):
        await server.serve_forever()


async def test_with(serving):
    service = serving()
    async with await service.start() as server:
        assert server.is_serving()
    assert not server.is_serving()


@pytest.mark.parametrize("clients", [0, 1])
def test_ctrl_c(script, clients):
    """One is enough, whoever is connected."""
    program = """
    import asyncio, pyev, signal, socket, sys, warnings
    warnings.simplefilter("ignore")  # of connections that nobody closes
    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clients = [socket.create_connection(address) for _ in range(int(sys.argv[1]))]
        loop.call_later(0.05, signal.raise_signal, signal.SIGINT)
        for client in clients:  # until then some Pythons wait for it
            loop.call_later(0.1, client.close)
        async with server:
            await server.serve_forever()
    try:
        pyev.run(main())
    except KeyboardInterrupt:
        print("interrupted")
    """
    assert script(program, str(clients)).split() == ["interrupted"]


# Where it listens


async def test_several_addresses(net):
    service = Serving(net, "tcp")
    server = await net.loop.create_server(service.factory, ["127.0.0.1", "127.0.0.2"], 0)
    addresses = [sock.getsockname()[0] for sock in server.sockets]
    assert sorted(addresses) == ["127.0.0.1", "127.0.0.2"]
    for sock in server.sockets:
        service.address = sock.getsockname()
        service.client()
    await service.connections(2)
    server.close()


async def test_everywhere(net):
    for host in (None, ""):
        server = await net.loop.create_server(Recorder, host, 0)
        assert server.sockets
        server.close()


async def test_address_in_use(net):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(OSError, match="error while attempting to bind on address") as caught:
            await net.loop.create_server(Recorder, *taken.getsockname())
        assert caught.value.errno == errno.EADDRINUSE


async def test_port_shared(net):
    if not hasattr(socket, "SO_REUSEPORT"):
        pytest.skip("no SO_REUSEPORT")
    first = await net.loop.create_server(Recorder, "127.0.0.1", 0, reuse_port=True)
    address = first.sockets[0].getsockname()
    second = await net.loop.create_server(Recorder, *address, reuse_port=True)
    first.close()
    second.close()


async def test_socket_passed_in(net):
    service = Serving(net, "tcp")
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server = await net.loop.create_server(service.factory, sock=sock)
    assert server.sockets[0].fileno() == sock.fileno()
    assert sock.getblocking() is False
    service.address = sock.getsockname()
    service.client()
    await service.connections(1)
    server.close()
    assert sock.fileno() == -1


async def test_wrong_arguments(net):
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        for error, args, kwargs in [
            (ValueError, (None, None), {}),
            (ValueError, ("127.0.0.1", 0), {"sock": stream}),
            (ValueError, (), {"sock": datagram}),
            (TypeError, ("127.0.0.1", 0), {"ssl": True}),
            (ValueError, ("127.0.0.1", 0), {"ssl_handshake_timeout": 1}),
            (ValueError, ("127.0.0.1", 0), {"ssl_shutdown_timeout": 1}),
        ]:
            with pytest.raises(error):
                await net.loop.create_server(Recorder, *args, **kwargs)


def test_loop_closed_while_serving(serving, net):
    async def main():
        service = serving()
        await service.start()
        return service

    service = net.run(main())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.loop.close()
        del service
        gc.collect()
