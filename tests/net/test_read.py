"""What a transport reads, and what protocols may do while they are told of it."""

import asyncio
import contextlib
import gc
import socket
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from net_kit import BufferedRecorder, Recorder, some_bytes

PROTOCOLS = [Recorder, BufferedRecorder]
both = pytest.mark.parametrize("make", PROTOCOLS, ids=["protocol", "buffered"])
random_walk = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@both
async def test_bytes_and_their_end(connect, make):
    protocol, peer = await connect(make())
    sending = asyncio.ensure_future(peer.send(some_bytes(300_000)))
    await protocol.until(lambda: len(protocol.data) == 300_000)
    await sending
    peer.close()
    assert await protocol.lost() is None
    assert protocol.data == some_bytes(300_000)
    assert protocol.calls[0] == "made"
    assert protocol.calls[-2:] == ["eof", "lost"]
    assert set(protocol.calls[1:-2]) == {"data"}


@random_walk
@given(
    pieces=st.lists(st.integers(1, 100_000), max_size=12),
    size=st.none() | st.integers(1, 70_000) | st.integers(1, 20),
    pauses=st.sets(st.integers(1, 40)),
)
def test_any_pieces(connect, net, pieces, size, pauses):
    """However the bytes come, however large the buffer, whenever reading pauses: all, in order."""

    class Pausing(Recorder if size is None else BufferedRecorder):
        def note(self, name):
            super().note(name)
            if name == "data" and self.calls.count("data") in pauses:
                self.transport.pause_reading()
                asyncio.get_running_loop().call_soon(self.transport.resume_reading)

    async def main():
        few_turns = sum(pieces) // 500
        protocol, peer = await connect(Pausing() if size is None else Pausing(size + few_turns))
        for number, piece in enumerate(pieces):
            await peer.send(some_bytes(piece, number))
        peer.shutdown()
        await protocol.lost()
        peer.close()
        expected = b"".join(some_bytes(piece, number) for number, piece in enumerate(pieces))
        assert protocol.data == expected

    net.run(main())


SIZES = [64, 9000, 9000, 20_000, 8192, 8191, 700_000, 10, 300_000, 524_288, 600_000, 16_384, 1]


@both
async def test_messages_of_any_size_after_each_other(connect, make):
    """One that is smaller or larger than the one before comes whole, and nothing but it."""
    protocol, peer = await connect(make())
    expected = b""
    for number, size in enumerate(SIZES):
        message = some_bytes(size, number)
        expected += message
        sending = asyncio.ensure_future(peer.send(message))
        await protocol.until(lambda: len(protocol.data) >= len(expected))  # noqa: B023
        await sending
        assert protocol.data == expected


@both
async def test_end_of_a_connection_that_said_nothing(connect, make):
    protocol, peer = await connect(make())
    peer.close()
    assert await protocol.lost() is None
    assert protocol.calls == ["made", "eof", "lost"]


async def test_what_is_read_is_kept(connect):
    """Each `bytes` is its reader's for ever, however much is read after it."""
    kept = []

    class Keeping(Recorder):
        def data_received(self, data):
            kept.append(data)
            super().data_received(data)

    protocol, peer = await connect(Keeping())
    for number in range(50):
        await peer.send(some_bytes(1000 + number, number))
        await protocol.until(lambda: sum(map(len, kept)) == len(protocol.data) > 0)
    await protocol.until(lambda: len(protocol.data) == sum(1000 + n for n in range(50)))
    gc.collect()
    assert b"".join(kept) == b"".join(some_bytes(1000 + number, number) for number in range(50))


# Pausing


@both
async def test_paused(connect, net, make):
    protocol, peer = await connect(make())
    transport = protocol.transport
    assert transport.is_reading()
    transport.pause_reading()
    transport.pause_reading()
    assert not transport.is_reading()
    await peer.send(b"x")
    await net.calm()
    assert protocol.calls == ["made"]
    transport.resume_reading()
    transport.resume_reading()
    assert transport.is_reading()
    await protocol.called("data")


@pytest.mark.asyncio_fails(
    "reads all the same, in early 3.11", when=sys.version_info < (3, 11, 7), strict=False
)
@both
async def test_paused_in_connection_made(connect, net, make):
    class Pausing(make):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    protocol, peer = await connect(Pausing())
    await peer.send(b"x")
    await net.calm()
    assert protocol.calls == ["made"]
    protocol.transport.resume_reading()
    await protocol.called("data")


