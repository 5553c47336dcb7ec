"""What is written arrives: all of it, in order, as it was when it was written."""

import array
import asyncio
import logging
import re
import socket
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from net_kit import Recorder, in_child, refuses_a_view_with_gaps, some_bytes

random_walk = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# asyncio keeps a view of what the kernel refused, of the object that the caller may change.
copies_too_little = pytest.mark.asyncio_fails(
    "a mutable buffer is kept by reference", when=sys.version_info >= (3, 12)
)
# Put right in the course of 3.13 and 3.14.
none_once_closed = pytest.mark.asyncio_fails(
    "writelines calls None once closed",
    when=(3, 12) <= sys.version_info < (3, 15),
    strict=False,
    run=False,
)


def view(data):
    return memoryview(data)


def slice_of_view(data):
    return memoryview(b"<" + data + b">")[1:-1]


WAYS = [bytes, bytearray, view, slice_of_view]


class Subclass(bytes):
    pass


@pytest.mark.parametrize("way", [*WAYS, Subclass], ids=lambda way: way.__name__)
async def test_buffers(connect, way):
    protocol, peer = await connect()
    assert protocol.transport.write(way(b"small")) is None
    assert await peer.read(5) == b"small"
    protocol.transport.write(way(some_bytes(2_000_000)))
    assert await peer.read(2_000_000) == some_bytes(2_000_000)
    assert protocol.transport.get_write_buffer_size() == 0


@pytest.mark.parametrize("data", ["text", 7, None, [b"x"], array.array("b", b"x"), object()])
async def test_no_bytes(connect, data):
    protocol, peer = await connect()
    with pytest.raises(TypeError, match="data argument must be a bytes"):
        protocol.transport.write(data)
    protocol.transport.write(b"x")
    assert await peer.read(1) == b"x"


@pytest.mark.parametrize("data", ["text", 7, [1], [b"x", "text"], [b"x", 7]])
async def test_no_lines(connect, data):
    """In the words of what asyncio does with them."""
    protocol, peer = await connect()
    joins = sys.version_info < (3, 12)
    with pytest.raises(TypeError) as told:
        b"".join(data) if joins else [memoryview(piece) for piece in data]
    with pytest.raises(TypeError, match=re.escape(str(told.value))):
        protocol.transport.writelines(data)
    protocol.transport.write(b"y")
    assert (await peer.read(1)) in (b"x", b"y")


async def test_nothing(connect, net):
    protocol, peer = await connect()
    for nothing in (b"", bytearray(), memoryview(b"")):
        protocol.transport.write(nothing)
    protocol.transport.writelines([])
    await net.calm()
    assert peer.read_now() == b""
    protocol.transport.write(b"x")
    assert await peer.read(1) == b"x"


async def test_arguments_by_name(connect):
    protocol, peer = await connect()
    protocol.transport.set_protocol(protocol=protocol)
    protocol.transport.write(data=b"a")
    protocol.transport.writelines(list_of_data=[b"b", b"c"])
    assert await peer.read(3) == b"abc"
    for call in (protocol.transport.write, protocol.transport.writelines):
        for wrong in ({}, {"bytes": b""}):
            with pytest.raises(TypeError):
                call(**wrong)


async def test_many_in_one_turn(connect):
    protocol, peer = await connect()
    for number in range(5000):
        protocol.transport.write(b"%d," % number)
    expected = b"".join(b"%d," % number for number in range(5000))
    assert await peer.read(len(expected)) == expected


async def test_in_many_turns(connect):
    protocol, peer = await connect()
    expected = b""
    for number in range(500):
        protocol.transport.write(b"%d," % number)
        expected += b"%d," % number
        await asyncio.sleep(0)
    assert await peer.read(len(expected)) == expected


async def test_from_each_callback(connect):
    class Writing(Recorder):
        keep_open = True

        def note(self, name):
            super().note(name)
            if name in ("made", "data", "eof"):
                self.transport.write(name.encode())

    protocol, peer = await connect(Writing())
    assert await peer.read(4) == b"made"
    await peer.send(b"x")
    assert await peer.read(4) == b"data"
    peer.shutdown()
    assert await peer.read(3) == b"eof"


