#!/usr/bin/env python3
"""Watchers beside coroutines: what is appended to a file is sent to whoever is connected.

    watchers.py                       follows a file that another process writes
    watchers.py --serve 7004 FILE     until Ctrl-C; `nc 127.0.0.1 7004` shows what comes

The connections are asyncio's. The file is watched by a Stat, the clock by a Periodic, SIGUSR1 by a
Signal and the other process by a Child, all on `loop.ev`, the pyev.Loop under the event loop.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import pyev

HOST = "127.0.0.1"
UNREAD_MAX = 1_000_000


class Follower:
    def __init__(self) -> None:
        self.clients: set[asyncio.Transport] = set()

    def send(self, data: bytes) -> None:
        for transport in list(self.clients):
            transport.write(data)
            if transport.get_write_buffer_size() > UNREAD_MAX:
                transport.abort()

    async def follow(self, ev: pyev.Loop, file: BinaryIO) -> None:
        """A watcher without a callback is awaited."""
        file.seek(0, os.SEEK_END)
        async for _ in ev.stat(file.name, 0.1):
            if os.fstat(file.fileno()).st_size < file.tell():
                file.seek(0)  # It was begun anew.
            self.send(file.read())

    # One with a callback calls it, on the loop, between the tasks.

    def tick(self, watcher: pyev.Periodic, revents: int) -> None:
        self.send(time.strftime("-- %H:%M:%S --\n").encode())

    def report(self, watcher: pyev.Signal, revents: int) -> None:
        print(f"SIGUSR1: {len(self.clients)} clients", flush=True)


class Connection(asyncio.Protocol):
    def __init__(self, follower: Follower) -> None:
        self.clients = follower.clients

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.clients.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.clients.discard(self.transport)


def watchers() -> pyev.Loop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, pyev.EventLoop)
    return loop.ev


@asynccontextmanager
async def following(path: Path, port: int, beat: float) -> AsyncIterator[int]:
    """Serves meanwhile; on which port."""
    ev, follower = watchers(), Follower()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(follower), HOST, port)
    with (
        open(path, "rb") as file,
        ev.periodic(0.0, beat, follower.tick),
        ev.signal(signal.SIGUSR1, follower.report),
    ):
        task = loop.create_task(follower.follow(ev, file))
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            task.cancel()
            server.close()
            for transport in follower.clients:
                transport.abort()


async def serve(port: int, path: Path) -> None:
    async with following(path, port, 1.0) as port:
        print(f"{path} can be followed at {HOST}:{port}", flush=True)
        await asyncio.Event().wait()


# The demonstration.

WRITER = """
import sys, time
with open(sys.argv[1], "a", buffering=1) as file:
    for number in range(1, 101):
        print("line", number, file=file)
        time.sleep(0.005)
sys.exit(3)
"""


async def client(reader: asyncio.StreamReader) -> tuple[int, int]:
    """Reads to line 100; how many came, and how often the clock struck meanwhile."""
    lines = strikes = 0
    async for line in reader:
        if line.startswith(b"--"):
            strikes += 1
        else:
            lines += 1
            assert line == b"line %d\n" % lines
            if lines == 100:
                break
    return lines, strikes


async def ended(pid: int) -> int:
    """The exit status of a child, of which asyncio need not know."""
    child = watchers().child(pid, False)
    await child
    return os.waitstatus_to_exitcode(child.rstatus)


async def demonstrate() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "log")
        path.write_text("what was there before\n")
        async with following(path, 0, 0.05) as port:
            connections = [await asyncio.open_connection(HOST, port) for _ in range(5)]
            for reader, _ in connections:
                assert (await reader.readline()).startswith(b"--")
            signal.raise_signal(signal.SIGUSR1)
            with subprocess.Popen([sys.executable, "-c", WRITER, path]) as writer:
                reading = asyncio.gather(*(client(reader) for reader, _ in connections))
                status = await ended(writer.pid)
                seen = await reading
                writer.returncode = status  # Its status is taken: nobody need wait any more.
            print(f"{len(seen)} clients read {sum(lines for lines, _ in seen)} lines")
            print("the clock struck meanwhile:", all(strikes for _, strikes in seen))
            print("the writer ended with status", status)
            for _, connection in connections:
                connection.close()
                await connection.wait_closed()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--serve", nargs=2, metavar=("PORT", "FILE"), help="0 for any port that is free"
    )
    options = parser.parse_args().serve
    try:
        pyev.run(serve(int(options[0]), Path(options[1])) if options else demonstrate())
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError) as error:
        print(f"watchers: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
