"""Watchers without a callback: `await watcher` and `async for revents in watcher`."""

import asyncio
import collections.abc
import contextlib
import gc
import inspect
import os
import signal
import subprocess
import threading
import weakref

import pytest

import pyev

COUNTED = ("timer", "periodic", "scheduler")
MERGED = ("signal", "child", "stat", "fork", "async_")
NOT_WATCHED = ("io", "idle", "prepare", "check")
KINDS = COUNTED + MERGED + NOT_WATCHED


@pytest.fixture
def make(ours, pair, tmp_path):
    """Makes a watcher of a kind that will not fire by itself, but for those that always do."""
    with contextlib.ExitStack() as stack:

        def make(name, *rest, **keywords):
            def child():
                process = stack.enter_context(subprocess.Popen(["cat"], stdin=subprocess.PIPE))
                return (process.pid, False)

            arguments = {
                "io": lambda: (pair[0], pyev.EV_READ),
                "timer": lambda: (1000.0, 0.0),
                "periodic": lambda: (0.0, 1e6),
                "scheduler": lambda: (lambda w, now: now + 1000,),
                "signal": lambda: (signal.SIGUSR1,),
                "child": child,
                "stat": lambda: (tmp_path / "file", 1000.0),
            }.get(name, tuple)
            return getattr(ours.ev, name)(*arguments(), *rest, **keywords)

        yield make


def bit(name):
    names = {"io": "READ", "scheduler": "PERIODIC", "async_": "ASYNC"}
    return getattr(pyev, f"EV_{names.get(name, name.upper())}")


async def turns(count=3):
    """Polls, without waiting."""
    for _ in range(count):
        await asyncio.sleep(0)
        await asyncio.get_running_loop().ev.idle()


async def waits(*watchers):
    """Tasks that are waiting for watchers."""
    tasks = [asyncio.ensure_future(watcher) for watcher in watchers]
    await asyncio.sleep(0)
    return tasks


# The events themselves


def test_every_kind(ours, pair, tmp_path):
    path = tmp_path / "file"
    ours.set_exception_handler(None)

    async def main():
        ev = ours.ev
        ours.call_soon(pair[1].send, b"x")
        assert await ev.io(pair[0], pyev.EV_READ) == pyev.EV_READ
        assert await ev.timer(0.001, 0.0) == pyev.EV_TIMER
        assert await ev.periodic(0.0, 0.01) == pyev.EV_PERIODIC
        assert await ev.scheduler(lambda w, now: now + 0.001) == pyev.EV_PERIODIC
        ours.call_soon(signal.raise_signal, signal.SIGUSR1)
        assert await ev.signal(signal.SIGUSR1) == pyev.EV_SIGNAL
        with subprocess.Popen(["false"]) as process:
            child = ev.child(process.pid, False)
            assert await child == pyev.EV_CHILD
            assert os.waitstatus_to_exitcode(child.rstatus) == 1
        ours.call_soon(path.touch)
        assert await ev.stat(path, 0.1) == pyev.EV_STAT
        assert await ev.idle() == pyev.EV_IDLE
        assert await ev.prepare() == pyev.EV_PREPARE
        ours.call_later(0.001, int)
        assert await ev.check() == pyev.EV_CHECK
        async_ = ev.async_()
        thread = threading.Thread(target=async_.send)
        ours.call_soon(thread.start)
        assert await async_ == pyev.EV_ASYNC
        thread.join()
        fork = ev.fork()
        ours.call_soon(fork.feed, pyev.EV_FORK)
        assert await fork == pyev.EV_FORK
        assert await ev.once(pair[0], pyev.EV_READ, 1000.0) == pyev.EV_READ
        assert await ev.once(None, 0, 0.001) == pyev.EV_TIMER

    ours.run_until_complete(main())


@pytest.mark.parametrize("name", KINDS)
def test_a_callback_may_be_left_out(ours, make, name):
    for watcher in (make(name), make(name, None, "data"), make(name, callback=None, data="data")):
        assert watcher.callback is None
        assert not watcher.active
    assert watcher.data == "data"
    with pytest.raises(TypeError, match="await it"):
        watcher.start()
    with pytest.raises(TypeError, match="await it"), watcher:
        pass
    assert not watcher.active


