"""How connections with TLS end: by close_notify on both sides, or without."""

import asyncio
import contextlib
import ssl
import struct
import sys

import pytest
from net_kit import BufferedRecorder, Recorder, some_bytes
from tls_kit import TlsPeer, client_context, server_context, strict

SHORT = 0.05  # seconds; nothing else in these tests would end them

aborted_once = pytest.mark.asyncio_fails(
    "abort() after the end fails, in early 3.11", when=sys.version_info < (3, 11, 7), strict=False
)


class Oops(Exception):
    pass


def own(side, version=None):
    return client_context(version) if side == "client" else server_context(version)


async def test_close_says_so_and_waits_for_the_answer(tls, side, version, net):
    protocol, peer = await tls.connect(side, context=own(side, version))
    transport = protocol.transport
    transport.write(b"all of it")
    transport.close()
    assert transport.is_closing()
    assert await peer.read_all() == b"all of it"  # its end is a close_notify: the peer is strict
    await net.turn(3)
    assert "lost" not in protocol.calls
    await peer.peer.send(peer.ending())
    assert await protocol.lost() is None
    assert protocol.calls == ["made", "eof", "lost"]
    assert await peer.peer.read_all() == b""


async def test_the_peer_ends_first(tls, side, version):
    """It is told, it is answered, and what was written before is sent."""
    protocol, peer = await tls.connect(side, context=own(side, version))
    protocol.transport.write(b"before")
    await peer.peer.send(peer.records(b"last words") + peer.ending())
    assert await protocol.lost() is None
    assert protocol.data == b"last words"
    assert protocol.calls == ["made", "data", "eof", "lost"]
    assert await peer.read_all() == b"before"


async def test_keeping_it_open_has_no_effect(tls, side, caplog):
    protocol = Recorder()
    protocol.keep_open = True
    protocol, peer = await tls.connect(side, protocol)
    await peer.peer.send(peer.ending())
    assert await protocol.lost() is None
    assert "returning true from eof_received() has no effect when using ssl" in caplog.text


@aborted_once
async def test_closed_twice_and_more(tls, side):
    protocol, peer = await tls.connect(side)
    transport = protocol.transport
    transport.close()
    transport.close()
    transport.close()
    assert await peer.read_all() == b""
    await peer.close()
    assert await protocol.lost() is None
    transport.close()
    transport.abort()
    assert transport.is_closing()


@pytest.mark.parametrize("size", [0, 100, 3_000_000])
async def test_a_peer_that_never_answers(tls, side, size):
    """Bounded by ssl_shutdown_timeout, whether it reads or not."""
    protocol, peer = await tls.connect(side, ssl_shutdown_timeout=SHORT, small=size > 1000)
    protocol.transport.write(some_bytes(size))
    protocol.transport.close()
    reason = await protocol.lost()
    assert type(reason) is TimeoutError
    assert str(reason) == "SSL shutdown timed out"
    assert protocol.calls.count("lost") == 1


async def test_a_peer_that_keeps_sending(tls, side, net):
    """What it sends is dropped, and the end comes."""
    protocol, peer = await tls.connect(side, ssl_shutdown_timeout=0.3)
    await peer.send(b"x" * 1000)
    await protocol.until(lambda: len(protocol.data) == 1000)
    protocol.transport.close()

    async def flood():
        while True:
            await peer.send(b"y" * 16384)
            await asyncio.sleep(0)

    flooding = asyncio.ensure_future(flood())
    reason = await protocol.lost()
    with contextlib.suppress(ConnectionError):
        await flooding
    assert reason is None or isinstance(reason, OSError)
    assert protocol.calls.count("lost") == 1


@pytest.mark.asyncio_fails("takes it for an error")
async def test_data_on_its_way_when_it_is_closed(tls, side):
    """Is no error: it crosses with our close_notify."""
    protocol, peer = await tls.connect(side)
    await peer.send(b"crossing")
    protocol.transport.close()
    assert await peer.read_all() == b""
    await peer.close()
    assert await protocol.lost() is None


@pytest.mark.parametrize("paused", [False, True], ids=["reading", "paused"])
async def test_closed_when_the_peers_end_is_here(tls, side, version, paused):
    """It came with the data that the protocol closes at: there is nothing to wait for."""

    class Closing(BufferedRecorder):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            if paused:
                self.transport.pause_reading()
            self.transport.close()

    protocol, peer = await tls.connect(side, Closing(10), context=own(side, version))
    await peer.peer.send(peer.records(b"y" * 1000, 100) + peer.ending())
    await asyncio.wait_for(protocol.lost(), 10)  # a third of the shutdown's timeout


