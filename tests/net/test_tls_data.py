"""Bytes through TLS: all of them, in order, whatever the sizes on either side."""

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from net_kit import (
    BufferedRecorder,
    Recorder,
    in_child,
    refuses_a_view_with_gaps,
    some_bytes,
)
from tls_kit import RECORD, TlsPeer, client_context, server_context, strict

SIZES = [1, 2, 15, 16, 17, 255, 256, 4095, 4096, 4097, RECORD - 1, RECORD]


class ViewRecorder(BufferedRecorder):
    """asyncio reads into a copy of what follows the first piece, unless the buffer is a view."""

    def get_buffer(self, sizehint):
        return memoryview(self.buffer)


@pytest.fixture(params=[Recorder, ViewRecorder], ids=["bytes", "buffer"])
def recorder(request):
    return request.param


async def test_both_ways(tls, side, version, recorder):
    context = (client_context if side == "client" else server_context)(version)
    protocol, peer = await tls.connect(side, recorder(), context=context)
    assert peer.tls.version() == f"TLSv{version.name[-3:].replace('_', '.')}"
    protocol.transport.write(b"from the loop")
    assert await peer.read(13) == b"from the loop"
    await peer.send(b"from the peer")
    await protocol.until(lambda: len(protocol.data) == 13)
    assert protocol.data == b"from the peer"
    protocol.transport.write(b"the last")
    protocol.transport.close()
    assert await peer.read_all() == b"the last"
    await peer.close()
    assert await protocol.lost() is None


async def test_records_of_every_length(tls, side, version, recorder):
    """The sizes around powers of two and TLS's own limit, and some of the others."""
    context = (client_context if side == "client" else server_context)(version)
    protocol, peer = await tls.connect(side, recorder(), context=context)
    sizes = SIZES + random.Random(version).sample(range(1, RECORD), 60)
    data = some_bytes(sum(sizes))
    start = 0
    for size in sizes:
        await peer.send(data[start : start + size])
        start += size
        await protocol.until(lambda start=start: len(protocol.data) >= start)
    assert protocol.data == data
    start = 0
    for size in sizes:
        protocol.transport.write(data[start : start + size])
        assert await peer.read(size) == data[start : start + size]
        start += size


async def test_records_of_a_byte_each_in_one_packet(tls, side, recorder):
    protocol, peer = await tls.connect(side, recorder())
    data = some_bytes(3000)
    await peer.peer.send(peer.records(data, 1))
    await protocol.until(lambda: len(protocol.data) == len(data))
    assert protocol.data == data


more_than_a_record = pytest.mark.asyncio_fails("reads what follows one into a copy")


@pytest.mark.parametrize(
    "size",
    [1, 50, *(pytest.param(size, marks=more_than_a_record) for size in (1000, RECORD, 100_000))],
)
async def test_a_buffer_of_any_size_gets_true_bytes(tls, side, size):
    protocol, peer = await tls.connect(side, BufferedRecorder(size))
    data = some_bytes(20_000 if size > 1 else 300)
    await peer.peer.send(peer.records(data, 700))
    await protocol.until(lambda: len(protocol.data) == len(data))
    assert protocol.data == data


async def test_empty_records_are_nothing(tls, side):
    """TLS 1.3 pads: here is one that carries no bytes at all."""
    protocol, peer = await tls.connect(side)
    empty = peer.records(b"x")
    assert peer.tls.write(b"") == 0
    await peer.peer.send(empty + peer.outgoing.read() + peer.records(b"y"))
    await protocol.until(lambda: len(protocol.data) == 2)
    assert protocol.data == b"xy"


async def test_one_byte_at_a_time(tls, side, version, recorder):
    """From the first byte of the handshake to the end."""
    protocol = recorder()
    context = (client_context if side == "client" else server_context)(version)
    peer, task = await tls.dial(side, protocol, context=context)
    other = TlsPeer(peer, strict(tls.context(side)), side == "client")
    send = peer.send

    async def slowly(data):
        for byte in data:
            await send(bytes([byte]))
            await asyncio.sleep(0)

    peer.send = slowly
    await other.handshake()
    await task
    data = some_bytes(500)
    await other.send(data)
    await protocol.until(lambda: len(protocol.data) == len(data))
    assert protocol.data == data
    protocol.transport.write(data)
    assert await other.read(len(data)) == data
    await peer.send(other.ending())
    assert await protocol.lost() is None