def test_constructors_too(ours):
    assert pyev.Timer(1.0, 0.0, ours.ev).callback is None
    assert pyev.Async(ours.ev, data=1).data == 1
    assert pyev.Stat(loop=ours.ev, path="/").interval == 0.0
    with pytest.raises(TypeError, match="loop"):
        pyev.Stat("/")

    class Own(pyev.Timer):
        def __init__(self):
            super().__init__(0.0, 0.0, ours.ev)

    async def main():
        return await Own()

    assert ours.run_until_complete(main()) == pyev.EV_TIMER


def test_on_a_plain_loop_it_is_required(ours):
    plain = pyev.Loop()
    with plain:
        for wrong in (
            lambda: plain.timer(1.0, 0.0),
            lambda: plain.timer(1.0, 0.0, None),
            lambda: plain.stat("/"),
            lambda: pyev.Timer(1.0, 0.0, plain),
            lambda: plain.once(None, 0, 1.0),
        ):
            with pytest.raises(TypeError, match="callback"):
                wrong()
        for loop in (plain, ours.ev):
            assert loop.stat("/", callback=print).interval == 0.0
        watcher = plain.timer(1.0, 0.0, print)
        with pytest.raises(TypeError):
            watcher.callback = None


def test_what_cannot_be_awaited(ours):
    async def main():
        with pytest.raises(TypeError, match="callback"):
            ours.ev.cleanup()
        with pyev.Loop() as other:
            embed = ours.ev.embed(other)
            embed.start()  # it runs the other loop
            with pytest.raises(TypeError, match="cannot be awaited"):
                await embed
            embed.stop()
        called = ours.ev.timer(1.0, 0.0, print)
        with pytest.raises(TypeError, match="has a callback"):
            await called
        with pytest.raises(TypeError, match="has a callback"):
            async for _ in called:
                pass

    ours.run_until_complete(main())


def test_stats_interval(ours):
    assert ours.ev.stat("/").interval == 0.0
    assert ours.ev.stat("/", data=1).data == 1
    watcher = ours.ev.stat("/", 2.0)
    assert watcher.interval == 2.0
    with pytest.raises(TypeError):
        watcher.set("/")


# await


def test_await_starts_it_and_lets_it_run(ours):
    async def main():
        timer = ours.ev.timer(0.0, 0.0001)
        for _ in range(3):
            assert await timer == pyev.EV_TIMER
            assert timer.active
        timer.stop()

    ours.run_until_complete(main())


def test_a_one_shot_timer_ends_by_itself(ours):
    async def main():
        timer = ours.ev.timer(0.0, 0.0)
        await timer
        assert not timer.active
        timer.set(0.001, 0.0)
        await timer

    ours.run_until_complete(main())


@pytest.mark.parametrize("name", COUNTED)
def test_counted(ours, make, name):
    async def main():
        watcher = make(name)
        for _ in range(3):
            watcher.invoke(bit(name))
        task = asyncio.ensure_future(take(watcher, 3))
        assert await task == [bit(name)] * 3
        [task] = await waits(watcher)
        assert not task.done()
        task.cancel()

    ours.run_until_complete(main())


@pytest.mark.parametrize("name", MERGED)
def test_merged(ours, make, name):
    async def main():
        watcher = make(name)
        watcher.invoke(bit(name))
        watcher.invoke(pyev.EV_CUSTOM)
        assert await watcher == bit(name) | pyev.EV_CUSTOM
        [task] = await waits(watcher)
        assert not task.done()
        task.cancel()

    ours.run_until_complete(main())


@pytest.mark.parametrize("name", NOT_WATCHED)
def test_not_watched_while_nobody_waits(ours, make, pair, name):
    async def main():
        watcher = make(name)
        pair[1].send(b"x")
        ours.call_later(0.001, int)
        assert await watcher == bit(name)
        await turns()
        assert not watcher.active  # or the loop would turn all the time
        watcher.invoke(bit(name))
        pair[0].recv(1)
        if name == "io":
            [task] = await waits(watcher)
            assert watcher.active
            await turns()
            assert not task.done()
            task.cancel()

    ours.run_until_complete(main())


async def take(watcher, count):
    return [await watcher for _ in range(count)]