def test_before_the_loop_stops(connect, net, spin):
    """A turn's bytes leave in that turn, the last one too."""
    protocol, peer = net.run(connect())
    net.loop.call_soon(protocol.transport.write, b"x")
    spin(net.loop)
    assert peer.read_now() == b"x"


def test_while_the_loop_does_not_run(connect, net, spin):
    """At the latest they leave when it runs again."""
    protocol, peer = net.run(connect())
    protocol.transport.write(b"x")
    protocol.transport.write(b"y")
    spin(net.loop)
    assert peer.read_now() == b"xy"


# Lines


async def test_lines(connect):
    protocol, peer = await connect()
    protocol.transport.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
    protocol.transport.writelines((b"d", b"e"))
    protocol.transport.writelines(piece for piece in (b"f", b"g"))
    assert await peer.read(7) == b"abcdefg"


async def test_more_lines_than_one_call_takes(connect, net):
    """IOV_MAX is 1024, and the kernel takes some."""
    protocol, peer = await connect(small=True)
    lines = [some_bytes(number % 97 + 1, number) for number in range(5000)]
    protocol.transport.writelines(lines)
    protocol.transport.writelines(lines)
    protocol.transport.close()
    assert await peer.read_all() == b"".join(lines) * 2
    assert await protocol.lost() is None


@pytest.mark.asyncio_fails(
    "what is empty is never drained", when=sys.version_info >= (3, 12), run=False
)
@pytest.mark.parametrize("lines", [[b""], [b"", b""], [b"", b"x", b""], [b"x"] * 3 + [b""] * 2000])
async def test_empty_lines(connect, net, lines):
    protocol, peer = await connect()
    protocol.transport.writelines(lines)
    await net.calm()
    assert protocol.transport.get_write_buffer_size() == 0
    protocol.transport.close()
    assert await peer.read_all() == b"".join(lines)
    assert await protocol.lost() is None


counts_items = pytest.mark.asyncio_fails("counts items, not bytes", run=False)
counts_items_now = pytest.mark.asyncio_fails(
    "counts items, not bytes", when=sys.version_info >= (3, 12), run=False
)


@pytest.mark.parametrize("shape", ["i", "two dimensions"])
@pytest.mark.parametrize(
    "how",
    [
        pytest.param("write", marks=counts_items),
        pytest.param("writelines", marks=counts_items_now),
    ],
)
async def test_views_of_other_shapes(connect, how, shape):
    """Counted in bytes, wherever a partial send ends."""
    data = some_bytes(1_000_000)
    if shape == "i":
        shaped = memoryview(data).cast("i")
    else:
        shaped = memoryview(data).cast("B", (1000, 1000))
    protocol, peer = await connect(small=True)
    if how == "write":
        protocol.transport.write(shaped)
    else:
        protocol.transport.writelines([b"<", shaped, b">"])
        data = b"<" + data + b">"
    protocol.transport.close()
    assert await peer.read_all() == data
    assert await protocol.lost() is None


@pytest.mark.parametrize("how", ["write", "writelines"])
async def test_strided_views(connect, net, how):
    """Refused, or sent as they read."""
    strided = memoryview(bytes(range(256)))[::2]
    protocol, peer = await connect()
    try:
        if how == "write":
            protocol.transport.write(strided)
        else:
            protocol.transport.writelines([strided])
    except (BufferError, TypeError, ValueError, NotImplementedError):
        assert peer.read_now() == b""
        return
    protocol.transport.close()
    assert await peer.read_all() in (b"", strided.tobytes())
    net.reports.clear()


def released_view():
    refused = memoryview(b"x")
    refused.release()
    return refused


@pytest.mark.parametrize(
    "make",
    [
        released_view,
        pytest.param(
            lambda: memoryview(b"abcdef")[::2],
            marks=pytest.mark.asyncio_fails(
                "ends the connection", when=sys.version_info >= (3, 12), run=False
            ),
        ),
    ],
    ids=["released", "strided"],
)
async def test_lines_of_which_one_is_refused(connect, net, make):
    """None of them is sent, then or later."""
    protocol, peer = await connect()
    with pytest.raises((BufferError, TypeError, ValueError)):
        protocol.transport.writelines([b"first", make(), b"last"])
    protocol.transport.write(b"next")
    assert await peer.read(4) == b"next"


