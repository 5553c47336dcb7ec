"""sendfile: counts, offsets, and a transport that is as it was."""

import asyncio
import inspect
import io
import os
import socket
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from net_kit import Recorder, some_bytes

SIZE = 400_000


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(some_bytes(SIZE))
    with path.open("r+b") as file:
        yield file


@pytest.mark.asyncio_fails(
    "its fallback writes the next block into a buffer that is not sent yet",
    when=sys.version_info >= (3, 12),
    run=False,
)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    offset=st.integers(0, SIZE + 10),
    count=st.none() | st.integers(1, SIZE * 2),
    fallback=st.booleans(),
    before=st.integers(0, 100_000),
    small=st.booleans(),
)
def test_any_part(connect, net, file, offset, count, fallback, before, small):
    """With what was written before it, and what is written after."""

    async def main():
        protocol, peer = await connect(small=small)
        source = file if not fallback else io.BytesIO(some_bytes(SIZE))
        expected = some_bytes(SIZE)[offset:][: count if count is not None else SIZE]
        protocol.transport.write(some_bytes(before, 5))
        reading = asyncio.ensure_future(peer.read_all())
        sent = await net.loop.sendfile(protocol.transport, source, offset, count)
        assert sent == len(expected)
        assert source.tell() == offset + len(expected) or not expected
        protocol.transport.write(b"after")
        protocol.transport.close()
        assert await reading == some_bytes(before, 5) + expected + b"after"
        assert await protocol.lost() is None

    net.run(main())


async def test_whole_file(connect, net, file):
    protocol, peer = await connect()
    reading = asyncio.ensure_future(peer.read(SIZE))
    assert await net.loop.sendfile(protocol.transport, file) == SIZE
    assert await reading == some_bytes(SIZE)
    assert file.tell() == SIZE


async def test_empty_file(connect, net, tmp_path):
    protocol, peer = await connect()
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open("rb") as file:
        assert await net.loop.sendfile(protocol.transport, file) == 0
    protocol.transport.write(b"x")
    assert await peer.read(1) == b"x"


async def test_more_than_there_is(connect, net, file):
    protocol, peer = await connect()
    reading = asyncio.ensure_future(peer.read(SIZE))
    assert await net.loop.sendfile(protocol.transport, file, 0, SIZE * 3) == SIZE
    assert await reading == some_bytes(SIZE)
    reading = asyncio.ensure_future(peer.read(10))
    position = file.tell()
    assert await net.loop.sendfile(protocol.transport, file, SIZE + 100, 10) == 0
    # As asyncio's own function does, which is given one argument less since it always seeks.
    update = inspect.signature(asyncio.SelectorEventLoop._sock_sendfile_update_filepos)
    assert file.tell() == (SIZE + 100 if len(update.parameters) == 3 else position)
    reading.cancel()


async def test_truncated_meanwhile(connect, net, file):
    """It ends where the file ends."""
    protocol, peer = await connect(small=True)
    sending = asyncio.ensure_future(net.loop.sendfile(protocol.transport, file))
    await peer.read(20_000)
    os.truncate(file.fileno(), 100_000)
    reading = asyncio.ensure_future(peer.read_all())
    sent = await sending
    protocol.transport.close()
    received = await reading
    assert 20_000 <= sent < SIZE
    assert len(received) == sent - 20_000


@pytest.mark.parametrize("paused", [False, True])
async def test_reading_is_restored(connect, net, file, paused):
    protocol, peer = await connect(small=True)
    if paused:
        protocol.transport.pause_reading()
    sending = asyncio.ensure_future(net.loop.sendfile(protocol.transport, file))
    await peer.send(b"x")
    await net.turn(3)
    assert await peer.read(SIZE) == some_bytes(SIZE)
    assert await sending == SIZE
    assert protocol.transport.is_reading() is not paused
    if paused:
        await net.calm()
        assert protocol.data == b""
        protocol.transport.resume_reading()
    await protocol.until(lambda: protocol.data == b"x")


async def test_nothing_is_written_meanwhile(connect, net, file):
    protocol, peer = await connect(small=True)
    sending = asyncio.ensure_future(net.loop.sendfile(protocol.transport, file))
    await net.turn(3)
    with pytest.raises(RuntimeError, match="sendfile is in progress"):
        protocol.transport.write(b"x")
    with pytest.raises(RuntimeError, match="sendfile is in progress"):
        protocol.transport.writelines([b"x"])
    assert await peer.read(SIZE) == some_bytes(SIZE)
    await sending