@both
@pytest.mark.parametrize("how", ["pause_reading", "close", "abort"])
async def test_no_more_after(connect, net, make, how):
    """Whatever the kernel has: paused or closed in the callback, nothing more is delivered."""

    class Ending(make):
        def note(self, name):
            super().note(name)
            if name == "data":
                getattr(self.transport, how)()

    protocol, peer = await connect(Ending())
    protocol.transport.pause_reading()
    await peer.send(some_bytes(1_000) * 3)
    protocol.transport.resume_reading()
    await protocol.called("data")
    if how != "pause_reading":
        await protocol.lost()
    await net.calm()
    assert protocol.calls.count("data") == 1
    if make is BufferedRecorder:
        assert len(protocol.data) == 1000
    if how == "pause_reading":
        protocol.transport.resume_reading()
        await peer.send(b"x")
        await protocol.until(lambda: protocol.calls.count("data") == 2)


AT_ONCE = 1 << 18  # bytes: what asyncio reads at once, by which others bound what they hold


@pytest.mark.parametrize("much", [AT_ONCE, 4 * AT_ONCE])
async def test_who_pauses_gets_little_more(net, much):
    """Than it wanted: one read at most, and no larger one than asyncio's, whatever came before."""

    class Holding(Recorder):
        held = 0

        def data_received(self, data):
            super().data_received(data)
            self.held += len(data)
            if self.held >= much:
                self.transport.pause_reading()

    protocol, peer = await net.connect("tcp", Holding())
    data = some_bytes(1 << 20) * 24
    sending = asyncio.ensure_future(peer.send(data))
    held = []
    while len(protocol.data) < len(data):
        await protocol.until(
            lambda: not protocol.transport.is_reading() or len(protocol.data) == len(data)
        )
        await net.turn(3)  # more comes
        held.append(protocol.held)
        protocol.held = 0
        protocol.transport.resume_reading()
    await sending
    assert protocol.data == data
    assert len(held) > len(data) // much // 3
    assert max(held) < much + AT_ONCE


async def test_paused_and_resumed_in_each_callback(connect, net):
    class Flapping(Recorder):
        def data_received(self, data):
            self.transport.pause_reading()
            super().data_received(data)
            self.transport.resume_reading()

    protocol, peer = await connect(Flapping())
    await peer.send(some_bytes(100_000))
    await protocol.until(lambda: len(protocol.data) == 100_000)
    await net.calm()


async def test_pausing_what_is_closed(connect):
    protocol, _ = await connect()
    transport = protocol.transport
    transport.close()
    transport.pause_reading()
    assert not transport.is_reading()
    transport.resume_reading()
    assert not transport.is_reading()
    await protocol.lost()
    transport.pause_reading()
    transport.resume_reading()
    assert not transport.is_reading()


# The peer is gone


@pytest.mark.parametrize("leave", ["close", "reset"])
async def test_peer_gone_while_paused(connect, net, leave):
    """No spin on what cannot be read, and the loss is told on resume."""
    protocol, peer = await connect()
    protocol.transport.pause_reading()
    await net.turn(2)
    getattr(peer, leave)()
    await net.calm()
    assert protocol.calls == ["made"]
    protocol.transport.resume_reading()
    reason = await protocol.lost()
    if leave == "reset" and peer.sock.family != socket.AF_UNIX:
        assert isinstance(reason, ConnectionResetError)


async def test_peer_gone_with_our_bytes_unread(connect, net):
    """On unix sockets too this is a reset."""
    protocol, peer = await connect()
    protocol.transport.write(b"x")
    await net.turn(3)
    peer.close()
    assert isinstance(await protocol.lost(), ConnectionResetError)
    assert "eof" not in protocol.calls


@pytest.mark.parametrize("leave", ["close", "reset"])
async def test_peer_gone_while_paused_is_found_by_writing(connect, net, leave):
    protocol, peer = await connect()
    protocol.transport.pause_reading()
    await net.turn(2)
    getattr(peer, leave)()
    for _ in range(200):
        if protocol.transport.is_closing():
            break
        protocol.transport.write(some_bytes(1000))
        await asyncio.sleep(0.001)
    assert isinstance(await protocol.lost(), (ConnectionResetError, BrokenPipeError))
    assert "data" not in protocol.calls


async def test_peer_gone_while_paused_and_writing(connect, net):
    """The kernel's buffer was full: the hang-up makes it writable, the write tells."""
    protocol, peer = await connect(small=True)
    protocol.transport.pause_reading()
    protocol.transport.write(some_bytes(2_000_000))
    await net.turn(2)
    peer.reset()
    assert isinstance(await protocol.lost(), (ConnectionResetError, BrokenPipeError))


