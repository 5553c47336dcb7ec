"""Ctrl-C, Python's own handlers, the wake-up descriptor, and what is put back afterwards."""

import ctypes
import faulthandler
import functools
import gc
import os
import signal
import socket
import tempfile
import threading
import types
from collections.abc import Callable

import fault_kit as kit
from fault_harness import scenario

import pyev


class Taken(Exception):
    """What a signal handler raises."""


def raiser(signum: int, frame: object) -> None:
    raise Taken(signum)


def becomes(number: int) -> object:
    """Converts any argument to a number, by C code alone: `getattr(holder, "value", argument)`."""
    holder = types.SimpleNamespace(value=ctypes.c_int(number))
    return types.SimpleNamespace(from_param=functools.partial(getattr, holder, "value"))


def silently(signum: int) -> Callable[..., int]:
    """A callback that sends this process a signal, and after that runs not one bytecode: Python's
    handler is still due when the loop polls."""
    kill = ctypes.CDLL(None).kill
    kill.argtypes = [becomes(os.getpid()), becomes(signum)]
    return kill  # type: ignore[no-any-return]


KINDS = {"ctrl-c": (signal.SIGINT, KeyboardInterrupt), "handler": (signal.SIGUSR1, Taken)}


def expecting(kind: str) -> tuple[int, type[BaseException]]:
    signal.signal(signal.SIGUSR1, raiser)
    return KINDS[kind]


def leaves(loop: pyev.Loop, error: type[BaseException], flags: int = 0) -> None:
    kit.raises(error, loop.start, flags)
    assert loop.depth == 0


# 31 and 32. Out of start().


@scenario("C31", "C32", kind=list(KINDS), watched=["nothing", "idle io", "timer"])
def test_while_blocked_with_nothing_to_do(kind: str, watched: str) -> None:
    signum, error = expecting(kind)
    shoot = kit.assassin(signum)
    # With debug, what a handler raises in the callback that is still to return leaves start() too.
    with kit.new_loop(debug=kind == "handler") as loop:
        r, w = kit.pipe()
        keep: pyev.Watcher = loop.async_(kit.never)
        if watched == "idle io":
            keep = loop.io(r, pyev.EV_READ, kit.never)
        elif watched == "timer":
            keep = loop.timer(1e6, 1e6, kit.never)
        keep.start()
        about_to_block = loop.prepare(lambda w, revents: (w.stop(), shoot()))
        for _ in range(30):
            about_to_block.start()
            leaves(loop, error)
            about_to_block.stop()
        keep.stop()
        kit.works(loop)


@scenario("C31", "C32", kind=list(KINDS))
def test_while_surely_blocked(kind: str) -> None:
    signum, error = expecting(kind)
    with kit.new_loop() as loop:
        keep = loop.async_(kit.never)
        keep.start()
        for other in (False, True):

            def shoot(other: bool = other) -> None:
                kit.wait_until_blocked()
                if other:  # It is taken by the wrong thread, and the poll is not interrupted.
                    signal.pthread_kill(threading.get_ident(), signum)
                else:
                    signal.pthread_kill(threading.main_thread().ident or 0, signum)

            for _ in range(5):
                thread = threading.Thread(target=shoot)
                thread.start()
                leaves(loop, error)
                thread.join()
        keep.stop()
        kit.works(loop)


@scenario("C31", "C32", kind=list(KINDS), place=["prepare", "prepare twice", "timer", "fed"])
def test_just_before_the_poll(kind: str, place: str) -> None:
    signum, error = expecting(kind)
    with kit.new_loop() as loop:
        keep = loop.async_(kit.never)
        keep.start()
        watchers: list[pyev.Watcher] = []
        if place == "fed":  # Called before the loop is ready to be woken by signals.
            watchers.append(loop.check(silently(signum)))
            watchers[0].feed(pyev.EV_CUSTOM)
        elif place == "timer":
            watcher = loop.timer(0.0, 0.0, silently(signum), None, -2)
            watcher.start()
            watchers.append(watcher)
        else:
            for priority in (-2, 2)[: 2 if place == "prepare twice" else 1]:
                watchers.append(loop.prepare(silently(signum), None, priority))
                watchers[-1].start()
        leaves(loop, error)
        for watcher in watchers:
            watcher.stop()
        keep.stop()
        kit.works(loop)