def test_expirations_while_nobody_waits(ours):
    async def main():
        counts = []
        timer = ours.ev.timer(0.0, 0.001)
        like = ours.ev.timer(0.0, 0.001, lambda w, revents: counts.append(revents))
        for drop in (True, False):
            await timer
            counts.clear()
            with like:
                while len(counts) < 4:
                    await turns(1)
            if drop:
                timer.stop()
                assert timer.clear() == 0
        for _ in range(3):
            [task] = await waits(timer)
            assert task.done()
        timer.stop()

    ours.run_until_complete(main())


def test_signals_while_nobody_waits_do_not_end_the_process(ours):
    async def main():
        watcher = ours.ev.signal(signal.SIGUSR1)
        [task] = await waits(watcher)
        for _ in range(2):
            signal.raise_signal(signal.SIGUSR1)
        await task
        signal.raise_signal(signal.SIGUSR1)
        await turns()
        [task] = await waits(watcher)
        assert task.done()
        watcher.stop()

    ours.run_until_complete(main())


def test_clear_and_set_drop_what_nobody_has_heard(ours):
    async def main():
        timer = ours.ev.timer(1000.0, 0.0)
        timer.invoke(pyev.EV_TIMER)
        assert timer.clear() == pyev.EV_TIMER
        assert timer.clear() == 0
        timer.invoke(pyev.EV_TIMER)
        timer.set(1000.0, 0.0)
        [task] = await waits(timer)
        assert not task.done()
        task.cancel()
        await asyncio.sleep(0)
        timer.invoke(pyev.EV_TIMER)
        timer.stop()
        timer.__init__(1000.0, 0.0, ours.ev)
        [task] = await waits(timer)
        assert not task.done()
        task.cancel()

    ours.run_until_complete(main())


def test_a_cancelled_wait_leaves_it_active(ours):
    async def main():
        watcher = ours.ev.async_()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(watcher, 0.001)
        assert watcher.active
        watcher.send()
        await turns()
        [task] = await waits(watcher)
        assert task.done()
        watcher.stop()

    ours.run_until_complete(main())


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_an_event_told_to_one_who_is_cancelled_is_kept(ours, how):
    async def main():
        timer = ours.ev.timer(1000.0, 0.0)
        if how == "cancel":
            [task] = await waits(timer)
            timer.invoke(pyev.EV_TIMER)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            wait = timer.__await__()
            next(wait)
            timer.invoke(pyev.EV_TIMER)
            wait.close()
        [task] = await waits(timer)
        assert task.done()
        timer.stop()

    ours.run_until_complete(main())


def test_two_waiters_get_the_same_event(ours):
    async def main():
        timer = ours.ev.timer(1000.0, 0.0)
        tasks = await waits(timer, timer, timer)
        tasks[1].cancel()
        await asyncio.sleep(0)
        timer.invoke(pyev.EV_TIMER)
        assert await asyncio.gather(tasks[0], tasks[2]) == [pyev.EV_TIMER] * 2
        [task] = await waits(timer)
        assert not task.done()  # everybody has heard it
        task.cancel()
        timer.stop()

    ours.run_until_complete(main())


def test_many_waiters(ours):
    async def main():
        watcher = ours.ev.async_()
        tasks = await waits(*[watcher] * 1000)
        watcher.send()
        assert await asyncio.gather(*tasks) == [pyev.EV_ASYNC] * 1000
        watcher.stop()

    ours.run_until_complete(main())


def test_what_is_made_of_awaitables(ours):
    async def main():
        ev = ours.ev
        assert await asyncio.gather(ev.timer(0.0, 0.0), ev.timer(0.001, 0.0)) == [256, 256]
        assert await asyncio.wait_for(ev.timer(0.0, 0.0), 1000) == pyev.EV_TIMER
        assert await asyncio.shield(ev.timer(0.0, 0.0)) == pyev.EV_TIMER
        async with asyncio.timeout(1000):
            await ev.timer(0.0, 0.0)
        timer = ev.timer(0.0, 0.0)
        assert inspect.isawaitable(timer)
        assert isinstance(timer, collections.abc.AsyncIterable)

    ours.run_until_complete(main())


# async for