# Half-closed


class HalfClosing(Recorder):
    keep_open = True


async def test_half_closed(connect, net):
    """After the peer's end of writing there is still ours."""
    protocol, peer = await connect(HalfClosing())
    transport = protocol.transport
    await peer.send(b"question")
    peer.shutdown()
    await protocol.called("eof")
    await net.calm()
    assert not transport.is_closing()
    transport.write(b"ans")
    transport.write(b"wer")
    assert await peer.read(6) == b"answer"
    transport.write(some_bytes(1_000_000))
    transport.write_eof()
    assert await peer.read_all() == some_bytes(1_000_000)
    assert protocol.calls == ["made", "data", "eof", *protocol.calls[3:]]
    assert "lost" not in protocol.calls
    transport.close()
    assert await protocol.lost() is None


@pytest.mark.parametrize("leave", ["close", "reset"])
async def test_half_closed_and_then_gone(connect, net, leave):
    protocol, peer = await connect(HalfClosing())
    peer.shutdown()
    await protocol.called("eof")
    getattr(peer, leave)()
    await net.calm()
    if "lost" not in protocol.calls:
        for _ in range(200):
            if protocol.transport.is_closing():
                break
            protocol.transport.write(b"x")
            await asyncio.sleep(0.001)
        assert isinstance(await protocol.lost(), (ConnectionResetError, BrokenPipeError))


async def test_half_closed_and_paused_is_not_read_again(connect, net):
    protocol, peer = await connect(HalfClosing())
    peer.shutdown()
    await protocol.called("eof")
    protocol.transport.pause_reading()
    protocol.transport.resume_reading()
    await asyncio.sleep(0.01)
    protocol.wrong.clear()  # asyncio tells of the end once more
    assert "lost" not in protocol.calls


@pytest.mark.parametrize("answer", [None, False, 0, ""])
async def test_not_kept_open(connect, answer):
    class Closing(Recorder):
        keep_open = answer

    protocol, peer = await connect(Closing())
    peer.shutdown()
    assert await protocol.lost() is None
    assert await peer.read_all() == b""


# Callbacks that raise


class Oops(Exception):
    pass


class Raising(Recorder):
    def __init__(self, where, error=Oops):
        super().__init__()
        self.where, self.error = where, error

    def note(self, name):
        super().note(name)
        if name == self.where:
            raise self.error("here")


class BufferedRaising(Raising, BufferedRecorder):
    def __init__(self, where, error=Oops):
        BufferedRecorder.__init__(self)
        self.where, self.error = where, error


raising = pytest.mark.parametrize("make", [Raising, BufferedRaising], ids=["protocol", "buffered"])


@raising
@pytest.mark.parametrize("where", ["data", "eof"])
async def test_an_exception_closes(connect, net, make, where):
    protocol, peer = await connect(make(where))
    protocol.transport.write(b"x" * 10)
    await peer.send(some_bytes(10_000))
    if where == "eof":
        peer.shutdown()
    reason = await protocol.lost()
    assert isinstance(reason, Oops)
    (report,) = net.reported(Oops)
    assert report["exception"] is reason
    assert report["transport"] is protocol.transport
    assert report["protocol"] is protocol
    name = {"data": "data_received", "eof": "eof_received"}[where]
    if make is BufferedRaising and where == "data":
        name = "buffer_updated"
    assert report["message"] == f"Fatal error: protocol.{name}() call failed."
    assert protocol.calls.count("data") == 1 or where == "eof"


@raising
@pytest.mark.parametrize("where", ["data", "eof"])
async def test_written_before_an_exception(connect, net, make, where):
    """It is sent all the same."""

    class Answering(make):
        def note(self, name):
            if name == where:
                self.transport.write(b"sorry")
            super().note(name)

    protocol, peer = await connect(Answering(where))
    if where == "eof":
        peer.shutdown()
    else:
        await peer.send(b"x")
    assert isinstance(await protocol.lost(), Oops)
    net.reported(Oops)
    assert await peer.read_all() == b"sorry"


@raising
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["data", "eof"])
def test_what_leaves_the_loop(connect, net, make, error, where):
    """It leaves run_forever, which can be called again."""

    async def main():
        return await connect(make(where, error))

    protocol, peer = net.run(main())
    peer.sock.send(b"x")
    if where == "eof":
        peer.shutdown()
    with pytest.raises(error):
        net.run(asyncio.sleep(20))
    assert protocol.calls[-1] == where
    protocol.where = ""
    protocol.transport.abort()
    net.run(protocol.lost())