@scenario("C31", "C32", kind=list(KINDS), wait=["io_interval", "timeout_interval"])
def test_while_an_interval_is_waited_for(kind: str, wait: str) -> None:
    signum, error = expecting(kind)
    with kit.new_loop(**{wait: 1000.0}) as loop:
        keep = loop.timer(900.0, 0.0, kit.never)
        keep.start()

        def shoot() -> None:
            kit.wait_until_blocked()
            signal.pthread_kill(threading.get_ident(), signum)

        thread = threading.Thread(target=shoot)
        thread.start()
        leaves(loop, error)
        thread.join()
        keep.stop()
        loop.io_interval = loop.timeout_interval = 0.0
        kit.works(loop)


@scenario("C31", "C32", kind=list(KINDS), debug=[False, True])
def test_in_a_callback(kind: str, debug: bool) -> None:
    signum, error = expecting(kind)
    with kit.new_loop(debug=debug) as loop:
        after = kit.Log()
        first = loop.timer(0.0, 0.0, lambda w, revents: signal.raise_signal(signum), None, 2)
        second = loop.timer(0.0, 0.0, after)
        first.start()
        second.start()
        if error is Taken and not debug:
            with kit.Unraisable() as unraisable:
                loop.start(kit.ONCE)
            assert [type(e) for e in unraisable.errors] == [Taken]
        else:
            leaves(loop, error)
        # What had been collected is not lost.
        kit.turns(loop)
        assert len(after) == 1
        kit.works(loop)


@scenario("C31", kind=["ctrl-c"], depth=[1, 2, 5])
def test_out_of_nested_runs(kind: str, depth: int) -> None:
    signum, error = expecting(kind)
    with kit.new_loop() as loop:
        keep = loop.async_(kit.never)
        keep.start()

        def nest(watcher: pyev.Watcher, revents: int) -> None:
            if loop.depth < depth:
                nesting.stop()
                nesting.start()
                loop.start()
            else:
                shooting.start()
                loop.start()

        shooting = loop.prepare(silently(signum))
        nesting = loop.timer(0.0, 1e-6, nest)
        nesting.start()
        leaves(loop, error)
        for watcher in (nesting, shooting, keep):
            watcher.stop()
        kit.works(loop)


@scenario("C31", where=["callback", "invoke", "embedded", "scheduler"])
def test_in_other_places(where: str) -> None:
    with kit.new_loop() as loop, pyev.Loop(pyev.EVBACKEND_EPOLL) as inner:
        interrupt = lambda *args: signal.raise_signal(signal.SIGINT)  # noqa: E731
        if where == "callback":
            loop.callback = interrupt
            timer = loop.timer(0.0, 0.0, kit.nothing)
            timer.start()
            leaves(loop, KeyboardInterrupt)
            loop.callback = None
        elif where == "invoke":
            timer = loop.timer(0.0, 0.0, interrupt)
            kit.raises(KeyboardInterrupt, timer.invoke, 0)
        elif where == "embedded":
            embed = loop.embed(inner)
            embed.start()
            timer = inner.timer(0.0, 0.0, interrupt)
            io = inner.io(kit.opened(os.open(os.devnull, os.O_RDONLY)), pyev.EV_READ, interrupt)
            r, w = kit.pipe()
            io.set(w, pyev.EV_WRITE)
            io.start()
            leaves(loop, KeyboardInterrupt)
            io.stop()
            embed.stop()
        else:
            scheduler = loop.scheduler(interrupt, kit.never)
            kit.raises(KeyboardInterrupt, scheduler.start)
        kit.works(inner)
        kit.works(loop)


