"""How the cost of an event depends on how many connections there are.

The clients are a program in C on another core (`floors_ring.c`), as many messages under way as
clients are active, and always others: the figure is the server's own processor time. With one
active, a turn has one event in it, so its cost is a turn's.
"""

import gc
import json
import os
import resource
import subprocess
import time
from typing import Any

from rows import Stage, at_size, row
from rows.memory import resident
from rows.sockets import Echo, keep

CONNECTIONS = (10, 100, 1_000, 10_000, 19_000)  # 20,000 descriptors is what many systems allow
PROGRAM = "floors_ring"
SPARE = 100  # descriptors for everything else
MESSAGES = 300  # at least, between two looks at the clock
SECONDS = 0.03  # of processor time, in a sample
SAMPLES = 3


class Served(Echo):
    """Stays, as an echo server's connections do that something refers to."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        keep.append(self)


class Clients:
    """The program that is the clients, and talks by lines."""

    def __init__(self, stage: Stage, port: int, count: int, active: int) -> None:
        self.loop = stage.loop
        ours = os.sched_getaffinity(0)
        elsewhere = json.loads(os.environ.get("PYEV_BENCH_OTHER_CPUS", "[]"))
        os.sched_setaffinity(0, elsewhere or ours)
        command = [str(stage.folder / PROGRAM), "drive", str(port), str(count), str(active)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        os.sched_setaffinity(0, ours)
        keep.append(self)

    async def answer(self) -> None:
        assert self.process.stdout is not None
        fd, came = self.process.stdout.fileno(), self.loop.create_future()
        self.loop.add_reader(fd, came.set_result, None)
        await came
        self.loop.remove_reader(fd)
        assert os.read(fd, 100) in (b"connected\n", b"done\n")

    async def pass_on(self, messages: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"%d\n" % messages)
        await self.answer()


async def connect(stage: Stage, count: int, active: int) -> Clients:
    """A server that so many clients have connected to."""
    needed, allowed = count + SPARE, resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if needed > allowed:
        raise NotImplementedError(f"{needed} file descriptors are needed, {allowed} allowed")
    if not (stage.folder / PROGRAM).exists():
        raise NotImplementedError("the clients were not compiled")
    server = await stage.loop.create_server(Served, "127.0.0.1", 0, backlog=1024)
    keep.append(server)
    clients = Clients(stage, server.sockets[0].getsockname()[1], count, active)
    await clients.answer()
    return clients


async def event(stage: Stage, count: int, active: int) -> float:
    clients = await connect(stage, count, active)
    await clients.pass_on(MESSAGES)  # everyone has had one when connecting
    gc.collect()
    gc.freeze()
    messages = max(active, MESSAGES)
    found = []
    for _ in range(SAMPLES):
        served, began = 0, time.process_time()
        while time.process_time() < began + SECONDS:
            await clients.pass_on(messages)
            served += messages
        found.append(served / (time.process_time() - began))
    return max(found)


async def idle(stage: Stage, count: int) -> float:
    await connect(stage, 100, 1)  # what a loop needs but once
    gc.collect()
    before = resident()
    await connect(stage, count, 1)
    gc.collect()
    return count / (resident() - before)


for n in CONNECTIONS:
    for curve, what, active in (
        ("turn", "one active", 1),
        ("few", "1 % active", max(1, n // 100)),
        ("all", "all active", n),
    ):
        row(
            f"{n:,} connections, {what}: an echo",
            figure=True,
            unit="us",
            floor=(PROGRAM, f"{n}:{active}", "64"),
            curve=curve,
            size=n,
        )(at_size(n, event, active))
    if n >= 1000:  # memory comes by the page
        row(f"{n:,} connections at rest: each", figure=True, unit="B", curve="idle", size=n)(
            at_size(n, idle)
        )
