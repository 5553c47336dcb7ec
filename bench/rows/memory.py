"""Memory for connections at rest, both ends in the process; without the kernel's part."""

import gc
import pathlib
from asyncio import Protocol
from typing import Any

from rows import Stage, row
from rows.sockets import Echo, connect, keep
from rows.tls import contexts


class Idle(Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        keep.append(self)


class IdleEcho(Echo):
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        keep.append(self)


def resident() -> float:
    """MiB that are this process's alone."""
    for line in pathlib.Path("/proc/self/smaps_rollup").read_text().splitlines():
        name, size, *_ = line.split()
        if name == "Anonymous:":
            return int(size) / 1024
    raise AssertionError("no such line")


async def per_mib(stage: Stage, count: int, **options: Any) -> float:
    """Connections in a MiB, both ends."""
    keep.extend(await connect(stage, IdleEcho, Idle, count // 10, **options))
    gc.collect()
    before = resident()
    keep.extend(await connect(stage, IdleEcho, Idle, count, **options))
    gc.collect()
    return count / (resident() - before)


@row("idle TCP transports", figure=True, unit="/MiB")
async def idle_tcp(stage: Stage) -> float:
    return 2 * await per_mib(stage, 2000)


@row("idle TLS pairs", figure=True, unit="/MiB", floor=("floors_tls", "idle", "200"))
async def idle_tls(stage: Stage) -> float:
    return await per_mib(stage, 200, tls=contexts(stage))