def test_iteration_starts_and_stops_it(ours):
    async def main():
        timer = ours.ev.timer(0.0, 0.0001)
        seen = []
        async for revents in timer:
            assert timer.active
            seen.append(revents)
            if len(seen) == 3:
                break
        assert seen == [pyev.EV_TIMER] * 3
        assert not timer.active

    ours.run_until_complete(main())


async def iterate(watcher, body=None):
    async for revents in watcher:
        if body:
            await body(revents)


@pytest.mark.parametrize("name", [kind for kind in KINDS if kind not in NOT_WATCHED[1:]])
@pytest.mark.parametrize("where", ["waiting", "in the body"])
def test_the_way_out(ours, make, name, where):
    """Cancelled, and by an exception."""

    async def main():
        watcher = make(name)
        event = asyncio.Event()

        async def body(revents):
            event.set()
            await asyncio.sleep(1000)

        task = asyncio.create_task(iterate(watcher, body))
        await asyncio.sleep(0)
        assert watcher.active
        if where == "in the body":
            watcher.invoke(bit(name))
            await event.wait()
            assert watcher.active
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not watcher.active

        async def fail(revents):
            raise LookupError

        task = asyncio.create_task(iterate(watcher, fail))
        await asyncio.sleep(0)
        watcher.invoke(bit(name))
        with pytest.raises(LookupError):
            await task
        assert not watcher.active

    ours.run_until_complete(main())


@pytest.mark.parametrize(("names", "count"), [(COUNTED, 3), (MERGED, 1), (NOT_WATCHED, 0)])
def test_events_during_the_body(ours, make, names, count):
    async def main():
        for name in names:
            watcher = make(name)
            iterator = aiter(watcher)
            for _ in range(3):
                watcher.invoke(bit(name))
            for _ in range(count):
                assert await anext(iterator) == bit(name)
            if name not in NOT_WATCHED[1:]:
                task = asyncio.ensure_future(anext(iterator))
                await asyncio.sleep(0)
                assert not task.done()
                watcher.stop()
                with pytest.raises(StopAsyncIteration):
                    await task

    ours.run_until_complete(main())


def test_what_ends_by_itself_ends_the_iteration(ours):
    async def main():
        seen = []
        async for revents in ours.ev.timer(0.0, 0.0):
            seen.append(revents)
        with subprocess.Popen(["true"]) as process:
            child = ours.ev.child(process.pid, False)
            async for revents in child:
                seen.append(revents)
            with pytest.raises(ProcessLookupError):
                await child
        async for revents in ours.ev.once(None, 0, 0.0):
            seen.append(revents)
        assert seen == [pyev.EV_TIMER, pyev.EV_CHILD, pyev.EV_TIMER]

    ours.run_until_complete(main())


def test_two_iterations_get_each_event(ours):
    async def main():
        timer = ours.ev.timer(1000.0, 1000.0)
        first, second = aiter(timer), aiter(timer)
        [task] = await waits(timer)
        for _ in range(3):
            timer.invoke(pyev.EV_TIMER)
        assert await task == pyev.EV_TIMER
        for iterator in (first, second):
            for _ in range(3):
                assert await anext(iterator) == pyev.EV_TIMER
        del first, iterator
        assert timer.active
        del second
        assert not timer.active

    ours.run_until_complete(main())


def test_an_iteration_leaves_it_to_those_who_wait(ours):
    async def main():
        timer = ours.ev.timer(1000.0, 1000.0)
        iterator = aiter(timer)
        [task] = await waits(timer)
        del iterator
        assert timer.active
        timer.invoke(pyev.EV_TIMER)
        assert await task == pyev.EV_TIMER
        timer.stop()

    ours.run_until_complete(main())


def test_the_first_to_come_gets_what_nobody_has_heard(ours):
    async def main():
        timer = ours.ev.timer(1000.0, 1000.0)
        timer.invoke(pyev.EV_TIMER)
        timer.invoke(pyev.EV_TIMER)
        first, second = aiter(timer), aiter(timer)
        assert await anext(first) == await anext(first) == pyev.EV_TIMER
        task = asyncio.ensure_future(anext(second))
        await asyncio.sleep(0)
        assert not task.done()
        task.cancel()

    ours.run_until_complete(main())


