"""Loops in threads at the same time, and one loop in the hands of several threads.

Without a GIL these do run at the same time; with one they take turns, where it likes them to.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

import pyev

THREADS = 4
SANITIZED = bool(os.environ.get("PYEV_SANITIZED"))
TIMES = 20 if SANITIZED else 100


def never(watcher, revents):
    pytest.fail(f"{watcher!r} was called")


def nothing(watcher, revents):
    pass


def forever(call):
    while True:
        call()


def test_python_needs_no_gil_for_us(script):
    """A Python without a GIL does not put it back, and has nothing to warn of."""
    program = """
    import sys, sysconfig
    import pyev
    free = sysconfig.get_config_var("Py_GIL_DISABLED") and sys.version_info >= (3, 14)
    assert not free or not sys._is_gil_enabled()
    pyev.run(__import__("asyncio").sleep(0))
    assert not free or not sys._is_gil_enabled()
    """
    script(program, env={"PYTHON_GIL": ""})


# Loops of their own


@pytest.mark.every_backend
def test_each_with_its_loop(backend, at_once):
    """Socket pairs that echo, timers that are pushed back, an Idle, a Prepare and a Check each."""

    def work(number):
        left = [200]
        turns = collections.Counter()
        with contextlib.ExitStack() as stack:
            loop = stack.enter_context(pyev.Loop(backend))
            a, b = socket.socketpair()
            stack.enter_context(a)
            stack.enter_context(b)

            def echo(io, revents):
                io.fd and b.send(b.recv(100))

            def answered(io, revents):
                assert a.recv(100) == b"%d" % left[0]
                timeout.reset()
                left[0] -= 1
                if left[0]:
                    a.send(b"%d" % left[0])
                else:
                    loop.stop(pyev.EVBREAK_ALL)

            def count(watcher, revents):
                turns[revents] += 1

            timeout = stack.enter_context(loop.timer(0.0, 100.0, nothing))
            for watcher in (
                loop.io(b, pyev.EV_READ, echo),
                loop.io(a, pyev.EV_READ, answered),
                loop.prepare(count),
                loop.check(count),
                loop.timer(0.0, 0.001, count),
            ):
                stack.enter_context(watcher)
            a.send(b"%d" % left[0])
            loop.start()
            loop.verify()
        return turns

    for turns in at_once(THREADS, work):
        assert turns[pyev.EV_PREPARE] >= 200
        assert turns[pyev.EV_CHECK] >= 200
        assert turns[pyev.EV_TIMER] >= 1


def test_loops_are_made_and_closed(at_once, tmp_path):
    def work(number):
        for i in range(TIMES):
            loop = pyev.Loop()
            watchers = [
                loop.timer(1000.0, 0.0, never),
                loop.periodic(0.0, 1e9, never),
                loop.scheduler(lambda watcher, now: now + 1e6, never),
                loop.stat(str(tmp_path / "none"), 0.0, never),
                loop.prepare(nothing),
                loop.fork(never),
                loop.async_(nothing),
                loop.once(None, 0, 1000.0, never),
            ]
            for watcher in watchers:
                watcher.start()
            watchers[-2].send()
            loop.start(pyev.EVRUN_NOWAIT)
            if i % 2:
                loop.close()
            for watcher in watchers:
                watcher.stop()

    at_once(THREADS, work)


def test_there_is_one_default_loop(at_once):
    for _ in range(TIMES):
        loops = at_once(THREADS, lambda number: pyev.default_loop(), 20)
        assert len(set(map(id, loops))) == 1
        assert loops[0].default
        loops[0].close()


def test_each_with_a_signal(at_once):
    """The process has one table of signals."""
    signals = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGURG, signal.SIGWINCH)

    def work(number):
        seen = []
        with pyev.Loop() as loop:
            for _ in range(TIMES):
                watcher = loop.signal(signals[number], lambda w, revents: seen.append(revents))
                with watcher:
                    pyev.feed_signal(signals[number])
                    pyev.feed_signal(signals[number - 1])  # another's, or nobody's just now
                    loop.start(pyev.EVRUN_ONCE)
        return len(seen)

    assert all(count >= TIMES for count in at_once(len(signals), work))


def test_each_with_children(at_once):
    def work(number):
        statuses = []
        with pyev.Loop() as loop:

            def ended(watcher, revents):
                statuses.append(os.waitstatus_to_exitcode(watcher.rstatus))
                watcher.stop()

            for code in range(3):
                argv = [sys.executable, "-SIc", f"raise SystemExit({code})"]
                process = subprocess.Popen(argv)
                with loop.child(process.pid, False, ended):
                    loop.start()
                process.returncode = code
        return statuses

    assert at_once(THREADS, work) == [[0, 1, 2]] * THREADS


def test_embedded_loops_of_each(at_once):
    flags = pyev.embeddable_backends() & pyev.recommended_backends()

    def work(number):
        for _ in range(TIMES):
            a, b = socket.socketpair()
            with a, b, pyev.Loop(flags) as inner, pyev.Loop() as outer:
                seen = []

                def ready(io, revents, seen=seen, outer=outer):
                    seen.append(revents)
                    outer.stop()

                b.send(b"x")
                with inner.io(a, pyev.EV_READ, ready), outer.embed(inner):
                    outer.start()
                assert seen == [pyev.EV_READ]

    at_once(THREADS, work)


# What any thread may do


@pytest.mark.every_backend
def test_everything_that_is_sent_is_seen(loop, at_once):
    """Each item was queued before its send, so the last callback finds the last ones."""
    count = 20 if SANITIZED else 2000
    queue = collections.deque()
    seen = []

    def woken(watcher, revents):
        while queue:
            seen.append(queue.popleft())
        if len(seen) == count * THREADS:
            watcher.stop()

    wakeup = loop.async_(woken)
    wakeup.start()

    def work(number):
        if number == THREADS:
            return loop.start()
        for i in range(count):
            queue.append((number, i))
            wakeup.send()

    at_once(THREADS + 1, work)
    for number in range(THREADS):
        assert [i for n, i in seen if n == number] == list(range(count))


def test_sends_to_loops_that_are_being_closed(at_once):
    for _ in range(TIMES):
        loop = pyev.Loop()
        wakeup = loop.async_(nothing)
        wakeup.start()

        def work(number, loop=loop, wakeup=wakeup):
            if number == 0:
                loop.start(pyev.EVRUN_NOWAIT)
                return loop.close()
            with pytest.raises(pyev.Error, match="closed"):
                forever(wakeup.send)

        at_once(3, work)


def test_reads_while_it_runs(loop, at_once, tmp_path):
    stat = loop.stat(str(tmp_path / "none"), 0.0, nothing)
    timer = loop.timer(0.0, 0.0001, nothing)
    watchers = [stat, timer, loop.io(0, pyev.EV_READ, nothing), loop.prepare(nothing)]
    data = [object() for _ in range(10)]
    turns = [TIMES]

    def change(watcher, revents):
        for each in watchers:
            each.data = data[turns[0] % len(data)]
            each.callback = lambda watcher, revents: None
        loop.data = data[turns[0] % len(data)]
        stat.stop()
        stat.set(str(tmp_path / str(turns[0])), 0.0)
        stat.start()
        turns[0] -= 1
        if not turns[0]:
            loop.stop()

    ticks = loop.timer(0.0, 0.0001, change)

    def work(number):
        if number == 0:
            with stat, timer, ticks:
                return loop.start()
        while turns[0]:
            for watcher in watchers:
                assert watcher.data is None or watcher.data in data
                assert callable(watcher.callback)
                assert watcher.loop is loop
                repr(watcher), watcher.active, watcher.pending
            assert loop.data is None or loop.data in data
            repr(loop), loop.now(), loop.iteration, loop.pending, loop.depth, stat.path

    at_once(3, work)


def test_what_remains_of_a_timer_while_it_starts_and_stops(loop, at_once):
    """libev keeps a time that is left while it is inactive, and else a time on its clock."""
    timer = loop.timer(1000.0, 1000.0, never)
    turns = [10 * TIMES]

    def change(watcher, revents):
        for _ in range(20):
            timer.stop()
            timer.start()
            timer.reset()
        turns[0] -= 1
        if not turns[0]:
            loop.stop()

    def work(number):
        if number == 0:
            with timer, loop.timer(0.0, 0.00001, change):
                loop.start()
        while turns[0]:
            assert 900 < timer.remaining <= 1000.1

    at_once(3, work)


def test_what_a_stat_found_while_it_looks_again(loop, at_once, tmp_path):
    """One look's values, all of them."""
    path, new = tmp_path / "file", tmp_path / "new"
    turns = [10 * TIMES]

    def put():
        number = turns[0] % 5 + 1
        new.write_bytes(b"x" * number)
        os.utime(new, (number, number))
        new.rename(path)

    def change(watcher, revents):
        put()
        stat.stat()
        turns[0] -= 1
        if not turns[0]:
            loop.stop()

    put()
    stat = loop.stat(str(path), 0.0, nothing)

    def work(number):
        if number == 0:
            with stat, loop.timer(0.0, 0.00001, change):
                loop.start()
        while turns[0]:
            for found in (stat.current, stat.previous):
                assert found is None or found.size == int(found.mtime)

    at_once(3, work)


