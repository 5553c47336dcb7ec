#!/usr/bin/env python3
"""A loop in each thread, and one port for all: the kernel deals the connections out.

    threads.py                 two loops serve twenty clients for a moment
    threads.py --serve 7000    until Ctrl-C, a loop for each processor

The answer to a line is the sum of the numbers from 1 to the one in it, by counting: Python code
that takes its time. On a Python without a GIL the loops do run at the same time; with one they take
turns.
"""

import argparse
import asyncio
import contextlib
import os
import socket
import threading
from collections import Counter

import pyev

HOST = "127.0.0.1"


class Service:
    """One thread and its loop. Nothing in it is shared with the others."""

    def __init__(self, port: int) -> None:
        self.answered = 0
        self.error: OSError | None = None
        self.listening = threading.Event()
        self.port = port
        self.thread = threading.Thread(target=lambda: pyev.run(self.main()))
        self.thread.start()
        self.listening.wait()
        if self.error:
            raise self.error

    async def main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.over = asyncio.Event()
        try:
            # Each has a socket of its own at the same port.
            server = await asyncio.start_server(self.connected, HOST, self.port, reuse_port=True)
            self.port = server.sockets[0].getsockname()[1]
        except OSError as error:
            self.error = error
            return
        finally:
            self.listening.set()
        await self.over.wait()
        server.close()  # run() cancels whoever is still served

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # the service is over
            async for line in reader:
                total = sum(range(1, int(line) + 1))
                self.answered += 1
                writer.write(f"{total}\n".encode())
        writer.close()

    def close(self) -> None:
        """From another thread: of the loop only call_soon_threadsafe() is for that."""
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join()


def serve(port: int, count: int) -> list[Service]:
    services = [Service(port)]
    services += [Service(services[0].port) for _ in range(count - 1)]
    return services


def ask(port: int, wrong: Counter[bool]) -> None:
    with socket.create_connection((HOST, port)) as connection, connection.makefile("rwb") as stream:
        for number in range(1, 51):
            stream.write(b"%d\n" % number)
            stream.flush()
            wrong[int(stream.readline()) != number * (number + 1) // 2] += 1


def demonstrate() -> None:
    services = serve(0, 2)
    # Counters are not to be shared by threads that run at the same time.
    counts = [Counter[bool]() for _ in range(20)]
    clients = [threading.Thread(target=ask, args=(services[0].port, count)) for count in counts]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    for service in services:
        service.close()
    print(
        sum(map(Counter.total, counts)), "answers,", sum(count[True] for count in counts), "wrong"
    )
    print("both have counted them:", sum(service.answered for service in services))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--serve", type=int, metavar="PORT", help="until Ctrl-C")
    port = parser.parse_args().serve
    if port is None:
        return demonstrate()
    try:
        services = serve(port, os.cpu_count() or 1)
    except OSError as error:
        raise SystemExit(f"threads.py: {error}") from None
    print(f"{len(services)} loops at {HOST}:{services[0].port}", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        for service in services:
            service.close()


if __name__ == "__main__":
    main()