async def test_paused_after_close(tls, side):
    """The peer's end is noticed all the same."""
    protocol, peer = await tls.connect(side)
    protocol.transport.close()
    assert await peer.read_all() == b""
    protocol.transport.pause_reading()
    peer.peer.shutdown()
    assert await asyncio.wait_for(protocol.lost(), 10) is None


async def test_the_peer_breaks_off_while_the_rest_is_sent(tls, side, net):
    """What was written before close() arrives, and the word for its end too."""
    protocol, peer = await tls.connect(side, small=True)
    data = some_bytes(1_000_000)
    protocol.transport.write(data)
    protocol.transport.close()
    peer.peer.shutdown()
    await net.turn(3)
    assert await peer.read_all() == data  # its end is a close_notify: the peer is strict
    assert await protocol.lost() is None


async def test_abort_is_immediate(tls, side, net):
    protocol, peer = await tls.connect(side, small=True)
    protocol.transport.write(some_bytes(3_000_000))
    protocol.transport.abort()
    assert protocol.transport.is_closing()
    await net.turn(4)
    assert protocol.calls[-1] == "lost"
    assert protocol.reason is None
    # No close_notify. Python 3.11.2 has no SSLEOFError for that yet.
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await peer.read_all()


async def test_abort_while_closing(tls, side, net):
    protocol, peer = await tls.connect(side)
    protocol.transport.close()
    await net.turn(2)
    protocol.transport.abort()
    assert await protocol.lost() is None


@pytest.mark.parametrize("recorder", [Recorder, BufferedRecorder])
async def test_the_end_without_close_notify(tls, side, version, recorder):
    """Python's contexts take it for an end (ssl.OP_IGNORE_UNEXPECTED_EOF), and so does asyncio."""
    protocol, peer = await tls.connect(side, recorder(), context=own(side, version))
    await peer.send(b"some")
    peer.peer.shutdown()
    assert await protocol.lost() is None
    assert protocol.data == b"some"
    assert protocol.calls[-2:] == ["eof", "lost"]


@pytest.mark.parametrize("said", [True, False])
async def test_whether_the_end_was_said(tls, side, version, said, net):
    """Where the length of the data is told nowhere else, one may ask."""
    told = []

    class Asking(Recorder):
        def eof_received(self):
            super().eof_received()
            told.append(self.transport.get_extra_info("close_notify"))

    protocol, peer = await tls.connect(side, Asking(), context=own(side, version))
    assert not protocol.transport.get_extra_info("close_notify")
    await peer.send(b"some")
    if said:
        await peer.peer.send(peer.ending())
    peer.peer.shutdown()
    assert await protocol.lost() is None
    assert told == ([said] if hasattr(net.loop, "ev") else [None])


async def test_cut_in_the_middle_of_a_record(tls, side):
    protocol, peer = await tls.connect(side)
    record = peer.records(some_bytes(1000))
    await peer.peer.send(record[:-1])
    peer.peer.shutdown()
    await protocol.lost()
    assert protocol.data == b""


async def test_reset(tls, side):
    protocol, peer = await tls.connect(side)
    await peer.send(b"some")
    await protocol.until(lambda: protocol.data)
    peer.peer.reset()
    assert isinstance(await protocol.lost(), ConnectionResetError)
    assert protocol.calls == ["made", "data", "lost"]


@pytest.mark.parametrize("what", ["data", "rubbish", "more ends", "half a record"])
async def test_what_follows_close_notify_is_nothing(tls, side, what, net):
    """Not delivered, not reported."""
    protocol, peer = await tls.connect(side)
    ending = peer.ending()
    after = {
        "data": b"plain text",
        "rubbish": bytes(2000),
        "more ends": ending,
        "half a record": b"\x17\x03\x03\x10\x00" + bytes(100),
    }[what]
    await peer.peer.send(ending + after)
    assert await protocol.lost() is None
    assert protocol.data == b""
    assert protocol.calls == ["made", "eof", "lost"]


@pytest.mark.parametrize("what", ["plain text", "garbage", "flipped", "an alert", "too long"])
async def test_plaintext_in_the_middle(tls, side, version, what, net):
    """An ssl.SSLError for connection_lost(), and nothing delivered of it."""
    protocol, peer = await tls.connect(side, context=own(side, version))
    record = bytearray(peer.records(b"x" * 100))
    record[50] ^= 1
    wrong = {
        "plain text": b"HTTP/1.1 200 OK\r\n\r\n" * 10,
        "garbage": some_bytes(500),
        "flipped": bytes(record),
        "an alert": b"\x15\x03\x03\x00\x02\x09\x09",
        "too long": struct.pack("!BHH", 23, 0x0303, 0xFFFF) + bytes(0xFFFF),
    }[what]
    await peer.peer.send(wrong)
    reason = await protocol.lost()
    assert isinstance(reason, ssl.SSLError)
    assert protocol.data == b""
    assert protocol.calls == ["made", "lost"]


