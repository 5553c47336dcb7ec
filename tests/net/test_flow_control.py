"""A slow reader: when the writer is asked to pause, and how much is kept meanwhile."""

import asyncio
import os
import resource
import sys

import pytest
from net_kit import SMALL, Recorder, some_bytes

# CVE-2024-12254: writelines never asked to pause.
never_pauses = pytest.mark.asyncio_fails(
    "writelines asks nobody to pause",
    when=(3, 12) <= sys.version_info < (3, 14),
    strict=False,
    run=False,
)
# Put right in the course of 3.13 and 3.14.
lost_twice = pytest.mark.asyncio_fails(
    "what resume_writing ends is lost twice", strict=False, run=False
)
ways = pytest.mark.parametrize(
    "way", ["write", pytest.param("writelines", marks=never_pauses), "many writes"]
)


def write(transport, way, data):
    if way == "write":
        transport.write(data)
    elif way == "writelines":
        transport.writelines([data[:10], data[10:]])
    else:
        for start in range(0, len(data), 1000):
            transport.write(data[start : start + 1000])


async def test_limits(connect):
    protocol, _ = await connect()
    transport = protocol.transport
    assert transport.get_write_buffer_limits() == (16384, 65536)
    for arguments, limits in [
        ({"high": 1000}, (250, 1000)),
        ({"low": 1000}, (1000, 4000)),
        ({"high": 2000, "low": 500}, (500, 2000)),
        ({"high": 0}, (0, 0)),
        ({"high": 7, "low": 7}, (7, 7)),
        ({}, (16384, 65536)),
    ]:
        transport.set_write_buffer_limits(**arguments)
        assert transport.get_write_buffer_limits() == limits
    for arguments in ({"high": 1, "low": 2}, {"high": -1}, {"low": -1}, {"high": 0, "low": 1}):
        with pytest.raises(ValueError, match="must be"):
            transport.set_write_buffer_limits(**arguments)
    assert transport.get_write_buffer_limits() == (16384, 65536)
    for nonsense in ("x", [], object()):
        with pytest.raises(TypeError):
            transport.set_write_buffer_limits(nonsense)


@ways
async def test_pause_and_resume(connect, way):
    protocol, peer = await connect(small=True)
    write(protocol.transport, way, some_bytes(1_000_000))
    await protocol.called("pause")
    assert protocol.transport.get_write_buffer_size() > 65536
    assert await peer.read(1_000_000) == some_bytes(1_000_000)
    await protocol.called("resume")
    assert protocol.transport.get_write_buffer_size() == 0
    assert protocol.calls == ["made", "pause", "resume"]


@ways
async def test_no_pause_for_what_the_kernel_takes(connect, net, way):
    """More than the high-water mark, in one turn, but nothing that has to wait."""
    protocol, peer = await connect()
    protocol.transport.set_write_buffer_limits(20_000)
    write(protocol.transport, way, some_bytes(60_000))
    await net.turn(3)
    assert protocol.calls == ["made"]
    assert protocol.transport.get_write_buffer_size() == 0
    assert peer.read_now() == some_bytes(60_000)


@ways
async def test_size_is_what_the_kernel_refused(net, way):
    protocol, peer = await net.connect("unix", small=True)
    write(protocol.transport, way, some_bytes(300_000))
    await net.turn(2)
    size = protocol.transport.get_write_buffer_size()
    assert 0 < size < 300_000
    assert len(peer.read_now()) == 300_000 - size


@pytest.mark.parametrize("way", ["write", "writelines"])
async def test_paused_by_one_byte(connect, net, way):
    protocol, peer = await connect(small=True)
    protocol.transport.set_write_buffer_limits(0)
    total = 0
    while not protocol.paused:
        write(protocol.transport, "write", bytes(5000))
        total += 5000
        await net.turn()
        assert total < 100 * SMALL + 1_000_000
    assert protocol.transport.get_write_buffer_size() > 0
    assert len(await peer.read(total)) == total
    await protocol.called("resume")


async def test_resumed_at_the_low_mark(net):
    """And not before; unix sockets say exactly how much is left."""
    sizes = []

    class Watching(Recorder):
        def note(self, name):
            super().note(name)
            if name in ("pause", "resume"):
                sizes.append(self.transport.get_write_buffer_size())

    protocol, peer = await net.connect("unix", Watching(), small=True)
    protocol.transport.set_write_buffer_limits(high=200_000, low=100_000)
    protocol.transport.write(some_bytes(150_000))
    await net.turn(2)
    assert protocol.calls == ["made"]
    protocol.transport.write(some_bytes(150_000))
    await protocol.called("pause")
    received = 0
    while not protocol.calls.count("resume"):
        assert protocol.transport.get_write_buffer_size() > 100_000
        received += len(peer.read_now())
        await net.turn(2)
    assert sizes[0] > 200_000
    assert sizes[1] <= 100_000
    await peer.read(300_000 - received)


