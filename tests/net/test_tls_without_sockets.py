"""TLS between two transports of the test's own: what moves, and when, is its choice."""

import asyncio
import random

import pytest
from net_kit import BufferedRecorder, Net, Recorder, some_bytes
from tls_kit import TLS_1_2, TLS_1_3, client_context, server_context

pytestmark = pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3], ids=["TLS 1.2", "TLS 1.3"])


class Wire(asyncio.Transport):
    """What is written to it lies there until the test lets it arrive at the other end."""

    _start_tls_compatible = True
    most = 1 << 16  # in one call

    def __init__(self, loop):
        super().__init__()
        self.loop = loop
        self.written = bytearray()
        self.protocol = self.other = None
        self.reading = True
        self.closed = False

    def set_protocol(self, protocol):
        self.protocol = protocol

    def get_protocol(self):
        return self.protocol

    def is_closing(self):
        return self.closed

    def is_reading(self):
        return self.reading

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def write(self, data):
        self.written += data

    def close(self):
        self._force_close(None)

    def abort(self):
        self._force_close(None)

    def _force_close(self, exc):
        if not self.closed:
            self.closed = True
            self.loop.call_soon(self.protocol.connection_lost, exc)

    def arrive(self, size):
        """So much of what the other end has written comes in."""
        data, self.other.written = self.other.written[:size], self.other.written[size:]
        for start in range(0, len(data), self.most):
            piece = data[start : start + self.most]
            if isinstance(self.protocol, asyncio.BufferedProtocol):  # asyncio's own is one
                while piece:
                    buffer = self.protocol.get_buffer(len(piece))
                    count = min(len(buffer), len(piece))
                    buffer[:count] = piece[:count]
                    self.protocol.buffer_updated(count)
                    piece = piece[count:]
            else:
                self.protocol.data_received(bytes(piece))


class Conversation:
    """Both ends, and what moves between them in pieces of `size` bytes."""

    def __init__(self, net, version, server=None, client=None, wire=Wire):
        self.net, self.version = net, version
        self.wires = [wire(net.loop), wire(net.loop)]
        self.wires[0].other, self.wires[1].other = reversed(self.wires)
        self.protocols = [server or Recorder(), client or Recorder()]

    async def start(self, size=1 << 30):
        contexts = [server_context(self.version), client_context(self.version)]
        tasks = [
            self.net.loop.create_task(
                self.net.loop.start_tls(
                    wire,
                    self.net.remember(protocol),
                    context,
                    server_side=server_side,
                    server_hostname=None if server_side else "localhost",
                )
            )
            for wire, protocol, context, server_side in zip(
                self.wires, self.protocols, contexts, [True, False], strict=True
            )
        ]
        while not all(task.done() for task in tasks):
            await self.net.turn()
            self.move(size)
        for protocol, task in zip(self.protocols, tasks, strict=True):
            protocol.connection_made(task.result())  # start_tls() leaves that to its caller
        await self.settle(size)
        return self.protocols

    def move(self, size=1 << 30):
        moved = False
        for wire in self.wires:
            if wire.other.written and wire.reading and not wire.closed:
                wire.arrive(size)
                moved = True
        return moved

    async def settle(self, size=1 << 30):
        """Until nothing moves any more."""
        await self.net.turn(2)
        while self.move(size):
            await self.net.turn(2)


@pytest.mark.parametrize("size", [1, 7, 1000], ids=["1 byte", "7 bytes", "1000 bytes"])
async def test_in_pieces_of(net: Net, version, size):
    conversation = Conversation(net, version)
    server, client = await conversation.start(size)
    client.transport.write(some_bytes(700))
    server.transport.writelines([some_bytes(300, 1), b"", some_bytes(40, 2)])
    await conversation.settle(size)
    assert bytes(server.data) == some_bytes(700)
    assert bytes(client.data) == some_bytes(300, 1) + some_bytes(40, 2)
    client.transport.close()
    await conversation.settle(size)
    await server.lost()
    await client.lost()
    assert server.calls[-2:] == ["eof", "lost"]
    assert [server.reason, client.reason] == [None, None]


@pytest.mark.asyncio_fails("writes into a copy of a bytearray when it has more for it")
async def test_what_was_paused_comes_in_order(net: Net, version):
    conversation = Conversation(net, version, client=BufferedRecorder(5000))
    server, client = await conversation.start()
    client.transport.pause_reading()
    for start in range(0, 100_000, 10_000):
        server.transport.write(some_bytes(10_000, start))
        await net.turn(2)
        conversation.wires[1].arrive(1 << 30)  # it may have been under way
    assert not client.data
    client.transport.resume_reading()
    await conversation.settle()
    assert bytes(client.data) == b"".join(
        some_bytes(10_000, start) for start in range(0, 100_000, 10_000)
    )


