"""Watchers awaited and iterated over, told, cancelled, stopped and dropped while somebody waits."""

import asyncio
import contextlib
import contextvars
import gc

from leak_probe import COUNT, Probe, nothing

import pyev

TIMES = 100  # in each run of the loop
probe = Probe()
data = probe.data
aloop = pyev.new_event_loop()
aloop.set_exception_handler(lambda loop, context: None)
ev = aloop.ev
timer = ev.timer(1000.0, 1000.0, None, data)
called = ev.timer(1000.0, 0.0, nothing, data)
variable: contextvars.ContextVar[object] = contextvars.ContextVar("variable")
variable.set(data)
probe.involved += [aloop, ev, timer, called]


async def awaited() -> None:
    for _ in range(TIMES):
        aloop.call_soon(timer.invoke, pyev.EV_TIMER)
        assert await timer == pyev.EV_TIMER


async def unheard() -> None:
    for _ in range(TIMES):
        timer.invoke(pyev.EV_TIMER)
        timer.invoke(pyev.EV_TIMER)
    for _ in range(2 * TIMES):
        assert await timer == pyev.EV_TIMER


async def cancelled() -> None:
    for number in range(TIMES):
        task = asyncio.ensure_future(timer)
        await asyncio.sleep(0)
        if number % 2:
            timer.invoke(pyev.EV_TIMER)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    timer.clear()


async def iterated() -> None:
    for _ in range(TIMES):
        aloop.call_soon(timer.invoke, pyev.EV_TIMER)
        async for revents in timer:
            assert revents == pyev.EV_TIMER
            break


async def over(watcher: pyev.Timer) -> None:
    async for _ in watcher:
        await asyncio.sleep(1000)


async def iterations_cancelled() -> None:
    for number in range(TIMES):
        task = asyncio.ensure_future(over(timer))
        await asyncio.sleep(0)
        if number % 2:
            timer.invoke(pyev.EV_TIMER)
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def stopped() -> None:
    for _ in range(TIMES):
        tasks = [asyncio.ensure_future(timer), asyncio.ensure_future(over(timer))]
        await asyncio.sleep(0)
        timer.stop()
        await asyncio.gather(*tasks, return_exceptions=True)
        tasks.clear()


async def failed() -> None:
    for number in range(TIMES):
        if number % 2:
            task = asyncio.ensure_future(timer)
            await asyncio.sleep(0)
            timer.invoke(pyev.EV_ERROR)
            with contextlib.suppress(pyev.Error):
                await task
            del task
        else:
            timer.invoke(pyev.EV_ERROR)
            with contextlib.suppress(pyev.Error):
                await timer


async def dropped() -> None:
    for _ in range(TIMES):
        watcher = ev.timer(1000.0, 0.0, None, data)
        wait = watcher.__await__()
        next(wait)
        watcher.invoke(pyev.EV_TIMER)
        watcher.data = [aiter(watcher), watcher.__await__(), watcher]
        del watcher, wait
    gc.collect()


async def refused() -> None:
    for _ in range(TIMES):
        for wrong in (called.__await__, timer.start, probe.loop.timer(1, 0, nothing).__await__):
            with contextlib.suppress(TypeError, RuntimeError):
                wrong()


async def in_context() -> None:
    for _ in range(TIMES):
        with called:
            called.invoke(pyev.EV_TIMER)
        called.callback = print
        called.callback = None
        called.callback = nothing


def loops_closed() -> None:
    """With a task that can't go on."""
    loop = pyev.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    task = loop.create_task(over(loop.ev.timer(1000.0, 0.0, None, data)))
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    del task


def loops_dropped() -> None:
    loop = pyev.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    loop.create_task(over(loop.ev.timer(1000.0, 0.0, None, data)))
    loop.call_soon(loop.stop)
    loop.run_forever()


ways = [
    awaited, unheard, cancelled, iterated, iterations_cancelled, stopped, failed, dropped, refused,
    in_context,
]  # fmt: skip
for way in ways:
    probe.run(way.__name__, lambda way=way: aloop.run_until_complete(way()), COUNT // TIMES)
for loop_way in (loops_closed, loops_dropped):
    for _ in range(2000):  # freed handles are kept, some hundreds of them
        loop_way()
    gc.collect()
    probe.run(loop_way.__name__, loop_way, COUNT // 20)
timer.stop()
aloop.close()
probe.end()