async def test_lower_limits_pause_at_once(connect, net):
    protocol, peer = await connect(small=True)
    protocol.transport.set_write_buffer_limits(10_000_000)
    protocol.transport.write(some_bytes(1_000_000))
    await net.turn(2)
    assert protocol.calls == ["made"]
    protocol.transport.set_write_buffer_limits(1000)
    assert protocol.calls == ["made", "pause"]
    await peer.read(1_000_000)
    await protocol.called("resume")


async def test_again_and_again(connect):
    protocol, peer = await connect(small=True)
    for round_ in range(5):
        protocol.transport.write(some_bytes(400_000, round_))
        await protocol.until(lambda: protocol.paused)
        assert await peer.read(400_000) == some_bytes(400_000, round_)
        await protocol.until(lambda: not protocol.paused)
    assert protocol.calls == ["made", *["pause", "resume"] * 5]


@ways
async def test_bounded_memory(connect, way):
    """A writer that heeds pause_writing, and a reader that is slower: little is kept.

    PYEV_TEST_MIB: how much is written. A gibibyte, at 1024.
    """
    total = int(os.environ.get("PYEV_TEST_MIB", "8")) << 20
    chunk = some_bytes(50_000)

    class Source(Recorder):
        left = total
        largest = 0

        def pump(self):
            while self.left and not self.paused:
                piece = chunk[: self.left]
                self.left -= len(piece)
                write(self.transport, way, piece)
                self.largest = max(self.largest, self.transport.get_write_buffer_size())
            if not self.left:
                asyncio.get_running_loop().call_soon(self.transport.close)

        def resume_writing(self):
            super().resume_writing()
            self.pump()

    protocol, peer = await connect(Source())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    protocol.pump()
    assert protocol.paused
    received = 0
    while piece := await peer.read(1 << 18):
        assert piece == (chunk * 8)[received % 50_000 :][: len(piece)]
        received += len(piece)
    assert received == total
    assert await protocol.lost() is None
    assert protocol.largest <= 65536 + 50_000 + (1 << 18)  # what one turn may hold back
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


async def test_a_reader_that_stopped(connect, net):
    """A writer that does not heed keeps all, and can still drop it."""
    protocol, peer = await connect(small=True)
    for _ in range(50):
        protocol.transport.write(some_bytes(100_000))
    await net.calm()
    assert protocol.transport.get_write_buffer_size() > 4_000_000
    protocol.transport.abort()
    assert protocol.transport.get_write_buffer_size() == 0
    assert await protocol.lost() is None
    assert protocol.calls == ["made", "pause", "lost"]


async def test_drain(connect, net):
    """The streams on top of it."""
    protocol, peer = await connect()

    async def serve(reader, writer):
        for number in range(20):
            writer.write(some_bytes(100_000, number))
            await writer.drain()
            assert writer.transport.get_write_buffer_size() <= 65536
        writer.close()
        await writer.wait_closed()

    name = net.abstract_name()
    server = await asyncio.start_unix_server(serve, name)
    reader, writer = await asyncio.open_unix_connection(name)
    expected = b"".join(some_bytes(100_000, number) for number in range(20))
    assert await reader.read() == expected
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


# Protocols that do something when asked to pause or resume


class Acting(Recorder):
    def __init__(self, where, action):
        super().__init__()
        self.where, self.action = where, action

    def note(self, name):
        super().note(name)
        if name == self.where:
            self.action(self)


@lost_twice
@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("where", ["pause", "resume"])
async def test_ended_in(connect, net, where, how):
    protocol, peer = await connect(
        Acting(where, lambda self: getattr(self.transport, how)()), small=True
    )
    protocol.transport.write(some_bytes(500_000))
    await protocol.called("pause")
    received = await peer.read_all()
    assert await protocol.lost() is None
    if how == "close":
        assert received == some_bytes(500_000)
    await net.calm()
    assert protocol.calls.count("lost") == 1


async def test_no_resume_after_abort(connect, net):
    protocol, peer = await connect(small=True)
    protocol.transport.write(some_bytes(500_000))
    await protocol.called("pause")
    protocol.transport.abort()
    await peer.read_all()
    await protocol.lost()
    assert protocol.calls == ["made", "pause", "lost"]


async def test_written_in_pause_writing(connect, net):
    """Once: it is not asked to pause again by what it writes there."""
    protocol, peer = await connect(
        Acting("pause", lambda self: self.transport.write(some_bytes(300_000, 7))), small=True
    )
    protocol.transport.write(some_bytes(300_000))
    await protocol.called("pause")
    assert await peer.read(600_000) == some_bytes(300_000) + some_bytes(300_000, 7)
    await protocol.called("resume")
    assert protocol.calls == ["made", "pause", "resume"]


