"""How much more two loops do at the same time than one, each in a thread of its own.

Both ends of the connections are in the thread's loop. The figure is by the clock on the wall and
for all threads together: half as much with two of them, where Python has no GIL and the machine two
cores to spare, and no less than with one where it has.
"""

import asyncio
import json
import os
import threading
import time
from typing import Any

from rows import Stage, at_size, row
from rows.sockets import Echo, keep

THREADS = (1, 2)
CONNECTIONS = 10  # in each
MESSAGE = b"x" * 64
SECONDS = 0.2  # in a sample
SAMPLES = 3


class Asking(asyncio.Protocol):
    """Asks again when the answer has come, and counts."""

    answers = 0

    def connection_made(self, transport: Any) -> None:  # uvloop's is no asyncio.Transport
        self.transport = transport
        transport.write(MESSAGE)

    def data_received(self, data: bytes) -> None:
        assert len(data) == len(MESSAGE)
        self.answers += 1
        self.transport.write(MESSAGE)


class Talk:
    """A loop in a thread, and what it has answered."""

    def __init__(self, stage: Stage) -> None:
        self.loop = stage.factory()
        self.asking: list[Asking] = []
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        self.ready.wait()
        keep.append(self)

    def run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.connect())
        self.loop.call_soon(self.ready.set)
        self.loop.run_forever()

    async def connect(self) -> None:
        server = await self.loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        for _ in range(CONNECTIONS):
            _, protocol = await self.loop.create_connection(Asking, *address[:2])
            self.asking.append(protocol)
        keep.append(server)

    def answers(self) -> int:
        return sum(protocol.answers for protocol in self.asking)


async def echoes(stage: Stage, count: int) -> float:
    ours = os.sched_getaffinity(0)
    cores = ours | set(json.loads(os.environ.get("PYEV_BENCH_OTHER_CPUS", "[]")))
    if count > len(cores):
        raise NotImplementedError(f"{count} cores are needed, {len(cores)} there")
    os.sched_setaffinity(0, cores)
    talks = [Talk(stage) for _ in range(count)]
    found = []
    for _ in range(SAMPLES):
        before, began = sum(talk.answers() for talk in talks), time.monotonic()
        time.sleep(SECONDS)
        answered, took = sum(talk.answers() for talk in talks) - before, time.monotonic() - began
        assert answered, "no echo came back"
        found.append(answered / took)
    return max(found)


for n in THREADS:
    row(
        f"a loop in each of {n} threads, 10 connections each: an echo",
        figure=True,
        unit="us",
        curve="threads",
        size=n,
    )(at_size(n, echoes))