@scenario("C31")
def test_a_loop_in_another_thread_is_not_interrupted() -> None:
    with kit.new_loop() as loop:
        waker = loop.async_(lambda w, revents: w.loop.stop())
        waker.start()
        thread = threading.Thread(target=loop.start)
        thread.start()
        for _ in range(5):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                continue
            raise AssertionError("no KeyboardInterrupt in the main thread")
        assert thread.is_alive()
        waker.send()
        thread.join()
        waker.stop()
        kit.works(loop)


@scenario("C31")
def test_a_default_handler_ends_the_process() -> None:
    def child() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        with kit.new_loop() as loop:
            keep = loop.prepare(silently(signal.SIGINT))
            keep.start()
            loop.start()

    assert kit.fork(child) == -signal.SIGINT


# 33. Handlers put back.

HANDLERS = ["default_int_handler", "function", "ignored", "default", "faulthandler"]
ENDS = ["stop", "drop", "close", "set", "last of two", "stopped in its callback", "error", "exit"]


@scenario("C33", handler=HANDLERS, end=ENDS, alone=True)
def test_the_previous_handler_is_back(handler: str, end: str) -> None:
    called: list[int] = []
    function = lambda signum, frame: called.append(signum)  # noqa: E731
    signum = signal.SIGINT if handler == "default_int_handler" else signal.SIGUSR1
    match handler:
        case "function":
            signal.signal(signum, function)
        case "ignored":
            signal.signal(signum, signal.SIG_IGN)
        case "faulthandler":
            report = tempfile.TemporaryFile()  # noqa: SIM115
            faulthandler.register(signum, report, all_threads=False)
    before = signal.getsignal(signum)
    loop = kit.new_loop()
    for _ in range(3):
        log = kit.Log()
        watcher = loop.signal(signum, log)
        watcher.start()
        signal.raise_signal(signum)
        signal.pthread_kill(threading.get_ident(), signum)
        kit.until(loop, lambda log=log: log, most=10)
        assert not called, "Python's handler ran while the watcher was active"
        match end:
            case "stop":
                watcher.stop()
            case "drop":
                with kit.dropping():
                    del watcher
            case "close":
                loop.close()
                loop = kit.new_loop()
            case "set":
                watcher.stop()
                watcher.set(signal.SIGUSR2)
                watcher.start()
                watcher.stop()
            case "last of two":
                with loop.signal(signum, kit.nothing):
                    watcher.stop()
                    signal.raise_signal(signum)
                    kit.turns(loop)
            case "stopped in its callback":
                log.action = lambda w, revents: w.stop()
                signal.raise_signal(signum)
                kit.until(loop, lambda watcher=watcher: not watcher.active)
            case "error":
                watcher.feed(pyev.EV_ERROR)
                kit.raises(pyev.Error, loop.start, kit.NOWAIT)
            case "exit":
                with loop.signal(signum, kit.nothing):
                    pass
                watcher.stop()
        assert signal.getsignal(signum) is before, signal.getsignal(signum)
        match handler:
            case "default_int_handler":
                kit.raises(KeyboardInterrupt, signal.raise_signal, signum)
            case "function":
                signal.raise_signal(signum)
                assert called == [signum]
                called.clear()
            case "ignored":
                signal.raise_signal(signum)
            case "default":

                def die() -> None:
                    signal.raise_signal(signum)

                assert kit.fork(die) == -signum
            case "faulthandler":
                size = os.fstat(report.fileno()).st_size
                signal.raise_signal(signum)
                assert os.fstat(report.fileno()).st_size > size
    kit.works(loop)
    loop.close()
    if handler == "faulthandler":
        faulthandler.unregister(signum)
        report.close()


@scenario("C33")
def test_ctrl_c_works_after_a_sigint_watcher() -> None:
    with kit.new_loop() as loop:
        watcher = loop.signal(signal.SIGINT, lambda w, revents: w.stop())
        keep = loop.async_(kit.never)
        for _ in range(3):
            watcher.start()
            signal.raise_signal(signal.SIGINT)
            loop.start()
            assert not watcher.active
            keep.start()
            shooting = loop.prepare(silently(signal.SIGINT))
            shooting.start()
            leaves(loop, KeyboardInterrupt)
            shooting.stop()
            keep.stop()
        kit.works(loop)