async def test_pieces_of_any_size(tls, side, recorder):
    """Of records of any size: boundaries fall everywhere."""
    protocol, peer = await tls.connect(side, recorder())
    draw = random.Random(5)
    data = some_bytes(300_000)
    wire = b""
    start = 0
    while start < len(data):
        size = draw.choice([1, 100, 5000, RECORD])
        wire += peer.records(data[start : start + size])
        start += size
    start = 0
    while start < len(wire):
        size = draw.choice([1, 3, 7, 1000, 30_000, 70_000])
        await peer.peer.send(wire[start : start + size])
        start += size
        await asyncio.sleep(0)
    await protocol.until(lambda: len(protocol.data) >= len(data))
    assert protocol.data == data


async def test_arguments_by_name(tls, side):
    protocol, peer = await tls.connect(side)
    protocol.transport.set_protocol(protocol=protocol)
    protocol.transport.write(data=b"a")
    protocol.transport.writelines(list_of_data=[b"b", b"c"])
    assert await peer.read(3) == b"abc"


@pytest.mark.asyncio_fails("keeps what came before it")
async def test_lines_of_which_one_is_refused(tls, side):
    """None of them is sent, then or later."""
    protocol, peer = await tls.connect(side)
    refused = memoryview(b"x")
    refused.release()
    with pytest.raises(ValueError, match="released"):
        protocol.transport.writelines([b"first", refused, b"last"])
    protocol.transport.write(b"next")
    assert await peer.read(4) == b"next"


@pytest.mark.parametrize("way", ["write", "writelines", "bytearray", "memoryview"])
async def test_a_huge_write(tls, side, way):
    protocol, peer = await tls.connect(side)
    data = some_bytes(5_000_000)
    if way == "write":
        protocol.transport.write(data)
    elif way == "writelines":
        protocol.transport.writelines(data[at : at + 99_999] for at in range(0, len(data), 99_999))
    elif way == "bytearray":
        changing = bytearray(data)
        protocol.transport.write(changing)
    else:
        protocol.transport.write(memoryview(data))
    assert await peer.read(len(data)) == data


async def test_many_small_writes(tls, side):
    protocol, peer = await tls.connect(side)
    data = some_bytes(50_000)
    for at in range(0, len(data), 10):
        protocol.transport.write(data[at : at + 10])
    assert await peer.read(len(data)) == data


@pytest.mark.parametrize("nothing", [b"", bytearray(), memoryview(b"")])
async def test_nothing_written(tls, side, nothing):
    protocol, peer = await tls.connect(side)
    protocol.transport.write(nothing)
    protocol.transport.write(b"x")
    protocol.transport.write(nothing)
    protocol.transport.close()
    assert await peer.read_all() == b"x"


@pytest.mark.parametrize("nonsense", ["text", 1, None, [b"x"], object()])
async def test_what_cannot_be_written(tls, side, nonsense):
    protocol, peer = await tls.connect(side)
    with pytest.raises(TypeError):
        protocol.transport.write(nonsense)
    protocol.transport.write(b"fine")
    assert await peer.read(4) == b"fine"


async def test_writes_from_within_every_callback(tls, side):
    """Before, between and after: in the order they were made in."""

    class Chatty(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"[made]")

        def data_received(self, data):
            super().data_received(data)
            self.transport.write(b"[got " + data + b"]")
            self.transport.write(b"[and " + data + b"]")

    protocol, peer = await tls.connect(side, Chatty())
    protocol.transport.write(b"[connected]")
    await peer.send(b"a")
    expected = b"[made][connected][got a][and a]"
    assert await peer.read(len(expected)) == expected
    await peer.peer.send(peer.records(b"b") + peer.records(b"c"))
    answer = await peer.read(len(b"[got bc][and bc]"))
    assert answer == b"[got bc][and bc]"  # what came together is told together