def test_a_cancelled_step_of_an_iteration_loses_nothing(ours):
    async def main():
        timer = ours.ev.timer(1000.0, 1000.0)
        iterator = aiter(timer)
        task = asyncio.ensure_future(anext(iterator))
        await asyncio.sleep(0)
        timer.invoke(pyev.EV_TIMER)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await anext(iterator) == pyev.EV_TIMER

    ours.run_until_complete(main())


def test_one_iterator_is_for_one_coroutine(ours):
    async def main():
        iterator = aiter(ours.ev.timer(1000.0, 1000.0))
        assert aiter(iterator) is iterator
        task = asyncio.ensure_future(anext(iterator))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another coroutine"):
            await anext(iterator)
        task.cancel()

    ours.run_until_complete(main())


# Ends of all sorts


def test_stopped_while_awaited(ours):
    async def main():
        timer = ours.ev.timer(1000.0, 1000.0)
        iterator = aiter(timer)
        timer.invoke(pyev.EV_TIMER)
        tasks = await waits(timer, timer)
        timer.stop()
        assert not timer.active
        for task in tasks:
            with pytest.raises(pyev.Error, match="stopped while it was awaited"):
                await task
        with pytest.raises(StopAsyncIteration):
            await anext(iterator)
        timer.stop()
        [task] = await waits(timer)
        assert timer.active
        with pytest.raises(StopAsyncIteration):
            await anext(iterator)
        del iterator
        assert timer.active  # that one's end is no concern of those who wait now
        timer.stop()
        with pytest.raises(pyev.Error):
            await task

    ours.run_until_complete(main())


def test_reset_pushes_back_and_stops(ours):
    async def main():
        timer = ours.ev.timer(1000.0, 0.001)
        with pytest.raises(TypeError):
            timer.reset()
        [task] = await waits(timer)
        timer.reset()
        assert await task == pyev.EV_TIMER
        [task] = await waits(timer)
        timer.repeat = 0.0
        timer.reset()
        with pytest.raises(pyev.Error, match="stopped"):
            await task
        with pytest.raises(TypeError):
            ours.ev.periodic(0.0, 1.0).reset()
        with pytest.raises(TypeError):
            ours.ev.scheduler(lambda w, now: now).reset()

    ours.run_until_complete(main())


def test_initialised_anew_while_awaited(ours):
    async def main():
        timer = ours.ev.timer(1000.0, 0.0)
        [task] = await waits(timer)
        with pytest.raises(pyev.Error, match="active"):
            timer.__init__(1.0, 0.0, ours.ev)
        assert not task.done()
        timer.stop()
        with pytest.raises(pyev.Error):
            await task
        seen = []
        timer.__init__(0.0, 0.0, ours.ev, lambda w, revents: seen.append(revents))
        timer.start()
        await turns()
        assert seen == [pyev.EV_TIMER]

    ours.run_until_complete(main())


def test_a_dead_descriptor(ours, pair):
    async def main():
        await ours.ev.timer(0.001, 0.0)  # the loop opens what it needs itself
        number = os.dup(pair[0].fileno())
        watcher = ours.ev.io(number, pyev.EV_READ)
        [task] = await waits(watcher)
        os.close(number)
        with pytest.raises(OSError, match="Bad file descriptor"):
            await task
        with pytest.raises(OSError, match="Bad file descriptor"):
            await watcher
        with pytest.raises(OSError, match="Bad file descriptor"):
            async for _ in watcher:
                pass
        watcher.set(pair[0], pyev.EV_WRITE)
        assert await watcher == pyev.EV_WRITE

    ours.run_until_complete(main())


def test_a_descriptor_that_dies_while_nobody_waits(ours, pair):
    async def main():
        await ours.ev.timer(0.001, 0.0)  # the loop opens what it needs itself
        number = os.dup(pair[0].fileno())
        await ours.ev.io(number, pyev.EV_WRITE)
        watcher = ours.ev.io(number, pyev.EV_WRITE)
        await watcher
        os.close(number)
        await turns()
        with pytest.raises(OSError, match="Bad file descriptor"):
            await watcher

    ours.run_until_complete(main())