async def test_connection_made_raises(connect, net):
    """Reported; the connection stays."""
    protocol, peer = await connect(Raising("made"))
    net.reported(Oops)
    await peer.send(b"x")
    await protocol.called("data")


@pytest.mark.parametrize("error", [Oops, FileNotFoundError])
async def test_connection_lost_raises(connect, net, error):
    protocol, peer = await connect(Raising("lost", error))
    protocol.transport.close()
    assert await protocol.lost() is None
    await net.turn(2)
    net.reported(error)
    assert await peer.read_all() == b""


# Other protocols


class Ending(Recorder):
    """Does something to its transport in one of its callbacks."""

    def __init__(self, where, how):
        super().__init__()
        self.where, self.how = where, how

    def note(self, name):
        super().note(name)
        if name == self.where:
            getattr(self.transport, self.how)()


@pytest.mark.parametrize("how", ["close", "abort", "pause_reading", "resume_reading", "write_eof"])
@pytest.mark.parametrize("where", ["made", "data", "eof", "lost"])
async def test_called_in_each_callback(connect, net, where, how):
    protocol = Ending(where, how)
    try:
        _, peer = await asyncio.wait_for(connect(protocol), 10)
    except OSError:
        assert where == "made" and how == "abort"
        return
    # The peer may have gone already.
    if where != "made" or how not in ("close", "abort"):
        await peer.send(b"x")
    if where == "data" and how == "pause_reading":
        await protocol.called("data")
        protocol.transport.resume_reading()
    if where == "made" and how == "pause_reading":
        await net.calm()
        protocol.transport.resume_reading()
    peer.close()
    await protocol.lost()
    await net.calm()


@pytest.mark.parametrize("second", PROTOCOLS, ids=["to protocol", "to buffered"])
@both
async def test_another_protocol_in_the_callback(connect, net, make, second):
    """What comes next is the other's."""
    other = second()

    class Changing(make):
        def note(self, name):
            super().note(name)
            if name == "data":
                other.transport = self.transport
                other.calls.append("made")
                self.transport.set_protocol(other)

    protocol, peer = await connect(Changing())
    protocol.transport.pause_reading()
    await peer.send(b"first")
    protocol.transport.resume_reading()
    await protocol.called("data")
    assert protocol.transport.get_protocol() is other
    await peer.send(b"second")
    peer.close()
    assert await other.lost() is None
    assert protocol.data == b"first"
    assert other.data == b"second"
    assert other.calls == ["made", "data", "eof", "lost"]
    assert "lost" not in protocol.calls
    net.protocols.remove(protocol)


@both
async def test_another_protocol_while_paused(connect, net, make):
    protocol, peer = await connect(make())
    protocol.transport.pause_reading()
    await peer.send(b"x")
    other = BufferedRecorder() if make is Recorder else Recorder()
    protocol.transport.set_protocol(other)
    other.connection_made(protocol.transport)
    await net.calm()
    assert other.data == b""
    protocol.transport.resume_reading()
    await other.called("data")
    assert other.data == b"x"
    protocol.transport.abort()
    await other.lost()
    net.protocols.remove(protocol)


# Buffers that are none


@pytest.mark.parametrize(
    ("get", "error"),
    [
        pytest.param(lambda: bytearray(), RuntimeError, id="empty"),
        pytest.param(lambda: memoryview(bytearray(8))[8:], RuntimeError, id="empty view"),
        pytest.param(lambda: b"read only", Exception, id="bytes"),
        pytest.param(lambda: memoryview(b"read only"), Exception, id="view of bytes"),
        pytest.param(lambda: None, TypeError, id="none"),
        pytest.param(lambda: 7, TypeError, id="int"),
        pytest.param(lambda: "text", TypeError, id="str"),
        pytest.param(lambda: [1, 2], TypeError, id="list"),
        pytest.param(lambda: memoryview(bytearray(8))[::2], Exception, id="strided"),
        pytest.param(lambda: 1 / 0, ZeroDivisionError, id="raises"),
    ],
)
async def test_no_buffer(connect, net, get, error):
    class Bad(BufferedRecorder):
        def get_buffer(self, sizehint):
            return get()

    protocol, peer = await connect(Bad())
    await peer.send(b"x" * 100)
    reason = await protocol.lost()
    assert isinstance(reason, error)
    net.reported(type(reason))
    assert "data" not in protocol.calls


