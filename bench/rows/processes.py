"""Subprocesses. They share the one core: what they take themselves is in the figures."""

import asyncio
from itertools import repeat
from subprocess import PIPE

from rows import Stage, Work, row

MIB = 1 << 20
SIZE = 64 * MIB


@row("subprocess spawn, wait")
async def spawn(stage: Stage) -> Work:
    async def run(turns: int) -> None:
        for _ in repeat(None, turns):
            process = await asyncio.create_subprocess_exec("/bin/true")
            assert await process.wait() == 0

    return run


@row("subprocess stdout to EOF", unit="MiB/s", batch=SIZE / MIB)
async def subprocess_stdout(stage: Stage) -> Work:
    async def run(turns: int) -> None:
        for _ in repeat(None, turns):
            process = await asyncio.create_subprocess_exec(
                "head", "-c", str(SIZE), "/dev/zero", stdout=PIPE
            )
            assert process.stdout is not None
            size = 0
            while data := await process.stdout.read(64 * 1024):
                size += len(data)
            assert size == SIZE
            assert await process.wait() == 0

    return run