@pytest.mark.filterwarnings("ignore:.*was dropped before it was stopped:ResourceWarning")
@pytest.mark.parametrize("how", ["dropped", "collected"])
def test_watchers_of_a_running_loop_go(loop, at_once, how):
    """Their last references are in threads that do not run the loop; some are just called."""
    many = 50 if SANITIZED else 500
    ends = [socket.socketpair() for _ in range(4)]
    holders = [[], []]

    def fill(holder, a, b):
        b.send(b"x")
        watchers = [
            loop.io(a, pyev.EV_READ, nothing),
            loop.timer(0.0, 0.0001, nothing),
            loop.periodic(0.0, 0.001, nothing),
            loop.scheduler(lambda watcher, now: now + 0.001, nothing),
            loop.async_(nothing),
            loop.prepare(nothing),
        ]
        for watcher in watchers:
            watcher.start()
        if how == "collected":
            watchers.append(watchers)
        holder.append(watchers)

    for i in range(many):
        for holder in holders:
            fill(holder, *ends[i % len(ends)])
    over = loop.async_(lambda watcher, revents: loop.stop())
    running = threading.Event()
    begun = loop.timer(0.0, 0.0, lambda watcher, revents: running.set())

    def work(number):
        if number == len(holders):
            with over, begun:
                loop.start()
            return
        running.wait()
        while holders[number]:
            holders[number].pop()
            if how == "collected" and len(holders[number]) % 50 == 0:
                gc.collect()
        gc.collect()
        barrier.wait()
        over.send()

    barrier = threading.Barrier(len(holders))
    at_once(len(holders) + 1, work)
    gc.collect()  # what one of them left while the other one was collecting
    loop.verify()
    assert loop.start(pyev.EVRUN_NOWAIT) is False
    for end in ends:
        for one in end:
            one.close()


