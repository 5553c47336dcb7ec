"""asyncio's streams over TCP, both ends on the loop."""

import asyncio
from asyncio import StreamReader, StreamWriter
from itertools import repeat

from rows import Stage, Work, row
from rows.sockets import CONNECTIONS, KIB, Pump, keep, listen

LINES = 1000


@row("streams echo 1 KiB, 10 connections", batch=CONNECTIONS)
async def streams_echo(stage: Stage) -> Work:
    message = b"x" * KIB

    async def echo(reader: StreamReader, writer: StreamWriter) -> None:
        while data := await reader.read(64 * KIB):
            writer.write(data)
            await writer.drain()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    keep.append(server)
    port = server.sockets[0].getsockname()[1]
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS)]

    async def talk(reader: StreamReader, writer: StreamWriter, turns: int) -> None:
        for _ in repeat(None, turns):
            writer.write(message)
            await writer.drain()
            assert len(await reader.readexactly(KIB)) == KIB

    async def run(turns: int) -> None:
        await asyncio.gather(*[talk(reader, writer, turns) for reader, writer in streams])

    return run


@row("streams readline, 40 B", batch=LINES)
async def streams_readline(stage: Stage) -> Work:
    line = b"x" * 39 + b"\n"
    senders = []

    def sender() -> Pump:
        senders.append(Pump(line * LINES))
        return senders[-1]

    port = await listen(stage.loop, sender)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    keep.append(writer)
    while not senders or not senders[0].transport:
        await asyncio.sleep(0)

    async def run(turns: int) -> None:
        senders[0].start(turns)
        for _ in repeat(None, turns * LINES):
            assert len(await reader.readline()) == 40

    return run
