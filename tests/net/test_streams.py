"""Streams: asyncio's own functions on each loop, and pyev's. Whatever serves them, a reader and a
writer do the same."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import socket
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from net_kit import Net, Peer, some_bytes
from tls_kit import client_context, server_context

import pyev

READS = ("read", "readexactly", "readuntil", "readline", "anext")


@pytest.fixture(params=["asyncio", "pyev"])
def streams(request: pytest.FixtureRequest) -> Any:
    """Whose open_connection() and start_server()."""
    return {"asyncio": asyncio, "pyev": pyev}[request.param]


@pytest.fixture(params=[asyncio.StreamReader, pyev.StreamReader], ids=["asyncio's", "pyev's"])
def reader(request: pytest.FixtureRequest, net: Net) -> Any:
    """A reader of each class, without a transport."""
    return request.param(limit=10, loop=net.loop)


def start(reader: Any, name: str, *arguments: Any) -> Any:
    """A call of one of the methods that read, which has not been awaited."""
    return reader.__anext__() if name == "anext" else getattr(reader, name)(*arguments)


def call(reader: Any, name: str) -> Any:
    return start(reader, name, *{"read": (5,), "readexactly": (5,)}.get(name, ()))


async def connection(net: Net, streams: Any, **options: Any) -> tuple[Any, Any, Peer]:
    ours, theirs = socket.socketpair()
    reader, writer = await streams.open_connection(sock=ours, **options)
    return reader, writer, net.peer(theirs)


# Which class


async def test_streams_are_asyncios(net: Net, streams: Any) -> None:
    reader, writer, _ = await connection(net, streams)
    assert isinstance(reader, asyncio.StreamReader)
    assert isinstance(writer, asyncio.StreamWriter)
    # Where coroutines are to tell where they were made, they are Python's.
    native = streams is pyev or (isinstance(net.loop, pyev.EventLoop) and not net.loop.get_debug())
    assert isinstance(reader, pyev.StreamReader) == native
    assert isinstance(writer, pyev.StreamWriter) == (streams is pyev)
    writer.close()
    await writer.wait_closed()


async def test_a_class_of_ones_own_stays(net: Net) -> None:
    class Own(asyncio.StreamReader):
        def feed_data(self, data: bytes) -> None:
            super().feed_data(data.upper())

    reader = Own()
    ours, theirs = socket.socketpair()
    transport, _ = await net.loop.create_connection(
        lambda: asyncio.StreamReaderProtocol(reader), sock=ours
    )
    await net.peer(theirs).send(b"line\n")
    assert await reader.readline() == b"LINE\n"
    assert type(reader) is Own
    transport.close()
    await net.turn(2)


async def test_a_subclass_of_the_native_reader(net: Net) -> None:
    class Own(pyev.StreamReader):
        async def readuntil(self, separator: Any = b"\n") -> bytes:
            return b"<" + await super().readuntil(separator) + b">"

    reader = Own()
    reader.feed_data(b"line\nbytes")
    assert await reader.readline() == b"<line\n>"
    assert await reader.readexactly(5) == b"bytes"


# What is there


async def test_reading_what_is_there(reader: Any) -> None:
    reader.feed_data(b"line\r\nanother\nexact and the rest")
    assert await reader.readline() == b"line\r\n"
    assert await reader.readuntil(b"er") == b"another"
    assert await reader.readuntil() == b"\n"
    assert await reader.readexactly(5) == b"exact"
    assert await reader.readexactly(0) == b""
    assert await reader.read(0) == b""
    assert await reader.read(4) == b" and"
    assert await reader.readuntil(separator=b"the") == b" the"
    assert await reader.readexactly(n=1) == b" "
    assert await reader.read(n=100) == b"rest"
    assert reader._buffer == bytearray()
    assert not reader.at_eof()


async def test_reading_to_the_end(reader: Any) -> None:
    reader.feed_data(b"a\nb\nc")
    reader.feed_eof()
    assert not reader.at_eof()
    assert [line async for line in reader] == [b"a\n", b"b\n", b"c"]
    assert reader.at_eof()
    assert await reader.readline() == b""
    assert await reader.read() == b""
    assert await reader.read(1) == b""
    with pytest.raises(asyncio.IncompleteReadError) as caught:
        await reader.readexactly(3)
    assert (caught.value.partial, caught.value.expected) == (b"", 3)
    with pytest.raises(AssertionError, match="feed_data after feed_eof"):
        reader.feed_data(b"late")


async def test_what_comes_short(net: Net, reader: Any) -> None:
    """The end comes while somebody waits."""
    for name, partial in (("readexactly", b"abc"), ("readuntil", b"abc")):
        other = type(reader)(limit=10, loop=net.loop)
        task = asyncio.ensure_future(call(other, name))
        await net.turn()
        other.feed_data(partial)
        other.feed_eof()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await task
        assert caught.value.partial == partial
        assert other._buffer == b""
    for name, result in (("readline", b"ab"), ("read", b"ab"), ("anext", b"ab")):
        other = type(reader)(limit=10, loop=net.loop)
        task = asyncio.ensure_future(call(other, name))
        await net.turn()
        other.feed_data(b"ab")
        other.feed_eof()
        assert await task == result


async def test_all_until_the_end(net: Net, reader: Any) -> None:
    task = asyncio.ensure_future(reader.read())
    for piece in (b"one", b"two", b"three"):
        await net.turn()
        reader.feed_data(piece)
    reader.feed_eof()
    assert await task == b"onetwothree"


# Limits


async def test_a_line_beyond_the_limit(reader: Any) -> None:
    reader.feed_data(b"much too long\nline\n")
    message = "Separator is found, but chunk is longer than limit"
    with pytest.raises(asyncio.LimitOverrunError, match=message) as overrun:
        await reader.readuntil()
    assert overrun.value.consumed == 13
    with pytest.raises(ValueError, match=message) as caught:
        await reader.readline()
    assert type(caught.value.__context__) is asyncio.LimitOverrunError
    assert await reader.readline() == b"line\n"


async def test_a_limit_passed_while_waiting(net: Net, reader: Any) -> None:
    message = "Separator is not found, and chunk exceed the limit"
    task = asyncio.ensure_future(reader.readuntil(b"##"))
    await net.turn()
    reader.feed_data(b"x" * 12)
    with pytest.raises(asyncio.LimitOverrunError, match=message) as overrun:
        await task
    assert overrun.value.consumed == 11
    assert reader._buffer == b"x" * 12
    with pytest.raises(ValueError, match=message):
        await reader.readline()
    assert reader._buffer == b""


async def test_a_reader_beyond_twice_its_limit_holds_its_transport_back(reader: Any) -> None:
    transport = mock.Mock()
    reader.set_transport(transport)
    reader.feed_data(b"x" * 20)
    assert not transport.pause_reading.called
    reader.feed_data(b"x")
    transport.pause_reading.assert_called_once_with()
    assert await reader.readexactly(5) == b"x" * 5
    assert not transport.resume_reading.called
    assert await reader.readexactly(6) == b"x" * 6
    transport.resume_reading.assert_called_once_with()
    assert not reader._paused


async def test_who_asks_for_more_than_the_limit_lets_the_transport_go_on(
    net: Net, reader: Any
) -> None:
    transport = mock.Mock()
    reader.set_transport(transport)
    task = asyncio.ensure_future(reader.readexactly(50))
    await net.turn()
    for count in (1, 2):
        reader.feed_data(b"x" * 25)
        assert transport.pause_reading.call_count == count
        await net.turn()
    assert await task == b"x" * 50
    assert transport.resume_reading.call_count == 2


async def test_a_transport_that_cannot_be_held_back_is_let_go(reader: Any) -> None:
    transport = mock.Mock()
    transport.pause_reading.side_effect = NotImplementedError
    reader.set_transport(transport)
    reader.feed_data(b"x" * 21)
    assert (reader._transport, reader._paused) == (None, False)


# Waiting


@pytest.mark.parametrize("name", READS)
async def test_one_coroutine_waits_at_a_time(net: Net, reader: Any, name: str) -> None:
    task = asyncio.ensure_future(reader.read(1))
    await net.turn()
    message = "called while another coroutine is already waiting for incoming data"
    with pytest.raises(RuntimeError, match=message):
        await call(reader, name)
    reader.feed_data(b"a")
    assert await task == b"a"


@pytest.mark.parametrize("name", READS)
async def test_cancelled_while_waiting(net: Net, reader: Any, name: str) -> None:
    task = asyncio.ensure_future(call(reader, name))
    await net.turn()
    assert reader._waiter is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reader._waiter is None
    reader.feed_data(b"bytes\n")
    assert await call(reader, name) in (b"bytes", b"bytes\n")


@pytest.mark.parametrize("name", READS)
async def test_cancelled_before_it_begins(reader: Any, name: str) -> None:
    """Nothing has been taken."""
    reader.feed_data(b"bytes\n")
    task = asyncio.ensure_future(call(reader, name))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reader._buffer == b"bytes\n"


@pytest.mark.parametrize("name", READS)
async def test_a_timeout(net: Net, reader: Any, name: str) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await call(reader, name)
    assert reader._waiter is None


@pytest.mark.parametrize("name", READS)
async def test_an_exception_while_waiting(net: Net, reader: Any, name: str) -> None:
    task = asyncio.ensure_future(call(reader, name))
    await net.turn()
    error = ConnectionResetError("gone")
    reader.set_exception(error)
    with pytest.raises(ConnectionResetError) as caught:
        await task
    assert caught.value is error
    assert reader.exception() is error
    reader.feed_data(b"bytes\n")  # what was there does not matter any more
    with pytest.raises(ConnectionResetError):
        await call(reader, name)


@pytest.mark.parametrize("name", READS)
async def test_the_end_and_an_exception_in_one_turn(net: Net, reader: Any, name: str) -> None:
    """The end has woken whoever waited; the exception is for those who come later."""
    task = asyncio.ensure_future(call(reader, name))
    await net.turn()
    reader.feed_data(b"abc")
    reader.feed_eof()
    reader.set_exception(LookupError())
    if name in ("readexactly", "readuntil"):
        with pytest.raises(asyncio.IncompleteReadError):
            await task
    else:
        assert await task == b"abc"
    assert type(reader.exception()) is LookupError
    with pytest.raises(LookupError):
        await call(reader, name)


# As coroutines


@pytest.mark.parametrize("name", READS)
async def test_what_they_return_is_a_coroutine(net: Net, reader: Any, name: str) -> None:
    reader.feed_data(b"bytes\n" * 4)
    coroutine = call(reader, name)
    assert asyncio.iscoroutine(coroutine)
    assert inspect.isawaitable(coroutine)
    assert "StreamReader." in repr(coroutine)
    assert coroutine.__qualname__ == f"StreamReader.{coroutine.__name__}"
    with pytest.raises(TypeError, match="can't send non-None value to a just-started coroutine"):
        coroutine.send(1)
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    expected = stop.value.value
    for again in (coroutine.send, coroutine.throw):
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            again(None if again == coroutine.send else LookupError())
    coroutine.close()
    reader.feed_data(b"bytes\n")
    assert await asyncio.wait_for(call(reader, name), 30) in (expected, b"\n", b"\nbyte")


@pytest.mark.parametrize("name", READS)
async def test_thrown_into_before_it_begins(reader: Any, name: str) -> None:
    coroutine = call(reader, name)
    with pytest.raises(LookupError):
        coroutine.throw(LookupError())
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        coroutine.send(None)


@pytest.mark.parametrize("name", READS)
async def test_closed_or_dropped_while_it_waits(reader: Any, name: str) -> None:
    coroutine = call(reader, name)
    assert asyncio.isfuture(coroutine.send(None))
    coroutine.close()
    assert reader._waiter is None
    coroutine = call(reader, name)
    coroutine.send(None)
    assert reader._waiter is not None
    del coroutine
    assert reader._waiter is None


def test_never_awaited(reader: Any) -> None:
    with pytest.warns(RuntimeWarning, match=r"coroutine 'StreamReader\.read' was never awaited"):
        reader.read(1)


async def test_wrong_arguments(reader: Any) -> None:
    for name, arguments, named in (
        ("read", (1, 2), {}),
        ("read", (), {"size": 1}),
        ("readexactly", (), {}),
        ("readuntil", (b"x", b"y"), {}),
    ):
        with pytest.raises(TypeError, match=rf"StreamReader\.{name}\(\)"):
            getattr(reader, name)(*arguments, **named)
    with pytest.raises(ValueError, match="readexactly size can not be less than zero"):
        await reader.readexactly(-1)
    with pytest.raises(ValueError, match="Separator should be at least one-byte string"):
        await reader.readuntil(b"")
    reader.feed_data(b"ab")
    assert await reader.readuntil(bytearray(b"b")) == b"ab"


@pytest.mark.skipif(sys.version_info < (3, 13), reason="a tuple of separators came with 3.13")
async def test_separators(net: Net, reader: Any) -> None:
    reader.feed_data(b"one;two,")
    assert await reader.readuntil((b",", b";")) == b"one;"
    assert await reader.readuntil((b",", b";")) == b"two,"


# What others have put there


async def test_a_method_of_asyncios_that_was_replaced(reader: Any) -> None:
    async def readuntil(self: Any, separator: Any = b"\n") -> bytes:
        return b"another"

    reader.feed_data(b"bytes\n")
    with mock.patch.object(asyncio.StreamReader, "_maybe_resume_transport") as resume:
        assert await reader.readexactly(1) == b"b"
    resume.assert_called_once_with()
    assert await reader.readexactly(1) == b"y"
    with mock.patch.object(type(reader), "readuntil", readuntil):
        assert await reader.readline() == b"another"
    assert await reader.readline() == b"tes\n"


@pytest.mark.parametrize("name", ["read", "readexactly", "readuntil", "readline", "feed_data"])
async def test_asyncios_method_itself_was_replaced(
    net: Net, streams: Any, reader: Any, name: str
) -> None:
    connected, writer, _ = await connection(net, streams)
    arguments = () if name == "readline" else (b"1",)
    with mock.patch.object(asyncio.StreamReader, name) as replaced:
        for each in (reader, connected):
            result = getattr(each, name)(*arguments)
            assert (await result if inspect.isawaitable(result) else result) is not None
    assert [call.args for call in replaced.call_args_list] == [arguments] * 2
    with mock.patch.object(asyncio.StreamWriter, "drain") as drain:
        await writer.drain()
    drain.assert_awaited_once_with()
    with mock.patch.object(asyncio.StreamWriter, "write") as write:
        writer.write(b"1")
    write.assert_called_once_with(b"1")
    writer.close()
    await writer.wait_closed()


async def test_a_method_of_one_reader_that_was_replaced(reader: Any) -> None:
    reader.feed_data(b"bytes\n")
    with mock.patch.object(reader, "_maybe_resume_transport") as resume:
        assert await reader.read(3) == b"byt"
    resume.assert_called_once_with()
    reader.own = "attribute"
    assert await reader.readline() == b"es\n"


async def test_a_reader_or_protocol_with_another_method_is_fed_through_it(
    net: Net, streams: Any
) -> None:
    reader, writer, peer = await connection(net, streams)
    fed = []
    with mock.patch.object(reader, "feed_data", fed.append):
        await peer.send(b"to the reader")
        while not fed:
            await net.turn()
    protocol = writer.transport.get_protocol()
    with mock.patch.object(protocol, "data_received", fed.append):
        await peer.send(b"to the protocol")
        while len(fed) < 2:
            await net.turn()
    with mock.patch.object(asyncio.StreamReaderProtocol, "data_received") as received:
        await peer.send(b"to the class")
        while not received.called:
            await net.turn()
    assert fed == [b"to the reader", b"to the protocol"]
    received.assert_called_once_with(b"to the class")
    await peer.send(b"as ever")
    assert await reader.readexactly(7) == b"as ever"
    writer.close()
    await writer.wait_closed()


async def test_a_protocol_that_is_given_another_class(net: Net, streams: Any) -> None:
    class Own(asyncio.StreamReaderProtocol):
        def data_received(self, data: bytes) -> None:
            super().data_received(data.upper())

    reader, writer, peer = await connection(net, streams)
    writer.transport.get_protocol().__class__ = Own
    await peer.send(b"line\n")
    assert await reader.readline() == b"LINE\n"
    writer.close()
    await writer.wait_closed()


async def test_arguments_by_name(net: Net, streams: Any) -> None:
    reader, writer, peer = await connection(net, streams)
    writer.write(data=b"a")
    writer.writelines(data=[b"b", b"c"])
    assert await peer.read(3) == b"abc"
    reader.feed_data(data=b"line\n")
    assert await reader.readline() == b"line\n"
    for call in (writer.write, writer.writelines, reader.feed_data):
        for wrong in ({}, {"bytes": b""}):
            with pytest.raises(TypeError):
                call(**wrong)
    writer.close()
    await writer.wait_closed()


async def test_a_buffer_that_is_looked_at(reader: Any) -> None:
    reader.feed_data(b"bytes\n")
    with memoryview(reader._buffer), pytest.raises(BufferError):
        await reader.readline()
    with memoryview(reader._buffer), pytest.raises(BufferError):
        reader.feed_data(b"more")
    reader._buffer = bytearray(b"others\n")
    assert await reader.readline() == b"others\n"
    reader.feed_data(bytearray(b"bytes\n"))
    assert await reader.readline() == b"bytes\n"


async def test_asyncios_own_methods_find_what_the_native_ones_left(net: Net) -> None:
    reader = pyev.StreamReader(loop=net.loop)
    native = asyncio.ensure_future(reader.readexactly(3))
    await net.turn()
    asyncio.StreamReader.feed_data(reader, b"abcdef\n")
    assert await native == b"abc"
    assert await asyncio.StreamReader.readline(reader) == b"def\n"
    pythons = asyncio.ensure_future(asyncio.StreamReader.readexactly(reader, 3))
    await net.turn()
    reader.feed_data(b"abc")
    assert await pythons == b"abc"


# Over a connection


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_echo(net: Net, streams: Any, secure: bool) -> None:
    async def echo(reader: Any, writer: Any) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    tls = {"ssl": server_context()} if secure else {}
    server = await streams.start_server(echo, "127.0.0.1", 0, **tls)
    tls = {"ssl": client_context(), "server_hostname": "localhost"} if secure else {}
    reader, writer = await streams.open_connection(*server.sockets[0].getsockname(), **tls)
    data = some_bytes(1 << 20)

    async def send() -> None:
        for start in range(0, len(data), 50_000):
            writer.writelines([data[start : start + 20_000], data[start + 20_000 : start + 50_000]])
            await writer.drain()
        if not secure:
            writer.write_eof()

    sending = asyncio.ensure_future(send())
    assert await reader.readexactly(100_000) == data[:100_000]
    assert await reader.readuntil(data[150_000:150_020]) == data[100_000:150_020]
    if secure:
        assert await reader.readexactly(len(data) - 150_020) == data[150_020:]
        await sending
        writer.close()
    assert await reader.read() == (b"" if secure else data[150_020:])
    await sending
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_tls_begun_on_the_way(net: Net, streams: Any) -> None:
    async def serve(reader: Any, writer: Any) -> None:
        writer.write(b"plain " + await reader.readline())
        await writer.start_tls(server_context())
        writer.write(b"secret " + await reader.readline())
        await writer.drain()
        writer.close()

    server = await streams.start_server(serve, "127.0.0.1", 0)
    reader, writer = await streams.open_connection(*server.sockets[0].getsockname())
    writer.write(b"line\n")
    assert await reader.readline() == b"plain line\n"
    await writer.start_tls(client_context(), server_hostname="localhost")
    writer.write(b"another\n")
    assert await reader.readline() == b"secret another\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_a_pipe(net: Net) -> None:
    ours, theirs = os.pipe()
    reader = asyncio.StreamReader(limit=1000)
    transport, _ = await net.loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), net.enter(os.fdopen(ours, "rb", 0))
    )
    with os.fdopen(theirs, "wb", 0) as end:
        end.write(b"line\nrest")
        assert await reader.readline() == b"line\n"
    assert await reader.read() == b"rest"
    transport.close()
    await net.turn(2)


async def test_unix(net: Net, streams: Any) -> None:
    served = net.loop.create_future()

    def connected(reader: Any, writer: Any) -> None:
        served.set_result((reader, writer))

    path = net.abstract_name()
    server = await streams.start_unix_server(connected, path, limit=1000)
    reader, writer = await streams.open_unix_connection(path, limit=2000)
    their_reader, their_writer = await served
    assert (reader._limit, their_reader._limit) == (2000, 1000)
    their_writer.write(b"line\n")
    assert await reader.readline() == b"line\n"
    their_writer.close()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_a_sender_is_held_back(net: Net, streams: Any) -> None:
    """Through the reader's limit and the transport, to the sender's drain()."""
    reader, writer, peer = await connection(net, streams, limit=1000)
    size = 1 << 22
    sending = asyncio.ensure_future(peer.send(some_bytes(size)))
    while not reader._paused:
        await net.turn()
    await net.calm()
    assert not sending.done()
    assert 2000 < len(reader._buffer) < size // 2
    assert not writer.transport.is_reading()
    received = bytearray()
    while len(received) < size:
        received += await reader.read(size)
    assert received == some_bytes(size)
    await sending
    writer.close()
    await writer.wait_closed()


async def test_drain_waits(net: Net, streams: Any) -> None:
    reader, writer, peer = await connection(net, streams)
    writer.transport.set_write_buffer_limits(1000)
    writer.write(some_bytes(1 << 22))
    drained = asyncio.ensure_future(writer.drain())
    await net.turn(3)
    assert not drained.done()
    assert len(await peer.read(1 << 22)) == 1 << 22
    await drained
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def test_drain_of_a_connection_that_is_lost(net: Net, streams: Any) -> None:
    reader, writer, peer = await connection(net, streams)
    writer.transport.abort()
    with pytest.raises(ConnectionResetError, match="Connection lost"):
        await writer.drain()
    reader.set_exception(LookupError())
    with pytest.raises(LookupError):
        await writer.drain()


async def test_drain_before_it_begins(net: Net, streams: Any) -> None:
    reader, writer, peer = await connection(net, streams)
    with pytest.warns(RuntimeWarning, match=r"coroutine 'StreamWriter\.drain' was never awaited"):
        writer.drain()
    coroutine = writer.drain()
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value is None
    with mock.patch.object(asyncio.StreamReaderProtocol, "_drain_helper") as helper:
        await writer.drain()
    helper.assert_awaited_once_with()
    writer.close()
    await writer.wait_closed()


async def test_a_server_callback_that_fails(net: Net, streams: Any) -> None:
    async def fails(reader: Any, writer: Any) -> None:
        await reader.readline()
        writer.close()
        raise LookupError

    server = await streams.start_server(fails, "127.0.0.1", 0)
    reader, writer = await streams.open_connection(*server.sockets[0].getsockname())
    writer.write(b"line\n")
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    net.reported(LookupError)


async def test_a_server_callback_that_is_not_true(net: Net, streams: Any) -> None:
    class Welcome(list[Any]):
        def __call__(self, reader: Any, writer: Any) -> None:
            writer.close()

    server = await streams.start_server(Welcome(), "127.0.0.1", 0)
    reader, writer = await streams.open_connection(*server.sockets[0].getsockname())
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_the_end_of_a_connection_by_reset(net: Net, streams: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reader, writer = await streams.open_connection(*listener.getsockname())
        peer = net.peer(listener.accept()[0])
    reading = asyncio.ensure_future(reader.readline())
    await net.turn()
    await peer.send(b"half a line")
    while not reader._buffer:
        await net.turn()
    peer.reset()
    with pytest.raises(ConnectionResetError):
        await reading
    writer.close()
    with pytest.raises(ConnectionResetError):
        await writer.wait_closed()


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def test_streams_are_dropped_without_the_cycle_collector(net: Net, streams: Any) -> None:
    with no_collection():
        reader, writer, peer = await connection(net, streams)
        await peer.send(b"line\n")
        assert await reader.readline() == b"line\n"
        waiting = asyncio.ensure_future(reader.readline())
        await net.turn()
        waiting.cancel()
        await asyncio.wait([waiting])
        del waiting
        dead = [weakref.ref(thing) for thing in (reader, writer)]
        writer.close()
        await writer.wait_closed()
        await net.turn()
        del reader, writer
        assert [thing() for thing in dead] == [None, None]


# Any order of events: the two readers are never in different states.

PIECES = st.lists(st.sampled_from([b"a", b"\n", b"#", b"##", b"ab\n", b"x" * 9]), max_size=6)
STEPS = st.one_of(
    st.tuples(st.just("feed"), PIECES.map(b"".join)),
    st.tuples(st.just("read"), st.integers(-1, 12)),
    st.tuples(st.just("readexactly"), st.integers(-1, 12)),
    st.tuples(st.just("readuntil"), st.sampled_from([b"\n", b"##", b"ab\n", b""])),
    st.tuples(st.just("readline"), st.none()),
    st.tuples(st.just("anext"), st.none()),
    st.tuples(st.just("cancel"), st.integers(0, 3)),
    st.tuples(st.just("turn"), st.integers(1, 3)),
    st.tuples(st.sampled_from(["eof", "exception", "at_eof"]), st.none()),
)


def outcome(result: Callable[[], Any]) -> Any:
    try:
        return result()
    except BaseException as error:
        seen = [type(error), error.args, getattr(error, "partial", None)]
        return [*seen, type(error.__context__), getattr(error, "consumed", None)]


async def play(reader: Any, steps: list[tuple[str, Any]]) -> list[Any]:
    """What can be seen of it after each step."""
    transport = mock.Mock()
    reader.set_transport(transport)
    tasks: list[Any] = []
    seen: list[Any] = []
    for name, argument in steps:
        if name == "feed":
            seen.append(outcome(lambda data=argument: reader.feed_data(data)))  # type: ignore[misc]
        elif name == "eof":
            reader.feed_eof()
        elif name == "at_eof":
            seen.append(reader.at_eof())
        elif name == "exception":
            reader.set_exception(LookupError("set"))
        elif name == "cancel":
            if argument < len(tasks):
                tasks[argument].cancel()
        elif name == "turn":
            for _ in range(argument):
                await asyncio.sleep(0)
        else:
            arguments = () if argument is None else (argument,)
            tasks.append(asyncio.ensure_future(start(reader, name, *arguments)))
        seen.append([outcome(task.result) if task.done() else None for task in tasks])
        state = {**vars(reader), "_transport": reader._transport is transport, "_loop": None}
        state["_buffer"] = bytes(reader._buffer)
        state["_exception"] = repr(reader._exception)
        state["_waiter"] = reader._waiter is not None and reader._waiter.done()
        state["waits"] = reader._waiter is not None
        del state["_loop"]
        seen.append({**state, "calls": [call[0] for call in transport.method_calls]})
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return seen


@pytest.mark.parametrize("make", [asyncio.new_event_loop, pyev.new_event_loop])
@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=14), st.sampled_from([1, 4, 10]))
@example([("readuntil", b"##"), ("turn", 1), ("feed", b"#"), ("turn", 1), ("feed", b"#")], 10)
# Another reads what the first has looked through already.
@example(
    [
        *[("readuntil", b"##"), ("turn", 1), ("feed", b"x" * 9), ("turn", 1), ("read", 12)],
        *[("turn", 1), ("feed", b"a##"), ("turn", 1), ("eof", None)],
    ],
    10,
)
@example([("readexactly", 12), ("turn", 1), ("feed", b"x" * 9), ("turn", 1), ("eof", None)], 1)
def test_any_order_of_events(
    make: Callable[[], Any], steps: list[tuple[str, Any]], limit: int
) -> None:
    with asyncio.Runner(loop_factory=make) as runner:
        loop = runner.get_loop()
        asyncios = runner.run(play(asyncio.StreamReader(limit, loop), [*steps, ("turn", 3)]))
        pyevs = runner.run(play(pyev.StreamReader(limit, loop), [*steps, ("turn", 3)]))
    assert pyevs == asyncios
