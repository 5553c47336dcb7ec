"""The default loop, and close() with everything active."""

import asyncio
import contextlib
import functools
import gc
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import fault_kit as kit
from fault_harness import scenario

import pyev
from pyev import EV_READ

# 43. The default loop.


@scenario("C43")
def test_the_default_loop_destroyed_twice_and_made_again() -> None:
    for _ in range(3):
        loop = pyev.default_loop(kit.BACKENDS[kit.backend])
        assert loop.default and pyev.default_loop() is loop
        watcher = loop.child(0, False, kit.nothing)
        watcher.start()
        kit.works(loop)
        loop.close()
        loop.close()
        assert loop.closed and not watcher.active
        second = pyev.default_loop(kit.BACKENDS[kit.backend])
        assert second is not loop and not second.closed
        kit.works(second)
        loop.close()
        assert not second.closed
        del loop, watcher
        gc.collect()
        assert pyev.default_loop() is second
        reference = weakref.ref(second)
        del second
        gc.collect()
        assert reference() is None


@scenario("C43")
def test_the_default_loop_fails_and_is_tried_again() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (kit.closed(), hard))
    for _ in range(3):
        kit.raises(OSError, pyev.default_loop, kit.BACKENDS[kit.backend])
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    kit.raises(TypeError, pyev.default_loop, "x")
    kit.raises(pyev.Error, pyev.default_loop, pyev.EVBACKEND_DEVPOLL)
    kit.raises((TypeError, ValueError), pyev.default_loop, io_interval="x")
    kit.raises(TypeError, pyev.default_loop, callback=3)
    with pyev.default_loop(kit.BACKENDS[kit.backend]) as loop:
        assert loop.backend == kit.BACKENDS[kit.backend]
        kit.works(loop)


@scenario("C43")
def test_the_default_loop_is_made_by_threads_at_once() -> None:
    loops: list[pyev.Loop] = []
    barrier = threading.Barrier(8)

    def make() -> None:
        barrier.wait()
        loops.append(pyev.default_loop())

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loops) == 8 and len(set(map(id, loops))) == 1
    loops[0].close()


# 44. close().


@scenario("C44", run=[False, True])
def test_close_with_everything_active(run: bool) -> None:
    before = kit.open_fds()
    loop = kit.new_loop()
    watchers = kit.busy_loop(loop)
    cleanup = kit.Log()
    last = loop.cleanup(cleanup)
    last.start()
    if run:
        kit.turns(loop, 3)
    for watcher in watchers:
        if not isinstance(watcher, pyev.Cleanup):
            watcher.feed(pyev.EV_CUSTOM)
    loop.close()
    loop.close()
    assert cleanup.events == [pyev.EV_CLEANUP]
    assert not any(w.active or w.pending for w in watchers)
    del watchers, watcher
    kit.clean_up()
    gc.collect()
    assert kit.open_fds() == before
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


@scenario("C44", where=["timer", "prepare", "check", "io", "loop", "nested", "fork", "idle"])
def test_close_is_refused_while_running(where: str) -> None:
    loop = kit.new_loop()
    refused: list[BaseException] = []

    def close(*args: object) -> None:
        refused.append(kit.raises((pyev.Error, RuntimeError), loop.close))
        assert not loop.closed

    _, w = kit.pair()
    watcher: pyev.Watcher = loop.timer(0.0, 0.0, close)
    match where:
        case "io":
            watcher = loop.io(w, pyev.EV_WRITE, close)
        case "loop":
            watcher.callback = kit.nothing
            loop.callback = lambda loop: (close(), loop.invoke())
        case "nested":
            watcher.callback = lambda w, revents: (loop.start(kit.NOWAIT), close())
        case "prepare" | "check" | "idle" | "fork":
            watcher = getattr(loop, where)(close)
    watcher.start()
    if where == "fork":
        loop.reset()
    kit.turns(loop)
    assert refused
    watcher.stop()
    loop.callback = None
    kit.works(loop)
    loop.close()


