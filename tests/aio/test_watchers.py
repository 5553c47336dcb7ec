"""loop.ev: watchers beside coroutines."""

import asyncio
import contextvars
import os
import signal
import subprocess
import threading
import time

import pytest

import pyev

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


def test_ev_is_a_loop(ours):
    assert type(ours.ev) is pyev.Loop
    assert ours.ev is ours.ev
    with pytest.raises(AttributeError):
        ours.ev = pyev.Loop()


def test_flags(spin):
    loop = pyev.EventLoop(pyev.EVBACKEND_SELECT)
    assert loop.ev.backend == pyev.EVBACKEND_SELECT
    spin(loop)
    loop.close()
    if not pyev.supported_backends() & pyev.EVBACKEND_KQUEUE:
        with pytest.raises(pyev.Error):
            pyev.EventLoop(pyev.EVBACKEND_KQUEUE)


def test_another_thread_is_refused_in_a_callback_too(ours):
    timer = ours.ev.timer(1.0, 0.0, print)
    calls = (timer.start, timer.stop, timer.reset, ours.ev.update, lambda: ours.ev.idle(print))
    refused = []

    def call_all():
        for call in calls:
            try:
                call()
            except RuntimeError as error:
                refused.append(str(error))

    def callback():
        thread = threading.Thread(target=call_all)
        thread.start()
        thread.join()
        ours.stop()

    ours.call_soon(callback)
    ours.run_forever()
    why = (
        "the loop is running in another thread: from here only call_soon_threadsafe() may be called"
    )
    assert refused == [why] * len(calls)
    call_all()
    assert len(refused) == len(calls)
    timer.stop()


def test_started_before_the_loop_runs(ours):
    seen = []

    def fire(watcher, revents):
        seen.append(revents)
        ours.stop()

    with ours.ev.timer(0.001, 0.0, fire):
        ours.run_forever()
    assert seen == [pyev.EV_TIMER]


def test_started_while_the_loop_runs(ours):
    async def main():
        event = asyncio.Event()
        with ours.ev.timer(0.001, 0.001, lambda w, revents: event.set()):
            for _ in range(3):
                await event.wait()
                event.clear()

    ours.run_until_complete(main())


def test_kinds_beside_coroutines(ours, pair, tmp_path):
    seen = set()

    async def main():
        done = asyncio.Event()

        def saw(watcher, revents):
            assert asyncio.get_running_loop() is ours
            assert asyncio.current_task() is None
            seen.add(type(watcher).__name__)
            watcher.stop()
            if len(seen) == len(watchers):
                done.set()

        ev = ours.ev
        path = tmp_path / "file"
        path.touch()
        watchers = [
            ev.io(pair[0], pyev.EV_READ, saw),
            ev.timer(0.0, 0.0, saw),
            ev.periodic(0.0, 0.01, saw),
            ev.scheduler(lambda w, now: now + 0.001, saw),
            ev.signal(signal.SIGUSR1, saw),
            ev.child(process.pid, False, saw),
            ev.idle(saw),
            ev.prepare(saw),
            ev.check(saw),
            ev.async_(saw),
        ]
        for watcher in watchers:
            watcher.start()
        pair[1].send(b"x")
        signal.raise_signal(signal.SIGUSR1)
        threading.Thread(target=watchers[-1].send).start()
        await asyncio.wait_for(done.wait(), 30)
        assert not any(watcher.active for watcher in watchers)

    with subprocess.Popen(["true"]) as process:
        ours.run_until_complete(main())
    assert len(seen) == 10


def test_watchers_do_not_decide_when_it_ends(ours, spin):
    spin(ours)
    with ours.ev.timer(1000.0, 0.0, lambda w, revents: None):
        spin(ours)
    # None are active, and the loop runs until it is stopped.
    read, write = os.pipe()
    ours.add_reader(read, ours.stop)
    thread = threading.Thread(target=os.write, args=(write, b"x"))
    thread.start()
    ours.run_forever()
    thread.join()
    ours.remove_reader(read)
    os.close(read)
    os.close(write)


def test_keepalive_counts_are_whole_afterwards(spin):
    loop = pyev.new_event_loop()
    with loop.ev.timer(1000.0, 0.0, lambda w, revents: None, keepalive=False):
        for _ in range(3):
            spin(loop)
    loop.close()


def test_idle_keeps_the_loop_turning(ours):
    seen = []

    def idle(watcher, revents):
        seen.append(1)
        if len(seen) == 10:
            ours.stop()

    with ours.ev.idle(idle):
        ours.run_forever()
    assert len(seen) == 10


