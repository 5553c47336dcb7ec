"""Event loops in threads at the same time, and one in the hands of several threads.

Without a GIL these do run at the same time; with one they take turns, where it likes them to.
"""

import asyncio
import contextlib
import gc
import os
import socket
import sys
import threading
import weakref

import pytest

import pyev

THREADS = 4
SANITIZED = bool(os.environ.get("PYEV_SANITIZED"))
TIMES = 10 if SANITIZED else 50


def forever(call):
    while True:
        call()


# Loops of their own


def test_the_first_loops_of_a_process(script):
    """What all of them share is made for the first, whichever that is."""
    program = """
    import asyncio, threading
    import pyev

    async def main(number):
        await asyncio.sleep(0)
        reader = asyncio.StreamReader()
        reader.feed_eof()
        return number, await reader.read()

    def work(number):
        start.wait()
        if number % 3 == 0:
            results.append(pyev.run(main(number)))
        elif number % 3 == 1:
            with asyncio.Runner(loop_factory=lambda: pyev.new_event_loop()) as runner:
                results.append(runner.run(main(number)))
        else:
            pyev.StreamReader
            results.append(pyev.run(main(number)))

    results = []
    start = threading.Barrier(6)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(sorted(results) == [(i, b"") for i in range(6)])
    """
    for _ in range(3):
        assert script(program) == "True\n"


def test_each_with_its_loop(factory, at_once):
    """Sockets, timers, tasks, locks, executors and watchers, in each thread."""

    async def echo(end):
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(end, 100):
            await loop.sock_sendall(end, data)

    async def talk(end):
        loop = asyncio.get_running_loop()
        for i in range(TIMES):
            await loop.sock_sendall(end, b"%d" % i)
            assert await loop.sock_recv(end, 100) == b"%d" % i
        end.shutdown(socket.SHUT_WR)

    async def tick():
        for _ in range(TIMES):
            async with asyncio.timeout(100):
                await asyncio.sleep(0.0001)

    async def share(queue, count):
        for i in range(count):
            await queue.put(i)
        await queue.put(None)

    async def take(queue):
        taken = []
        while (one := await queue.get()) is not None:
            taken.append(one)
        return taken

    async def main(number):
        loop = asyncio.get_running_loop()
        queue = asyncio.Queue(3)
        a, b = socket.socketpair()
        with a, b:
            a.setblocking(False)
            b.setblocking(False)
            *_, taken = await asyncio.gather(
                echo(b), talk(a), tick(), share(queue, TIMES), take(queue)
            )
        assert taken == list(range(TIMES))
        for i in range(TIMES // 10):
            assert await loop.run_in_executor(None, lambda i: i * number, i) == i * number
            assert await asyncio.to_thread(os.getpid) == os.getpid()
        if hasattr(loop, "ev"):
            for _ in range(TIMES):
                assert await loop.ev.timer(0.0, 0.0) == pyev.EV_TIMER
        return number

    def work(number):
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main(number))

    assert at_once(THREADS, work) == list(range(THREADS))


def test_loops_are_made_and_closed(factory, at_once):
    async def main():
        loop = asyncio.get_running_loop()
        loop.call_later(1000, print)
        loop.call_soon(int).cancel()
        await asyncio.sleep(0)

    def work(number):
        for _ in range(TIMES):
            with contextlib.closing(factory()) as loop:
                loop.run_until_complete(main())

    at_once(THREADS, work)


# asyncio's own waits in threads that stay for a moment.
@pytest.mark.parametrize("factory", ["pyev", "pyev-debug"], indirect=True)
def test_each_with_processes(factory, at_once):
    async def main(number):
        argv = [sys.executable, "-SIc", f"import sys; print(sys.stdin.read() * {number})"]
        process = await asyncio.create_subprocess_exec(*argv, stdin=-1, stdout=-1)
        out, _ = await process.communicate(b"x")
        return out.strip(), process.returncode

    def work(number):
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main(number))

    assert at_once(THREADS, work) == [(b"x" * number, 0) for number in range(THREADS)]


def test_work_handed_from_loop_to_loop(factory, at_once):
    """Each loop asks the next one in a ring, all at once."""
    loops = [factory() for _ in range(THREADS)]
    ready = threading.Barrier(THREADS)
    asked = [0] * THREADS

    async def answer(number, question):
        asked[number] += 1
        await asyncio.sleep(0)
        return number, question

    async def main(number):
        await asyncio.to_thread(ready.wait)
        following = (number + 1) % THREADS
        for i in range(TIMES):
            future = asyncio.run_coroutine_threadsafe(answer(following, i), loops[following])
            assert await asyncio.wrap_future(future) == (following, i)
        await asyncio.to_thread(ready.wait)  # the others are not done with this loop

    def work(number):
        with contextlib.closing(loops[number]) as loop:
            loop.run_until_complete(main(number))
            loop.run_until_complete(loop.shutdown_default_executor())

    at_once(THREADS, work)
    assert asked == [TIMES] * THREADS


# What any thread may do


