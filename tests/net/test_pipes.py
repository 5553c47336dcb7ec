"""Pipes and character devices: read, written, and closed by one owner."""

import asyncio
import os
import pty
import re
import socket
import sys
import tty

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from net_kit import Remembering, some_bytes


class Reading(Remembering, asyncio.Protocol):
    def data_received(self, data):
        if type(data) is not bytes or not data:
            self.wrong.append(f"data_received({data!r})")
        self.data += data
        self.note("data")


class Writing(Remembering, asyncio.BaseProtocol):
    pass


def as_file(fd, mode):
    return open(fd, mode, 0)


@pytest.fixture
def pipe(net):
    """Both ends of a pipe as files; closed at the end by whoever has them then."""
    read, write = os.pipe()
    ends = as_file(read, "rb"), as_file(write, "wb")
    yield ends
    for end in ends:
        end.close()


async def reader(net, file, make=Reading):
    protocol = net.remember(make())
    transport, returned = await net.loop.connect_read_pipe(lambda: protocol, file)
    assert returned is protocol and transport is protocol.transport
    assert isinstance(transport, asyncio.ReadTransport)
    return protocol


async def writer(net, file, make=Writing):
    protocol = net.remember(make())
    transport, returned = await net.loop.connect_write_pipe(lambda: protocol, file)
    assert returned is protocol and transport is protocol.transport
    assert isinstance(transport, asyncio.WriteTransport)
    return protocol


def ends_of(kind):
    """(read, write) files of one kind of descriptor."""
    if kind == "pipe":
        read, write = os.pipe()
    elif kind == "socket":
        a, b = socket.socketpair()
        read, write = a.detach(), b.detach()
    else:
        read, write = pty.openpty()
        tty.setraw(read)
        tty.setraw(write)
    return as_file(read, "rb"), as_file(write, "wb")


kinds = pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])


@kinds
async def test_through(net, kind):
    read, write = ends_of(kind)
    reading, writing = await reader(net, read), await writer(net, write)
    assert reading.transport.get_extra_info("pipe") is read
    assert writing.transport.get_extra_info("pipe") is write
    data = some_bytes(200_000)
    writing.transport.write(data[:100_000])
    writing.transport.write(data[100_000:])
    await reading.until(lambda: len(reading.data) == len(data))
    assert reading.data == data
    writing.transport.close()
    assert await writing.lost() is None
    if kind == "terminal":
        reading.transport.close()
    await reading.lost()
    await net.turn()
    assert read.closed and write.closed
    if kind != "terminal":
        assert reading.calls[-2:] == ["eof", "lost"]


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    sizes=st.lists(st.integers(0, 100_000), max_size=12),
    pauses=st.sets(st.integers(1, 20)),
    kind=st.sampled_from(["pipe", "socket"]),
    lines=st.booleans(),
)
def test_any_pieces(net, sizes, pauses, kind, lines):
    class Pausing(Reading):
        def data_received(self, data):
            super().data_received(data)
            if self.calls.count("data") in pauses:
                self.transport.pause_reading()
                net.loop.call_soon(self.transport.resume_reading)

    async def main():
        read, write = ends_of(kind)
        reading, writing = await reader(net, read, Pausing), await writer(net, write)
        pieces = [some_bytes(size, number) for number, size in enumerate(sizes)]
        if lines:
            writing.transport.writelines(pieces)
        else:
            for piece in pieces:
                writing.transport.write(bytearray(piece))
        writing.transport.write_eof()
        await reading.lost()
        assert reading.data == b"".join(pieces)
        assert await writing.lost() is None

    net.run(main())


@kinds
async def test_closed_once_by_its_owner(net, kind):
    """The number is somebody else's afterwards, and stays so."""
    read, write = ends_of(kind)
    reading = await reader(net, read)
    number = read.fileno()
    reading.transport.close()
    await reading.lost()
    await net.turn()
    assert read.closed
    other = os.open("/dev/null", os.O_RDONLY)
    try:
        assert other == number
        reading.transport.close()
        del reading.transport
        reading.transport = None
        await net.turn(3)
        os.fstat(other)
    finally:
        os.close(other)
        write.close()
    net.protocols.remove(reading)