async def test_good_records_before_a_bad_one(tls, side):
    """asyncio, too, delivers what was sent before; then the connection is lost."""
    protocol, peer = await tls.connect(side)
    good = peer.records(b"good")
    await peer.peer.send(good)
    await protocol.until(lambda: protocol.data)
    bad = bytearray(peer.records(b"bad"))
    bad[-1] ^= 1
    await peer.peer.send(bytes(bad))
    assert isinstance(await protocol.lost(), ssl.SSLError)
    assert protocol.data == b"good"


# Written too late


async def test_writes_after_close_are_dropped(tls, side, caplog):
    protocol, peer = await tls.connect(side)
    transport = protocol.transport
    transport.write(b"in time")
    transport.close()
    for _ in range(10):
        transport.write(b"late")
        transport.writelines([b"later"])
    assert await peer.read_all() == b"in time"
    await peer.close()
    assert await protocol.lost() is None
    transport.write(b"latest")
    assert "SSL connection is closed" in caplog.text
    caplog.clear()
    transport.writelines([b"late"] * 100)
    transport.write(b"")
    assert len(caplog.records) == 1


async def test_a_half_of_it_cannot_be_closed(tls, side):
    protocol, peer = await tls.connect(side)
    assert protocol.transport.can_write_eof() is False
    with pytest.raises(NotImplementedError):
        protocol.transport.write_eof()


@aborted_once
async def test_everything_asked_of_a_lost_transport(tls, side):
    """Ordinary answers, or nothing happens; no exception out of nowhere."""
    protocol, peer = await tls.connect(side)
    transport = protocol.transport
    transport.abort()
    await protocol.lost()
    assert transport.is_closing()
    transport.write(b"x")
    transport.get_write_buffer_size()
    transport.get_extra_info("peername")
    transport.pause_reading()
    transport.resume_reading()
    transport.close()
    transport.abort()
    repr(transport)


# Exceptions in callbacks


@pytest.mark.parametrize("name", ["data_received", "buffer_updated", "get_buffer"])
async def test_what_a_callback_raises_closes(tls, side, net, name):
    base = Recorder if name == "data_received" else BufferedRecorder
    armed = []

    def fail(self, *args):
        if armed:
            raise Oops
        return getattr(base, name)(self, *args)

    protocol, peer = await tls.connect(side, type("Failing", (base,), {name: fail})())
    armed.append(True)
    # asyncio's has the buffer already that the next bytes go into.
    await peer.peer.send(peer.records(b"xy" * 1000, 10))
    assert type(await protocol.lost()) is Oops
    # asyncio's calls it once more when the buffer was full.
    assert {type(report["exception"]) for report in net.reports} == {Oops}
    net.reports.clear()
    assert "eof" not in protocol.calls


async def test_what_eof_received_raises(tls, side, net):
    class Failing(Recorder):
        def eof_received(self):
            super().eof_received()
            raise Oops

    protocol, peer = await tls.connect(side, Failing())
    await peer.peer.send(peer.ending())
    assert type(await protocol.lost()) is Oops
    net.reported(Oops)


@pytest.mark.parametrize(
    "name", ["connection_made", "data_received", "buffer_updated", "eof_received"]
)
async def test_written_before_an_exception(tls, side, net, name):
    """It is sent all the same."""
    base = BufferedRecorder if name == "buffer_updated" else Recorder

    def fail(self, *args):
        if name == "connection_made":
            base.connection_made(self, *args)
        self.transport.write(b"sorry")
        raise Oops

    protocol = type("Failing", (base,), {name: fail})()
    bare, task = await tls.dial(side, protocol)
    peer = TlsPeer(bare, strict(tls.context(side)), side == "client")
    await peer.handshake()
    await asyncio.wait([task])
    if name == "eof_received":
        await bare.send(peer.ending())
    elif name != "connection_made":
        await peer.send(b"x")
    assert await peer.read(5) == b"sorry"
    assert type(await protocol.lost()) is Oops
    if name == "connection_made" and side == "client":
        assert type(task.exception()) is Oops
    assert Oops in [type(report["exception"]) for report in net.reports]
    net.reports.clear()


@pytest.mark.parametrize("error", [Oops, FileNotFoundError])
async def test_what_connection_lost_raises(tls, side, net, error):
    class Failing(Recorder):
        def connection_lost(self, exc):
            super().connection_lost(exc)
            raise error

    protocol, peer = await tls.connect(side, Failing())
    await peer.close()
    await protocol.lost()
    await net.turn(2)
    net.reported(error)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("name", ["data_received", "eof_received", "connection_lost"])