# Whose memory


@copies_too_little
@pytest.mark.parametrize("how", ["write", "writelines"])
@pytest.mark.parametrize("kind", ["bytearray", "view"])
async def test_changed_after_a_large_write(connect, how, kind):
    await changed(connect, how, kind, 2_000_000)


@pytest.mark.parametrize("how", ["write", "writelines"])
@pytest.mark.parametrize("kind", ["bytearray", "view"])
async def test_changed_after_a_small_write(connect, how, kind):
    await changed(connect, how, kind, 10)


async def changed(connect, how, kind, size):
    """Old bytes on the wire, and nothing of the buffer is held."""
    protocol, peer = await connect(small=True)
    buffer = bytearray(some_bytes(size))
    data = buffer if kind == "bytearray" else memoryview(buffer)
    if how == "write":
        protocol.transport.write(data)
    else:
        protocol.transport.writelines([data])
    buffer[:] = bytes(size)
    if kind == "view":
        data.release()
    buffer.clear()  # BufferError if it were still exported
    buffer += b"other"
    assert await peer.read(size) == some_bytes(size)


async def test_bytes_are_let_go_of(connect, net):
    protocol, peer = await connect(small=True)
    data = some_bytes(1_000_000)
    count = sys.getrefcount(data)
    for _ in range(3):
        protocol.transport.write(data)
        protocol.transport.writelines([data, data])
    await peer.read(9_000_000)
    await net.turn(2)
    assert sys.getrefcount(data) == count


# The end of writing


async def test_write_eof(connect):
    protocol, peer = await connect()
    assert protocol.transport.can_write_eof()
    protocol.transport.write(b"last")
    protocol.transport.write_eof()
    protocol.transport.write_eof()
    assert await peer.read_all() == b"last"
    await peer.send(b"still")
    await protocol.called("data")
    assert not protocol.transport.is_closing()
    peer.close()
    assert await protocol.lost() is None


async def test_write_eof_after_what_the_kernel_refused(connect):
    protocol, peer = await connect(small=True)
    for number in range(10):
        protocol.transport.write(some_bytes(100_000, number))
    protocol.transport.write_eof()
    expected = b"".join(some_bytes(100_000, number) for number in range(10))
    assert await peer.read_all() == expected
    assert "lost" not in protocol.calls


async def test_write_eof_alone(connect):
    protocol, peer = await connect()
    protocol.transport.write_eof()
    assert await peer.read_all() == b""


@pytest.mark.parametrize("data", [b"x", b""])
async def test_written_after_write_eof(connect, data):
    protocol, peer = await connect()
    protocol.transport.write_eof()
    with pytest.raises(RuntimeError, match="write_eof"):
        protocol.transport.write(data)
    with pytest.raises(RuntimeError, match="write_eof"):
        protocol.transport.writelines([data])
    assert await peer.read_all() == b""


async def test_write_eof_and_close(connect):
    protocol, peer = await connect(small=True)
    protocol.transport.write(some_bytes(1_000_000))
    protocol.transport.write_eof()
    protocol.transport.close()
    assert await peer.read_all() == some_bytes(1_000_000)
    assert await protocol.lost() is None


async def test_write_eof_of_what_is_closed(connect):
    protocol, peer = await connect()
    protocol.transport.close()
    protocol.transport.write_eof()
    await protocol.lost()
    protocol.transport.write_eof()
    assert await peer.read_all() == b""


# Too late


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_written_after(connect, how):
    """Dropped: what was written before is all that arrives."""
    protocol, peer = await connect()
    protocol.transport.write(b"before")
    getattr(protocol.transport, how)()
    protocol.transport.write(b"after")
    await protocol.lost()
    protocol.transport.write(b"after")
    received = await peer.read_all()
    assert received == b"before" or (how == "abort" and received == b"")


