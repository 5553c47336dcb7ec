"""How connections end: once, with the first reason, and with everything written before."""

import asyncio
import contextlib
import errno
import gc
import os
import socket
import sys
import warnings
import weakref

import pytest
from net_kit import Recorder, few_descriptors, socket_at, some_bytes

ENDINGS = ["close", "abort", "reset", "eof", "data raises", "write to nobody"]


class Oops(Exception):
    pass


class Ending(Recorder):
    def data_received(self, data):
        super().data_received(data)
        raise Oops


async def end(how, protocol, peer):
    """One way for a connection to end; the reason that connection_lost must give."""
    if how in ("close", "abort"):
        getattr(protocol.transport, how)()
        return type(None)
    if how == "eof":
        peer.shutdown()
        return type(None)
    if how == "reset":
        if peer.sock.family == socket.AF_UNIX:  # our bytes unread: a reset there
            protocol.transport.write(b"x")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        peer.reset()
        return ConnectionError
    if how == "data raises":
        await peer.send(b"x")
        return Oops
    protocol.transport.pause_reading()
    peer.reset()
    while not protocol.transport.is_closing():
        protocol.transport.write(b"x")
        await asyncio.sleep(0.001)
    return ConnectionError


@pytest.mark.parametrize("how", ENDINGS)
async def test_once(connect, net, how):
    protocol, peer = await connect(Ending())
    transport = protocol.transport
    assert not transport.is_closing()
    expected = await end(how, protocol, peer)
    reason = await protocol.lost()
    assert isinstance(reason, expected)
    assert transport.is_closing()
    transport.close()
    transport.abort()
    await net.calm()
    assert protocol.calls.count("lost") == 1
    if how == "data raises":
        net.reported(Oops)


@pytest.mark.parametrize("later", ["close", "abort", "reset", "eof"])
@pytest.mark.parametrize("first", ["close", "abort", "data raises", "write to nobody"])
async def test_the_first_reason(connect, net, first, later):
    """What comes after it changes nothing."""
    protocol, peer = await connect(Ending())
    expected = await end(first, protocol, peer)
    if first == "data raises":
        await protocol.called("data")
    if later in ("close", "abort"):
        getattr(protocol.transport, later)()
    else:
        with contextlib.suppress(OSError):
            peer.reset() if later == "reset" else peer.shutdown()
    assert isinstance(await protocol.lost(), expected)
    await net.calm()
    assert protocol.calls.count("lost") == 1
    net.reports.clear()


async def test_not_from_inside(connect):
    """connection_lost is not called by close, abort or a failing write, but after them."""
    for how in ("close", "abort"):
        protocol, _ = await connect()
        getattr(protocol.transport, how)()
        assert "lost" not in protocol.calls
        await protocol.lost()


@pytest.mark.parametrize("small", [False, True])
async def test_close_delivers_everything(connect, small):
    protocol, peer = await connect(small=small)
    for number in range(10):
        protocol.transport.write(some_bytes(200_000, number))
    protocol.transport.close()
    assert protocol.transport.is_closing()
    expected = b"".join(some_bytes(200_000, number) for number in range(10))
    assert await peer.read_all() == expected
    assert await protocol.lost() is None


async def test_close_reads_no_more(connect, net):
    protocol, peer = await connect(small=True)
    protocol.transport.write(some_bytes(500_000))
    protocol.transport.close()
    await peer.send(b"x")
    await net.calm()
    assert protocol.calls == ["made", "pause"]


async def test_close_while_the_peer_never_reads(connect, net):
    """It waits, without a spin; abort ends it."""
    protocol, peer = await connect(small=True)
    protocol.transport.write(some_bytes(500_000))
    protocol.transport.close()
    await net.calm()
    assert "lost" not in protocol.calls
    assert protocol.transport.get_write_buffer_size() > 0
    protocol.transport.abort()
    assert await protocol.lost() is None