@scenario("C44", what=["start", "close", "raise", "new watcher", "drop", "stop others", "exit"])
def test_cleanup_watchers_that_misbehave(what: str) -> None:
    loop = kit.new_loop()
    others = [loop.cleanup(kit.nothing), loop.timer(1.0, 0.0, kit.never)]

    def misbehave(watcher: pyev.Watcher, revents: int) -> None:
        match what:
            case "start":
                for _ in range(3):
                    with contextlib.suppress(pyev.Error, RuntimeError):
                        loop.start(kit.NOWAIT)
            case "close":
                with contextlib.suppress(pyev.Error, RuntimeError):
                    loop.close()
            case "raise":
                raise ZeroDivisionError
            case "exit":
                raise SystemExit(3)
            case "new watcher":
                for _ in range(50):
                    try:
                        others.append(loop.cleanup(kit.nothing))
                        others[-1].start()
                        others.append(loop.timer(0.0, 0.0, kit.never))
                        others[-1].start()
                    except pyev.Error:
                        pass
            case "drop":
                with kit.dropping():
                    others.clear()
            case "stop others":
                for other in others:
                    other.stop()

    cleanups = [loop.cleanup(misbehave, None, priority) for priority in (-2, 0, 2)]
    for watcher in (*others, *cleanups):
        watcher.start()
    with kit.Unraisable() as unraisable:
        try:
            loop.close()
        except SystemExit:
            assert what == "exit"
        except ZeroDivisionError:
            assert what == "raise"
        else:
            assert what not in ("raise",) or unraisable.errors
    loop.close()
    assert loop.closed
    assert not any(w.active for w in (*others, *cleanups))


CALLS: dict[str, Callable[[pyev.EventLoop], Callable[[], object]]] = {
    "start": lambda loop: loop.ev.timer(1.0, 0.0, kit.nothing).start,
    "start idle": lambda loop: loop.ev.idle(kit.nothing).start,
    "start signal": lambda loop: loop.ev.signal(signal.SIGUSR2, kit.nothing).start,
    "reset": lambda loop: loop.ev.timer(1.0, 1.0, kit.nothing).reset,
    "reset periodic": lambda loop: loop.ev.periodic(0.0, 1.0, kit.nothing).reset,
    "once": lambda loop: lambda: loop.ev.once(None, 0, 1.0, kit.nothing),
    "once io": lambda loop: lambda: loop.ev.once(0, EV_READ, 1.0, kit.nothing),
    "reader": lambda loop: functools.partial(loop.add_reader, kit.pair()[0], kit.nothing),
}


@scenario("C44", "C42", backends="any", call=list(CALLS))
def test_closed_by_a_finalizer_in_the_middle_of_a_call(call: str) -> None:
    refused = 0
    for after in range(12):
        loop = pyev.EventLoop()
        function = CALLS[call](loop)
        with kit.collecting(loop.close, after):
            try:
                function()
            except (pyev.Error, RuntimeError) as error:
                assert "closed" in str(error), error
                refused += 1
        loop.close()
    assert refused or sys.version_info >= (3, 12)


@scenario("C44", "C42", backends="any", what=["timer", "stat", "child", "io", "io again"])
def test_closed_and_dropped_by_an_argument(what: str) -> None:
    """Of a watcher that is to be awaited: nothing drives its loop any more."""

    class Argument:
        def drop(self) -> None:
            holder.pop().close()
            gc.collect()

        def __float__(self) -> float:
            self.drop()
            return 0.0

        def __index__(self) -> int:
            self.drop()
            return os.getpid()

        def __fspath__(self) -> str:
            self.drop()
            return "/"

        def fileno(self) -> int:
            self.drop()
            return 0

    holder = [pyev.EventLoop()]
    ev = holder[0].ev
    io = ev.io(0, EV_READ)
    calls: dict[str, Callable[[], object]] = {
        "timer": lambda: ev.timer(Argument(), 0.0),
        "stat": lambda: ev.stat(Argument(), 0.0),
        "child": lambda: ev.child(Argument(), False),
        "io": lambda: ev.io(Argument(), EV_READ),
        "io again": lambda: io.__init__(Argument(), EV_READ, ev),
    }
    kit.raises(pyev.Error, calls[what])
    assert ev.closed and not holder


@scenario("C44", backends="any")
def test_closed_by_create_future() -> None:
    class Loop(pyev.EventLoop):
        def create_future(self) -> asyncio.Future[Any]:
            future = super().create_future()
            asyncio._set_running_loop(None)
            self.close()
            return future

    loop = Loop()
    timer = loop.ev.timer(1.0, 0.0)
    asyncio._set_running_loop(loop)
    kit.raises(pyev.Error, timer.__await__().send, None)
    assert not timer.active


@scenario("C44")
def test_exit_of_with_after_an_error_keeps_the_error() -> None:
    def fail() -> None:
        with kit.new_loop() as loop:
            watcher = loop.timer(1.0, 0.0, kit.never)
            watcher.start()
            raise ZeroDivisionError

    kit.raises(ZeroDivisionError, fail)
    gc.collect()