@none_once_closed
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_lines_written_after(connect, how):
    protocol, peer = await connect()
    protocol.transport.write(b"before")
    getattr(protocol.transport, how)()
    protocol.transport.writelines([b"after", b"after"])
    await protocol.lost()
    protocol.transport.writelines([b"after", b"after"])
    received = await peer.read_all()
    assert received == b"before" or (how == "abort" and received == b"")


@pytest.mark.parametrize("when", ["close", "abort", "loss"])
async def test_a_warning_after_a_few(connect, caplog, when):
    protocol, peer = await connect()
    if when == "loss":
        peer.close()
    else:
        getattr(protocol.transport, when)()
    await protocol.lost()
    caplog.set_level(logging.WARNING, "asyncio")
    for _ in range(20):
        protocol.transport.write(b"x")
    messages = [record.getMessage() for record in caplog.records]
    assert 1 <= len(messages) <= 20
    assert set(messages) == {"socket.send() raised exception."}


@none_once_closed
async def test_one_warning_for_many_lines(connect, caplog):
    protocol, peer = await connect()
    protocol.transport.abort()
    await protocol.lost()
    caplog.set_level(logging.WARNING, "asyncio")
    for _ in range(10):
        protocol.transport.writelines([b"x"] * 100)
    assert len(caplog.records) <= 10


@pytest.mark.parametrize("how", ["write", "writelines"])
async def test_the_peer_is_gone(connect, net, how):
    """An ordinary race: no exception for the writer, and nothing for the exception handler."""
    protocol, peer = await connect()
    protocol.transport.pause_reading()
    await net.turn(2)
    peer.reset()
    for _ in range(200):
        if protocol.transport.is_closing():
            break
        protocol.transport.write(b"x") if how == "write" else protocol.transport.writelines([b"x"])
        await asyncio.sleep(0.001)
    assert isinstance(await protocol.lost(), (ConnectionResetError, BrokenPipeError))


# Code that runs inside write


@none_once_closed
async def test_lines_from_a_generator_that_closes(connect):
    for how in ("close", "abort", "write_eof"):
        protocol, peer = await connect()

        def lines(transport=protocol.transport, how=how):
            yield b"a"
            getattr(transport, how)()
            yield b"b"

        try:
            protocol.transport.writelines(lines())
        except RuntimeError:
            assert how == "write_eof"
        if how == "write_eof":
            protocol.transport.close()
        await protocol.lost()
        assert await peer.read_all() in (b"", b"a", b"ab")


async def test_lines_from_a_generator_that_writes(connect):
    """Whatever the order: nothing is lost, and no line is torn."""
    protocol, peer = await connect()

    def lines():
        yield b"aa"
        protocol.transport.write(b"bb")
        yield b"cc"

    protocol.transport.writelines(lines())
    received = await peer.read(6)
    assert sorted(received[i : i + 2] for i in (0, 2, 4)) == [b"aa", b"bb", b"cc"]


async def test_lines_from_a_generator_that_raises(connect):
    protocol, peer = await connect()

    def lines():
        yield b"a"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        protocol.transport.writelines(lines())
    protocol.transport.write(b"b")
    assert (await peer.read(1)) in (b"a", b"b")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ is of Python 3.12")
@pytest.mark.parametrize("how", ["close", "abort", "write_eof", "pause_reading", "write"])
@pytest.mark.parametrize(
    "lines", [False, pytest.param(True, marks=none_once_closed)], ids=["write", "writelines"]
)
async def test_a_buffer_that_does_something(connect, net, how, lines):
    """Its hook runs inside the write: what is true is looked at again."""
    protocol, peer = await connect()
    calls = []

    class Evil(bytearray):
        def __buffer__(self, flags):
            if not calls:
                calls.append(1)
                getattr(protocol.transport, how)(*([b"inner"] if how == "write" else []))
            return super().__buffer__(flags)

    try:
        if lines:
            protocol.transport.writelines([b"<", Evil(b"outer"), b">"])
        else:
            protocol.transport.write(Evil(b"outer"))
    except RuntimeError:
        assert how == "write_eof"
    await net.turn(3)
    assert calls
    protocol.transport.close()
    await protocol.lost()
    await peer.read_all()
    net.reports.clear()