@pytest.mark.parametrize("how", ["connect_read_pipe", "connect_write_pipe"])
async def test_regular_file(net, tmp_path, how):
    """asyncio's answer: they cannot be waited for."""
    with (tmp_path / "file").open("w+b") as file:
        with pytest.raises(ValueError, match="pipes"):
            await getattr(net.loop, how)(Reading, file)
        assert not file.closed


@pytest.mark.asyncio_fails("its transport's finalizer raises another exception", run=False)
@pytest.mark.parametrize("how", ["connect_read_pipe", "connect_write_pipe"])
async def test_no_file(net, pipe, how):
    """A number could not be closed."""
    with pytest.raises(AttributeError, match="fileno"):
        await getattr(net.loop, how)(Reading, pipe["write" in how].fileno())


async def test_character_device(net):
    """/dev/null takes everything; it cannot be watched for reading."""
    with open("/dev/null", "wb", 0) as file:
        try:
            writing = await writer(net, file)
        except PermissionError:
            return
        writing.transport.write(b"x" * 1000)
        writing.transport.close()
        await writing.lost()


@pytest.mark.parametrize("direction", ["read", "write"])
async def test_connected_twice(net, pipe, direction):
    """Whatever becomes of the second: nothing is closed that is not its own."""
    read, write = pipe
    connect = reader if direction == "read" else writer
    file = read if direction == "read" else write
    first = await connect(net, file)
    try:
        second = await connect(net, file)
    except (RuntimeError, OSError):
        net.protocols.pop()
    else:
        second.transport.close()
        await second.lost()
    first.transport.close()
    await first.lost()
    await net.turn(2)
    assert file.closed


async def test_reader_is_gone(net, pipe):
    """The writer learns of it without writing."""
    read, write = pipe
    writing = await writer(net, write)
    await net.turn(2)
    read.close()
    reason = await writing.lost()
    assert reason is None or isinstance(reason, BrokenPipeError)


async def test_reader_is_gone_while_it_writes(net, pipe):
    read, write = pipe
    writing = await writer(net, write)
    writing.transport.write(some_bytes(1_000_000))
    await writing.called("pause")
    read.close()
    assert isinstance(await writing.lost(), BrokenPipeError)


async def test_reader_is_gone_and_then_it_writes(net, pipe):
    """In the same turn: dropped, or a broken pipe."""
    read, write = pipe
    writing = await writer(net, write)
    read.close()
    writing.transport.write(b"x")
    reason = await writing.lost()
    assert reason is None or isinstance(reason, BrokenPipeError)
    for _ in range(10):
        writing.transport.write(b"late")


async def test_writer_is_gone(net, pipe):
    read, write = pipe
    reading = await reader(net, read)
    write.write(b"last")
    write.close()
    assert await reading.lost() is None
    assert reading.calls == ["made", "data", "eof", "lost"]
    assert reading.data == b"last"


@pytest.mark.asyncio_fails(
    "has no is_reading() for pipes, in early 3.11", when=sys.version_info < (3, 11, 7), strict=False
)
async def test_paused(net, pipe):
    read, write = pipe
    reading = await reader(net, read)
    assert reading.transport.is_reading()
    reading.transport.pause_reading()
    assert not reading.transport.is_reading()
    write.write(b"x")
    await net.calm()
    assert reading.calls == ["made"]
    reading.transport.resume_reading()
    await reading.called("data")
    reading.transport.pause_reading()
    write.close()
    await net.calm()
    assert "lost" not in reading.calls
    reading.transport.resume_reading()
    await reading.lost()


class Oops(Exception):
    pass