# One loop, which does not run


def test_one_of_many_starts_it(loop, at_once):
    for _ in range(TIMES):
        started = []
        refused = []
        wakeup = loop.async_(lambda watcher, revents: loop.stop())
        wakeup.start()

        def work(number, started=started, refused=refused, wakeup=wakeup):
            try:
                loop.start()
                started.append(number)
            except RuntimeError as error:
                refused.append(str(error))
                if len(refused) == THREADS - 1:
                    wakeup.send()

        at_once(THREADS, work)
        wakeup.stop()
        assert len(started) == 1
        why = (
            "the loop is running in another thread: "
            "from here only the send() of an Async and feed_signal() may be called"
        )
        assert refused == [why] * (THREADS - 1)


def test_its_watchers_in_many_hands(loop, new_loop, at_once, pair):
    """Whatever they do at once, nothing breaks. A call may find the loop in use, for the time that
    another thread's call takes."""
    other = new_loop()
    watchers = [
        loop.timer(1000.0, 1000.0, nothing, "data"),
        loop.io(pair[0], pyev.EV_READ, nothing),
        loop.io(pair[1], pyev.EV_WRITE, nothing),
        loop.async_(nothing),
        loop.idle(nothing),
        loop.signal(signal.SIGUSR1, nothing),
        loop.scheduler(lambda watcher, now: now + 1000.0, nothing),
    ]

    def use(watcher, i):
        watcher.start()
        watcher.data = object()
        watcher.feed(pyev.EV_CUSTOM)
        watcher.clear()
        watcher.invoke(pyev.EV_CUSTOM)
        repr(watcher)
        watcher.callback = lambda watcher, revents: None
        watcher.keepalive = bool(i % 2)
        watcher.stop()
        if i % 10 == 0:
            loop.start(pyev.EVRUN_NOWAIT)
        if i % 25 == 0 and isinstance(watcher, pyev.Async):
            watcher.__init__((loop, other)[i % 2], nothing)

    def work(number):
        for i in range(TIMES):
            for watcher in watchers:
                try:
                    use(watcher, i)
                except (RuntimeError, pyev.Error) as error:
                    assert "thread" in str(error) or "active" in str(error)

    at_once(THREADS, work)
    for watcher in watchers:
        watcher.stop()
    loop.verify()
    other.verify()
    assert loop.start(pyev.EVRUN_NOWAIT) is False