# Anything, in any order


class Source:
    """Writes, and remembers what must arrive."""

    def __init__(self, transport):
        self.transport = transport
        self.expected = bytearray()

    def piece(self, size, way):
        data = some_bytes(size, len(self.expected))
        self.expected += data
        return way(data)

    def write(self, size, way):
        data = self.piece(size, way)
        self.transport.write(data)
        self.change(data)

    def writelines(self, sizes, way):
        lines = [self.piece(size, way) for size in sizes]
        self.transport.writelines(lines)
        for line in lines:
            self.change(line)

    def change(self, data):
        if isinstance(data, bytearray):
            data[:] = bytes(len(data))
            data.clear()


size = st.one_of(st.integers(1, 100), st.integers(1, 10_000), st.integers(1, 300_000))
step = st.one_of(
    st.tuples(st.just("write"), size, st.sampled_from(WAYS)),
    st.tuples(
        st.just("writelines"),
        st.lists(st.integers(0, 30_000), max_size=8) | st.lists(st.integers(0, 3), max_size=1500),
        st.sampled_from(WAYS),
    ),
    st.tuples(st.just("turn"), st.integers(1, 3)),
    st.tuples(st.just("read"), size),
    st.tuples(st.just("pause_reading")),
    st.tuples(st.just("resume_reading")),
    st.tuples(st.just("limits"), st.integers(0, 200_000)),
)


@pytest.mark.asyncio_fails("see above", when=sys.version_info >= (3, 12), run=False)
@random_walk
@given(
    steps=st.lists(step, max_size=25),
    small=st.booleans(),
    end=st.sampled_from(["close", "write_eof", "peer"]),
)
def test_any_writes(connect, net, steps, small, end):
    """Bytes exact at the other end, whatever was done in between."""

    async def main():
        protocol, peer = await connect(small=small)
        transport = protocol.transport
        source = Source(transport)
        received = b""
        for name, *args in steps:
            if name == "turn":
                await net.turn(*args)
            elif name == "read":
                received += await asyncio.wait_for(
                    peer.read(min(args[0], len(source.expected) - len(received))), 20
                )
            elif name == "limits":
                transport.set_write_buffer_limits(*args)
            elif hasattr(source, name):
                getattr(source, name)(*args)
            else:
                getattr(transport, name)()
        if end == "peer":
            received += await peer.read(len(source.expected) - len(received))
            transport.resume_reading()
            peer.close()
        else:
            getattr(transport, end)()
            received += await peer.read_all()
            assert protocol.reason is None
            transport.close()
        assert received == source.expected
        assert await protocol.lost() is None
        assert not protocol.paused or end != "peer"

    net.run(main())


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_both_ways_at_once(connect, net, way):
    """An echo of everything, through small buffers, neither side waiting for the other."""

    class Echo(Recorder):
        def data_received(self, data):
            self.transport.write(way(data))
            super().data_received(data)

    protocol, peer = await connect(Echo(), small=True)
    data = some_bytes(500_000)
    sending = asyncio.ensure_future(peer.send(data))
    assert await peer.read(len(data)) == data
    await sending
    assert protocol.transport.get_write_buffer_size() == 0


async def test_no_delay(net):
    """Small writes are not held back by the kernel."""
    protocol, _ = await net.connect("tcp")
    sock = protocol.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("way", ["abort", "close", "get_write_buffer_size"])
async def test_a_child_does_not_send_it_again(connect, way):
    """What a turn has written is sent before it forks."""
    protocol, peer = await connect()
    protocol.transport.write(b"once ")
    in_child(getattr(protocol.transport, way))
    protocol.transport.write(b"and for all")
    assert await peer.read(16) == b"once and for all"


async def test_a_view_with_gaps(aloop, connect):
    protocol, peer = await connect()
    if not hasattr(aloop, "ev"):
        pytest.skip("asyncio ends the connection")
    await refuses_a_view_with_gaps(protocol, peer)
