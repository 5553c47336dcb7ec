"""The child of a fork uses the loop, makes another, or only exits; the parent never notices."""

import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable

import fault_kit as kit
from fault_harness import scenario

import pyev

# 41. Fork.


@scenario("C41", thread=["main", "other"], use=["nothing", "run", "new loop", "close", "reset"])
def test_the_child_of_a_fork(thread: str, use: str) -> None:
    with kit.new_loop() as loop:
        r, w = kit.pipe()
        log: list[bytes] = []

        def read(watcher: pyev.Io, revents: int) -> None:
            with contextlib.suppress(BlockingIOError):
                log.append(os.read(watcher.fd, 100))

        signals = kit.Log()
        wakes = kit.Log()
        watchers = [
            loop.io(r, pyev.EV_READ, read),
            loop.signal(signal.SIGUSR1, signals),
            loop.async_(wakes),
            loop.timer(1000.0, 0.0, kit.nothing),
            loop.periodic(0.0, 1e6, kit.nothing),
        ]
        for watcher in watchers:
            watcher.start()
        forked = kit.Log()
        fork_watcher = loop.fork(forked)
        fork_watcher.start()
        kit.turns(loop, 2)

        def child() -> None:
            assert not log and not signals and not wakes
            if use == "run":
                os.write(w, b"x")
                kit.until(loop, lambda: log, most=100)
                signal.raise_signal(signal.SIGUSR1)
                kit.until(loop, lambda: signals, most=100)
                watchers[2].send()
                kit.until(loop, lambda: wakes, most=100)
                assert len(forked) == 1
                kit.works(loop)
                loop.close()
            elif use == "new loop":
                with kit.new_loop() as mine:
                    kit.works(mine)
            elif use == "close":
                loop.close()
            elif use == "reset":
                loop.reset()
                kit.works(loop)
                assert len(forked) == 1
                signal.raise_signal(signal.SIGUSR1)
                watchers[2].send()
                kit.until(loop, lambda: signals and wakes, most=100)

        if thread == "main":
            assert kit.fork(child) == 0
        else:
            status: list[int] = []
            kit.in_thread(lambda: status.append(kit.fork(child)))
            assert status == [0]
        # Nothing that the child did came to us, but for its byte in the shared pipe.
        kit.turns(loop, 3)
        assert not signals and not wakes and not forked
        assert not log, "the child had read its byte"
        os.write(w, b"x")
        signal.raise_signal(signal.SIGUSR1)
        watchers[2].send()
        kit.until(loop, lambda: log and signals and wakes, most=100)
        for watcher in watchers:
            watcher.stop()
        kit.works(loop)


@scenario("C41", place=["callback", "prepare", "nested", "fork watcher"])
def test_a_fork_while_the_loop_runs(place: str) -> None:
    with kit.new_loop() as loop:
        fds = [kit.pair() for _ in range(10)]
        log = kit.Log(kit.reader)
        ios = [loop.io(a, pyev.EV_READ, log) for a, _ in fds]
        for io in ios:
            io.start()
        kit.turns(loop, 2)
        result: list[int] = []

        def fork(watcher: pyev.Watcher, revents: int) -> None:
            watcher.stop()
            pid = os.fork()
            result.append(pid)
            if pid:
                result.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

        def nest(watcher: pyev.Watcher, revents: int) -> None:
            forking.start()
            loop.start(kit.NOWAIT)

        try:
            forking = loop.timer(0.0, 0.0, fork)
            if place == "callback":
                forking.start()
            elif place == "prepare":
                prepare = loop.prepare(fork)
                prepare.start()
            elif place == "nested":
                nesting = loop.timer(0.0, 0.0, nest)
                nesting.start()
            else:
                fork_watcher = loop.fork(fork)
                fork_watcher.start()
                loop.reset()
            kit.until(loop, lambda: result, most=10)
            if not result[0]:
                # Still inside start() of the parent's making when it returned: all must work.
                private = kit.pair()
                mine = loop.io(private[0], pyev.EV_READ, log)
                mine.start()
                os.write(private[1], b"x")
                kit.until(loop, lambda: log, most=100)
                mine.stop()
                kit.works(loop)
                loop.close()
                os._exit(0)
        except BaseException:
            if result and not result[0]:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            raise
        assert result[1] == 0
        os.write(fds[3][1], b"x")
        kit.until(loop, lambda: log, most=100)
        for io in ios:
            io.stop()
        kit.works(loop)