@pytest.mark.parametrize("name", [kind for kind in KINDS if kind not in NOT_WATCHED[1:]])
def test_ev_error(ours, errors, make, name):
    async def main():
        watcher = make(name)
        iterator = aiter(watcher)
        [task] = await waits(watcher)
        watcher.invoke(bit(name))
        await task
        [task] = await waits(watcher)
        watcher.feed(pyev.EV_ERROR)
        with pytest.raises(pyev.Error, match="EV_ERROR"):
            await task
        assert not watcher.active
        for _ in range(name in COUNTED or name in MERGED):
            assert await anext(iterator) == bit(name)
        with pytest.raises(pyev.Error, match="EV_ERROR"):
            await anext(iterator)
        with pytest.raises(StopAsyncIteration):
            await anext(iterator)
        watcher.feed(pyev.EV_ERROR)
        await turns()
        if name not in NOT_WATCHED:
            with pytest.raises(pyev.Error, match="EV_ERROR"):
                await watcher

    ours.run_until_complete(main())
    assert errors == []


def test_ev_error_of_one_that_is_called(ours, errors, make):
    async def main():
        watcher = make("timer", print)
        watcher.start()
        watcher.feed(pyev.EV_ERROR)
        await turns()
        assert not watcher.active
        return repr(watcher)

    ours.run_until_complete(main())
    [context] = errors
    assert isinstance(context["exception"], pyev.Error)
    assert "stopped" in context["message"]


def test_a_dead_descriptor_of_one_that_is_called(ours, errors, pair):
    async def main():
        await ours.ev.timer(0.001, 0.0)  # the loop opens what it needs itself
        number = os.dup(pair[0].fileno())
        with ours.ev.io(number, pyev.EV_READ, print) as watcher:
            os.close(number)
            await turns()
            assert not watcher.active

    ours.run_until_complete(main())
    [context] = errors
    assert isinstance(context["exception"], OSError)


@pytest.mark.parametrize("answer", [LookupError(), -1.0, "soon"])
def test_a_scheduler_that_fails(ours, errors, answer):
    answers = [0.0, answer]

    def schedule(watcher, now):
        one = answers.pop(0)
        if isinstance(one, Exception):
            raise one
        return one if isinstance(one, str) else now + one

    expected = (LookupError, pyev.Error, TypeError)

    async def main():
        with pytest.raises(expected):
            await ours.ev.scheduler(lambda w, now: schedule.nothing)
        watcher = ours.ev.scheduler(schedule)
        assert await watcher == pyev.EV_PERIODIC
        with pytest.raises(expected):
            await watcher
        assert not watcher.active

    expected = (*expected, AttributeError)
    ours.run_until_complete(main())
    assert errors == []


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_what_leaves_the_loop_out_of_a_scheduler(ours, spin, leaving):
    answers = [0.0]

    def schedule(watcher, now):
        if not answers:
            raise leaving
        return now + answers.pop()

    task = ours.create_task(take(ours.ev.scheduler(schedule), 2))
    with pytest.raises(leaving):
        ours.run_until_complete(task)
    with pytest.raises(leaving):  # started again, and asked again
        ours.run_until_complete(task)


# Where it can be awaited


def test_outside_of_a_running_loop(ours, spin):
    watcher = ours.ev.timer(0.0, 0.0)
    for wrong in (watcher.__await__, watcher.__aiter__):
        with pytest.raises(RuntimeError, match="no running event loop"):
            wrong()
    assert not watcher.active
    with pyev.Loop() as plain:
        for wrong in (plain.timer(0.0, 0.0, print).__await__, plain.timer(1, 0, print).__aiter__):
            with pytest.raises(RuntimeError, match="EventLoop"):
                wrong()
    spin(ours)


def test_on_another_loop(ours, factory):
    other = factory()
    watcher = ours.ev.timer(0.0, 0.0)

    async def main():
        with pytest.raises(RuntimeError, match="another event loop"):
            await watcher
        with pytest.raises(RuntimeError, match="another event loop"):
            async for _ in watcher:
                pass

    other.run_until_complete(main())
    other.close()
    assert not watcher.active


def test_in_another_thread_while_its_loop_runs(ours, factory):
    watcher = ours.ev.timer(0.0, 0.0)
    seen = []

    def run():
        async def main():
            with pytest.raises(RuntimeError):
                await watcher
            seen.append(1)

        other = factory()
        other.run_until_complete(main())
        other.close()
        ours.call_soon_threadsafe(ours.stop)

    thread = threading.Thread(target=run)
    ours.call_soon(thread.start)
    ours.run_forever()
    thread.join()
    assert seen == [1]