async def test_pauses_from_within(net: Net, version):
    class OneAtATime(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()
            net.loop.call_soon(self.transport.resume_reading)

    conversation = Conversation(net, version, client=OneAtATime())
    server, client = await conversation.start()
    server.transport.write(some_bytes(400_000))
    while len(client.data) < 400_000:
        conversation.move(100_000)
        await net.turn()
    assert bytes(client.data) == some_bytes(400_000)


async def test_the_transport_below_takes_no_more(net: Net, version):
    """What it has not taken waits above it, and comes when it has room."""
    conversation = Conversation(net, version)
    server, client = await conversation.start()
    below = server.transport._ssl_protocol if not hasattr(net.loop, "ev") else server.transport
    below.pause_writing()
    for start in range(0, 800_000, 100_000):
        server.transport.write(some_bytes(100_000, start))
    await net.turn(2)
    assert not conversation.wires[0].written
    assert server.paused
    assert server.transport.get_write_buffer_size() >= 800_000
    below.resume_writing()
    await conversation.settle()
    assert not server.paused
    assert server.transport.get_write_buffer_size() == 0
    assert bytes(client.data) == b"".join(
        some_bytes(100_000, start) for start in range(0, 800_000, 100_000)
    )


@pytest.mark.asyncio_fails("writes into a copy of a bytearray when it has more for it")
async def test_walks_at_random(net: Net, version):
    """Writes, pauses and pieces of any size, both ways at once: every byte comes, in order."""
    dice = random.Random(version)
    conversation = Conversation(net, version, server=BufferedRecorder(777))
    protocols = await conversation.start(333)
    sent = [bytearray(), bytearray()]
    for _ in range(400):
        end = dice.randrange(2)
        transport = protocols[end].transport
        step = dice.randrange(6)
        if step < 2:
            data = some_bytes(dice.choice([1, 100, 16384, 16385, 50_000]), len(sent[end]))
            sent[end] += data
            transport.write(dice.choice([bytes, bytearray, memoryview])(data))
        elif step == 2:
            transport.pause_reading()
        elif step == 3:
            transport.resume_reading()
        else:
            conversation.move(dice.choice([1, 100, 20_000, 1 << 20]))
        await net.turn(dice.randrange(2))
    for protocol in protocols:
        protocol.transport.resume_reading()
    await conversation.settle()
    for end in range(2):
        assert bytes(protocols[1 - end].data) == bytes(sent[end])


async def test_cut_in_the_middle_of_a_record(net: Net, version):
    conversation = Conversation(net, version)
    server, client = await conversation.start()
    server.transport.write(some_bytes(10_000))
    await net.turn(2)
    conversation.wires[1].arrive(5_000)
    conversation.wires[1]._force_close(ConnectionResetError(104, "reset"))
    assert isinstance(await client.lost(), ConnectionResetError)
    assert not client.data
    server.transport.abort()
    await server.lost()


@pytest.mark.asyncio_fails("drops what came before it in the same read")
async def test_garbage_in_the_middle(net: Net, version):
    """What comes before it is delivered, then the connection ends with ssl's own error."""
    conversation = Conversation(net, version)
    server, client = await conversation.start()
    server.transport.write(b"good")
    await net.turn(2)
    conversation.wires[0].written += b"\x17\x03\x03\x00\x20" + bytes(32)
    await conversation.settle()
    assert bytes(client.data) == b"good"
    error = await client.lost()
    assert type(error).__name__ == "SSLError"
    assert error.reason.replace("_", " ") in (
        "DECRYPTION FAILED OR BAD RECORD MAC",
        "RECORD LAYER FAILURE",  # since OpenSSL 3.2
    )


async def test_an_end_that_is_told_twice(net: Net, version):
    conversation = Conversation(net, version)
    server, client = await conversation.start()
    for wire in conversation.wires:
        wire.closed = True
        wire.protocol.connection_lost(ConnectionResetError("once"))
        wire.protocol.connection_lost(None)
    for protocol in (server, client):
        assert str(await protocol.lost()) == "once"


PIECE = 70_000


class Direct(Wire):
    """What is written is at the other end at once, and the end too, as in a pipe of objects."""

    direct = False
    most = 1 << 18  # all of a write

    def write(self, data):
        super().write(data)
        if self.direct and self.other.reading:
            self.other.arrive(1 << 30)

    def close(self):
        if not self.direct:
            return super().close()
        if not self.closed:
            self.closed = True
            self.other.protocol.eof_received()
            self.protocol.connection_lost(None)


class Player(Recorder):
    """Answers each large piece that comes with the next of its own, and closes after the last."""

    def __init__(self, left):
        super().__init__()
        self.left = left
        self.sent = bytearray()
        self.answered = 0

    def play(self):
        self.left -= 1
        piece = some_bytes(PIECE, self.left)
        self.sent += piece
        self.transport.write(piece)
        if not self.left:
            self.transport.close()

    def data_received(self, data):
        super().data_received(data)
        while self.left and len(self.data) >= PIECE * (self.answered + 1):
            self.answered += 1
            self.play()


async def test_what_comes_while_it_writes(net: Net, version):
    server, client = Player(12), Player(20)
    conversation = Conversation(net, version, server, client, wire=Direct)
    await conversation.start()
    for _ in range(3):  # more than is read at once
        client.play()
    await net.turn(2)
    for wire in conversation.wires:
        wire.direct = True
    conversation.wires[0].arrive(1 << 30)
    await server.lost()
    await client.lost()
    assert [server.reason, client.reason] == [None, None]
    assert client.data == server.sent
    assert len(server.sent) == 12 * PIECE
    # What is under way when it closes, it does not hear.
    assert server.data == client.sent[: len(server.data)]
    assert len(server.data) >= 12 * PIECE
    assert "eof" in server.calls and "eof" in client.calls