@pytest.mark.parametrize("error", [Oops, FileNotFoundError])
@pytest.mark.parametrize("where", ["data", "eof"])
async def test_callback_raises(net, pipe, where, error):
    """Reported, and that is all."""

    class Raising(Reading):
        def note(self, name):
            super().note(name)
            if name == where:
                raise error

    read, write = pipe
    reading = await reader(net, read, Raising)
    write.write(b"x")
    await reading.called("data")
    write.close()
    assert await reading.lost() is None
    await net.turn(2)
    net.reported(error)


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_what_eof_received_lets_leave_the_loop(net, pipe, leaving):
    """The end is told once."""

    class Raising(Reading):
        def eof_received(self):
            super().eof_received()
            assert self.transport.is_closing()
            raise leaving

    read, write = pipe
    reading = net.run(reader(net, read, Raising))
    write.close()
    with pytest.raises(leaving):
        net.run(asyncio.sleep(20))
    assert net.run(reading.lost()) is None
    assert reading.calls == ["made", "eof", "lost"]


async def test_an_error_of_reading_is_reported(net):
    """And is the reason for the end."""
    end, peer = socket.socketpair()
    end.send(b"never read")
    reading = await reader(net, end)
    peer.close()
    assert type(await reading.lost()) is ConnectionResetError
    (report,) = net.reported(ConnectionResetError)
    assert report["message"] == "Fatal read error on pipe transport"


async def test_no_data_after_close(net, pipe):
    class Ending(Reading):
        def data_received(self, data):
            super().data_received(data)
            self.transport.close()

    read, write = pipe
    reading = await reader(net, read, Ending)
    reading.transport.pause_reading()
    write.write(b"x" * 60_000)
    reading.transport.resume_reading()
    await reading.lost()
    assert reading.calls.count("data") == 1


# Writing


async def test_flow_control(net, pipe):
    read, write = pipe
    writing = await writer(net, write)
    assert writing.transport.get_write_buffer_limits() == (16384, 65536)
    writing.transport.write(some_bytes(500_000))
    await writing.called("pause")
    assert writing.transport.get_write_buffer_size() > 65536
    reading = await reader(net, read)
    await reading.until(lambda: len(reading.data) == 500_000)
    await writing.called("resume")
    assert writing.calls == ["made", "pause", "resume"]
    assert reading.data == some_bytes(500_000)
    assert writing.transport.get_write_buffer_size() == 0


async def test_close_delivers_everything(net, pipe):
    read, write = pipe
    writing = await writer(net, write)
    writing.transport.write(some_bytes(500_000))
    writing.transport.close()
    assert writing.transport.is_closing()
    reading = await reader(net, read)
    await reading.lost()
    assert reading.data == some_bytes(500_000)
    assert await writing.lost() is None


async def test_abort_drops(net, pipe):
    read, write = pipe
    writing = await writer(net, write)
    writing.transport.write(some_bytes(500_000))
    writing.transport.abort()
    assert await writing.lost() is None
    reading = await reader(net, read)
    await reading.lost()
    assert len(reading.data) < 500_000


async def test_write_eof_closes(net, pipe):
    read, write = pipe
    writing, reading = await writer(net, write), await reader(net, read)
    assert writing.transport.can_write_eof()
    writing.transport.write(b"x")
    writing.transport.write_eof()
    await reading.lost()
    assert reading.data == b"x"
    assert await writing.lost() is None


@pytest.mark.parametrize("name", ["pause_reading", "resume_reading", "is_reading"])
async def test_a_write_end_is_not_read(net, pipe, name):
    writing = await writer(net, pipe[1])
    with pytest.raises(NotImplementedError):
        getattr(writing.transport, name)()


@pytest.mark.parametrize("name", ["write", "writelines", "write_eof", "can_write_eof"])
async def test_a_read_end_is_not_written(net, pipe, name):
    reading = await reader(net, pipe[0])
    assert not isinstance(reading.transport, asyncio.WriteTransport)
    assert not hasattr(reading.transport, name)


async def test_changed_after_the_write(net, pipe):
    read, write = pipe
    writing, reading = await writer(net, write), await reader(net, read)
    buffers = [bytearray(some_bytes(size, size)) for size in (10, 300_000, 7)]
    expected = b"".join(buffers)
    for buffer in buffers:
        writing.transport.write(buffer)
        buffer[:] = bytes(len(buffer))
        buffer.clear()
    await reading.until(lambda: len(reading.data) == len(expected))
    assert reading.data == expected