@scenario("C33")
def test_the_user_changes_the_handler_meanwhile() -> None:
    called: list[int] = []
    with kit.new_loop() as loop:
        watcher = loop.signal(signal.SIGUSR1, kit.nothing)
        watcher.start()
        signal.signal(signal.SIGUSR1, lambda signum, frame: called.append(signum))
        signal.raise_signal(signal.SIGUSR1)
        kit.turns(loop, 2)
        watcher.stop()
        watcher.start()
        pyev.feed_signal(signal.SIGUSR1)
        kit.turns(loop, 2)
        watcher.stop()
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        gc.collect()
        kit.works(loop)


@scenario("C33", flags=[0, 0x200000], alone=True)
def test_with_and_without_signalfd(flags: int) -> None:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    before = signal.getsignal(signal.SIGUSR1)
    loop = kit.new_loop(flags)
    log = kit.Log()
    watchers = [loop.signal(n, log) for n in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        os.kill(os.getpid(), watcher.signum)
    kit.until(loop, lambda: len(log) == 3)
    for watcher in watchers[:2]:
        watcher.stop()
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask, "a signal is left blocked"


@scenario("C33", "C31")
def test_a_storm_of_signals() -> None:
    with kit.new_loop() as loop:
        log = kit.Log()
        watchers = [loop.signal(n, log) for n in (10, 12, 1, 2, 15, 34, 35, 64)]
        for watcher in watchers:
            watcher.start()
        for _ in range(100):
            for watcher in watchers:
                signal.raise_signal(watcher.signum)
            kit.turns(loop)
        assert 8 <= len(log) <= 800
        for watcher in watchers:
            watcher.stop()
        kit.works(loop)


# 34. The wake-up descriptor.


@scenario("C34", flags=[0, 1, 2], alone=True)
def test_a_foreign_wakeup_fd_is_put_back_and_gets_its_bytes(flags: int) -> None:
    signal.signal(signal.SIGUSR1, lambda signum, frame: None)
    a, b = socket.socketpair()
    with a, b, kit.new_loop() as loop:
        a.setblocking(False)
        b.setblocking(False)
        signal.set_wakeup_fd(b.fileno())
        shooting = loop.prepare(silently(signal.SIGUSR1))
        shooting.start()
        stop = loop.timer(0.001, 0.001, lambda w, revents: w.loop.stop())
        stop.start()
        for _ in range(20):
            loop.start(flags)
            assert set(a.recv(1000)) == {signal.SIGUSR1}, "the foreign descriptor missed one"
            assert signal.set_wakeup_fd(b.fileno()) == b.fileno()
        shooting.callback = lambda w, revents: 1 / 0
        loop.debug = True
        kit.raises(ZeroDivisionError, loop.start, flags)
        assert signal.set_wakeup_fd(-1) == b.fileno()
        loop.debug = False
        shooting.stop()
        stop.stop()
        kit.works(loop)
        assert signal.set_wakeup_fd(-1) == -1


@scenario("C34", new=["another", "none"], alone=True)
def test_a_wakeup_fd_set_while_running_stays(new: str) -> None:
    a, b = socket.socketpair()
    with a, b, kit.new_loop() as loop:
        a.setblocking(False)
        b.setblocking(False)
        fd = b.fileno() if new == "another" else -1
        timer = loop.timer(0.0, 0.0, lambda w, revents: signal.set_wakeup_fd(fd))
        timer.start()
        loop.start(kit.ONCE)
        kit.turns(loop)
        assert signal.set_wakeup_fd(-1) == fd
        kit.works(loop)


@scenario("C34")
def test_a_foreign_wakeup_fd_that_is_full_or_dead() -> None:
    signal.signal(signal.SIGUSR1, raiser)
    r, w = kit.pipe()
    while True:
        try:
            os.write(w, b"x" * 4096)
        except BlockingIOError:
            break
    with kit.new_loop() as loop:
        keep = loop.async_(kit.never)
        keep.start()
        shooting = loop.prepare(silently(signal.SIGUSR1))
        shooting.start()
        signal.set_wakeup_fd(w, warn_on_full_buffer=False)
        leaves(loop, Taken)
        assert signal.set_wakeup_fd(-1) == w
        shooting.stop()
        keep.stop()
        kit.works(loop)


@scenario("C34", "C31", inner=["same", "other", "other thread"])
def test_a_nested_loop_leaves_the_outer_its_signals(inner: str) -> None:
    with kit.new_loop() as loop, kit.new_loop() as second:
        keep = loop.async_(kit.never)
        keep.start()
        ran: list[bool] = []

        def nest(watcher: pyev.Watcher, revents: int) -> None:
            if inner == "same":
                ran.append(loop.start(kit.NOWAIT))
            elif inner == "other":
                kit.works(second)
                ran.append(True)
            else:
                kit.in_thread(lambda: kit.works(second))
                ran.append(True)
            shooting.start()

        shooting = loop.prepare(silently(signal.SIGINT))
        timer = loop.timer(0.0, 0.0, nest)
        timer.start()
        leaves(loop, KeyboardInterrupt)
        assert ran
        shooting.stop()
        keep.stop()
        assert signal.set_wakeup_fd(-1) == -1
        kit.works(loop)


@scenario("C34", "C31", inner=["runs", "gets a handler"], alone=True)
def test_a_loop_that_keeps_its_descriptor_leaves_the_outer_its_signals(inner: str) -> None:
    """Signals that another thread takes: nothing but that descriptor ends the poll."""
    import asyncio

    signal.signal(signal.SIGUSR1, raiser)
    second = pyev.EventLoop()
    if inner == "runs":
        second.add_signal_handler(signal.SIGUSR2, print)

    def nest(watcher: pyev.Watcher, revents: int) -> None:
        if inner == "runs":
            second.run_until_complete(asyncio.sleep(0.001))
        else:
            second.add_signal_handler(signal.SIGUSR2, print)
        thread.start()

    def take() -> None:
        kit.wait_until_blocked()
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    thread = threading.Thread(target=take)
    with kit.new_loop() as loop, loop.timer(5.0, 0.0, kit.nothing) as far:
        with loop.timer(0.0, 0.0, nest):
            leaves(loop, Taken)
        assert far.active
        thread.join()
        second.close()
        assert signal.set_wakeup_fd(-1) == -1
        kit.works(loop)


@scenario("C34")
def test_asyncio_around_and_inside() -> None:
    import asyncio

    with kit.new_loop() as loop:
        taken: list[int] = []

        async def main() -> None:
            running = asyncio.get_running_loop()
            event = asyncio.Event()
            running.add_signal_handler(
                signal.SIGUSR1, lambda: (taken.append(signal.SIGUSR1), event.set())
            )
            kit.works(loop)
            shooting = loop.prepare(silently(signal.SIGUSR1))
            shooting.start()
            kit.turns(loop)
            shooting.stop()
            await event.wait()
            running.remove_signal_handler(signal.SIGUSR1)

        asyncio.run(main())
        assert taken == [signal.SIGUSR1]
        timer = loop.timer(0.0, 0.0, lambda w, revents: asyncio.run(asyncio.sleep(0)))
        timer.start()
        kit.turns(loop)
        kit.works(loop)


@scenario("C34")
def test_feeding_signals_from_threads_and_handlers() -> None:
    with kit.new_loop() as loop:
        log = kit.Log()
        watcher = loop.signal(signal.SIGUSR1, log)
        signal.signal(signal.SIGUSR2, lambda signum, frame: pyev.feed_signal(signal.SIGUSR1))
        watcher.start()
        shooting = loop.prepare(silently(signal.SIGUSR2))
        shooting.start()
        kit.until(loop, lambda: log, most=100)
        shooting.stop()
        before = len(log)
        kit.in_thread(lambda: pyev.feed_signal(signal.SIGUSR1))
        kit.until(loop, lambda: len(log) > before, most=100)
        watcher.stop()
        pyev.feed_signal(signal.SIGUSR1)
        kit.works(loop)