def test_of_a_closed_loop(factory):
    loop = pyev.new_event_loop()
    watcher = loop.ev.timer(0.0, 0.0)
    loop.close()
    for wrong in (watcher.__await__, watcher.__aiter__):
        with pytest.raises(pyev.Error, match="closed"):
            wrong()
    with pytest.raises(pyev.Error, match="not called"):
        pyev.Timer.__new__(pyev.Timer).__await__()


def test_what_is_told_of_the_close_takes_the_next_with_it(script):
    """The allocator writes over what is freed, so that whoever goes on there ends early."""
    source = """
    import asyncio
    import pyev

    class Timer(pyev.Timer):
        def __repr__(self):
            kept.clear()
            return "the last words"

    async def main():
        ev = asyncio.get_running_loop().ev
        third = ev.timer(1000., 0.)
        second = ev.timer(1000., 0.)
        first = Timer(1000., 0., ev, data=second)
        for timer in first, third:
            wait = timer.__await__()
            kept[timer] = wait, wait.send(None)

    kept = {}
    loop = pyev.new_event_loop()
    loop.run_until_complete(main())
    third, (wait, future) = kept.popitem()
    loop.close()
    assert not kept
    try:
        wait.send(None)
    except pyev.Error as error:
        print(error)
    """
    assert "when its loop was closed" in script(source, env={"PYTHONMALLOC": "debug"})


def test_the_loop_is_closed_while_it_is_awaited(caplog):
    """A task cannot go on without its loop, and asyncio says so; its wait is over all the same."""
    loop = pyev.new_event_loop()
    watcher = loop.ev.timer(1000.0, 0.0)
    waits, steps = [], []

    async def main():
        waits.append(watcher.__await__())
        next(waits[0])
        steps.append(aiter(watcher))
        await asyncio.sleep(0)

    left = []

    async def wait():
        try:
            await watcher
        finally:
            left.append(1)

    task = loop.create_task(wait())
    loop.run_until_complete(main())
    loop.close()
    assert not watcher.active
    with pytest.raises(pyev.Error, match="awaited when its loop was closed"):
        next(waits[0])
    with pytest.raises(pyev.Error, match="closed"):
        anext(steps[0])
    assert not task.done()
    del task
    gc.collect()
    assert left == [1]
    assert "Task was destroyed but it is pending" in caplog.text


def test_its_repr_gives_it_a_callback_while_its_loop_is_closed(caplog):
    """Who waits is about to be told so, in words that name it."""

    class Odd(pyev.Timer):
        def __repr__(self):
            self.callback = print
            return "odd"

    loop = pyev.new_event_loop()
    watcher = Odd(1000.0, 0.0, loop.ev)
    task = loop.create_task(take(watcher, 1))
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert watcher.callback is print
    assert not task.done()
    del task
    gc.collect()
    assert "Task was destroyed but it is pending" in caplog.text


def test_the_loop_is_dropped_while_it_is_awaited(caplog):
    loop = pyev.new_event_loop()
    reference = weakref.ref(loop)
    watcher = loop.ev.timer(1000.0, 0.0)
    loop.create_task(take(watcher, 1))
    loop.call_soon(loop.stop)
    loop.run_forever()
    ev = loop.ev
    loop.set_exception_handler(lambda loop, context: None)
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop
        gc.collect()
    assert reference() is None
    assert watcher.callback is None
    assert ev.closed
    watcher.stop()


# Lifetime


def test_a_task_nobody_else_knows_goes_on(ours):
    seen = []

    async def work():
        seen.append(await ours.ev.timer(0.001, 0.0))
        async for revents in ours.ev.timer(0.0, 0.001):
            seen.append(revents)
            if len(seen) == 3:
                break
        ours.stop()

    ours.call_soon(lambda: ours.create_task(work()) and None)
    ours.call_soon(lambda: ours.call_soon(gc.collect))
    ours.run_forever()
    assert seen == [pyev.EV_TIMER] * 3


