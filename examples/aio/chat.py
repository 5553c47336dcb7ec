#!/usr/bin/env python3
"""A TCP chat on asyncio's streams: what one client says, all others read.

    chat.py                  twenty clients talk for a moment
    chat.py --serve 7000     a chat until Ctrl-C, for `nc 127.0.0.1 7000`

A client's first line is its name. Each has a task, which ends when the client leaves, breaks the
rules or falls silent; nobody can fill the memory by not reading.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pyev

HOST = "127.0.0.1"
LINE_MAX = 1000
UNREAD_MAX = 1_000_000
SILENCE_MAX = 600.0


class Refused(Exception):
    """Somebody broke the rules."""


class Room:
    def __init__(self) -> None:
        self.writers: dict[str, asyncio.StreamWriter] = {}
        self.tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What asyncio runs, as a task, for each client."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks[task] = writer
        name = ""
        try:
            name = await self.enter(reader, writer)
            while line := await self.line(reader):
                self.tell(f"{name}: {line}", but=name)
        except Refused as error:
            writer.write(f"* {error}\n".encode())
        except (ConnectionError, TimeoutError):
            pass
        finally:
            if self.writers.pop(name, None):
                self.tell(f"* {name} has left")
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            del self.tasks[task]

    async def close(self) -> None:
        """Hang up, which is to each client's task as if the client had."""
        for writer in self.tasks.values():
            writer.transport.abort()
        await asyncio.gather(*self.tasks)

    async def enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        name = await self.line(reader)
        if not name.isidentifier() or name in self.writers:
            raise Refused("another name, please")
        writer.write(f"* with you: {', '.join(self.writers) or 'nobody'}\n".encode())
        self.writers[name] = writer
        self.tell(f"* {name} has come", but=name)
        return name

    async def line(self, reader: asyncio.StreamReader) -> str:
        """The next line; an empty one is a good-bye, as is the end of the connection."""
        try:
            async with asyncio.timeout(SILENCE_MAX):
                return (await reader.readline()).decode(errors="replace").strip()
        except ValueError:
            raise Refused("that line is too long") from None

    def tell(self, line: str, but: str = "") -> None:
        """Nobody is waited for: who has this much still to read is dropped."""
        for name, writer in self.writers.items():
            if name != but and not writer.is_closing():
                writer.write(f"{line}\n".encode())
                if writer.transport.get_write_buffer_size() > UNREAD_MAX:
                    writer.transport.abort()


@asynccontextmanager
async def chat(port: int) -> AsyncIterator[int]:
    """Serves meanwhile; on which port."""
    room = Room()
    server = await asyncio.start_server(room.connected, HOST, port, limit=LINE_MAX)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await room.close()


async def serve(port: int) -> None:
    async with chat(port) as port:
        print(f"chatting on {HOST}:{port}", flush=True)
        await asyncio.Event().wait()


# Clients of its own.

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Client:
    def __init__(self, name: str, streams: Streams) -> None:
        self.name = name
        self.reader, self.writer = streams

    @classmethod
    async def enter(cls, port: int, name: str) -> "Client":
        client = cls(name, await asyncio.open_connection(HOST, port))
        client.say(name)
        await client.hear("* with you")
        return client

    def say(self, line: str) -> None:
        self.writer.write(f"{line}\n".encode())

    async def hear(self, start: str) -> str:
        """The next line that begins so; empty when there is none any more."""
        while line := (await self.reader.readline()).decode().rstrip():
            if line.startswith(start):
                break
        return line

    async def leave(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def chatter(client: Client, others: list[str], lines: int) -> int:
    """Says so many lines, and hears as many of each of the others, in order."""
    heard = dict.fromkeys(others, 0)
    for number in range(lines):
        client.say(f"line {number}")
        await client.writer.drain()
    while min(heard.values()) < lines:
        name, text = (await client.hear("")).split(": ")
        assert text == f"line {heard[name]}"
        heard[name] += 1
    return sum(heard.values())


async def demonstrate() -> None:
    async with chat(0) as port:
        red = await Client.enter(port, "red")
        blue = await Client.enter(port, "blue")
        red.say("hello")
        print("blue reads", await blue.hear("red"))
        blue.say("x" * 2 * LINE_MAX)
        print("blue reads", await blue.hear("*"))
        print("red reads", await red.hear("* blue has left"))
        await red.leave()
        await blue.leave()

        names = [f"client_{number}" for number in range(20)]
        clients = [await Client.enter(port, name) for name in names]
        for client in clients[:-1]:
            await client.hear(f"* {names[-1]} has come")
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(chatter(client, [n for n in names if n != client.name], 50))
                for client in clients
            ]
        print(f"{len(clients)} clients read {sum(task.result() for task in tasks)} lines")
        for client in clients:
            await client.leave()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--serve", type=int, metavar="PORT", help="0 for any that is free")
    port: int | None = parser.parse_args().serve
    try:
        pyev.run(demonstrate() if port is None else serve(port))
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
