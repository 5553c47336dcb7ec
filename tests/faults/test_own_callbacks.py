"""Watchers changed, stopped and freed from inside their own callbacks, at every priority."""

import asyncio
import contextlib
import functools
import gc
import os
import signal

import fault_kit as kit
from fault_harness import scenario

import pyev
from pyev import EV_WRITE

# 17. In their own callbacks.

SIMPLE = ["idle", "prepare", "check", "fork", "async_"]


def trigger(loop: pyev.Loop, watcher: pyev.Watcher) -> None:
    if isinstance(watcher, pyev.Fork):
        loop.reset()
    elif isinstance(watcher, pyev.Async):
        watcher.send()


@scenario("A17", kind=SIMPLE, what=["stop", "restart", "drop", "start more", "stop all", "init"])
def test_changed_in_their_own_callbacks(kind: str, what: str) -> None:
    with kit.new_loop() as loop:
        called: list[int] = []
        watchers: dict[int, pyev.Watcher] = {}

        def callback(watcher: pyev.Watcher, revents: int) -> None:
            called.append(watcher.priority)
            match what:
                case "stop":
                    watcher.stop()
                    assert not watcher.active and not watcher.pending
                case "restart":
                    watcher.stop()
                    watcher.start()
                case "drop":
                    watchers.pop(watcher.data, None)
                case "start more":
                    watcher.stop()
                    for _ in range(20):
                        make(watcher.priority, kit.nothing)
                case "stop all":
                    for other in watchers.values():
                        other.stop()
                case "init":
                    watcher.stop()
                    watcher.__init__(loop, callback, watcher.data, -watcher.priority)
                    watcher.start()
                    watcher.stop()

        def make(priority: int, callback: object) -> None:
            number = len(watchers) * 1000 + priority + 500
            watchers[number] = getattr(loop, kind)(callback, number, priority)
            watchers[number].start()
            trigger(loop, watchers[number])

        for _ in range(3):
            for priority in (0, 2, -2, 1, -1):
                make(priority, callback)
        with kit.dropping():
            if kind == "idle" and what != "stop all":
                kit.turns(loop, 20)  # One priority a turn.
            else:
                kit.turns(loop, 2)
        if what == "stop all":
            assert called == [2], called
        elif what in ("stop", "drop"):
            assert called == sorted(called, reverse=True), called
            # io_uring has an event of its own at the lowest priority each turn: no Idle there.
            assert len(called) >= (12 if kind == "idle" and kit.backend == "io_uring" else 15), (
                called
            )
        with kit.dropping():
            watchers.clear()
        kit.turns(loop, 2)
        kit.works(loop)


@scenario("A17", kind=SIMPLE, how=["stop", "drop", "clear"])
def test_the_next_of_the_batch_is_stopped_or_dropped(kind: str, how: str) -> None:
    with kit.new_loop() as loop:
        called: list[str] = []
        second: list[pyev.Watcher] = []

        def first_called(watcher: pyev.Watcher, revents: int) -> None:
            called.append("first")
            watcher.stop()
            if how == "stop":
                second[0].stop()
            elif how == "clear":
                second[0].clear()
                second[0].stop()
            with kit.dropping():
                second.clear()

        make = getattr(loop, kind)
        second.append(make(kit.never, None, 1))
        first = make(first_called, None, 2 if kind != "idle" else 1)
        # Idle watchers of lower priority wait for the others: both must be of one.
        for watcher in (first, second[0]):
            watcher.start()
            trigger(loop, watcher)
        del watcher
        if kind == "idle":
            # Which of the two comes first is not promised; the other must not come at all.
            second[0].callback = first_called
            second.append(first)
            second.reverse()
            kit.turns(loop)
            assert 1 <= len(called) <= 2
            del first
            with kit.dropping():
                second.clear()
        else:
            kit.turns(loop)
            assert called == ["first"]
        kit.turns(loop, 2)
        kit.works(loop)