def test_dropped_without_a_word(ours):
    """Nobody has started it by hand, so nobody has forgotten to stop it."""

    async def main():
        watcher = ours.ev.signal(signal.SIGUSR1)
        [task] = await waits(watcher)
        signal.raise_signal(signal.SIGUSR1)
        await task
        assert watcher.active
        reference = weakref.ref(watcher)
        del watcher, task
        gc.collect()
        assert reference() is None
        iterator = aiter(ours.ev.signal(signal.SIGUSR1))
        del iterator

    before = signal.getsignal(signal.SIGUSR1)
    ours.run_until_complete(main())
    assert signal.getsignal(signal.SIGUSR1) is before


def test_dropped_in_a_cycle(ours):
    async def main():
        watcher = ours.ev.timer(1000.0, 0.0)
        watcher.data = aiter(watcher)
        reference = weakref.ref(watcher)
        del watcher
        gc.collect()
        assert reference() is None

    ours.run_until_complete(main())


def test_dropped_in_a_cycle_through_the_exception_it_ended_with(ours):
    """Whose traceback has the frame that has the iterator."""

    async def main():
        async def failed():
            calls = []

            def reschedule(watcher, now):
                iterator = watcher.data
                calls.append(iterator)
                if len(calls) > 1:
                    raise LookupError
                return now

            watcher = ours.ev.scheduler(reschedule)
            watcher.data = aiter(watcher)
            while watcher.active:
                await asyncio.sleep(0)
            return weakref.ref(watcher)

        reference = await failed()
        await asyncio.sleep(0)
        gc.collect()
        assert reference() is None

    ours.run_until_complete(main())


def test_callback_set_and_taken_away(ours):
    seen = []

    def called(watcher, revents):
        seen.append(revents)

    async def main():
        watcher = ours.ev.timer(0.0, 1000.0)
        iterator = aiter(watcher)
        with pytest.raises(pyev.Error, match="active"):
            watcher.callback = called
        assert await anext(iterator) == pyev.EV_TIMER
        watcher.callback = None
        watcher.stop()
        watcher.set(0.0, 1000.0)
        watcher.callback = called
        assert watcher.callback is called
        with pytest.raises(StopAsyncIteration):
            await anext(iterator)
        with watcher:
            await turns()
            with pytest.raises(pyev.Error, match="active"):
                watcher.callback = None
        assert seen == [pyev.EV_TIMER]
        watcher.callback = None
        assert watcher.callback is None
        watcher.invoke(pyev.EV_TIMER)
        assert await watcher == pyev.EV_TIMER
        with pytest.raises(TypeError):
            watcher.callback = 1
        with pytest.raises(TypeError):
            del watcher.callback

    ours.run_until_complete(main())


# The objects underneath


def test_a_wait_is_used_once(ours):
    async def main():
        timer = ours.ev.timer(1000.0, 0.0)
        wait = timer.__await__()
        assert iter(wait) is wait
        assert asyncio.isfuture(next(wait))
        with pytest.raises(RuntimeError, match="await wasn't used with future"):
            wait.send(None)
        with pytest.raises(RuntimeError, match="cannot reuse"):
            wait.send(None)
        wait = timer.__await__()
        next(wait)
        with pytest.raises(LookupError):
            wait.throw(LookupError())
        wait.close()
        wait = timer.__await__()
        with pytest.raises(ValueError, match="x"):
            wait.throw(ValueError, "x")
        with pytest.raises(TypeError):
            timer.__await__().throw(1)
        with pytest.raises(TypeError):
            timer.__await__().throw()
        timer.invoke(pyev.EV_TIMER)
        with pytest.raises(StopIteration) as stopped:
            next(timer.__await__())
        assert stopped.value.value == pyev.EV_TIMER
        assert "Timer" in repr(wait)
        assert "Timer" in repr(aiter(timer))
        timer.stop()

    ours.run_until_complete(main())


def test_they_cannot_be_made_by_hand(ours):
    async def main():
        timer = ours.ev.timer(1000.0, 0.0)
        for thing in (timer.__await__(), aiter(timer)):
            with pytest.raises(TypeError):
                type(thing)()
        [audience] = [
            thing for thing in gc.get_referents(timer) if type(thing).__name__ == "Audience"
        ]
        for wrong in ((), (1, 2), (timer,), (ours.ev.timer(1, 0), 1)):
            with pytest.raises(TypeError):
                audience(*wrong)
        assert repr(audience)

    ours.run_until_complete(main())