async def test_written_after_close(net, pipe):
    read, write = pipe
    writing, reading = await writer(net, write), await reader(net, read)
    writing.transport.write(b"before")
    writing.transport.close()
    writing.transport.write(b"after")
    await reading.lost()
    assert reading.data == b"before"
    await writing.lost()


async def test_no_bytes(net, pipe):
    read, write = pipe
    writing = await writer(net, write)
    for nonsense in (7, None, [b"x"]):
        with pytest.raises((TypeError, AssertionError)):
            writing.transport.write(nonsense)
    for nonsense in (7, "text", [1], [b"x", 7]):
        with pytest.raises(TypeError) as told:
            b"".join(nonsense)
        with pytest.raises(TypeError, match=re.escape(str(told.value))):
            writing.transport.writelines(nonsense)
    writing.transport.write(b"")
    await net.calm()


# Terminals


async def test_terminal_both_ways(net):
    """One end for reading and for writing, each with a descriptor of its own."""
    ours, theirs = pty.openpty()
    for fd in (ours, theirs):
        tty.setraw(fd)
    reading = await reader(net, as_file(ours, "rb"))
    writing = await writer(net, as_file(os.dup(ours), "wb"))
    far_reading = await reader(net, as_file(theirs, "rb"))
    far_writing = await writer(net, as_file(os.dup(theirs), "wb"))
    writing.transport.write(b"question")
    await far_reading.until(lambda: far_reading.data == b"question")
    far_writing.transport.write(b"answer")
    await reading.until(lambda: reading.data == b"answer")
    for protocol in (writing, far_writing, far_reading, reading):
        protocol.transport.close()
        await protocol.lost()


async def test_terminal_opened_twice(net):
    """stdin and stdout are often one open file."""
    ours, theirs = pty.openpty()
    for fd in (ours, theirs):
        tty.setraw(fd)
    far = await reader(net, as_file(ours, "rb"))
    reading = await reader(net, as_file(theirs, "rb"))
    writing = await writer(net, as_file(os.open(os.ttyname(theirs), os.O_WRONLY), "wb"))
    writing.transport.write(b"out")
    await far.until(lambda: far.data == b"out")
    os.write(ours, b"in")
    await reading.until(lambda: reading.data == b"in")
    writing.transport.close()
    await writing.lost()
    await net.turn()
    os.write(ours, b"more")
    await reading.until(lambda: reading.data == b"inmore")
    for protocol in (reading, far):
        protocol.transport.close()
        await protocol.lost()


async def test_fifo(net, tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    read = as_file(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    write = as_file(os.open(path, os.O_WRONLY), "wb")
    reading, writing = await reader(net, read), await writer(net, write)
    writing.transport.write(b"x")
    await reading.called("data")
    writing.transport.close()
    await reading.lost()


async def test_cancelled(net, pipe):
    """Connecting is cancelled: the file is closed, or still the caller's, but never both."""
    read, write = pipe
    for turns in range(3):
        task = asyncio.ensure_future(net.loop.connect_read_pipe(asyncio.Protocol, read))
        await net.turn(turns)
        if task.done():
            task.result()[0].close()
            await net.turn(3)
            break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await net.turn(3)
        if read.closed:
            break
    net.reports.clear()


@pytest.mark.parametrize("kind", ["SOCK_SEQPACKET", "SOCK_DGRAM", "O_DIRECT"])
async def test_messages_stay_apart(net, kind):
    """Where the kernel tells one write from the next."""
    if kind == "O_DIRECT":
        read, write = os.pipe2(os.O_DIRECT)
    else:
        ends = socket.socketpair(socket.AF_UNIX, getattr(socket, kind))
        read, write = (end.detach() for end in ends)
    with as_file(read, "rb") as end:
        os.set_blocking(read, False)
        transport = (await writer(net, as_file(write, "wb"))).transport
        transport.write(b"one")
        transport.write(bytearray(b"two"))
        transport.writelines([b"thr", b"ee"])
        await net.turn(2)
        assert [end.read(100) for _ in range(4)] == [b"one", b"two", b"three", None]
