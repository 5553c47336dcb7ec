"""Loop: making, running, stopping, its attributes, its callback, its factories, its end."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import time
import weakref

import pytest

import pyev

# Making


def test_defaults():
    with pyev.Loop() as loop:
        assert loop.callback is None
        assert loop.data is None
        assert loop.debug is False
        assert loop.io_interval == 0.0
        assert loop.timeout_interval == 0.0
        assert loop.default is False
        assert loop.closed is False
        assert loop.depth == 0
        assert loop.pending == 0
        assert loop.backend & pyev.supported_backends()


def test_arguments_by_position():
    data = object()
    with pyev.Loop(pyev.EVBACKEND_POLL, print, data, 0.25, 0.5, True) as loop:
        assert loop.backend == pyev.EVBACKEND_POLL
        assert loop.callback is print
        assert loop.data is data
        assert (loop.io_interval, loop.timeout_interval) == (0.25, 0.5)
        assert loop.debug is True


def test_arguments_by_keyword():
    data = object()
    with pyev.Loop(
        debug=1,
        timeout_interval=0.5,
        io_interval=0.25,
        data=data,
        callback=print,
        flags=pyev.EVBACKEND_SELECT,
    ) as loop:
        assert loop.backend == pyev.EVBACKEND_SELECT
        assert loop.callback is print
        assert loop.data is data
        assert (loop.io_interval, loop.timeout_interval) == (0.25, 0.5)
        assert loop.debug is True


@pytest.mark.every_backend
def test_the_backend_asked_for_is_the_backend(backend):
    with pyev.Loop(backend) as loop:
        assert loop.backend == backend


def test_libev_chooses_among_several_backends():
    with pyev.Loop(pyev.EVBACKEND_SELECT | pyev.EVBACKEND_POLL) as loop:
        assert loop.backend in (pyev.EVBACKEND_SELECT, pyev.EVBACKEND_POLL)


def test_experimental_backends_are_never_the_default():
    with pyev.Loop() as loop:
        assert not loop.backend & (pyev.EVBACKEND_IOURING | pyev.EVBACKEND_LINUXAIO)


def test_a_missing_backend():
    missing = next(
        bit
        for bit in (pyev.EVBACKEND_KQUEUE, pyev.EVBACKEND_PORT, pyev.EVBACKEND_DEVPOLL)
        if not bit & pyev.supported_backends()
    )
    with pytest.raises(pyev.Error, match="python -m pyev"):
        pyev.Loop(missing)


def test_an_unknown_backend():
    with pytest.raises(pyev.Error, match=r"backend|flag"):
        pyev.Loop(0x4000)


def test_flags_no_int_holds():
    with pytest.raises(OverflowError):
        pyev.Loop(2**64)


@pytest.mark.parametrize(
    "arguments",
    [
        {"flags": "auto"},
        {"flags": None},
        {"flags": 1.0},
        {"callback": 1},
        {"io_interval": "1"},
        {"io_interval": None},
        {"timeout_interval": "1"},
        {"nonsense": 1},
    ],
)
def test_arguments_of_a_wrong_type(arguments):
    with pytest.raises(TypeError):
        pyev.Loop(**arguments)


def test_a_backend_that_is_missing_leaves_another_to_try():
    class Fallback(pyev.Loop):
        def __init__(self):
            for flags in (pyev.EVBACKEND_PORT, 1 << 30):
                with pytest.raises(pyev.Error, match=r"flags|backends"):
                    super().__init__(flags)
            super().__init__()

    with Fallback() as loop:
        loop.start(pyev.EVRUN_NOWAIT)
        with pytest.raises(pyev.Error, match="initialised already"):
            pyev.Loop.__init__(loop)
    with pytest.raises(pyev.Error, match="initialised already"):
        pyev.Loop.__init__(loop)


def test_too_many_arguments():
    with pytest.raises(TypeError):
        pyev.Loop(0, None, None, 0.0, 0.0, False, None)


@pytest.mark.parametrize("name", ["io_interval", "timeout_interval"])
@pytest.mark.parametrize("value", [-1, -0.001, float("nan"), float("-inf")])
def test_illegal_intervals(name, value):
    with pytest.raises(ValueError, match=name):
        pyev.Loop(**{name: value})


def test_libev_flags_of_the_environment(script):
    source = "import pyev, sys; print(pyev.Loop(int(sys.argv[1])).backend)"
    env = {"LIBEV_FLAGS": str(pyev.EVBACKEND_SELECT)}
    assert int(script(source, "0", env=env)) == pyev.EVBACKEND_SELECT
    assert int(script(source, str(pyev.EVFLAG_NOENV), env=env)) != pyev.EVBACKEND_SELECT


def test_libev_flags_that_cannot_be_had(monkeypatch):
    """Who gave no flags is told whose they are."""
    monkeypatch.setenv("LIBEV_FLAGS", str(pyev.EVBACKEND_PORT))
    with pytest.raises(pyev.Error, match=f"made with LIBEV_FLAGS={pyev.EVBACKEND_PORT}:"):
        pyev.Loop()
    pyev.Loop(pyev.EVFLAG_NOENV).close()


def test_subclass():
    class Mine(pyev.Loop):
        def __init__(self, name):
            super().__init__(data=name)
            self.name = name

    with Mine("mine") as loop:
        assert loop.name == loop.data == "mine"
        assert loop.timer(0.0, 0.0, print).loop is loop


def call_everything(loop):
    yield lambda: loop.start()
    yield lambda: loop.stop()
    yield lambda: loop.invoke()
    yield lambda: loop.reset()
    yield lambda: loop.now()
    yield lambda: loop.update()
    yield lambda: loop.suspend()
    yield lambda: loop.resume()
    yield lambda: loop.ref()
    yield lambda: loop.unref()
    yield lambda: loop.verify()
    yield lambda: loop.feed_fd_event(0, pyev.EV_READ)
    yield lambda: loop.feed_signal_event(signal.SIGUSR1)
    yield lambda: loop.once(None, 0, 1.0, print)
    yield lambda: loop.io(0, pyev.EV_READ, print)
    yield lambda: loop.timer(1.0, 0.0, print)
    yield lambda: loop.idle(print)
    yield lambda: loop.async_(print)
    yield lambda: loop.cleanup(print)
    yield lambda: pyev.Timer(1.0, 0.0, loop, print)
    yield lambda: loop.__enter__()


@pytest.mark.parametrize("how", ["new", "forgetful subclass"])
def test_a_half_built_loop(how):
    if how == "new":
        loop = pyev.Loop.__new__(pyev.Loop)
    else:

        class Forgetful(pyev.Loop):
            def __init__(self):
                pass

        loop = Forgetful()
    for call in call_everything(loop):
        with pytest.raises((pyev.Error, TypeError)):
            call()
    for name in ("backend", "depth", "iteration", "pending", "default", "callback", "data"):
        with contextlib.suppress(pyev.Error, TypeError, AttributeError):
            getattr(loop, name)
    repr(loop)
    loop.close()


def test_init_again_is_refused(loop, turn, calls):
    with loop.timer(0.0, 0.0, calls):
        with pytest.raises(pyev.Error):
            loop.__init__()
        turn()
    assert len(calls) == 1


def test_a_constructor_that_failed_can_be_tried_again():
    loop = pyev.Loop.__new__(pyev.Loop)
    with pytest.raises(TypeError):
        loop.__init__(callback=1)
    loop.__init__(data="second")
    assert loop.data == "second"
    loop.close()


# start and stop


@pytest.mark.every_backend
def test_start_without_watchers_returns_at_once(loop):
    assert loop.start() is False


@pytest.mark.every_backend
def test_start_tells_whether_active_watchers_remain(loop, calls):
    with loop.timer(1000.0, 0.0, calls):
        assert loop.start(pyev.EVRUN_NOWAIT) is True
    assert loop.start(pyev.EVRUN_NOWAIT) is False
    assert calls == []


@pytest.mark.every_backend
def test_start_runs_until_nothing_is_active(loop, calls):
    timers = [loop.timer(i / 1000, 0.0, calls) for i in range(5)]
    for timer in timers:
        timer.start()
    assert loop.start() is False
    assert [watcher for watcher, _ in calls] == timers


def test_start_flags_by_position_and_keyword(loop):
    with loop.timer(1000.0, 0.0, print):
        assert loop.start(pyev.EVRUN_NOWAIT) is True
        assert loop.start(flags=pyev.EVRUN_NOWAIT) is True


def test_start_once_waits_for_one_event(loop, calls):
    with loop.timer(0.01, 0.01, calls):
        assert loop.start(pyev.EVRUN_ONCE) is True
        assert len(calls) <= 1
        while not calls:
            loop.start(pyev.EVRUN_ONCE)
        assert calls.revents == [pyev.EV_TIMER]


def test_start_flags_of_a_wrong_type(loop):
    with pytest.raises(TypeError):
        loop.start("nowait")
    with pytest.raises(ValueError, match="start"):
        loop.start(77)
    with pytest.raises(OverflowError):
        loop.start(2**40)


def test_stop_before_start_does_nothing(loop, calls):
    loop.stop()
    loop.stop(pyev.EVBREAK_ALL)
    with loop.timer(0.0, 0.0, calls):
        loop.start()
    assert len(calls) == 1


@pytest.mark.every_backend
def test_stop_in_a_callback(loop):
    def stop(watcher, revents):
        watcher.loop.stop()

    with loop.timer(0.0, 0.001, stop):
        assert loop.start() is True
        assert loop.start() is True


def test_stop_by_position_and_keyword(loop):
    for stop in (
        lambda: loop.stop(pyev.EVBREAK_ALL),
        lambda: loop.stop(how=pyev.EVBREAK_ALL),
        lambda: loop.stop(pyev.EVBREAK_ONE),
    ):
        with loop.timer(0.0, 0.001, lambda watcher, revents, stop=stop: stop()):
            assert loop.start() is True


def test_stop_is_taken_back_by_cancel(loop):
    turns = []

    def callback(watcher, revents):
        turns.append(loop.iteration)
        loop.stop()
        if len(turns) < 3:
            loop.stop(pyev.EVBREAK_CANCEL)

    with loop.timer(0.0, 0.001, callback):
        loop.start()
    assert len(turns) == 3


def test_stop_of_a_wrong_kind(loop):
    with pytest.raises(TypeError):
        loop.stop("all")
    with pytest.raises(ValueError, match="EVBREAK_CANCEL, not 77"):
        loop.stop(77)
    with pytest.raises(OverflowError):
        loop.stop(2**40)


def test_the_rest_of_a_batch_runs_after_stop(loop, calls):
    def stop(watcher, revents):
        loop.stop(pyev.EVBREAK_ALL)
        calls(watcher, revents)

    first = loop.idle(stop, priority=2)
    rest = [loop.idle(calls) for _ in range(3)]
    for watcher in (first, *rest):
        watcher.feed(pyev.EV_CUSTOM)
    loop.start()
    assert [watcher for watcher, _ in calls] == [first, *reversed(rest)]


@pytest.mark.every_backend
def test_nested_start(loop):
    seen = []

    def outer(watcher, revents):
        seen.append(("outer", loop.depth))
        with loop.timer(0.0, 0.0, inner):
            loop.start(pyev.EVRUN_ONCE)
        seen.append(("outer again", loop.depth))

    def inner(watcher, revents):
        seen.append(("inner", loop.depth))

    with loop.timer(0.0, 0.0, outer):
        loop.start()
    assert seen == [("outer", 1), ("inner", 2), ("outer again", 1)]
    assert loop.depth == 0


@pytest.mark.parametrize("how", ["EVBREAK_ONE", "EVBREAK_ALL"])
def test_stop_of_nested_starts(loop, how):
    seen = []

    def outer(watcher, revents):
        with loop.timer(0.0, 0.001, inner):
            loop.start()
        seen.append("inner ended")

    def inner(watcher, revents):
        loop.stop(getattr(pyev, how))

    def later(watcher, revents):
        seen.append("outer goes on")
        loop.stop()

    with loop.timer(0.0, 0.0, outer), loop.timer(0.01, 0.001, later):
        loop.start()
    assert seen[0] == "inner ended"
    assert ("outer goes on" in seen[1:]) == (how == "EVBREAK_ONE")


def test_start_serves_what_is_pending_first(loop, calls):
    watcher = loop.idle(calls)
    watcher.feed(pyev.EV_CUSTOM)
    assert loop.start() is False
    assert calls == [(watcher, pyev.EV_CUSTOM)]


# The order within a batch


def test_higher_priorities_first_then_the_last_fed(loop):
    order = []
    watchers = {
        (priority, i): loop.idle(
            lambda watcher, revents: order.append(watcher.data), (priority, i), priority
        )
        for priority in range(-2, 3)
        for i in range(3)
    }
    for watcher in watchers.values():
        watcher.feed(pyev.EV_CUSTOM)
    loop.invoke()
    assert order == [(priority, i) for priority in (2, 1, 0, -1, -2) for i in (2, 1, 0)]


def test_priorities_are_clamped_for_libev_only(loop):
    order = []

    def callback(watcher, revents):
        order.append(watcher.priority)

    watchers = [loop.idle(callback, None, priority) for priority in (99, 2, -99, -2, 0)]
    assert [watcher.priority for watcher in watchers] == [99, 2, -99, -2, 0]
    for watcher in watchers:
        watcher.feed(pyev.EV_CUSTOM)
    loop.invoke()
    assert order == [2, 99, 0, -2, -99]


def test_what_is_fed_in_a_batch_joins_it(loop):
    order = []
    high = loop.idle(lambda watcher, revents: order.append("high"), None, 2)

    def feed(watcher, revents):
        order.append("low")
        high.feed(pyev.EV_CUSTOM)

    low = loop.idle(feed, None, -2)
    other = loop.idle(lambda watcher, revents: order.append("other"), None, -2)
    other.feed(pyev.EV_CUSTOM)
    low.feed(pyev.EV_CUSTOM)
    loop.invoke()
    assert order == ["low", "high", "other"]


def test_timers_of_one_turn_in_order_of_their_time(loop, calls):
    timers = [loop.timer(after, 0.0, calls, after) for after in (0.003, 0.001, 0.002)]
    for timer in timers:
        timer.start()
    pyev.sleep(0.02)
    loop.update()
    loop.start(pyev.EVRUN_NOWAIT)
    assert [timer.data for timer, _ in calls] == [0.001, 0.002, 0.003]


# invoke, pending


def test_invoke_serves_what_is_pending(loop, calls):
    watchers = [loop.idle(calls) for _ in range(3)]
    for n, watcher in enumerate(watchers):
        watcher.feed(pyev.EV_CUSTOM)
        assert loop.pending == n + 1
    assert loop.invoke() is None
    assert loop.pending == 0
    assert [watcher for watcher, _ in calls] == watchers[::-1]


def test_invoke_with_nothing_pending(loop):
    loop.invoke()
    assert loop.pending == 0


# now, update, suspend, resume


def test_now_is_the_time_of_the_turn(loop):
    now = loop.now()
    assert type(now) is float
    assert loop.now() == now
    assert abs(now - time.time()) < 60
    pyev.sleep(0.01)
    assert loop.now() == now
    loop.update()
    assert loop.now() >= now + 0.009


def test_now_within_a_batch(loop):
    seen = []

    def callback(watcher, revents):
        seen.append(loop.now())
        pyev.sleep(0.002)

    for watcher in (timers := [loop.timer(0.0, 0.0, callback) for _ in range(3)]):
        watcher.start()
    pyev.sleep(0.001)
    loop.update()
    loop.start(pyev.EVRUN_NOWAIT)
    assert len(timers) == len(seen) == 3
    assert len(set(seen)) == 1


def test_timers_stand_still_while_suspended(loop, calls):
    begin = time.monotonic()
    with loop.timer(1000.0, 0.0, calls) as timer:
        loop.suspend()
        asleep = time.monotonic()
        pyev.sleep(0.1)
        asleep = time.monotonic() - asleep
        loop.resume()
        loop.update()
        awake = time.monotonic() - begin - asleep
        # All but what passed outside the suspension is still to come.
        assert timer.remaining >= 1000.0 - awake


# ref, unref


def test_ref_and_unref(loop, turn, calls):
    assert turn() is False
    loop.ref()
    assert turn() is True
    loop.unref()
    assert turn() is False
    with loop.timer(1000.0, 0.0, calls):
        loop.unref()
        assert turn() is False
        loop.ref()
        assert turn() is True


def test_unref_below_zero(loop, turn):
    with pytest.raises(pyev.Error, match="unref"):
        loop.unref()
    assert turn() is False
    loop.ref()
    loop.unref()
    with pytest.raises(pyev.Error):
        loop.unref()


# verify


def test_verify_between_a_stop_and_its_ref(loop):
    watchers = [loop.prepare(print) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
        loop.unref()
    for watcher in watchers:
        watcher.stop()
    loop.verify()
    for _ in watchers:
        loop.ref()
    loop.verify()
    with pytest.raises(pyev.Error, match="unref"):
        loop.unref()


def test_verify_while_what_is_not_counted_is_pending(loop, calls):
    loop.callback = lambda loop: None
    timers = [loop.timer(0.0, 0.0, calls) for _ in range(3)]
    for timer in timers:
        timer.start()
        loop.unref()
    loop.start(pyev.EVRUN_NOWAIT)
    assert loop.pending == 3
    loop.verify()
    for timer in timers:
        timer.stop()
        loop.ref()
    loop.verify()


@pytest.mark.every_backend
def test_verify_with_one_watcher_of_each_kind(loop, new_kind, calls):
    kinds = [
        new_kind(name)
        for name in ("Io", "Timer", "Periodic", "Scheduler", "Signal", "Stat", "Async", "Cleanup")
    ]
    watchers = [kind.new(loop, calls) for kind in kinds]
    loop.verify()
    for watcher in watchers:
        watcher.start()
        loop.verify()
    loop.start(pyev.EVRUN_NOWAIT)
    loop.verify()
    for watcher in watchers:
        watcher.stop()
        loop.verify()


# Attributes


@pytest.mark.parametrize("name", ["backend", "closed", "default", "depth", "iteration", "pending"])
def test_read_only_attributes(loop, name):
    before = getattr(loop, name)
    with pytest.raises(AttributeError):
        setattr(loop, name, before)
    with pytest.raises((AttributeError, TypeError)):
        delattr(loop, name)
    assert getattr(loop, name) == before


@pytest.mark.parametrize("name", ["callback", "debug", "io_interval", "timeout_interval"])
def test_writable_attributes_cannot_be_deleted(loop, name):
    with pytest.raises(TypeError, match=name):
        delattr(loop, name)
    getattr(loop, name)


def test_data(loop):
    value = object()
    loop.data = value
    assert loop.data is value
    del loop.data
    assert loop.data is None


def test_debug_takes_any_truth_value(loop):
    for value in (True, 1, "no", [0]):
        loop.debug = value
        assert loop.debug is True
    for value in (False, 0, "", [], None):
        loop.debug = value
        assert loop.debug is False

    class Undecided:
        def __bool__(self):
            raise LookupError("undecided")

    for value in (True, False):
        loop.debug = value
        with pytest.raises(LookupError):
            loop.debug = Undecided()
        assert loop.debug is value


@pytest.mark.parametrize("name", ["io_interval", "timeout_interval"])
def test_intervals_are_writable(loop, name):
    setattr(loop, name, 0.5)
    assert getattr(loop, name) == 0.5
    setattr(loop, name, 2)
    assert getattr(loop, name) == 2.0
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=name):
            setattr(loop, name, wrong)
    for wrong in (None, "1"):
        with pytest.raises(TypeError):
            setattr(loop, name, wrong)
    assert getattr(loop, name) == 2.0


def test_iteration_counts_turns(loop, turn):
    before = loop.iteration
    for _ in range(3):
        turn()
    assert loop.iteration == before + 3


def test_depth(loop):
    seen = []

    def callback(watcher, revents):
        seen.append(loop.depth)
        if loop.depth < 3:
            watcher.feed(pyev.EV_CUSTOM)
            loop.start(pyev.EVRUN_NOWAIT)

    watcher = loop.idle(callback)
    watcher.feed(pyev.EV_CUSTOM)
    loop.start(pyev.EVRUN_NOWAIT)
    assert seen == [1, 2, 3]
    assert loop.depth == 0


@pytest.mark.every_backend
def test_io_interval_collects_events(loop, pair, calls):
    a, b = pair
    loop.io_interval = 0.02
    with loop.io(a, pyev.EV_READ, calls):
        b.send(b"x")
        before = time.monotonic()
        loop.start(pyev.EVRUN_ONCE)
        loop.start(pyev.EVRUN_ONCE)
        assert time.monotonic() - before >= 0.015
    assert calls.revents[0] == pyev.EV_READ


def test_io_interval_is_no_longer_than_the_timeout_of_a_once(loop, pair, calls):
    loop.io_interval = 2.0
    begun = []

    def callback(watcher, revents):
        begun.append(time.monotonic())
        loop.once(None, 0, 0.01, calls)
        loop.once(pair[0], pyev.EV_READ, 0.02, calls)

    with loop.timer(0.001, 0.0, callback):
        loop.start()
    assert time.monotonic() - begun[0] < 1.0
    assert len(calls) == 2


LONG = 1000.0


@pytest.fixture
def long_interval(loop, pair):
    """The loop has polled, and would not do so again for a long time."""
    loop.io_interval = LONG
    with loop.io(pair[0], pyev.EV_READ, print):
        loop.start(pyev.EVRUN_NOWAIT)
        yield


@pytest.mark.usefixtures("long_interval")
def test_io_interval_is_not_slept_by_who_was_stopped(loop, calls):
    def callback(watcher, revents):
        calls(watcher, revents)
        loop.stop()

    with loop.prepare(callback):
        assert loop.start() is True
    assert len(calls) == 1


def test_io_interval_is_not_slept_when_nothing_keeps_the_loop(loop, pair):
    loop.io_interval = LONG
    with loop.io(pair[0], pyev.EV_READ, print, keepalive=False):
        assert loop.start(pyev.EVRUN_NOWAIT) is False
        assert loop.start() is False


@pytest.mark.usefixtures("long_interval")
@pytest.mark.parametrize("by", [signal.raise_signal, pyev.feed_signal])
def test_io_interval_ends_with_a_signal_in_a_callback(loop, calls, by):
    def stop(watcher, revents):
        calls(watcher, revents)
        loop.stop()

    for _ in range(2):
        with (
            loop.signal(signal.SIGUSR1, stop),
            loop.timer(0.0, 0.0, lambda *args: by(signal.SIGUSR1)),
        ):
            loop.start()
    assert calls.revents == [pyev.EV_SIGNAL, pyev.EV_SIGNAL]


@pytest.mark.usefixtures("long_interval")
def test_io_interval_is_no_longer_than_the_interval_of_a_stat(new_loop, pair, tmp_path):
    loop = new_loop(pyev.EVFLAG_NOINOTIFY, io_interval=LONG)
    path = tmp_path / "file"
    keep = loop.io(pair[0], pyev.EV_READ, print)
    with loop.stat(path, 0.1, lambda *args: loop.stop()), keep:
        loop.start(pyev.EVRUN_NOWAIT)
        path.touch()
        loop.start()


def test_timeout_interval_collects_timers(loop, calls):
    loop.timeout_interval = 0.02
    with loop.timer(0.001, 0.0, calls), loop.timer(0.015, 0.0, calls):
        turns = loop.iteration
        loop.start()
        assert len(calls) == 2
        assert loop.iteration - turns <= 2


def test_weakly_referenceable():
    loop = pyev.Loop()
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None


def test_repr(loop):
    shown = repr(loop)
    assert "Loop" in shown
    loop.close()
    assert "closed" in repr(loop)
    assert "closed" not in shown


def test_loops_are_told_apart_by_identity(loop):
    with pyev.Loop() as other:
        assert loop != other
        assert len({loop, other}) == 2


# callback


def test_callback_in_place_of_the_watchers(loop, turn, calls):
    seen = []
    loop.callback = lambda it: seen.append((it, it.pending))
    watcher = loop.idle(calls)
    watcher.feed(pyev.EV_CUSTOM)
    turn()
    assert seen[0] == (loop, 1)
    assert calls == []
    assert watcher.pending
    loop.callback = None
    turn()
    assert calls == [(watcher, pyev.EV_CUSTOM)]


def test_callback_that_invokes(loop, calls):
    seen = []

    def callback(it):
        seen.append("before")
        it.invoke()
        seen.append("after")

    loop.callback = callback
    with loop.timer(0.0, 0.0, calls):
        loop.start()
    assert calls.revents == [pyev.EV_TIMER]
    assert seen == ["before", "after"]


def test_callback_that_leaves_a_timer_pending(loop, calls):
    """That one has no keepalive, and the loop counts no watcher less for it."""
    loop.callback = lambda loop: None
    timer = loop.timer(0.0, 0.0, calls, keepalive=False)
    with timer, loop.timer(1000.0, 0.0, calls):
        assert loop.start(pyev.EVRUN_NOWAIT) is True
        assert timer.pending
        loop.callback = None
        assert loop.start(pyev.EVRUN_NOWAIT) is True
    assert len(calls) == 1


@pytest.mark.parametrize("fd", [False, True])
@pytest.mark.parametrize("keepalive", [False, True])
def test_callback_that_leaves_a_once_pending(loop, pair, calls, fd, keepalive):
    loop.callback = lambda loop: None
    once = loop.once(pair[0] if fd else None, pyev.EV_READ, 0.0, calls, keepalive=keepalive)
    with loop.timer(1000.0, 0.0, calls):
        assert loop.start(pyev.EVRUN_NOWAIT) is True
        assert loop.pending
        loop.callback = None
        assert loop.start(pyev.EVRUN_NOWAIT) is True
    assert calls == [(once, pyev.EV_TIMER)]
    assert loop.start(pyev.EVRUN_NOWAIT) is False


def test_callback_is_called_only_when_there_is_something_to_invoke(loop, turn):
    seen = []
    loop.callback = seen.append
    with loop.timer(1000.0, 0.0, print):
        for _ in range(3):
            turn()
    assert seen == []


def test_callback_reads_back_and_can_be_none(loop):
    loop.callback = print
    assert loop.callback is print
    loop.callback = None
    assert loop.callback is None
    for wrong in (1, "print", object()):
        with pytest.raises(TypeError, match="callback"):
            loop.callback = wrong
    assert loop.callback is None


@pytest.mark.parametrize("debug", [False, True])
def test_an_exception_in_the_callback_leaves_start(loop, calls, unraisable, debug):
    class Mine(Exception):
        pass

    def callback(it):
        raise Mine

    loop.debug = debug
    loop.callback = callback
    watcher = loop.idle(calls)
    watcher.feed(pyev.EV_CUSTOM)
    with loop.timer(0.0, 0.001, calls), pytest.raises(Mine):
        loop.start()
    assert loop.depth == 0
    assert unraisable == []
    loop.callback = None
    loop.invoke()
    assert (watcher, pyev.EV_CUSTOM) in calls


def test_the_callback_may_replace_itself(loop, turn, calls):
    def callback(it):
        it.callback = None
        gc.collect()
        it.invoke()

    loop.callback = callback
    del callback
    watcher = loop.idle(calls)
    watcher.feed(pyev.EV_CUSTOM)
    turn()
    assert len(calls) == 1


# Factories


def test_factory_by_position(loop, kind):
    data = object()
    watcher = kind.make(loop, print, data, 1)
    assert type(watcher) is kind.cls
    assert watcher.loop is loop
    assert watcher.callback is print
    assert watcher.data is data
    assert watcher.priority == 1
    assert not watcher.active


def test_factory_by_keyword(loop, kind):
    data = object()
    watcher = getattr(loop, kind.factory)(
        **kind.keywords, callback=print, data=data, priority=-1, keepalive=False
    )
    assert type(watcher) is kind.cls
    assert watcher.callback is print
    assert watcher.data is data
    assert watcher.priority == -1
    assert watcher.keepalive is False


def test_factory_refuses_nonsense(loop, kind):
    factory = getattr(loop, kind.factory)
    with pytest.raises(TypeError):
        factory(*kind.args, print, None, 0, True, None)
    with pytest.raises(TypeError):
        factory(*kind.args, print, nonsense=1)
    with pytest.raises(TypeError):
        factory(*kind.args, print, loop=loop)


def test_async_has_two_names(loop):
    assert type(getattr(loop, "async")(print)) is pyev.Async
    assert type(loop.async_(print)) is pyev.Async


def test_factories_make_the_plain_types_for_a_subclass():
    class Mine(pyev.Loop):
        pass

    with Mine() as loop:
        assert type(loop.timer(0.0, 0.0, print)) is pyev.Timer


# feed_fd_event, feed_signal_event


@pytest.mark.every_backend
def test_feed_fd_event(loop, turn, pair, calls):
    a, _ = pair
    with loop.io(a, pyev.EV_READ, calls) as watcher:
        loop.feed_fd_event(a, pyev.EV_READ)
        loop.invoke()
        assert calls == [(watcher, pyev.EV_READ)]
        loop.feed_fd_event(a.fileno(), pyev.EV_WRITE)  # not what it waits for
        loop.invoke()
        assert len(calls) == 1


def test_feed_fd_event_of_something_nobody_watches(loop, turn):
    loop.feed_fd_event(1000, pyev.EV_READ)
    turn()


def test_feed_fd_event_of_a_wrong_fd(loop):
    with pytest.raises(ValueError, match="file descriptor"):
        loop.feed_fd_event(-1, pyev.EV_READ)
    with pytest.raises(TypeError):
        loop.feed_fd_event("0", pyev.EV_READ)
    with pytest.raises(TypeError):
        loop.feed_fd_event(0, "read")
    with pytest.raises(OverflowError):
        loop.feed_fd_event(2**40, pyev.EV_READ)
    with pytest.raises(TypeError):
        loop.feed_fd_event(0)


def test_feed_signal_event(loop, calls):
    with loop.signal(signal.SIGUSR1, calls) as watcher:
        loop.feed_signal_event(signal.SIGUSR1)
        loop.invoke()
    assert calls == [(watcher, pyev.EV_SIGNAL)]


def test_feed_signal_event_to_another_loop(loop, new_loop, calls):
    other = new_loop()
    with loop.signal(signal.SIGUSR1, calls):
        other.feed_signal_event(signal.SIGUSR1)
        other.invoke()
        loop.invoke()
    assert calls == []


@pytest.mark.parametrize("signum", [-1, 0, signal.NSIG, 100000])
def test_feed_signal_event_of_an_illegal_number(loop, signum):
    with pytest.raises(ValueError, match="signal"):
        loop.feed_signal_event(signum)


# reset


@pytest.mark.every_backend
def test_reset_keeps_the_watchers(loop, pair, calls):
    a, b = pair
    with loop.io(a, pyev.EV_READ, calls) as io, loop.timer(0.001, 0.0, calls) as timer:
        loop.start(pyev.EVRUN_NOWAIT)
        loop.reset()
        b.send(b"x")
        while (io, pyev.EV_READ) not in calls or timer.active:
            loop.start(pyev.EVRUN_ONCE)
    assert (io, pyev.EV_READ) in calls
    assert (timer, pyev.EV_TIMER) in calls


# close


def fds():
    return set(os.listdir("/proc/self/fd"))


@pytest.mark.every_backend
def test_close_frees_every_descriptor(backend, new_kind):
    names = ("Io", "Timer", "Periodic", "Signal", "Child", "Stat", "Async")
    kinds = [new_kind(name) for name in names]
    arguments = [kind.args for kind in kinds]
    before = fds()
    loop = pyev.Loop(backend)
    watchers = [kind.new(loop, print) for kind in kinds]
    for watcher in watchers:
        watcher.start()
    loop.start(pyev.EVRUN_NOWAIT)
    assert len(fds()) >= len(before)
    loop.close()
    assert fds() == before
    assert arguments


def test_close_may_be_repeated(loop):
    assert loop.close() is None
    assert loop.close() is None
    assert loop.closed is True


def test_every_use_of_a_closed_loop(loop):
    loop.close()
    for call in call_everything(loop):
        with pytest.raises(pyev.Error, match="closed"):
            call()
    for name in (
        "backend",
        "callback",
        "data",
        "debug",
        "default",
        "depth",
        "io_interval",
        "iteration",
        "pending",
        "timeout_interval",
    ):
        with pytest.raises(pyev.Error, match="closed"):
            getattr(loop, name)
    for name in ("callback", "data", "debug", "io_interval", "timeout_interval"):
        with pytest.raises(pyev.Error, match="closed"):
            setattr(loop, name, None)
    assert loop.closed is True
    repr(loop)


def test_the_watchers_of_a_closed_loop(loop, kind, calls):
    watcher = kind.new(loop, calls, "data")
    watcher.start()
    watcher.feed(pyev.EV_CUSTOM)
    loop.close()
    calls.clear()  # Cleanup is called by close
    assert not watcher.active
    assert not watcher.pending
    assert watcher.loop is loop
    assert watcher.data == "data"
    with pytest.raises(pyev.Error, match="closed"):
        watcher.start()
    with pytest.raises(pyev.Error, match="closed"):
        watcher.feed(pyev.EV_CUSTOM)
    assert not watcher.active
    repr(watcher)
    assert calls == []


def test_a_watcher_of_a_closed_loop_can_move(loop, kind, calls):
    watcher = kind.new(loop, calls, "data")
    watcher.start()
    loop.close()
    calls.clear()
    with pyev.Loop() as other:
        watcher.__init__(*kind.args, other, calls)
        assert watcher.loop is other
        assert watcher.data == "data"
        watcher.feed(pyev.EV_CUSTOM)
        other.invoke()
        assert calls == [(watcher, pyev.EV_CUSTOM)]


def test_close_while_running_is_refused(loop):
    seen = []

    def callback(watcher, revents):
        try:
            loop.close()
        except Exception as error:
            seen.append(error)

    with loop.timer(0.0, 0.0, callback):
        loop.start()
    assert len(seen) == 1
    assert isinstance(seen[0], pyev.Error)
    assert "running" in str(seen[0])
    assert not loop.closed


def test_close_while_running_nested_is_refused(loop):
    seen = []

    def inner(watcher, revents):
        with pytest.raises(pyev.Error):
            loop.close()
        seen.append(loop.depth)

    def outer(watcher, revents):
        with loop.timer(0.0, 0.0, inner):
            loop.start(pyev.EVRUN_ONCE)

    with loop.timer(0.0, 0.0, outer):
        loop.start()
    assert seen == [2]


def test_context_manager(calls):
    with pyev.Loop() as loop:
        assert isinstance(loop, pyev.Loop)
        watcher = loop.timer(1000.0, 0.0, calls)
        watcher.start()
    assert loop.closed
    assert not watcher.active


def test_context_manager_lets_exceptions_pass():
    with pytest.raises(LookupError), pyev.Loop() as loop:
        raise LookupError
    assert loop.closed


def test_close_runs_cleanup_watchers(loop, calls):
    watcher = loop.cleanup(calls)
    watcher.start()
    loop.close()
    assert calls == [(watcher, pyev.EV_CLEANUP)]
    loop.close()
    assert len(calls) == 1


def test_collection_calls_no_python(calls):
    loop = pyev.Loop()
    watcher = loop.cleanup(calls)
    watcher.start()
    with pytest.warns(ResourceWarning):
        del watcher, loop
        gc.collect()
    assert calls == []


def test_interpreter_exit_calls_no_python(script):
    out = script("""
        import pyev
        loop = pyev.Loop()
        default = pyev.default_loop()
        def callback(watcher, revents): print("called")
        watchers = [loop.signal(10, callback)]
        for each in (loop, default):
            watchers += [each.cleanup(callback), each.timer(0.0, 0.0, callback),
                         each.idle(callback), each.prepare(callback)]
        for watcher in watchers:
            watcher.start()
            watcher.feed(pyev.EV_CUSTOM)
        import warnings
        warnings.simplefilter("ignore", ResourceWarning)
        print("end")
    """)
    assert out == "end\n"


def test_a_loop_is_kept_by_its_watchers():
    watcher = pyev.Loop(data="kept").timer(0.0, 0.0, print)
    gc.collect()
    assert watcher.loop.data == "kept"
    assert watcher.loop.closed is False


def test_a_thousand_loops_leave_nothing():
    before = fds()
    for _ in range(1000):
        pyev.Loop().close()
    for _ in range(1000):
        pyev.Loop()
    gc.collect()
    assert fds() == before


# fork


@pytest.mark.every_backend
def test_fork_is_seen_without_a_word(script, backend):
    out = script(
        """
        import os, socket, sys, pyev
        loop = pyev.Loop(int(sys.argv[1]))
        a, b = socket.socketpair()
        seen = []
        def readable(watcher, revents):
            seen.append(a.recv(10).decode())
            loop.stop()
        def forked(watcher, revents):
            seen.append("fork")
        with loop.io(a, pyev.EV_READ, readable), loop.fork(forked):
            loop.start(pyev.EVRUN_NOWAIT)
            b.send(b"before")
            loop.start()
            pid = os.fork()
            if pid == 0:
                seen.clear()
                b.send(b"child")
                loop.start()
                os._exit(0 if seen == ["fork", "child"] else 1)
            status = os.waitpid(pid, 0)[1]
            seen.clear()
            b.send(b"parent")
            loop.start()
            print(status, seen)
        a.close(), b.close()
        """,
        str(backend),
    )
    assert out == "0 ['parent']\n"


def test_every_loop_is_seen_to_in_a_fork(script):
    out = script("""
        import os, pyev
        seen = []
        loops = [pyev.Loop() for _ in range(3)] + [pyev.default_loop()]
        watchers = [loop.fork(lambda watcher, revents: seen.append(watcher.data), i)
                    for i, loop in enumerate(loops)]
        for watcher in watchers:
            watcher.start()
        pid = os.fork()
        if pid == 0:
            for loop in loops:
                loop.start(pyev.EVRUN_NOWAIT)
            os._exit(0 if seen == [0, 1, 2, 3] else 1)
        status = os.waitpid(pid, 0)[1]
        for loop in loops:
            loop.start(pyev.EVRUN_NOWAIT)
        for watcher in watchers:
            watcher.stop()
        print(status, seen)
    """)
    assert out == "0 []\n"


def test_fork_inside_a_callback(script):
    out = script("""
        import os, pyev
        loop = pyev.Loop()
        seen = []
        pids = []
        def callback(watcher, revents):
            if not pids:
                pids.append(os.fork())
            seen.append(revents)
            if len(seen) == 3:
                loop.stop()
        with loop.timer(0.001, 0.001, callback):
            loop.start()
        if pids[0] == 0:
            os._exit(0 if len(seen) == 3 else 1)
        print(os.waitpid(pids[0], 0)[1], len(seen))
    """)
    assert out == "0 3\n"
