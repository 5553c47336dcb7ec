"""Signals, children and loops where they cannot be; changes to what is active or pending."""

import contextlib
import functools
import gc
import os
import signal
import threading

import fault_kit as kit
from fault_harness import scenario

import pyev
from pyev import EV_READ, EV_WRITE

# 6. Signals, children and embedding where they cannot be.


@scenario("A6")
def test_one_signal_one_loop() -> None:
    with kit.new_loop() as one, kit.new_loop() as two:
        log = kit.Log()
        first = one.signal(signal.SIGUSR1, log)
        again = one.signal(signal.SIGUSR1, log)
        second = two.signal(signal.SIGUSR1, kit.never)
        first.start()
        again.start()
        for _ in range(3):
            kit.raises(pyev.Error, second.start)
            assert not second.active
        kit.works(two)
        signal.raise_signal(signal.SIGUSR1)
        kit.until(one, lambda: len(log) == 2)
        first.stop()
        kit.raises(pyev.Error, second.start)
        again.stop()
        second.callback = log
        second.start()
        kit.raises(pyev.Error, first.start)
        signal.raise_signal(signal.SIGUSR1)
        kit.until(two, lambda: len(log) == 3)
        two.close()
        first.start()
        first.stop()
        kit.works(one)


@scenario("A6")
def test_a_closed_or_dropped_loop_gives_its_signals_back() -> None:
    with kit.new_loop() as loop:
        for how in ("close", "drop"):
            other = kit.new_loop()
            watcher = other.signal(signal.SIGUSR2, kit.never)
            watcher.start()
            if how == "close":
                other.close()
            with kit.dropping():
                del watcher, other
            mine = loop.signal(signal.SIGUSR2, kit.nothing)
            mine.start()
            mine.stop()
        kit.works(loop)


@scenario("A6", signum=[0, -1, 65, 1000, 2**31 - 1, 9, 19])
def test_a_signal_that_cannot_be_watched(signum: int) -> None:
    with kit.new_loop() as loop:
        watcher = loop.signal(signal.SIGUSR1, kit.never)
        kit.raises(ValueError, loop.signal, signum, kit.never)
        kit.raises(ValueError, watcher.set, signum)
        kit.raises(ValueError, watcher.__init__, signum, loop, kit.never)
        for function in (pyev.feed_signal, loop.feed_signal_event):
            try:
                function(signum)
            except ValueError:
                assert signum not in (9, 19)
        kit.works(loop)


@scenario("A6", signum=[32, 33, 34, 64])
def test_signals_that_the_c_library_keeps(signum: int) -> None:
    with kit.new_loop() as loop:
        try:
            watcher = loop.signal(signum, kit.nothing)
            watcher.start()
            watcher.stop()
        except (ValueError, OSError):
            pass
        kit.works(loop)


@scenario("A6")
def test_faults_of_this_process_may_be_watched() -> None:
    with kit.new_loop() as loop:
        for signum in (signal.SIGSEGV, signal.SIGFPE, signal.SIGBUS, signal.SIGILL, signal.SIGABRT):
            watcher = loop.signal(signum, kit.nothing)
            watcher.start()
            pyev.feed_signal(signum)
            kit.turns(loop, 2)
            watcher.stop()
        kit.works(loop)


@scenario("A6")
def test_a_child_on_a_loop_that_cannot_have_one() -> None:
    with kit.new_loop() as loop:
        for pid, trace in ((0, False), (0, True), (os.getpid(), True)):
            try:
                watcher = loop.child(pid, trace, kit.never)
                watcher.start()
            except pyev.Error:
                continue
            raise AssertionError(f"Child({pid}, {trace}) started")
        kit.raises(
            (ValueError, ProcessLookupError), lambda: loop.child(-1, False, kit.never).start()
        )
        kit.raises(OverflowError, loop.child, 2**31, False, kit.never)
        kit.raises(ProcessLookupError, loop.child(2**31 - 1, False, kit.never).start)
        kit.works(loop)