def test_everything_that_is_posted_is_run(aloop, at_once):
    """In the order of each thread, while the loop has work of its own, and waits in between."""
    count = 20 if SANITIZED else 1000
    seen = [[] for _ in range(THREADS)]
    left = [THREADS]

    def done():
        left[0] -= 1
        if not left[0]:
            aloop.stop()

    def tick():
        if left[0]:
            aloop.call_later(0.0001, tick)

    def work(number):
        if number == THREADS:
            aloop.call_soon(tick)
            return aloop.run_forever()
        for i in range(count):
            aloop.call_soon_threadsafe(seen[number].append, i)
        aloop.call_soon_threadsafe(done)

    at_once(THREADS + 1, work)
    assert seen == [list(range(count))] * THREADS


def test_posted_before_while_and_after_it_runs(aloop, at_once):
    """The order of one thread's calls holds whether the loop runs by then or not."""
    seen = []
    posted = threading.Event()

    def work(number):
        if number == 0:
            while not posted.is_set():
                aloop.call_soon(aloop.stop)
                aloop.run_forever()
            return
        for i in range(20 * TIMES):
            aloop.call_soon_threadsafe(seen.append, i)
        posted.set()

    at_once(2, work)
    aloop.call_soon(aloop.stop)
    aloop.run_forever()
    assert seen == list(range(20 * TIMES))


def test_posted_and_cancelled_there(aloop, at_once):
    """Who has cancelled a handle before it ran never sees it run."""
    ran = set()
    cancelled = []

    def work(number):
        if number == 0:
            return aloop.run_forever()
        for i in range(10 * TIMES):
            handle = aloop.call_soon_threadsafe(ran.add, (number, i))
            repr(handle)
            handle.cancel()
            before = (number, i) in ran
            assert handle.cancelled()
            cancelled.append(((number, i), before))
        finished.wait()
        if number == 1:
            aloop.call_soon_threadsafe(aloop.stop)

    finished = threading.Barrier(2)
    at_once(3, work)
    if hasattr(asyncio.events, "_ThreadSafeHandle"):
        assert ran == {one for one, before in cancelled if before}


def test_posted_to_loops_that_are_being_closed(factory, at_once):
    for _ in range(TIMES):
        loop = factory()

        def work(number, loop=loop):
            if number == 0:
                loop.call_soon(loop.stop)
                loop.run_forever()
                return loop.close()
            with pytest.raises(RuntimeError, match="closed"):
                forever(lambda: loop.call_soon_threadsafe(int))

        at_once(3, work)


def test_reads_while_it_runs(aloop, at_once):
    left = [20 * TIMES]

    def tick():
        left[0] -= 1
        aloop.call_soon(tick) if left[0] else aloop.stop()

    def work(number):
        if number == 0:
            aloop.call_soon(tick)
            return aloop.run_forever()
        while left[0]:
            aloop.is_running(), aloop.is_closed(), aloop.time(), aloop.get_debug(), repr(aloop)

    at_once(3, work)


def test_what_a_running_loop_has_is_dropped_elsewhere(ours, at_once):
    """Handles, timers, futures, tasks and coroutines that wait, by reference and by collection."""
    garbage = []
    over = threading.Event()
    a, b = socket.socketpair()
    a.setblocking(False)

    class Node:
        pass

    async def forever():
        await ours.sock_recv(a, 100)

    async def make():
        for i in range(10 * TIMES):
            node = Node()
            node.handle = ours.call_later(1000, node.__init__)
            node.soon = ours.call_soon(node.__init__)
            node.future = ours.create_future()
            node.operation = forever()
            node.operation.send(None) if i == 0 else node.operation.close()
            node.wait = asyncio.sleep(0)
            node.wait.close()
            node.self = node
            node.handle.cancel()
            garbage.append(node)
            if i % 10 == 0:
                await asyncio.sleep(0)
        over.set()

    def work(number):
        if number == 0:
            return ours.run_until_complete(make())
        dropped = 0
        while not over.is_set() or garbage:
            try:
                gone = weakref.ref(garbage.pop())
            except IndexError:
                continue
            dropped += 1
            if number == 1 and dropped % 10 == 0:
                gc.collect()
            gone()

    at_once(3, work)
    gc.collect()
    a.close()
    b.close()


# One loop, which does not run


def test_one_of_many_runs_it(ours, at_once):
    for _ in range(TIMES):
        ran = []
        refused = []

        def work(number, ran=ran, refused=refused):
            try:
                ours.run_forever()
                ran.append(number)
            except RuntimeError as error:
                refused.append(str(error))
                if len(refused) == THREADS - 1:
                    ours.call_soon_threadsafe(ours.stop)

        at_once(THREADS, work)
        assert len(ran) == 1
        assert len(refused) == THREADS - 1
        assert all("running" in text for text in refused)


def test_it_is_used_by_many(ours, at_once, spin):
    """Nothing is promised of what is not thread-safe, but that nothing breaks."""
    ours.set_debug(False)
    ran = []

    def work(number):
        for i in range(TIMES):
            ours.call_soon(ran.append, number)
            ours.call_soon_threadsafe(ran.append, number)
            ours.call_later(1000, int).cancel()
            ours.call_later(0, ran.append, number)
            handle = ours.call_at(0, int)
            repr(handle), handle.when(), handle.cancelled()
            handle.cancel()
            ours.create_future()
            with contextlib.suppress(RuntimeError):  # another runs it just now
                ours.ev.timer(1000.0, 0.0, print).start()
                if i % 20 == 0:
                    spin(ours)

    with pytest.warns(ResourceWarning):
        at_once(THREADS, work)
    spin(ours)
    assert len(ran) == 3 * TIMES * THREADS
