"""How the cost of a timer, in processor time, depends on how many others are pending."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

from rows import Stage, at_size, row
from rows.sockets import keep

PENDING = (10, 1_000, 100_000, 1_000_000)
SOME = 10_000  # timers added, cancelled and fired among the pending ones
SAMPLES = 5


def nothing() -> None:
    pass


class Pending:
    """Many timers that will not fire, and some more that come and go among them."""

    def __init__(self, stage: Stage, count: int) -> None:
        self.loop = stage.loop
        self.random = random.Random(1)
        call_later = self.loop.call_later
        keep.extend(call_later(delay, nothing) for delay in self.delays(count))

    def delays(self, count: int) -> list[float]:
        return [1000.0 + 1000.0 * self.random.random() for _ in range(count)]

    def add(self) -> tuple[float, list[Any]]:
        """Adds some timers anywhere among the others, and says how long that took."""
        delays, call_later = self.delays(SOME), self.loop.call_later
        began = time.process_time()
        handles = [call_later(delay, nothing) for delay in delays]
        return time.process_time() - began, handles

    def cancel(self, handles: list[Any]) -> float:
        self.random.shuffle(handles)
        began = time.process_time()
        for handle in handles:
            handle.cancel()
        return time.process_time() - began

    async def fire(self) -> float:
        """Lets some timers become due together, and says how long it takes until all have run."""
        done = self.loop.create_future()
        left = SOME

        def fired() -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set_result(None)

        due = self.loop.time() + 0.05
        for _ in range(SOME):
            self.loop.call_at(due + 0.001 * self.random.random(), fired)
        while self.loop.time() < due + 0.003:  # some loops count milliseconds
            time.sleep(0.001)
        began = time.process_time()
        await done
        return time.process_time() - began


async def best(sample: Callable[[], Any]) -> float:
    return SOME / min([await sample() for _ in range(SAMPLES)])


async def add(stage: Stage, count: int) -> float:
    pending = Pending(stage, count)

    async def sample() -> float:
        spent, handles = pending.add()
        pending.cancel(handles)
        await asyncio.sleep(0)
        return spent

    return await best(sample)


async def cancel(stage: Stage, count: int) -> float:
    pending = Pending(stage, count)

    async def sample() -> float:
        spent = pending.cancel(pending.add()[1])
        await asyncio.sleep(0)
        return spent

    return await best(sample)


async def fire(stage: Stage, count: int) -> float:
    return await best(Pending(stage, count).fire)


for n in PENDING:
    for prepare, what in ((add, "add"), (cancel, "cancel"), (fire, "fire")):
        row(f"{n:,} timers pending: {what} one", figure=True, unit="ns", curve=what, size=n)(
            at_size(n, prepare)
        )