@scenario("C41")
def test_many_generations() -> None:
    with kit.new_loop() as loop:
        forks = kit.Log()
        watcher = loop.fork(forks)
        watcher.start()

        def generation(depth: int) -> Callable[[], None]:
            def run() -> None:
                kit.works(loop)
                assert len(forks) == depth
                if depth < 4:
                    assert kit.fork(generation(depth + 1)) == 0
                    kit.works(loop)
                    assert len(forks) == depth

            return run

        assert kit.fork(generation(1)) == 0
        kit.works(loop)
        assert not forks


@scenario("C41")
def test_a_loop_that_another_thread_runs_at_the_fork() -> None:
    with kit.new_loop() as loop:
        waker = loop.async_(lambda w, revents: w.loop.stop())
        waker.start()
        running = threading.Event()
        prepare = loop.prepare(lambda w, revents: running.set())
        prepare.start()
        thread = threading.Thread(target=loop.start)
        thread.start()
        running.wait()

        def child() -> None:
            # That thread is not here; the loop can be used, or refuses clearly.
            for function in (waker.send, lambda: loop.start(kit.NOWAIT), waker.stop):
                with contextlib.suppress(RuntimeError, pyev.Error, OSError):
                    function()
            loop.close()
            assert loop.closed
            with kit.new_loop() as mine:
                kit.works(mine)

        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Forking with threads.
            assert kit.fork(child) == 0
        assert thread.is_alive()
        waker.send()
        thread.join()
        prepare.stop()
        waker.stop()
        kit.works(loop)


@scenario("C41")
def test_a_child_that_merely_exits_with_everything_active() -> None:
    with kit.new_loop() as loop:
        watchers = kit.busy_loop(loop)
        kit.turns(loop, 2)
        for code in ("os._exit(0)", "sys.exit(0)"):
            pid = os.fork()
            if not pid:
                if code.startswith("os"):
                    os._exit(0)
                gc.collect()
                loop.close()
                os._exit(0)
            assert os.waitpid(pid, 0) == (pid, 0)
        kit.turns(loop, 2)
        assert all(w.active for w in watchers)
        for watcher in watchers:
            watcher.stop()
        kit.works(loop)


@scenario("C41")
def test_embedded_loops_after_a_fork() -> None:
    if "epoll" not in kit.available():
        kit.skip("no epoll here")
    with kit.new_loop() as loop, pyev.Loop(pyev.EVBACKEND_EPOLL) as inner:
        embed = loop.embed(inner)
        embed.start()
        a, b = kit.pair()
        log = kit.Log(kit.reader)
        io = inner.io(a, pyev.EV_READ, log)
        io.start()
        kit.turns(loop, 2)

        def child() -> None:
            os.write(b, b"x")
            kit.until(loop, lambda: log, most=100)
            kit.works(inner)
            kit.works(loop)
            embed.stop()
            kit.works(loop)

        assert kit.fork(child) == 0
        kit.turns(loop, 3)
        assert not log
        os.write(b, b"x")
        kit.until(loop, lambda: log, most=100)
        embed.stop()
        kit.works(inner)
        kit.works(loop)


@scenario("C41")
def test_a_child_does_not_reap_or_signal_for_its_parent() -> None:
    loop = pyev.default_loop(kit.BACKENDS[kit.backend])
    statuses: list[int] = []
    anyone = loop.child(0, False, lambda w, revents: statuses.append(w.rstatus))
    anyone.start()
    signals = kit.Log()
    watcher = loop.signal(signal.SIGUSR1, signals)
    watcher.start()
    kit.turns(loop, 2)
    pid = os.fork()
    if not pid:
        signal.raise_signal(signal.SIGUSR1)
        pyev.feed_signal(signal.SIGUSR1)
        kit.turns(loop, 3)
        os._exit(7 if signals and not statuses else 1)
    kit.until(loop, lambda: statuses)
    assert statuses == [7 << 8] and not signals
    watcher.stop()
    anyone.stop()
    kit.works(loop)
    loop.close()