def test_exception(ours, errors):
    error = ZeroDivisionError()
    seen = []

    def fail(watcher, revents):
        seen.append(1)
        if len(seen) == 3:
            ours.stop()
        raise error

    with ours.ev.timer(0.0, 0.0001, fail):
        ours.run_forever()
    assert [context["exception"] for context in errors] == [error] * 3
    assert "watcher" in errors[0]["message"]


def test_an_event_fed_to_a_timer_pushed_back(ours, pair):
    """Its time had come in a rush of turns: that is dropped, and what is fed after is not."""
    a, b = pair
    heard = []
    timer = ours.ev.timer(0.0, 0.004, lambda watcher, revents: heard.append(revents))
    turns = fed = 0

    def read():
        nonlocal turns, fed
        b.recv(1)
        a.send(b"x")
        timer.reset()
        turns += 1
        if turns % 200 == 0:
            end = time.monotonic() + 0.006
            while time.monotonic() < end:
                pass
            timer.reset()
            timer.feed(pyev.EV_CUSTOM)
            fed += 1
        if fed == 20:
            ours.stop()

    a.send(b"x")
    ours.add_reader(b, read)
    with timer:
        ours.run_forever()
        ours.remove_reader(b)
        ours.run_until_complete(asyncio.sleep(0))
    assert sum(bool(revents & pyev.EV_CUSTOM) for revents in heard) == fed


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit])
def test_what_does_not_leave_the_loop(ours, errors, error):
    """As of asyncio's own callbacks."""

    def fail(watcher, revents):
        ours.stop()
        raise error

    with ours.ev.timer(0.0, 0.0, fail):
        ours.run_forever()
    assert [type(context["exception"]) for context in errors] == [error]


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_what_leaves_the_loop(ours, errors, spin, leaving):
    def leave(watcher, revents):
        raise leaving

    with ours.ev.timer(0.0, 0.0, leave), pytest.raises(leaving):
        ours.run_forever()
    assert not ours.is_running()
    assert errors == []
    spin(ours)


def test_an_exception_handler_that_raises(ours, spin, caplog):
    def handler(loop, context):
        raise RuntimeError("the handler")

    ours.set_exception_handler(handler)

    def fail(watcher, revents):
        ours.stop()
        raise ZeroDivisionError

    with ours.ev.timer(0.0, 0.0, fail):
        ours.run_forever()
    assert "Unhandled error in exception handler" in caplog.text
    spin(ours)


def test_what_is_asyncios(ours):
    def check():
        for call in (ours.ev.start, ours.ev.invoke, ours.ev.close):
            with pytest.raises(RuntimeError):
                call()
        with pytest.raises(RuntimeError):
            ours.ev.callback = print
        with pytest.raises(RuntimeError):
            ours.ev.callback = None
        checked.append(1)
        ours.stop()

    checked = []
    ours.call_soon(check)
    ours.run_forever()
    check()
    assert len(checked) == 2


def test_stop_is_stop(ours):
    seen = []

    def fire(watcher, revents):
        ours.ev.stop()
        ours.call_soon(seen.append, 1)

    with ours.ev.timer(0.0, 0.0, fire):
        ours.run_forever()
    assert seen == [1]
    ours.call_soon(ours.ev.stop)
    ours.run_forever()


def test_close_closes_it(spin):
    loop = pyev.new_event_loop()
    ev = loop.ev
    watcher = ev.timer(1000.0, 0.0, lambda w, revents: None)
    watcher.start()
    loop.close()
    assert ev.closed
    assert not watcher.active
    assert loop.ev is ev
    with pytest.raises(pyev.Error):
        watcher.start()
    loop.close()


def test_cleanup(spin):
    loop = pyev.new_event_loop()
    seen = []
    watcher = loop.ev.cleanup(lambda w, revents: seen.append(revents))
    watcher.start()
    spin(loop)
    loop.close()
    assert seen == [pyev.EV_CLEANUP]


def test_callbacks_schedule(ours):
    async def work():
        return "done"

    tasks = []

    def fire(watcher, revents):
        tasks.append(ours.create_task(work()))
        ours.call_later(0, ours.call_soon, ours.stop)

    with ours.ev.timer(0.0, 0.0, fire):
        ours.run_forever()
    assert tasks[0].result() == "done"