async def test_an_echo_of_much(tls, net):
    """Both ends on the loop, each answers what it gets."""

    class Echo(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.write(data)

    client, server = await tls.pair(Recorder(), Echo())
    data = some_bytes(2_000_000)
    for at in range(0, len(data), 70_000):
        client.transport.write(data[at : at + 70_000])
        await net.turn()
    await client.until(lambda: len(client.data) == len(data))
    assert client.data == data == server.data


async def test_streams(tls, net):
    """asyncio's own, line by line and to the end."""

    async def answer(reader, writer):
        async for line in reader:
            writer.write(line.upper())
            await writer.drain()
        writer.close()
        await writer.wait_closed()
        ended.set_result(None)

    ended = net.loop.create_future()
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_context())
    reader, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
    )
    for text in (b"one\n", b"two" * 20_000 + b"\n", b"three\n"):
        writer.write(text)
        assert await reader.readline() == text.upper()
    writer.close()
    await writer.wait_closed()
    await ended
    server.close()


async def test_a_child_does_not_send_it_again(tls, side):
    """A record sent twice would end the connection."""
    protocol, peer = await tls.connect(side)
    protocol.transport.write(b"once ")
    in_child(protocol.transport.abort)
    protocol.transport.write(b"and for all")
    assert await peer.read(16) == b"once and for all"


async def test_a_view_with_gaps(aloop, tls, side):
    protocol, peer = await tls.connect(side)
    if not hasattr(aloop, "ev"):
        pytest.skip("asyncio ends the connection")
    await refuses_a_view_with_gaps(protocol, peer)


NO_MEMORY = """
import asyncio, socket, sys
import _testcapi
import pyev
from net_kit import Recorder
from tls_kit import client_context, server_context

async def read(loop, size, number):
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    reader, writer = Recorder(), Recorder()
    await asyncio.gather(
        loop.connect_accepted_socket(lambda: reader, ends[0], ssl=server_context()),
        loop.create_connection(
            lambda: writer, sock=ends[1], ssl=client_context(), server_hostname="localhost"
        ),
    )
    writer.transport.write(bytes(size))
    writer.transport.get_write_buffer_size()  # it is sent
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    loop.call_soon(_testcapi.set_nomemory, number, number + 1)
    loop.call_later(0.003, _testcapi.remove_mem_hooks)
    try:
        await asyncio.sleep(0.01)
    except MemoryError as error:
        reports.append(error)
    _testcapi.remove_mem_hooks()
    complete = len(reader.data) == size
    for end in (reader, writer):
        end.transport.abort()
    await asyncio.gather(reader.lost(), writer.lost())
    assert complete or reports, (size, number, len(reader.data))

loop = pyev.EventLoop()
for size in (100, 60_000):
    for number in range(25):
        try:
            loop.run_until_complete(read(loop, size, number))
        except MemoryError:
            _testcapi.remove_mem_hooks()
print("ok")
import os
os._exit(0)
"""


NO_MEMORY_AT_FIRST = """
import asyncio
import contextlib
import ssl
import _testcapi
import pyev

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
with contextlib.closing(pyev.EventLoop()) as loop:
    for number in range(200):
        _testcapi.set_nomemory(number, number + 1)
        try:
            loop._ssl_transport(asyncio.Protocol(), context, None, True, None, 1, 1)
            break
        except MemoryError:
            pass
        finally:
            _testcapi.remove_mem_hooks()
assert 10 < number < 199
print("ok")
"""


@pytest.mark.parametrize("program", [NO_MEMORY, NO_MEMORY_AT_FIRST], ids=["read", "begin"])
@pytest.mark.parametrize("engine", ["openssl", "stdlib"])
def test_no_memory(engine, program):
    """Data that cannot be kept ends the connection, it is not left out; and it is a MemoryError."""
    pytest.importorskip("_testcapi")
    folders = [str(Path(__file__).parent), *sys.path]
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders), "PYEV_TLS": engine},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout == "ok\n", (result.returncode, result.stderr[-2000:])