async def test_cancelled(connect, net, file):
    """The transport goes on, with what was sent whole."""
    protocol, peer = await connect(small=True)
    sending = asyncio.ensure_future(net.loop.sendfile(protocol.transport, file))
    received = len(await peer.read(50_000))
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await net.turn(2)
    assert protocol.transport.is_reading()
    protocol.transport.write(b"end")
    protocol.transport.close()
    rest = await peer.read_all()
    assert rest.endswith(b"end")
    assert some_bytes(SIZE)[received:][: len(rest) - 3] == rest[:-3]


@pytest.mark.asyncio_fails("leaves the transport as it was during sendfile")
async def test_cancelled_before_it_begins(connect, net, file):
    """What was written before is yet to be sent, and the transport goes on."""
    protocol, peer = await connect(small=True)
    protocol.transport.write(some_bytes(SIZE))
    sending = asyncio.ensure_future(net.loop.sendfile(protocol.transport, file))
    await net.turn(3)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert protocol.transport.is_reading()
    protocol.transport.write(b"end")
    protocol.transport.close()
    assert await peer.read_all() == some_bytes(SIZE) + b"end"


async def test_peer_gone(connect, net, file):
    protocol, peer = await connect(small=True)
    sending = asyncio.ensure_future(net.loop.sendfile(protocol.transport, file))
    await peer.read(10_000)
    peer.reset()
    with pytest.raises(OSError, match=r".*"):
        await sending
    protocol.transport.abort()
    await protocol.lost()
    net.reports.clear()


@pytest.mark.asyncio_fails("waits for a descriptor that is closed", run=False)
@pytest.mark.parametrize("end", ["abort", "close"])
async def test_ended_meanwhile(connect, net, file, end):
    protocol, peer = await connect(small=True)
    sending = asyncio.ensure_future(net.loop.sendfile(protocol.transport, file))
    await peer.read(10_000)
    getattr(protocol.transport, end)()
    with pytest.raises(ConnectionError, match="closed by peer"):
        await sending
    await protocol.lost()


async def test_closed_transport(connect, net, file):
    protocol, peer = await connect()
    protocol.transport.close()
    with pytest.raises(RuntimeError, match="closing"):
        await net.loop.sendfile(protocol.transport, file)


async def test_no_fallback(connect, net):
    protocol, peer = await connect()
    with pytest.raises(RuntimeError, match=r"not a regular file|not available"):
        await net.loop.sendfile(protocol.transport, io.BytesIO(b"x"), fallback=False)
    assert await net.loop.sendfile(protocol.transport, io.BytesIO(b"xy")) == 2
    assert await peer.read(2) == b"xy"


async def test_text_file(connect, net, tmp_path):
    protocol, _ = await connect()
    (tmp_path / "text").write_text("x")
    with (tmp_path / "text").open() as text, pytest.raises(ValueError, match="binary mode"):
        await net.loop.sendfile(protocol.transport, text)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"offset": -1}, ValueError),
        ({"offset": "x"}, TypeError),
        ({"count": 0}, ValueError),
        ({"count": -1}, ValueError),
        ({"count": "x"}, TypeError),
    ],
)
async def test_wrong_numbers(connect, net, file, options, error):
    protocol, _ = await connect()
    with pytest.raises(error):
        await net.loop.sendfile(protocol.transport, file, **options)
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(error):
            await net.loop.sock_sendfile(sock, file, **options)


async def test_of_a_socket(net, file):
    """sock_sendfile, without a transport."""
    a, b = socket.socketpair()
    with a, b:
        a.setblocking(False)
        peer = net.peer(b)
        reading = asyncio.ensure_future(peer.read(SIZE - 7))
        assert await net.loop.sock_sendfile(a, file, 7) == SIZE - 7
        assert await reading == some_bytes(SIZE)[7:]


async def test_to_many_at_once(connect, net, tmp_path):
    """Each from its own file object, of one file."""
    path = tmp_path / "shared"
    path.write_bytes(some_bytes(SIZE))

    async def one():
        protocol, peer = await connect(Recorder(), small=True)
        with path.open("rb") as file:
            reading = asyncio.ensure_future(peer.read(SIZE))
            assert await net.loop.sendfile(protocol.transport, file) == SIZE
            assert await reading == some_bytes(SIZE)

    await asyncio.gather(*(one() for _ in range(4)))