def test_io_watcher_and_reader_of_one_descriptor(ours, pair):
    a, b = pair
    seen = set()

    def saw(what):
        seen.add(what)
        if len(seen) == 2:
            ours.stop()

    b.send(b"x")
    ours.add_reader(a, saw, "reader")
    with ours.ev.io(a, pyev.EV_READ, lambda w, revents: saw("watcher")):
        ours.run_forever()
    ours.remove_reader(a)
    assert seen == {"reader", "watcher"}


def test_a_loop_of_ones_own_is_nobodys(ours):
    """Watchers of other loops do not see this one."""
    other = pyev.Loop()
    with other, other.timer(0.0, 0.0, lambda w, revents: None):
        ours.call_soon(ours.stop)
        ours.run_forever()
        assert other.start() is False


def test_busy_coroutines_do_not_starve_watchers(ours):
    async def main():
        fired = []
        with ours.ev.timer(0.0, 0.0, lambda w, revents: fired.append(1)):
            while not fired:
                await asyncio.sleep(0)

    ours.run_until_complete(main())


# The context


def values(ours, watcher):
    """The variable in each call of a watcher, until it has been called twice."""
    seen = []

    def fire(same, revents):
        assert same is watcher
        seen.append(VARIABLE.get())
        VARIABLE.set(f"call {len(seen)}")
        if len(seen) == 2:
            ours.stop()

    watcher.callback = fire
    assert watcher.callback is fire
    return seen


def test_context_is_that_of_start(ours):
    watcher = ours.ev.timer(0.0, 0.0001, print)
    seen = values(ours, watcher)
    VARIABLE.set("made")
    contextvars.copy_context().run(lambda: (VARIABLE.set("started"), watcher.start()))
    VARIABLE.set("later")
    ours.run_forever()
    watcher.stop()
    assert seen == ["started", "call 1"]  # it is the watcher's own
    assert VARIABLE.get() == "later"
    assert watcher.callback.__name__ == "fire"


def test_context_is_taken_anew_at_each_start(ours):
    watcher = ours.ev.timer(0.0, 0.0001, print)
    for value in ("one", "two"):
        VARIABLE.set(value)
        seen = values(ours, watcher)
        with watcher:
            VARIABLE.set("later")
            ours.run_forever()
        assert seen == [value, "call 1"]
        watcher.stop()
        watcher.set(0.0, 0.0001)


def test_context_of_reset_and_once(ours):
    seen = []

    def fire(watcher, revents):
        seen.append(VARIABLE.get())
        watcher.stop()
        ours.stop()

    VARIABLE.set("reset")
    timer = ours.ev.timer(1000.0, 0.0001, fire)
    timer.reset()
    VARIABLE.set("later")
    ours.run_forever()
    VARIABLE.set("periodic")
    periodic = ours.ev.periodic(0.0, 0.001, fire)
    periodic.reset()
    VARIABLE.set("later")
    ours.run_forever()
    VARIABLE.set("once")
    ours.ev.once(None, 0, 0.0, fire)
    VARIABLE.set("later")
    ours.run_forever()
    assert seen == ["reset", "periodic", "once"]


def test_context_of_tasks(ours):
    async def main(name):
        VARIABLE.set(name)
        called = ours.create_future()
        with ours.ev.timer(
            0.0, 0.0, lambda w, revents: called.set_result((VARIABLE.get(), VARIABLE.set("w")))
        ):
            assert (await called)[0] == name
        assert VARIABLE.get() == name

    async def both():
        await asyncio.gather(main("one"), main("two"))

    ours.run_until_complete(both())


def test_callback_replaced_keeps_its_context(ours):
    seen = []
    VARIABLE.set("start")
    with ours.ev.timer(0.0, 0.0, print) as watcher:
        VARIABLE.set("later")
        watcher.callback = lambda w, revents: (seen.append(VARIABLE.get()), ours.stop())
        ours.run_forever()
    assert seen == ["start"]


def test_restarted_and_replaced_in_its_callback(ours, spin):
    seen = []

    def first(watcher, revents):
        seen.append(VARIABLE.get())
        VARIABLE.set("first")
        watcher.set(0.0, 0.0)
        watcher.start()
        watcher.callback = second

    def second(watcher, revents):
        seen.append(VARIABLE.get())
        ours.stop()

    VARIABLE.set("start")
    watcher = ours.ev.timer(0.0, 0.0, first)
    watcher.start()
    ours.run_forever()
    assert seen == ["start", "first"]


def test_invoked_within_itself(ours):
    seen = []

    def fire(watcher, revents):
        seen.append(VARIABLE.get())
        VARIABLE.set("inner")
        if len(seen) == 1:
            watcher.invoke(revents)
            assert VARIABLE.get() == "inner"
            ours.stop()

    VARIABLE.set("start")
    with ours.ev.timer(0.0, 0.0, fire):
        VARIABLE.set("later")
        ours.run_forever()
    assert seen == ["start", "inner"]