async def test_close_and_then_the_peer_is_gone(connect, net):
    protocol, peer = await connect(small=True)
    protocol.transport.write(some_bytes(500_000))
    protocol.transport.close()
    await net.turn(2)
    peer.reset()
    assert isinstance(await protocol.lost(), ConnectionError)


async def test_abort_drops(connect):
    protocol, peer = await connect(small=True)
    protocol.transport.write(some_bytes(3_000_000))
    protocol.transport.abort()
    assert await protocol.lost() is None
    with contextlib.suppress(ConnectionResetError):
        assert len(await peer.read_all()) < 3_000_000


async def test_the_number_is_free(connect, net):
    """Once connection_lost has returned, and only by whoever closed."""
    numbers = set()
    for _ in range(5):
        protocol, peer = await connect()
        numbers.add(protocol.transport.get_extra_info("socket").fileno())
        protocol.transport.close()
        await protocol.lost()
        await net.turn()
        peer.close()
    assert len(numbers) == 1


async def test_a_number_used_again_at_once(connect, net):
    """Nothing of the old connection is left at its number: watching it and reading from it work."""
    for how in ("close", "abort"):
        protocol, peer = await connect()
        number = protocol.transport.get_extra_info("socket").fileno()
        getattr(protocol.transport, how)()
        await protocol.lost()
        await net.turn()
        with socket_at(number) as other:
            ready = asyncio.Event()
            net.loop.add_reader(number, ready.set)
            other.send(b"x")
            await ready.wait()
            assert net.loop.remove_reader(number)
        peer.close()


async def test_after_the_end(connect):
    protocol, peer = await connect()
    transport = protocol.transport
    peername = transport.get_extra_info("peername")
    transport.close()
    await protocol.lost()
    await asyncio.sleep(0)
    assert transport.get_extra_info("peername") == peername
    assert transport.get_extra_info("nothing", "default") == "default"
    assert transport.get_extra_info("socket").fileno() == -1
    assert transport.is_closing()
    assert transport.get_write_buffer_size() == 0
    assert "closed" in repr(transport)
    transport.set_write_buffer_limits(100)


async def test_repr(connect):
    protocol, peer = await connect(small=True)
    fd = protocol.transport.get_extra_info("socket").fileno()
    assert f"fd={fd}" in repr(protocol.transport)
    protocol.transport.write(some_bytes(500_000))
    protocol.transport.close()
    assert "closing" in repr(protocol.transport)


async def test_lets_go_of_the_protocol(connect, net):
    protocol, peer = await connect()
    transport = protocol.transport
    reference = weakref.ref(protocol)
    transport.close()
    await protocol.lost()
    await net.turn()
    protocol.transport = None
    net.protocols.remove(protocol)
    del protocol
    gc.collect()
    assert reference() is None


def test_loop_closed_before_its_transports(net):
    """Their sockets are closed with them, and somebody is told."""
    protocol, peer = net.run(net.connect("unix"))
    net.loop.close()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        protocol.transport = None
        net.protocols.remove(protocol)
        del protocol
        gc.collect()
    assert {warning.category for warning in seen} == {ResourceWarning}
    assert peer.sock.recv(1) == b""


def test_closed_after_its_loop(net):
    """A race at exit: whatever it says, it does no harm."""
    protocol, peer = net.run(net.connect("unix"))
    transport = protocol.transport
    net.loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for how in (transport.close, transport.abort, transport.pause_reading):
            with contextlib.suppress(RuntimeError):
                how()
        with contextlib.suppress(RuntimeError):
            transport.write(b"x")
        repr(transport)
        protocol.transport = None
        net.protocols.remove(protocol)
        del protocol, transport, how
        gc.collect()


# The socket, as others see it