async def test_written_in_resume_writing(connect, net):
    """Each resume is answered by more, until there is no more: none is lost."""
    rounds = []

    def more(self):
        rounds.append(1)
        if len(rounds) <= 5:
            self.transport.write(some_bytes(300_000, len(rounds)))

    protocol, peer = await connect(Acting("resume", more), small=True)
    protocol.transport.write(some_bytes(300_000))
    expected = b"".join(some_bytes(300_000, number) for number in range(6))
    assert await peer.read(len(expected)) == expected
    await protocol.until(lambda: len(rounds) == 6)
    assert protocol.calls == ["made", *["pause", "resume"] * 6]


@pytest.mark.parametrize("size", [50_000, 60_000, 90_000])
async def test_resume_writing_writes_what_the_kernel_takes(net, size):
    """Nothing else waits by then: it is no reason to pause again."""

    class More(Recorder):
        def resume_writing(self):
            super().resume_writing()
            self.transport.write(b"more")

    protocol, peer = await net.connect("unix", More(), small=True)
    protocol.transport.set_write_buffer_limits(high=0)
    protocol.transport.write(some_bytes(size))
    assert await peer.read(size + 4) == some_bytes(size) + b"more"
    await net.turn(3)
    assert protocol.calls == ["made", "pause", "resume"]


@pytest.mark.parametrize("where", ["pause", "resume"])
async def test_another_transport_is_written_to_in(connect, net, where):
    other, other_peer = await connect(small=True)
    protocol, peer = await connect(
        Acting(where, lambda self: other.transport.write(some_bytes(300_000, 3))), small=True
    )
    protocol.transport.write(some_bytes(300_000))
    await protocol.called("pause")
    assert await peer.read(300_000) == some_bytes(300_000)
    assert await other_peer.read(300_000) == some_bytes(300_000, 3)
    await protocol.called("resume")
    await other.called("resume")


async def test_each_writes_to_the_other(connect, net):
    """When asked to pause, both ways: no endless recursion."""
    written = []

    def write_other(self):
        written.append(self)
        if len(written) < 10:
            (b if self is a else a).transport.write(some_bytes(100_000))

    a, a_peer = await connect(Acting("pause", write_other), small=True)
    b, b_peer = await connect(Acting("pause", write_other), small=True)
    a.transport.write(some_bytes(300_000))
    await b.called("pause")
    a.transport.close()
    b.transport.close()
    both = await asyncio.gather(a_peer.read_all(), b_peer.read_all())
    assert sum(map(len, both)) == 300_000 + 100_000 * min(len(written), 9)


@pytest.mark.parametrize("error", [ZeroDivisionError, FileNotFoundError])
@pytest.mark.parametrize("where", ["pause", "resume"])
async def test_raises(connect, net, where, error):
    """Reported, and flow control goes on."""

    def fail(self):
        raise error

    protocol, peer = await connect(Acting(where, fail), small=True)
    protocol.transport.write(some_bytes(300_000))
    await protocol.called("pause")
    assert await peer.read(300_000) == some_bytes(300_000)
    await protocol.called("resume")
    (report,) = net.reported(error)
    assert report["message"] == f"protocol.{where}_writing() failed"
    assert report["transport"] is protocol.transport
    assert report["protocol"] is protocol


async def test_another_protocol_is_asked(connect, net):
    """Who is the protocol when the buffer is empty again is the one that is resumed."""
    protocol, peer = await connect(small=True)
    protocol.transport.write(some_bytes(300_000))
    await protocol.called("pause")
    other = net.remember(Recorder())
    protocol.transport.set_protocol(other)
    other.calls += ["made", "pause"]
    other.transport = protocol.transport
    await peer.read(300_000)
    await other.called("resume")
    net.protocols.remove(protocol)


async def test_reset_while_paused(connect):
    """Whoever waits to write is told of the loss, not that it may go on."""
    protocol, peer = await connect()
    transport = protocol.transport
    transport.set_write_buffer_limits(0)
    transport.pause_reading()  # which would find out first
    size = -1
    while not protocol.paused or size != transport.get_write_buffer_size():
        size = transport.get_write_buffer_size()
        if not protocol.paused:
            transport.write(bytes(1 << 20))
        await asyncio.sleep(0.01)  # the kernel takes more, or is full
    resumed = protocol.calls.count("resume")
    peer.reset()
    assert isinstance(await protocol.lost(), ConnectionError)
    assert protocol.calls.count("resume") == resumed