def test_what_is_reported_is_the_callback_itself(ours, errors):
    def failing(watcher, revents):
        ours.stop()
        raise ZeroDivisionError

    with ours.ev.timer(0.0, 0.0, failing):
        ours.run_forever()
    assert "failing" in errors[0]["message"]


def test_a_plain_loop_has_no_contexts():
    seen = []
    loop = pyev.Loop()
    with loop:
        VARIABLE.set("start")
        watcher = loop.timer(0.0, 0.0, lambda w, revents: seen.append(VARIABLE.get()))
        watcher.start()
        VARIABLE.set("later")
        loop.start()
    assert seen == ["later"]


# What a Prepare watcher schedules


@pytest.mark.parametrize("how", ["call_soon", "call_later", "call_at", "stop", "ev.stop", "thread"])
def test_a_prepare_watcher_ends_the_wait_it_comes_before(ours, how):
    def prepare(watcher, revents):
        watcher.stop()
        if how == "call_soon":
            ours.call_soon(ours.stop)
        elif how == "call_later":
            ours.call_later(0.001, ours.stop)
        elif how == "call_at":
            ours.call_at(0, ours.stop)
        elif how == "thread":
            ours.call_soon_threadsafe(ours.stop)
        else:
            (ours if how == "stop" else ours.ev).stop()

    late = ours.call_later(1000, int)
    with ours.ev.prepare(prepare):
        ours.run_forever()
    late.cancel()


# Signals


def test_io_interval_is_no_longer_than_what_the_loop_has_to_do(ours, pair):
    async def main():
        for _ in range(3):
            await asyncio.sleep(0.001)
        future = ours.create_future()

        def prepare(watcher, revents):
            watcher.stop()
            ours.call_soon(future.set_result, None)

        with ours.ev.prepare(prepare) as watcher:
            await future
            assert not watcher.active

    ours.ev.io_interval = 1000.0
    with ours.ev.io(pair[0], pyev.EV_READ, print):
        ours.run_until_complete(main())


def test_io_interval_holds_back_readers(ours, pair):
    a, b = pair
    reads = 0

    def read(end):
        nonlocal reads
        reads += 1
        end.send(end.recv(1))

    a.send(b"x")
    ours.ev.io_interval = 0.02
    for end in pair:
        ours.add_reader(end, read, end)
    ours.run_until_complete(asyncio.sleep(0.1))
    for end in pair:
        ours.remove_reader(end)
    assert 0 < reads < 20


def test_suspend_is_not_of_the_loops_own_timers(ours):
    """They are of a clock that went on meanwhile; those of watchers are put off."""
    fired = []
    watcher = ours.ev.timer(0.25, 0.0, lambda watcher, revents: fired.append("watcher"))

    def suspend(same, revents):
        ours.ev.suspend()
        watcher.start()
        time.sleep(0.3)
        ours.ev.resume()

    ours.call_later(0.4, ours.stop)
    with ours.ev.timer(0.001, 0.0, suspend):
        ours.run_forever()
    assert not fired
    watcher.stop()


def test_a_signal_handler_and_a_watcher_of_one_signal(ours):
    seen = []

    def saw(what):
        seen.append(what)
        ours.call_soon(ours.call_soon, ours.stop)

    watcher = ours.ev.signal(signal.SIGUSR1, lambda w, revents: saw("watcher"))
    for started, handled in ((True, True), (True, False), (False, True)):
        seen.clear()
        if handled:
            ours.add_signal_handler(signal.SIGUSR1, saw, "handler")
        else:
            assert ours.remove_signal_handler(signal.SIGUSR1)
        (watcher.start if started else watcher.stop)()
        signal.raise_signal(signal.SIGUSR1)
        ours.run_forever()
        assert sorted(seen) == ["handler"] * handled + ["watcher"] * started
    ours.remove_signal_handler(signal.SIGUSR1)


def test_what_is_reported_may_have_no_repr(ours, errors):
    class Nameless:
        def __call__(self, watcher, revents):
            ours.call_soon(ours.stop)
            raise ValueError

        def __repr__(self):
            raise RuntimeError

    timer = ours.ev.timer(0.0, 0.0, Nameless())
    timer.start()
    ours.run_forever()
    (context,) = errors
    assert isinstance(context["exception"], ValueError)
    assert "Nameless object at" in context["message"]
