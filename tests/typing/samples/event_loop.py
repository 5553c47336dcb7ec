# pyright: reportDeprecated=false
"""asyncio's loop and streams, as its own stubs have them."""

import asyncio
import functools
import signal
import socket
import ssl
from collections.abc import Callable
from typing import assert_type

import pyev


class Echo(asyncio.Protocol): ...


async def serve(reader: pyev.StreamReader, writer: pyev.StreamWriter) -> None:
    async for line in reader:
        assert_type(line, bytes)
        writer.writelines([line])
        await writer.drain()


async def serve_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None: ...


async def streams() -> None:
    reader, writer = await pyev.open_connection("localhost", 1, limit=10, ssl=True)
    assert_type(reader, pyev.StreamReader)
    assert_type(writer, pyev.StreamWriter)
    assert_type(await reader.readline(), bytes)
    async with await pyev.start_server(serve, ["127.0.0.1", "::1"], 0, reuse_port=True) as server:
        assert_type(server, asyncio.Server)
    await pyev.start_unix_server(serve_plainly, "/tmp/socket")
    await pyev.start_server(3)  # type: ignore[arg-type]


async def main() -> int:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, pyev.EventLoop)
    assert_type(loop.ev, pyev.Loop)
    assert_type(loop.call_later(1, print, "once"), asyncio.TimerHandle)
    transport, protocol = await loop.create_connection(Echo, "localhost", 1)
    assert_type(transport, asyncio.Transport)
    assert_type(protocol, Echo)
    context = ssl.create_default_context()
    assert_type(await loop.start_tls(transport, protocol, context), asyncio.Transport | None)
    with socket.socket() as sock:
        assert_type(await loop.sock_recv(sock, 10), bytes)
        assert_type(await loop.sock_recv_into(sock, bytearray(3)), int)
    loop.add_signal_handler(signal.SIGTERM, loop.stop)
    return await loop.create_task(asyncio.sleep(0, 3))


def run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()


factory: Callable[[], asyncio.AbstractEventLoop]
factory = functools.partial(pyev.EventLoop, pyev.EVBACKEND_POLL)
run(pyev.new_event_loop())
assert_type(pyev.run(main()), int)
assert_type(pyev.run(main(), debug=True, loop_factory=factory), int)
pyev.run(main)  # type: ignore[arg-type]
with asyncio.Runner(loop_factory=pyev.new_event_loop) as runner:
    assert_type(runner.run(main()), int)
asyncio.set_event_loop_policy(pyev.EventLoopPolicy())
