#!/usr/bin/env python3
"""A unix-socket service with asyncio's protocols: a store that knows who asks.

    unix.py                                clients of all kinds use a store for a moment
    unix.py --serve /tmp/store             a store until Ctrl-C
    unix.py --ask /tmp/store SET tea hot   a client: prints the answer
    unix.py --ask /tmp/store GET tea

The kernel says which process is at the other end, and processes of other users are turned away.
Requests may come in pieces or many at once; who does not read its answers is not read from.
"""

import argparse
import asyncio
import os
import socket
import struct
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pyev

LINE_MAX = 1000


def peer(transport: asyncio.BaseTransport) -> tuple[int, int]:
    """The process at the other end, and its user. Linux says so; elsewhere it is us, for now."""
    if not hasattr(socket, "SO_PEERCRED"):
        return os.getpid(), os.getuid()
    credentials = transport.get_extra_info("socket").getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    pid, user, _ = struct.unpack("3i", credentials)
    return pid, user


class Store:
    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.connections: set[asyncio.Transport] = set()


class Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, store: Store) -> None:
        self.store = store
        self.unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.store.connections.add(transport)
        self.pid, user = peer(transport)
        if user != os.getuid():
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.store.connections.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        *lines, self.unread = (self.unread + data).split(b"\n")
        answers = [self.answer(line.decode(errors="replace")) for line in lines]
        if len(self.unread) > LINE_MAX:
            answers.append("ERROR that line is too long")
        self.transport.write("".join(f"{answer}\n" for answer in answers).encode())
        if len(self.unread) > LINE_MAX:
            self.transport.close()  # After what has been written.

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()

    def answer(self, request: str) -> str:
        match request.split():
            case ["SET", name, *words] if words:
                self.store.values[name] = " ".join(words)
                return "OK"
            case ["GET", name]:
                return self.store.values.get(name, "NOTHING")
            case ["WHO"]:
                return f"YOU {self.pid}"
        return "ERROR what is that?"


@asynccontextmanager
async def storing(path: Path) -> AsyncIterator[None]:
    """Serves on `path` meanwhile."""
    store = Store()
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: Connection(store), path)
    try:
        yield
    finally:
        server.close()
        for transport in store.connections:
            transport.abort()
        path.unlink(missing_ok=True)  # Which asyncio does by itself from Python 3.13 on.


async def serve(path: Path) -> None:
    async with storing(path):
        print(f"storing at {path}", flush=True)
        await asyncio.Event().wait()


async def ask(path: Path, request: str) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(f"{request}\n".encode())
    print((await reader.readline()).decode().rstrip())
    writer.close()
    await writer.wait_closed()


# Clients of its own.


async def other_process(path: Path, request: str) -> tuple[int, str]:
    """This program again, as a client: its pid, and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--ask", path, *request.split(), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return process.pid, out.decode().rstrip()


async def many(path: Path, number: int, requests: int) -> int:
    """Asks everything in one go, and reads only then."""
    reader, writer = await asyncio.open_unix_connection(path)
    for request in range(requests):
        writer.write(f"SET {number} {request}\nGET {number}\n".encode())
    for request in range(requests):
        assert await reader.readline() == b"OK\n"
        assert await reader.readline() == f"{request}\n".encode()
    writer.close()
    await writer.wait_closed()
    return 2 * requests


async def demonstrate() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "store")
        async with storing(path):
            await ask(path, "SET tea hot")
            print("another process is told", (await other_process(path, "GET tea"))[1])
            pid, answer = await other_process(path, "WHO")
            print("and it is known:", answer == f"YOU {pid}" or not hasattr(socket, "SO_PEERCRED"))
            await ask(path, "x" * 2 * LINE_MAX)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(many(path, number, 500)) for number in range(10)]
            print(f"{sum(task.result() for task in tasks)} answers to {len(tasks)} clients")
        print("the socket is gone:", not path.exists())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--serve", type=Path, metavar="PATH", help="serve on this path")
    parser.add_argument(
        "--ask", nargs="+", metavar=("PATH", "WORD"), help="ask who serves on this path"
    )
    options = parser.parse_args()
    try:
        if options.serve:
            pyev.run(serve(options.serve))
        elif options.ask:
            pyev.run(ask(Path(options.ask[0]), " ".join(options.ask[1:])))
        else:
            pyev.run(demonstrate())
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        print(f"unix: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
