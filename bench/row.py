"""One row of asyncio's table on one loop, in a fresh process; bench/suite.py starts it.

Prints `{"wall": [...], "cpu": [...]}`, sample by sample: units per second of the clock, and of
processor time with that of children that were waited for. With `--once TURNS` it times nothing, and
does that many turns, warm, for bench/instructions.py or other tools to count.
"""

import argparse
import asyncio
import contextlib
import gc
import inspect
import json
import os
import pathlib
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

import loops
import rows
from marks import marked
from rows import Row, Stage

Rates = dict[str, list[float]]
FREED = 8 << 20
USEFUL = 65536  # descriptors


def processor_time() -> float:
    ours = resource.getrusage(resource.RUSAGE_SELF)
    theirs = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ours.ru_utime + ours.ru_stime + theirs.ru_utime + theirs.ru_stime


class Clock:
    """Times turns of a row's work, which is called by the caller: awaited or not."""

    def __init__(self, row: Row, seconds: float) -> None:
        self.batch = row.batch
        self.seconds = seconds
        self.turns = 1
        self.calibrated = False
        self.rates: Rates = {"wall": [], "cpu": []}

    def start(self) -> None:
        self.cpu = processor_time()
        self.wall = time.perf_counter()

    def stop(self) -> None:
        wall = time.perf_counter() - self.wall
        cpu = processor_time() - self.cpu
        if self.calibrated:
            units = self.turns * self.batch
            self.rates["wall"].append(units / wall)
            # Clocks of processor time may be coarser than a sample is long.
            self.rates["cpu"].append(units / max(cpu, 1e-6))
        elif wall > self.seconds / 4:
            self.turns = max(1, round(self.turns * self.seconds / wall))
            self.calibrated = True
        else:
            self.turns *= 2


async def time_work(work: rows.Work, clock: Clock, samples: int) -> None:
    while len(clock.rates["wall"]) < samples:
        clock.start()
        await work(clock.turns)
        clock.stop()


def time_plain(work: rows.PlainWork, clock: Clock, samples: int) -> None:
    while len(clock.rates["wall"]) < samples:
        clock.start()
        work(clock.turns)
        clock.stop()


def measure(
    row: Row,
    stage: Callable[..., Stage],
    samples: int,
    seconds: float,
    counted: Iterator[int] | None,
) -> Rates:
    clock = Clock(row, seconds)

    def single(figure: float) -> Rates:
        return {"wall": [figure], "cpu": [figure]}

    async def main() -> None:
        found = await row.prepare(stage(asyncio.get_running_loop()))
        if row.figure:
            finish(single(found))
        gc.collect()
        gc.freeze()  # collections go on, but not over what was there before
        if counted:
            for turns in counted:
                await found(turns)
            finish({})
        await time_work(found, clock, samples)
        finish(clock.rates)  # without closing the loop: some cannot

    if inspect.iscoroutinefunction(row.prepare):
        asyncio.Runner(loop_factory=stage(None).factory).run(main())
    found = row.prepare(stage(None))
    if row.figure:
        return single(found)
    if counted:
        for turns in counted:
            found(turns)
        return {}
    time_plain(found, clock, samples)
    return clock.rates


def use_heap() -> None:
    """Frees a large block, as any program has that has run for a while.

    glibc maps large blocks and gives each back, until a larger one has been freed: a loop that
    reads into 256 KiB pays page faults for every read, or not, by what else the program ever did.
    That is a factor of five, and no loop should win or lose by an import.
    """
    block = bytearray(FREED)
    del block


def raise_limit() -> None:
    """Room for many connections: as much as is useful, where one may, or what is allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limits in ((USEFUL, max(hard, USEFUL)), (min(hard, USEFUL), hard)):
        with contextlib.suppress(ValueError, OSError):
            return resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def finish(rates: Rates) -> NoReturn:
    json.dump(rates, sys.stdout)
    sys.stdout.flush()
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("loop")
    parser.add_argument("row")
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.05, help="length of a sample (0.05)")
    parser.add_argument("--once", type=int, metavar="TURNS", help="and no samples")
    parser.add_argument("--marks", metavar="LIBRARY", help="marks.c compiled: callgrind counts")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("."))
    arguments = parser.parse_args()
    raise_limit()
    use_heap()
    factory = loops.factory(arguments.loop)

    def stage(loop: asyncio.AbstractEventLoop) -> Stage:
        return Stage(loop, factory, arguments.loop, arguments.folder)

    row = rows.load()[arguments.row]
    counted = marked(arguments.once, arguments.marks) if arguments.once else None
    finish(measure(row, stage, arguments.samples, arguments.seconds, counted))


if __name__ == "__main__":
    main()