@pytest.mark.filterwarnings("ignore:.*was dropped before it was stopped:ResourceWarning")
def test_it_is_embedded_by_many(at_once, pair):
    """Each has a loop of its own around it, which ends in one way or the other."""
    flags = pyev.embeddable_backends() & pyev.recommended_backends()

    def embed(inner, i):
        outer = pyev.Loop()
        embed = outer.embed(inner)
        with contextlib.suppress(RuntimeError):  # another runs it just now
            embed.start()
        for _ in range(2):
            with contextlib.suppress(RuntimeError, pyev.Error):  # or has closed it
                outer.start(pyev.EVRUN_NOWAIT)
            if i % 3 == 0:
                outer.reset()
        if i % 4 == 0:
            outer.close()
        elif i % 4 == 1:
            with contextlib.suppress(RuntimeError):
                embed.stop()

    for _ in range(TIMES // 5):
        inner = pyev.Loop(flags)
        pair[1].send(b"x")
        watcher = inner.io(pair[0], pyev.EV_READ, nothing)
        watcher.start()

        def work(number, inner=inner):
            for i in range(10):
                if number:
                    with contextlib.suppress(pyev.Error):
                        embed(inner, i)
                    continue
                inner.start(pyev.EVRUN_NOWAIT)
                inner.reset()
            if not number:
                inner.close()

        at_once(THREADS, work)
        assert inner.closed


def test_it_is_initialised_and_closed_once(at_once):
    for _ in range(TIMES):
        loop = pyev.Loop.__new__(pyev.Loop)

        def init(number, loop=loop):
            try:
                loop.__init__()
            except pyev.Error:
                return False
            return True

        assert at_once(THREADS, init).count(True) == 1
        at_once(THREADS, lambda number, loop=loop: loop.close())
        assert loop.closed


# The process


def test_a_fork_while_threads_run_loops(script):
    program = """
    import faulthandler, os, sys, threading, warnings
    import pyev

    warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
    faulthandler.dump_traceback_later(40, exit=True)
    over = threading.Event()

    def work(running):
        with pyev.Loop() as loop:
            turns = 0

            def tick(watcher, revents):
                nonlocal turns
                turns += 1
                if turns == 10:
                    running.set()
                if over.is_set():
                    loop.stop()

            def woken(watcher, revents):
                pass

            with loop.timer(0.0, 0.0001, tick), loop.async_(woken) as wakeup:
                loops.append((loop, wakeup))
                loop.start()

    loops, threads = [], []
    for _ in range(3):
        running = threading.Event()
        threads.append(threading.Thread(target=work, args=(running,)))
        threads[-1].start()
        running.wait()
    for _ in range(5):
        child = os.fork()
        if child == 0:
            for loop, wakeup in loops:
                try:
                    wakeup.send()
                except pyev.Error:
                    pass
                loop.close()
            with pyev.Loop() as loop:
                seen = []
                with loop.timer(0.0, 0.0, lambda watcher, revents: seen.append(revents)):
                    loop.start()
            os._exit(0 if seen == [pyev.EV_TIMER] else 1)
        _, status = os.waitpid(child, 0)
        assert status == 0, status
    over.set()
    for thread in threads:
        thread.join()
    """
    script(program)


def test_the_collector_while_loops_run(at_once):
    """It stops all threads where they are, and looks at what each loop refers to."""
    over = threading.Event()

    def work(number):
        if number == 0:
            for _ in range(TIMES // 2):
                gc.collect()
            over.set()
            return 0
        with pyev.Loop() as loop:
            kept = collections.deque(maxlen=50)

            def tick(watcher, revents):
                timer = loop.timer(0.0, 0.0, nothing)
                timer.data = [timer]  # for the collector
                kept.append(loop.once(None, 0, 0.0, nothing))
                if over.is_set():
                    loop.stop()

            with loop.timer(0.0, 0.0001, tick):
                loop.start()
            return loop.iteration if not loop.closed else 0

    at_once(THREADS, work)