@scenario("A17", kind=[*SIMPLE, "timer", "io", "cleanup"])
def test_the_callback_lets_go_of_everything(kind: str) -> None:
    loop = kit.new_loop()
    fd, _ = kit.pair()
    arguments = {"timer": (0.0, 1.0), "io": (fd, EV_WRITE)}.get(kind, ())
    holder: dict[str, object] = {}
    called: list[int] = []

    def callback(watcher: pyev.Watcher, revents: int) -> None:
        called.append(revents)
        watcher.callback = kit.nothing  # The one that runs is nobody's now.
        holder.clear()
        with kit.dropping():
            gc.collect()
        called.append(0)
        del watcher.data
        raise LookupError  # Reported with the callback as its object.

    # No frame refers to the partial object itself.
    callback_object = functools.partial(callback)
    holder["watcher"] = watcher = getattr(loop, kind)(*arguments, callback_object, holder)
    del callback_object
    watcher.start()
    trigger(loop, watcher)
    del watcher
    with kit.dropping(), kit.Unraisable() as unraisable:
        if kind == "cleanup":
            loop.close()
        else:
            kit.turns(loop, 2)
    assert len(called) == 2
    assert [type(error) for error in unraisable.errors] == [LookupError]
    with kit.dropping():
        unraisable.errors.clear()  # Their tracebacks refer to the watcher.
    if kind != "cleanup":
        kit.works(loop)
        loop.close()


@scenario("A17")
def test_batches_run_by_priority_and_survive_stop_and_nesting() -> None:
    with kit.new_loop() as loop:
        called: list[int] = []
        watchers = []
        for priority in (-2, 2, 0, 1, -1, 2, -2):
            log = kit.Log(lambda w, revents: called.append(w.priority))
            watchers.append(loop.timer(0.0, 0.0, log, None, priority))
            watchers[-1].start()

        def nest(watcher: pyev.Watcher, revents: int) -> None:
            watcher.loop.stop(pyev.EVBREAK_ALL)
            watcher.loop.start(kit.NOWAIT)
            called.append(100)

        nesting = loop.timer(0.0, 0.0, nest, None, 2)
        nesting.start()
        kit.turns(loop)
        # The nested run finishes what was collected before it returns.
        assert sorted(called) == [-2, -2, -1, 0, 1, 2, 2, 100], called
        assert [c for c in called if c != 100] == [2, 2, 1, 0, -1, -2, -2], called
        kit.works(loop)


@scenario("A17", backends="any", kind=["signal", "child", "embed"])
def test_started_by_a_finalizer_while_it_is_started(kind: str) -> None:
    """Its own call then has nothing left to do."""
    loop, other = pyev.EventLoop(), pyev.Loop(pyev.EVBACKEND_EPOLL)
    pid = kit.child_that_waits() if kind == "child" else os.getpid()
    arguments = {"signal": (signal.SIGUSR2,), "child": (pid, False), "embed": (other,)}
    watcher = getattr(loop.ev, kind)(*arguments[kind], kit.nothing)
    before = kit.open_fds()
    for after in range(6):
        with kit.collecting(watcher.start, after):
            watcher.start()
        watcher.stop()
        assert kit.open_fds() == before
        with other.signal(signal.SIGUSR2, kit.never):
            pass
    loop.run_until_complete(asyncio.sleep(0))
    other.close()
    loop.close()


def give(timer: pyev.Timer) -> None:
    if not timer.active:
        timer.callback = kit.never


@scenario("A17", backends="any")
def test_given_a_callback_by_a_finalizer_while_it_is_iterated() -> None:
    loop = pyev.EventLoop()
    asyncio._set_running_loop(loop)
    for after in range(12):
        timer = loop.ev.timer(1.0, 0.0)
        giving = kit.collecting(functools.partial(give, timer), after)
        with contextlib.suppress(RuntimeError, TypeError), giving:
            aiter(timer)
        timer.stop()
    asyncio._set_running_loop(None)
    loop.close()


@scenario("A17")
def test_endless_nesting_is_an_exception() -> None:
    with kit.new_loop(debug=True) as loop:

        def nest(watcher: pyev.Watcher, revents: int) -> None:
            watcher.loop.start(kit.NOWAIT)

        watcher = loop.prepare(nest)
        watcher.start()
        with kit.Unraisable():
            kit.raises(RecursionError, loop.start, kit.NOWAIT)
        watcher.stop()
        kit.drain(loop)
        assert loop.depth == 0
        kit.works(loop)
