#!/usr/bin/env python3
"""Signals and a graceful shutdown: nobody who was being served is hung up on.

    shutdown.py                  starts itself as a service, with clients, and ends it under load
    shutdown.py --serve 7003     a service; `echo 2 | nc 127.0.0.1 7003` is answered after 2 s

    SIGTERM, Ctrl-C     take no more requests, finish those begun, end; after 5 s give up on them
    the same again      give up at once
    SIGHUP              read the settings again
    SIGUSR1             say what is going on

Exit status: 0 if every request was answered, 1 if some were given up.
"""

import argparse
import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress
from typing import Any

import pyev

HOST = "127.0.0.1"
PATIENCE = 5.0


class Service:
    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.hurry = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        self.idle: set[asyncio.StreamWriter] = set()
        self.answered = self.reloads = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests of one client, one after another; each is a number of seconds to work for."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            while not self.stopping.is_set():
                self.idle.add(writer)
                line = await reader.readline()
                self.idle.discard(writer)
                if not line:
                    break
                await asyncio.sleep(float(line))
                writer.write(f"done, with settings {self.reloads}\n".encode())
                self.answered += 1
            # Sent, and not merely written, is what a client has been promised.
            writer.close()
            await writer.wait_closed()
        except (ValueError, ConnectionError):
            pass
        except asyncio.CancelledError:  # Given up: told to nobody else, we are the task's end.
            writer.write(b"given up\n")
        finally:
            self.idle.discard(writer)
            self.tasks.discard(task)
            writer.close()

    async def run(self, port: int) -> int:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self.stop, signum)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        loop.add_signal_handler(signal.SIGUSR1, self.report)
        server = await asyncio.start_server(self.connected, HOST, port)
        print(
            f"serving on port {server.sockets[0].getsockname()[1]}, pid {os.getpid()}", flush=True
        )
        await self.stopping.wait()
        server.close()
        return await self.finish()

    async def finish(self) -> int:
        """Wait for what has begun, but not for ever; how many requests were given up."""
        for writer in self.idle:
            writer.transport.abort()
        hurry = asyncio.create_task(self.hurry.wait())
        finished = asyncio.gather(*self.tasks)
        both: set[asyncio.Future[Any]] = {hurry, finished}
        await asyncio.wait(both, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        given_up = len(self.tasks)
        finished.cancel()
        with suppress(asyncio.CancelledError):
            await finished
        print(f"answered {self.answered}, gave up {given_up}", flush=True)
        return given_up

    # Called by the loop, between two callbacks: anything may be done here.

    def stop(self, signum: signal.Signals) -> None:
        if self.stopping.is_set():
            self.hurry.set()
        else:
            working = len(self.tasks) - len(self.idle)
            print(f"{signum.name}: finishing {working} requests", flush=True)
            self.stopping.set()

    def reload(self) -> None:
        self.reloads += 1
        print(f"SIGHUP: settings {self.reloads}", flush=True)

    def report(self) -> None:
        print(f"SIGUSR1: {len(self.tasks)} clients, {self.answered} answered", flush=True)


# The demonstration: this program again, as a service, under clients and signals.


async def client(port: int, seconds: float) -> str:
    """Asks one thing; what the answer was, of whichever kind."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(f"{seconds}\n".encode())
    answer = await reader.readline()
    writer.close()
    return answer.decode().rstrip()


async def demonstrate() -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--serve", "0", stdout=PIPE
    )
    assert process.stdout

    async def heard() -> str:
        assert process.stdout
        return (await process.stdout.readline()).decode().rstrip()

    async def tell(signum: signal.Signals) -> None:
        process.send_signal(signum)
        print("the service says", await heard())

    port = int((await heard()).split()[3].rstrip(","))
    _, idle = await asyncio.open_connection(HOST, port)
    print(await client(port, 0.0))
    await tell(signal.SIGHUP)
    slow = [asyncio.create_task(client(port, 1.0)) for _ in range(10)]
    # A request that ends right after those have begun.
    print(await client(port, 0.2))
    await tell(signal.SIGUSR1)
    await tell(signal.SIGTERM)
    answers = await asyncio.gather(*slow)
    print(f"{answers.count('done, with settings 1')} slow requests were answered")
    try:
        await client(port, 0.0)
    except ConnectionError:
        print("new ones are refused")
    print("the service says", await heard())
    idle.close()
    return await process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--serve", type=int, metavar="PORT", help="0 for any that is free")
    port: int | None = parser.parse_args().serve
    try:
        if port is None:
            return pyev.run(demonstrate())
        return 1 if pyev.run(Service().run(port)) else 0
    except KeyboardInterrupt:  # Before there was a handler for it.
        return 130


if __name__ == "__main__":
    sys.exit(main())
