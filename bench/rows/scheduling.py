"""Callbacks, timers, tasks, threads: no descriptor but the loop's own."""

import asyncio
import random
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable
from itertools import repeat
from typing import Any

from rows import PlainWork, Stage, Work, row

BATCH = 1000
TIMERS = 100_000
Schedule = Callable[..., Any]


def nothing() -> None:
    pass


def two(first: object, second: object) -> None:
    pass


async def batches(
    loop: AbstractEventLoop, schedule: Schedule, fill: Callable[[Callable[..., None]], None]
) -> Work:
    """Turns of `fill(callback)`, which schedules BATCH - 1 of them; one more follows each batch."""

    async def run(turns: int, callback: Callable[..., None] | None = None) -> None:
        done = loop.create_future()
        usual = two if fill.__name__ == "fill_two" else nothing
        called = callback or usual

        def batch() -> None:
            nonlocal turns
            if turns:
                turns -= 1
                fill(called)
                schedule(batch)
            else:
                done.set_result(None)

        schedule(batch)
        await done

    calls = 0

    def count(*arguments: object) -> None:
        nonlocal calls
        calls += 1

    await run(3, count)
    assert calls == 3 * (BATCH - 1), calls
    return run


@row("call_soon, batches of 1000", batch=BATCH)
async def call_soon(stage: Stage) -> Work:
    schedule = stage.loop.call_soon

    def fill(callback: Callable[..., None]) -> None:
        for _ in repeat(None, BATCH - 1):
            schedule(callback)

    return await batches(stage.loop, schedule, fill)


@row("call_soon, two arguments", batch=BATCH)
async def call_soon_arguments(stage: Stage) -> Work:
    schedule = stage.loop.call_soon

    def fill_two(callback: Callable[..., None]) -> None:
        for _ in repeat(None, BATCH - 1):
            schedule(callback, 1, 2)

    return await batches(stage.loop, schedule, fill_two)


@row("call_soon, each schedules the next")
async def call_soon_chain(stage: Stage) -> Work:
    call_soon = stage.loop.call_soon

    async def run(turns: int) -> None:
        done = stage.loop.create_future()

        def link() -> None:
            nonlocal turns
            turns -= 1
            if turns:
                call_soon(link)
            else:
                done.set_result(None)

        call_soon(link)
        await done

    return run


@row("call_soon_threadsafe, batches of 1000", batch=BATCH)
async def call_soon_threadsafe(stage: Stage) -> Work:
    schedule = stage.loop.call_soon_threadsafe

    def fill(callback: Callable[..., None]) -> None:
        for _ in repeat(None, BATCH - 1):
            schedule(callback)

    return await batches(stage.loop, schedule, fill)


@row("another thread posts and waits")
async def thread_posts(stage: Stage) -> Work:
    loop = stage.loop

    async def run(turns: int) -> None:
        done = loop.create_future()
        lock = threading.Lock()
        lock.acquire()

        def post() -> None:
            for _ in repeat(None, turns):
                loop.call_soon_threadsafe(lock.release)
                lock.acquire()
            loop.call_soon_threadsafe(done.set_result, None)

        thread = threading.Thread(target=post)
        thread.start()
        await done
        thread.join()

    return run


@row("call_later, cancel", batch=BATCH)
async def call_later_cancel(stage: Stage) -> Work:
    call_later = stage.loop.call_later

    async def run(turns: int) -> None:
        for _ in repeat(None, turns):
            for _ in repeat(None, BATCH):
                handle = call_later(1000.0, nothing)
                handle.cancel()
            assert handle.cancelled()
            await asyncio.sleep(0)

    return run


@row("100,000 timers fire", batch=TIMERS)
async def timers_fire(stage: Stage) -> Work:
    loop = stage.loop
    generator = random.Random(1)
    delays = [generator.random() * 0.01 for _ in range(TIMERS)]

    async def run(turns: int) -> None:
        for _ in repeat(None, turns):
            done = loop.create_future()
            left = TIMERS

            def fired() -> None:
                nonlocal left
                left -= 1
                if not left:
                    done.set_result(None)  # noqa: B023

            now = loop.time()
            call_at = loop.call_at
            for delay in delays:
                call_at(now + delay, fired)
            await done

    return run


@row("await sleep(0)")
async def sleep_0(stage: Stage) -> Work:
    sleep = asyncio.sleep

    async def run(turns: int) -> None:
        for _ in repeat(None, turns):
            await sleep(0)

    return run


@row("gather of 100 tasks", batch=100)
async def gather(stage: Stage) -> Work:
    async def task(number: int) -> int:
        return number

    async def run(turns: int) -> None:
        for _ in repeat(None, turns):
            assert sum(await asyncio.gather(*map(task, range(100)))) == 4950

    return run


@row("future set, awaited")
async def future(stage: Stage) -> Work:
    create_future, call_soon = stage.loop.create_future, stage.loop.call_soon

    async def run(turns: int) -> None:
        for number in range(turns):
            waiter = create_future()
            call_soon(waiter.set_result, number)
            assert await waiter == number

    return run


@row("Queue put, get")
async def queue(stage: Stage) -> Work:
    between: asyncio.Queue[int] = asyncio.Queue(100)

    async def put(turns: int) -> None:
        for number in range(turns):
            await between.put(number)

    async def run(turns: int) -> None:
        task = asyncio.create_task(put(turns))
        total = 0
        for _ in repeat(None, turns):
            total += await between.get()
        await task
        assert total == turns * (turns - 1) // 2

    return run


@row("asyncio.timeout around sleep(0)")
async def timeout(stage: Stage) -> Work:
    async def run(turns: int) -> None:
        for _ in repeat(None, turns):
            async with asyncio.timeout(1000.0) as scope:
                await asyncio.sleep(0)
        assert not scope.expired()

    return run


@row("new loop, run, close")
def new_loop(stage: Stage) -> PlainWork:
    async def answer(number: int) -> int:
        return number

    def run(turns: int) -> None:
        for number in range(turns):
            loop = stage.factory()
            assert loop.run_until_complete(answer(number)) == number
            loop.close()

    return run


@row("getaddrinfo, numeric")
async def getaddrinfo(stage: Stage) -> Work:
    loop = stage.loop

    async def run(turns: int) -> None:
        for _ in repeat(None, turns):
            found = await loop.getaddrinfo("127.0.0.1", 80)
        assert found[0][4] == ("127.0.0.1", 80)

    return run


@row("run_in_executor")
async def executor(stage: Stage) -> Work:
    loop = stage.loop

    async def run(turns: int) -> None:
        for number in range(turns):
            assert await loop.run_in_executor(None, int, number) == number

    return run