@scenario("C44")
def test_late_sends_to_a_closed_loop() -> None:
    loop = kit.new_loop()
    watcher = loop.async_(kit.never)
    watcher.start()
    stop = threading.Event()
    errors: list[BaseException] = []

    def send() -> None:
        while not stop.is_set():
            try:
                watcher.send()
                pyev.feed_signal(signal.SIGUSR1)
            except pyev.Error as error:
                errors.append(error)
            except BaseException as error:
                errors.append(error)
                raise

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    watcher.callback = kit.nothing
    for _ in range(50):
        with contextlib.suppress(RuntimeError):
            kit.turns(loop)
    loop.close()
    for _ in range(20):
        with kit.new_loop() as other:
            kit.turns(other, 2)
    stop.set()
    for thread in threads:
        thread.join()
    assert all(isinstance(e, pyev.Error) for e in errors), set(map(repr, errors))


@scenario("C44", "C42")
def test_a_second_thread_touches_everything_of_a_running_loop() -> None:
    with kit.new_loop() as loop:
        watchers = kit.busy_loop(loop)
        running = threading.Event()
        stopping = loop.async_(lambda w, revents: w.loop.stop())
        stopping.start()
        watchers[11].callback = lambda w, revents: running.set()  # The Prepare.
        watchers[10].stop()  # The Idle: it would only spin.
        watchers[1].stop()
        thread = threading.Thread(target=loop.start)
        thread.start()
        running.wait()
        refused = 0
        for watcher in watchers:
            for name in ("start", "stop", "clear", "reset", "sweep", "stat"):
                method = getattr(watcher, name, None)
                if method is None:
                    continue
                error = kit.raises(RuntimeError, method)
                assert type(error) is RuntimeError
                refused += 1
            for method in (watcher.feed, watcher.invoke):
                kit.raises(RuntimeError, method, pyev.EV_CUSTOM)
            for name in ("active", "pending", "data", "priority", "callback", "loop", "keepalive"):
                getattr(watcher, name)
            repr(watcher)
        for function in (
            loop.start, loop.reset, loop.update, loop.suspend, loop.resume, loop.ref, loop.unref,
            loop.invoke, loop.close, loop.verify, loop.stop,
            lambda: loop.once(None, 0, 1.0, kit.nothing),
            lambda: loop.timer(0.0, 0.0, kit.nothing).start(),
            lambda: loop.feed_fd_event(0, 1),
            lambda: loop.feed_signal_event(10),
        ):  # fmt: skip
            kit.raises((RuntimeError, pyev.Error), function)
        for name in ("backend", "iteration", "depth", "pending", "default", "data", "closed"):
            getattr(loop, name)
        pyev.feed_signal(signal.SIGUSR1)
        assert refused
        stopping.send()
        thread.join()
        for watcher in watchers:
            watcher.stop()
        stopping.stop()
        kit.works(loop)


@scenario("C42", "C44")
def test_the_last_reference_goes_in_another_thread() -> None:
    with kit.new_loop() as loop:
        running = threading.Event()
        stopping = loop.async_(lambda w, revents: w.loop.stop())
        stopping.start()
        prepare = loop.prepare(lambda w, revents: running.set())
        prepare.start()
        victims = kit.busy_loop(loop, kit.nothing)
        for index in (10, 1):
            victims[index].stop()
        thread = threading.Thread(target=loop.start)
        thread.start()
        running.wait()
        with kit.dropping():
            victims.clear()
        for _ in range(10):
            stopping_sent = loop.iteration
            assert stopping_sent >= 0
        stopping.send()
        thread.join()
        prepare.stop()
        stopping.stop()
        loop.verify()
        kit.works(loop)


@scenario("C42", "C44")
def test_the_last_reference_goes_as_another_thread_begins_to_poll() -> None:
    """The pidfds are closed, but not in the set that is polled."""
    child = kit.child_that_waits()
    running = threading.Event()
    for _ in range(100):
        running.clear()
        with (
            kit.new_loop() as loop,
            loop.async_(lambda w, revents: w.loop.stop()) as stopping,
            loop.prepare(lambda w, revents: running.set()),
        ):
            victims = [loop.child(child, False, kit.never) for _ in range(20)]
            for victim in victims:
                victim.start()
            del victim
            thread = threading.Thread(target=loop.start)
            thread.start()
            running.wait()
            with kit.dropping():
                victims.clear()
            stopping.send()
            thread.join()
    with kit.new_loop() as loop:
        kit.works(loop)