def test_what_leaves_the_loop(tls, side, net, error, name):
    class Ending(Recorder):
        pass

    def end(self, *args):
        raise error

    setattr(Ending, name, end)
    protocol, peer = net.run(tls.connect(side, Ending()))

    async def provoke():
        await peer.send(b"x")
        if name != "data_received":
            await peer.peer.send(peer.ending())
        await net.loop.create_future()

    with pytest.raises(error):
        net.run(provoke())
    setattr(Ending, name, getattr(Recorder, name))
    for task in asyncio.all_tasks(net.loop):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            net.loop.run_until_complete(task)
    protocol.transport.abort()
    if name == "connection_lost":
        protocol.calls.append("lost")  # it was, and has heard of it
    net.run(net.turn(3))
    net.reports.clear()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_nothing_is_lost_by_what_leaves_the_loop(tls, side, net, error):
    """The rest of what was read with it comes when the loop runs again."""

    class Leaving(BufferedRecorder):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            if self.calls.count("data") == 1:
                raise error

    protocol, peer = net.run(tls.connect(side, Leaving(100)))
    data = some_bytes(5000)
    peer.peer.sock.send(peer.records(data, 100))
    with pytest.raises(error):
        net.run(asyncio.sleep(20))
    net.run(peer.send(b"more"))
    net.run(protocol.until(lambda: len(protocol.data) == len(data) + 4))
    assert protocol.data == data + b"more"


@pytest.mark.parametrize(
    ("recorder", "how"),
    [
        (Recorder, "close"),
        (Recorder, "abort"),
        (Recorder, "pause_reading"),
        pytest.param(
            BufferedRecorder,
            "close",
            marks=pytest.mark.asyncio_fails("fills the buffer once more"),
        ),
        (BufferedRecorder, "abort"),
        (BufferedRecorder, "pause_reading"),
    ],
)
async def test_no_data_after_it_in_the_callback(tls, side, net, how, recorder):
    """Of what has come in the same packet, too."""

    class Once(recorder):
        def note(self, name):
            super().note(name)
            if name == "data":
                getattr(self.transport, how)()

    protocol, peer = await tls.connect(side, Once(100) if recorder is BufferedRecorder else Once())
    await peer.peer.send(peer.records(b"y" * 1000, 50))
    await protocol.called("data")
    await net.turn(5)
    assert protocol.calls.count("data") == 1
    if how == "pause_reading":
        assert not protocol.transport.is_reading()


async def test_another_protocol_set_in_the_callback(tls, side):
    second = BufferedRecorder()
    second.calls.append("made")

    class First(Recorder):
        def data_received(self, data):
            super().data_received(data)
            second.transport = self.transport
            self.transport.set_protocol(second)

    protocol, peer = await tls.connect(side, First())
    await peer.send(b"first")
    await protocol.called("data")
    assert protocol.transport.get_protocol() is second
    await peer.send(b"second")
    await second.called("data")
    assert (protocol.data, second.data) == (b"first", b"second")
    protocol.transport.abort()
    await second.lost()
    protocol.calls.append("lost")


# Servers, and what nobody closes


async def test_a_servers_end(tls, net):
    """wait_closed() waits for connections with TLS as for others (since Python 3.12.1)."""
    served = Recorder()
    server = await net.loop.create_server(
        lambda: net.remember(served), "127.0.0.1", 0, ssl=server_context()
    )
    client = await tls.call(Recorder(), server.sockets[0].getsockname())
    await served.called("made")
    server.close()
    client.transport.write(b"still served")
    await served.until(lambda: served.data == b"still served")
    client.transport.close()
    assert await client.lost() is None
    assert await served.lost() is None
    await asyncio.wait_for(server.wait_closed(), 10)


async def test_connection_made_raises(tls, net):
    """Nothing of what has come by then is delivered to a protocol that is half made."""

    class Raising(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise ArithmeticError

    class Speaking(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"at once")

    made = []
    async with tls.serving(lambda: made.append(Raising()) or made[-1]) as address:
        speaking = await tls.call(Speaking(), address)
        await speaking.lost()
        await made[0].lost()
    assert made[0].data == b""
    assert {type(report["exception"]) for report in net.reports} == {ArithmeticError}
    net.reports.clear()


@pytest.mark.asyncio_fails("takes it for an error")
async def test_much_on_its_way_when_it_is_closed(tls):
    """And part of it has come: both ends end as they should, and all that was written arrives."""

    class Closing(Recorder):
        def data_received(self, data):
            super().data_received(data)
            if not self.transport.is_closing():
                self.transport.write(b"enough")
                self.transport.close()

    client, server = await tls.pair(Closing(), Recorder())
    server.transport.write(some_bytes(400_000))
    assert await client.lost() is None
    assert await server.lost() is None
    assert server.data == b"enough"
