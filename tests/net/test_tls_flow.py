"""Holding back through TLS: asyncio's water marks, what is buffered meanwhile, and sendfile."""

import asyncio
import contextvars
import io
import socket

import pytest
from net_kit import BufferedRecorder, Recorder, in_child, some_bytes
from tls_kit import RECORD, client_context

import pyev

HIGH = 512 * 1024


async def test_limits(tls, side):
    protocol, _ = await tls.connect(side)
    transport = protocol.transport
    assert transport.get_write_buffer_limits() == (HIGH // 4, HIGH)
    for arguments, limits in [
        ({"high": 1000}, (250, 1000)),
        ({"low": 1000}, (1000, 4000)),
        ({"high": 2000, "low": 500}, (500, 2000)),
        ({"high": 7, "low": 7}, (7, 7)),
        ({}, (HIGH // 4, HIGH)),
    ]:
        transport.set_write_buffer_limits(**arguments)
        assert transport.get_write_buffer_limits() == limits
    for arguments in ({"high": 1, "low": 2}, {"high": -1}, {"low": -1}):
        with pytest.raises(ValueError, match="must be"):
            transport.set_write_buffer_limits(**arguments)
    assert transport.get_write_buffer_size() == 0


async def test_a_slow_reader_pauses_the_writer(tls, side):
    protocol, peer = await tls.connect(side, small=True)
    data = some_bytes(4_000_000)
    reached = []
    for at in range(0, len(data), 50_000):
        protocol.transport.write(data[at : at + 50_000])
        reached.append((protocol.paused, protocol.transport.get_write_buffer_size()))
        await asyncio.sleep(0)
        if protocol.paused:
            sent = at + 50_000
            break
    assert protocol.paused
    assert reached[-1][1] <= HIGH + 100_000
    assert await peer.read(sent) == data[:sent]
    await protocol.called("resume")
    assert protocol.transport.get_write_buffer_size() <= HIGH // 4
    protocol.transport.write(data[sent:])
    assert await peer.read(len(data) - sent) == data[sent:]
    await protocol.until(lambda: not protocol.paused)


async def test_writing_as_it_is_told(tls, side):
    """A protocol that stops at pause_writing() and goes on at resume_writing()."""

    class Pump(Recorder):
        left = 6_000_000
        at = 0
        most = 0

        def pump(self):
            while self.left and not self.paused:
                size = min(self.left, 60_000)
                self.transport.write(some_bytes(size))
                self.left -= size
                self.most = max(self.most, self.transport.get_write_buffer_size())

        def resume_writing(self):
            super().resume_writing()
            self.pump()

    protocol, peer = await tls.connect(side, Pump(), small=True)
    protocol.pump()
    assert await peer.read(6_000_000) == some_bytes(60_000) * 100
    assert protocol.left == 0
    assert protocol.most <= HIGH + 200_000
    assert protocol.calls.count("resume") > 1


@pytest.mark.parametrize("recorder", [Recorder, BufferedRecorder])
async def test_pause_reading_stops_delivery_at_once(tls, side, net, recorder):
    protocol, peer = await tls.connect(side, recorder())
    transport = protocol.transport
    transport.pause_reading()
    assert not transport.is_reading()
    await peer.send(b"x" * 500)
    await net.turn(10)
    assert protocol.data == b""
    transport.resume_reading()
    assert transport.is_reading()
    await protocol.until(lambda: len(protocol.data) == 500)
    transport.pause_reading()
    transport.resume_reading()
    transport.pause_reading()
    await peer.send(b"y" * 100)
    await net.turn(10)
    assert len(protocol.data) == 500
    transport.resume_reading()
    await protocol.until(lambda: len(protocol.data) == 600)


async def test_a_paused_reader_holds_the_peer_back(tls, side, net):
    """What is kept for it is bounded, and all of it comes in the end."""
    protocol, peer = await tls.connect(side, small=True)
    protocol.transport.pause_reading()
    record = peer.records(b"z" * RECORD)
    limit = 64 << 20
    sending = asyncio.ensure_future(peer.peer.send(record))
    sent = 1
    while sent * RECORD < limit:
        done, _ = await asyncio.wait([sending], timeout=0.2)
        if not done:
            break
        sending = asyncio.ensure_future(peer.peer.send(peer.records(b"z" * RECORD)))
        sent += 1
    assert sent * RECORD < 24 << 20, "what is kept has no bound"
    assert protocol.data == b""
    assert protocol.transport.get_read_buffer_size() <= 1 << 20
    protocol.transport.resume_reading()
    await sending
    await protocol.until(lambda: len(protocol.data) == sent * RECORD)


async def test_the_end_waits_for_a_paused_reader(tls, side, net):
    protocol, peer = await tls.connect(side)
    protocol.transport.pause_reading()
    await peer.peer.send(peer.records(b"last words") + peer.ending())
    await net.turn(10)
    assert protocol.calls == ["made"]
    protocol.transport.resume_reading()
    assert await protocol.lost() is None
    assert protocol.data == b"last words"


async def test_paused_in_the_callback(tls, side, net):
    """One delivery, and no other before it is resumed."""

    class OneByOne(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    protocol, peer = await tls.connect(side, OneByOne())
    for size in (10, 2000, 30_000):
        await peer.send(b"x" * size)
        got = len(protocol.data)
        while len(protocol.data) < got + size:
            before = protocol.calls.count("data")
            protocol.transport.resume_reading()
            await protocol.until(lambda before=before: protocol.calls.count("data") > before)
            await net.turn(3)
            assert protocol.calls.count("data") == before + 1


@pytest.mark.parametrize("name", ["pause_writing", "resume_writing"])
async def test_what_the_callbacks_raise_is_reported(tls, side, net, name):
    class Oops(Exception):
        pass

    class Failing(Recorder):
        pass

    def fail(self):
        getattr(Recorder, name)(self)
        raise Oops

    setattr(Failing, name, fail)
    protocol, peer = await tls.connect(side, Failing(), small=True)
    data = some_bytes(1_000_000)
    for _ in range(3):  # asyncio's never pauses for the first
        protocol.transport.write(data)
    assert await peer.read(3 * len(data)) == 3 * data
    await protocol.called("resume")
    net.reported(Oops)


async def test_writes_inside_of_the_callbacks(tls, side, net):
    """In resume_writing(), and to the end in order."""

    class Writing(Recorder):
        more = True

        def resume_writing(self):
            super().resume_writing()
            if self.more:
                self.more = False
                self.transport.write(some_bytes(700_000, 2))

    protocol, peer = await tls.connect(side, Writing(), small=True)
    for start in (9, 8, 7):  # asyncio's never pauses for the first
        protocol.transport.write(some_bytes(700_000, start))
    expected = b"".join(some_bytes(700_000, start) for start in (9, 8, 7, 2))
    assert await peer.read(len(expected)) == expected
    await protocol.until(lambda: not protocol.paused)


@pytest.mark.parametrize("source", ["file", "memory"])
@pytest.mark.parametrize(("offset", "count"), [(0, None), (1000, 50_000), (10, 1 << 30)])
async def test_sendfile(tls, side, net, tmp_path, source, offset, count):
    data = some_bytes(400_000)
    path = tmp_path / "file"
    path.write_bytes(data)
    expected = data[offset:][: count if count is not None else len(data)]
    protocol, peer = await tls.connect(side)
    with path.open("rb") if source == "file" else io.BytesIO(data) as file:
        protocol.transport.write(b"before")
        reading = asyncio.ensure_future(peer.read(6 + len(expected) + 5))
        sent = await net.loop.sendfile(protocol.transport, file, offset, count)
        assert sent == len(expected)
        assert file.tell() == offset + len(expected)
    protocol.transport.write(b"after")
    assert await reading == b"before" + expected + b"after"
    assert protocol.transport.is_reading()


async def test_sendfile_without_fallback(tls, side, net, tmp_path):
    """The kernel cannot do it; where it can, nobody minds."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    protocol, peer = await tls.connect(side)
    with path.open("rb") as file:
        try:
            sent = await net.loop.sendfile(protocol.transport, file, fallback=False)
        except (RuntimeError, asyncio.SendfileNotAvailableError):
            protocol.transport.write(b"x" * 1000)
        else:
            assert sent == 1000
    assert await peer.read(1000) == b"x" * 1000


async def test_sendfile_to_a_peer_that_goes(tls, side, net, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(8_000_000))
    protocol, peer = await tls.connect(side, small=True)
    with path.open("rb") as file:
        sending = asyncio.ensure_future(net.loop.sendfile(protocol.transport, file))
        await peer.read(10_000)
        peer.peer.reset()
        with pytest.raises(ConnectionError):
            await sending
    await protocol.lost()


async def test_closed_behind_the_back_while_much_is_sent(tls, net):
    """The end is told once."""
    async with tls.serving(Recorder) as address:
        sock = socket.create_connection(address)
        sock.setblocking(False)
        protocol = net.remember(Recorder())
        await net.loop.create_connection(
            lambda: protocol, sock=sock, ssl=client_context(), server_hostname="localhost"
        )
        await net.calm()
        protocol.transport.write(some_bytes(200_000))
        net.loop.call_soon(sock.close)
        if isinstance(net.loop, pyev.EventLoop):
            assert isinstance(await protocol.lost(), OSError)
        await net.turn(3)
        protocol.transport.abort()
    await protocol.lost()


async def test_the_context_of_resume_writing(tls, side):
    """It is that of the connection."""
    variable = contextvars.ContextVar("variable", default="none")
    seen = []

    class Looking(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            seen.append(variable.get())

        def resume_writing(self):
            super().resume_writing()
            seen.append(variable.get())

    variable.set("the connection's")
    protocol, peer = await tls.connect(side, Looking(), small=True)
    variable.set("another")
    data = some_bytes(4_000_000)
    protocol.transport.write(data)
    assert await peer.read(len(data)) == data
    await protocol.until(lambda: not protocol.paused)
    assert set(seen) == {"the connection's"}


async def first_pause(tls, side, see, piece, after):
    """What `see()` is when pause_writing() is first called; after each piece comes `after()`."""
    seen = []

    class Seeing(Recorder):
        def pause_writing(self):
            super().pause_writing()
            seen.append(see())

    protocol, peer = await tls.connect(side, Seeing(), small=True)
    protocol.transport.set_write_buffer_limits(high=50_000)
    size = 0
    while not seen:
        protocol.transport.write(bytes(piece))
        size += piece
        after()
        await asyncio.sleep(0)
    (first,) = seen
    assert await peer.read(size) == bytes(size)
    await protocol.until(lambda: not protocol.paused)
    return first


async def test_the_context_of_pause_writing(tls, side):
    """The connection's, also where it is called at a turn's end."""
    where = contextvars.ContextVar("where", default="nowhere")
    where.set("here")
    assert await first_pause(tls, side, where.get, 3000, lambda: None) == "here"


async def test_nothing_is_called_inside_of_a_fork(tls, side):
    """What is written is sent then; whoever is to pause hears it at the turn's end."""
    forking = False

    def fork():
        nonlocal forking
        forking = True
        in_child(lambda: None)
        forking = False

    assert await first_pause(tls, side, lambda: forking, 30_000, fork) is False