async def test_the_socket_is_guarded(connect, net):
    """Its number is the transport's: readers and writers are refused."""
    protocol, peer = await connect()
    sock = protocol.transport.get_extra_info("socket")
    for name in ("add_reader", "add_writer"):
        with pytest.raises(RuntimeError, match="is used by transport"):
            getattr(net.loop, name)(sock, print)
    for name in ("remove_reader", "remove_writer"):
        with pytest.raises(RuntimeError, match="is used by transport"):
            getattr(net.loop, name)(sock.fileno())
    with pytest.raises(RuntimeError, match="is used by transport"):
        await net.loop.sock_recv(sock._sock, 1)
    await peer.send(b"x")
    await protocol.called("data")


async def test_shut_down_by_the_user(connect):
    protocol, peer = await connect()
    protocol.transport.get_extra_info("socket").shutdown(socket.SHUT_WR)
    assert await peer.read_all() == b""
    await peer.send(b"x")
    await protocol.called("data")
    protocol.transport.write(b"x")
    assert isinstance(await protocol.lost(), BrokenPipeError)


async def test_shut_down_both_ways_by_the_user(connect):
    protocol, peer = await connect()
    protocol.transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
    assert await protocol.lost() is None
    assert "eof" in protocol.calls


@pytest.mark.parametrize("what", ["write", "close", "abort", "pause and close"])
async def test_closed_by_the_user(net, what):
    """Its number is somebody else's then: no byte is written there, nothing closed."""
    mine, theirs = socket.socketpair()
    with theirs:
        protocol = net.remember(Recorder())
        await net.loop.create_unix_connection(lambda: protocol, sock=mine)
        number = mine.fileno()
        protocol.transport.pause_reading()
        await net.turn()
        mine.close()
        with socket_at(number) as other:
            if what == "write":
                protocol.transport.write(b"x")
            elif what == "pause and close":
                protocol.transport.pause_reading()
                protocol.transport.close()
            else:
                getattr(protocol.transport, what)()
            await protocol.lost()
            await net.turn(3)
            with pytest.raises(BlockingIOError):
                other.recv(1)
            os.fstat(number)


# Streams that nobody closes


async def test_dropped_stream_whose_number_is_used_again(net):
    """The next connection, at the same number, is read as any other."""

    made = []

    async def answer(reader, writer):
        made.append(weakref.ref(writer.transport))
        writer.write(await reader.readline())
        await reader.read()
        writer.close()

    name = net.abstract_name()
    server = await asyncio.start_unix_server(answer, name)
    for _ in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader, writer = await asyncio.open_unix_connection(name)
            made.append(weakref.ref(writer.transport))
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
            del reader, writer
            gc.collect()
            await net.turn(3)
            gc.collect()
    reader, writer = await asyncio.open_unix_connection(name)
    writer.write(b"again\n")
    assert await reader.readline() == b"again\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Before 3.11.5 a dropped StreamWriter leaves its transport open.
        for transport in (reference() for reference in made):
            if transport is not None:
                transport.abort()
        await net.turn(5)
        gc.collect()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="writers are closed when dropped since 3.12")
async def test_dropped_stream_closes(net):
    protocol = net.remember(Recorder())
    name = net.abstract_name()
    server = await net.loop.create_unix_server(lambda: protocol, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader, writer = await asyncio.open_unix_connection(name)
        await protocol.called("made")
        del reader, writer
        gc.collect()
        await protocol.lost()
        gc.collect()
    server.close()


async def test_the_socket_of_a_connection_that_is_lost(connect):
    """First asked for then, it still tells what it was."""
    protocol, _ = await connect()
    protocol.transport.abort()
    await protocol.lost()
    sock = protocol.transport.get_extra_info("socket")
    assert sock.fileno() == -1
    assert sock.type == socket.SOCK_STREAM
    assert sock.family in (socket.AF_INET, socket.AF_UNIX)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        sock.getsockname()


async def test_no_descriptor_is_left_to_tell_of_a_lost_connection_with(connect):
    protocol, _ = await connect()
    protocol.transport.abort()
    await protocol.lost()
    with few_descriptors():
        assert protocol.transport.get_extra_info("socket").fileno() == -1
        assert protocol.transport.get_extra_info("anything") is None