@scenario("A6", inner=["select", "poll", "epoll", "io_uring", "linuxaio", "kqueue"])
def test_embedding_what_may_not_be(inner: str) -> None:
    if inner not in kit.available():
        return
    with kit.new_loop() as loop, pyev.Loop(kit.BACKENDS[inner]) as other:
        good = bool(pyev.embeddable_backends() & other.backend)
        try:
            embed = loop.embed(other)
            embed.start()
        except pyev.Error:
            assert inner != "epoll", "epoll can always be embedded"
        else:
            assert good
            fired = kit.Log(lambda w, revents: w.stop())
            r, w = kit.pipe()
            os.write(w, b"x")
            io = other.io(r, EV_READ, fired)
            io.start()
            kit.until(loop, lambda: fired, most=100)
            kit.works(loop)
            embed.stop()
        kit.works(other)
        kit.works(loop)


@scenario("A6", "42")
def test_an_embedded_loop_that_is_closed_or_dropped() -> None:
    for callback in (None, kit.nothing):
        for how in ("close", "drop", "close in its sweep", "close after stop"):
            with kit.new_loop() as loop:
                other = pyev.Loop(kit.BACKENDS["epoll"])
                embed = loop.embed(other, callback)
                embed.start()
                kit.turns(loop)
                if how == "close":
                    other.close()
                    for function in (embed.sweep, embed.start):
                        kit.raises(pyev.Error, function)
                    kit.drain(loop)
                elif how == "drop":
                    del other
                    gc.collect()
                    assert not embed.other.closed
                elif how == "close in its sweep":

                    def close(
                        watcher: pyev.Watcher, revents: int, other: pyev.Loop = other
                    ) -> None:
                        # Refused while it runs.
                        with kit.Unraisable(), contextlib.suppress(pyev.Error):
                            other.close()

                    timer = other.timer(0.0, 0.0, close)
                    timer.start()
                    with kit.Unraisable():
                        embed.sweep()
                        kit.drain(loop)
                else:
                    embed.stop()
                    other.close()
                    kit.raises(pyev.Error, embed.start)
                embed.stop()
                kit.works(loop)


@scenario("A6")
def test_an_embedded_loop_run_by_another_thread() -> None:
    if "epoll" not in kit.available():
        kit.skip("no epoll here")
    with kit.new_loop() as loop, pyev.Loop(kit.BACKENDS["epoll"]) as other:
        embed = loop.embed(other)
        embed.start()
        running = threading.Event()
        other.callback = lambda loop: (running.set(), loop.invoke())
        waker = other.async_(lambda w, revents: w.loop.stop())
        waker.start()
        kick = other.timer(0.0, 0.0, kit.nothing)
        kick.start()
        thread = threading.Thread(target=other.start)
        thread.start()
        running.wait()
        r, w = kit.pipe()
        with kit.Unraisable():
            for function in (embed.sweep, functools.partial(loop.start, kit.NOWAIT)):
                for _ in range(20):
                    with contextlib.suppress(RuntimeError, pyev.Error):
                        function()
            while thread.is_alive():
                waker.send()
                thread.join(0.01)
            kit.drain(loop)
        embed.stop()
        other.callback = None
        kit.works(other)
        kit.works(loop)


# 7. Changes to what is active or pending.


def one_of_each(loop: pyev.Loop, fd: int) -> list[tuple[pyev.Watcher, tuple[object, ...]]]:
    """Watchers, each with what its set() takes."""
    return [
        (loop.io(fd, EV_READ, kit.nothing), (fd, EV_WRITE)),
        (loop.timer(1000.0, 0.0, kit.nothing), (1.0, 1.0)),
        (loop.periodic(0.0, 1e6, kit.nothing), (1.0, 2e6)),
        (loop.scheduler(lambda w, now: now + 1e6, kit.nothing), ()),
        (loop.signal(signal.SIGUSR1, kit.nothing), (signal.SIGUSR2,)),
        (loop.stat("/", 1e3, kit.nothing), ("/tmp", 2e3)),
        (loop.idle(kit.nothing), ()),
        (loop.prepare(kit.nothing), ()),
        (loop.check(kit.nothing), ()),
        (loop.fork(kit.nothing), ()),
        (loop.async_(kit.nothing), ()),
        (loop.cleanup(kit.nothing), ()),
    ]