async def test_released_view(connect, net):
    class Bad(BufferedRecorder):
        def get_buffer(self, sizehint):
            view = memoryview(self.buffer)
            view.release()
            return view

    protocol, peer = await connect(Bad())
    await peer.send(b"x")
    assert isinstance(await protocol.lost(), ValueError)
    net.reported(ValueError)


async def test_the_hint(connect):
    """asyncio has no size to propose, and says so."""
    hints = []

    class Asking(BufferedRecorder):
        def get_buffer(self, sizehint):
            hints.append(sizehint)
            return self.buffer

    protocol, peer = await connect(Asking())
    await peer.send(b"x")
    await protocol.called("data")
    assert set(hints) == {-1}


async def test_never_past_the_end_of_the_buffer(connect):
    class Slicing(BufferedRecorder):
        def get_buffer(self, sizehint):
            return memoryview(self.buffer)[10:17]

        def buffer_updated(self, nbytes):
            assert 0 < nbytes <= 7
            self.data += self.buffer[10 : 10 + nbytes]
            assert not any(self.buffer[:10]) and not any(self.buffer[17:])
            self.note("data")

    protocol, peer = await connect(Slicing(100))
    await peer.send(some_bytes(1000))
    await protocol.until(lambda: len(protocol.data) == 1000)
    assert protocol.data == some_bytes(1000)


async def test_a_new_buffer_each_time_and_none_kept(connect):
    """The buffer is the protocol's again when buffer_updated is called: it may be resized."""

    class Resizing(BufferedRecorder):
        def get_buffer(self, sizehint):
            self.buffer = bytearray(50)
            return self.buffer

        def buffer_updated(self, nbytes):
            del self.buffer[nbytes:]
            self.data += self.buffer
            self.buffer.clear()
            self.note("data")

    protocol, peer = await connect(Resizing())
    await peer.send(some_bytes(1000))
    await protocol.until(lambda: len(protocol.data) == 1000)
    assert protocol.data == some_bytes(1000)


async def test_buffers_of_other_items(connect):
    """Its size counts in bytes."""
    import array

    class Integers(BufferedRecorder):
        def __init__(self):
            super().__init__()
            self.buffer = array.array("I", bytes(400))

        def buffer_updated(self, nbytes):
            self.data += self.buffer.tobytes()[:nbytes]
            self.note("data")

    protocol, peer = await connect(Integers())
    await peer.send(some_bytes(1000))
    await protocol.until(lambda: len(protocol.data) == 1000)
    assert protocol.data == some_bytes(1000)


@pytest.mark.parametrize("how", ["close", "abort", "pause_reading"])
async def test_ended_in_get_buffer(connect, net, how):
    class Ending(BufferedRecorder):
        def get_buffer(self, sizehint):
            getattr(self.transport, how)()
            return self.buffer

    protocol, peer = await connect(Ending())
    await peer.send(b"x")
    if how == "pause_reading":
        await net.calm()
    else:
        await protocol.lost()


# Fairness


@both
async def test_a_peer_that_never_stops(connect, net, make):
    """Others come to their turn, however much there is to read."""
    others = []

    class Sated(make):
        def note(self, name):
            super().note(name)
            self.data.clear()

    protocol, peer = await connect(Sated())
    pause = asyncio.get_running_loop().time() + 20

    async def flood():
        while True:
            with contextlib.suppress(BlockingIOError):
                peer.sock.send(some_bytes(100_000))
            await asyncio.sleep(0)

    async def other():
        for number in range(20):
            await asyncio.sleep(0.0005)
            others.append(number)

    flooding = asyncio.ensure_future(flood())
    await other()
    flooding.cancel()
    assert asyncio.get_running_loop().time() < pause
    assert others == list(range(20))
    assert "data" in protocol.calls


async def test_contexts(connect):
    """Callbacks run in a context that sees what was set where the connection was made."""
    import contextvars

    variable = contextvars.ContextVar("variable", default="unset")
    seen = {}

    class Looking(Recorder):
        def note(self, name):
            seen.setdefault(name, variable.get())
            super().note(name)

    variable.set("set")
    protocol, peer = await connect(Looking())
    await peer.send(b"x")
    await protocol.called("data")
    protocol.transport.pause_reading()
    variable.set("later")
    protocol.transport.resume_reading()
    peer.close()
    await protocol.lost()
    assert set(seen) == {"made", "data", "eof", "lost"}
    assert "unset" not in seen.values()