ARGUMENTS = {
    "Io": lambda fd: (fd, EV_READ),
    "Timer": lambda fd: (1.0, 0.0),
    "Periodic": lambda fd: (0.0, 1e6),
    "Scheduler": lambda fd: (lambda w, now: now + 1e6,),
    "Signal": lambda fd: (signal.SIGUSR1,),
    "Stat": lambda fd: ("/", 1e3),
}


@scenario("A7")
def test_set_and_init_while_active_or_pending() -> None:
    with kit.new_loop() as loop:
        fd, _ = kit.pipe()
        for watcher, leading in one_of_each(loop, fd):
            again = ARGUMENTS.get(type(watcher).__name__, lambda fd: ())(fd)
            watcher.start()
            text = repr(watcher)
            if leading:
                kit.raises(pyev.Error, watcher.set, *leading)
            kit.raises(pyev.Error, watcher.__init__, *again, loop, kit.never)
            kit.raises(pyev.Error, setattr, watcher, "priority", 1)
            assert watcher.active and watcher.callback is kit.nothing and repr(watcher) == text
            watcher.callback = kit.never
            watcher.data = 1
            watcher.stop()
            # Only pending: the stale event goes.
            watcher.feed(pyev.EV_CUSTOM)
            assert watcher.pending
            kit.raises(pyev.Error, setattr, watcher, "priority", 1)
            if leading:
                watcher.set(*leading)
                assert not watcher.pending
                watcher.feed(pyev.EV_CUSTOM)
            watcher.__init__(*again, loop, kit.never)
            assert not watcher.pending and watcher.data == 1
            kit.turns(loop)
            watcher.feed(pyev.EV_CUSTOM)
            assert watcher.clear() == pyev.EV_CUSTOM and not watcher.pending
            watcher.priority = 2**31 - 1
            watcher.priority = -(2**31)
            assert watcher.priority == -(2**31)
            watcher.callback = kit.nothing
            watcher.feed(pyev.EV_CUSTOM)
            kit.turns(loop)
            kit.raises(OverflowError, setattr, watcher, "priority", 2**31)
        kit.works(loop)


@scenario("A7")
def test_moved_to_another_loop() -> None:
    with kit.new_loop() as one, kit.new_loop() as two:
        fd, _ = kit.pipe()
        for watcher, _leading in one_of_each(one, fd):
            again = ARGUMENTS.get(type(watcher).__name__, lambda fd: ())(fd)
            watcher.feed(pyev.EV_CUSTOM)
            watcher.__init__(*again, two, kit.nothing)
            assert watcher.loop is two and not watcher.pending
            watcher.start()
            kit.turns(one)
            kit.turns(two)
            watcher.stop()
        kit.works(one)
        kit.works(two)


@scenario("A7", priority=[-(2**31), -3, 3, 2**31 - 1])
def test_priorities_out_of_range_are_fed_without_harm(priority: int) -> None:
    # ev_feed_event() indexes an array by the priority as it stands.
    with kit.new_loop() as loop:
        log = kit.Log()
        fd, _ = kit.pipe()
        for watcher, _leading in one_of_each(loop, fd):
            watcher.callback = log
            watcher.priority = priority
            for _ in range(3):
                watcher.feed(pyev.EV_CUSTOM)
            loop.verify()
            before = len(log)
            watcher.start()
            assert loop.pending >= 1
            kit.turns(loop)
            assert len(log) > before
            watcher.stop()
        kit.works(loop)
