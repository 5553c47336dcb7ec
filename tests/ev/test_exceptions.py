"""What becomes of an exception in a callback, of EV_ERROR, and of Ctrl-C."""

from __future__ import annotations

import errno
import os
import signal
import textwrap
import traceback

import pytest

import pyev


class Mine(Exception):
    pass


class Other(Exception):
    pass


def raising(error):
    calls = []

    def callback(watcher, revents):
        calls.append(revents)
        if len(calls) > 5:  # a loop that swallows it would go on for ever
            watcher.loop.stop(pyev.EVBREAK_ALL)
        raise error

    return callback


def fed(loop, *callbacks):
    """Idles with these callbacks, pending in this order of invocation."""
    watchers = [loop.idle(callback) for callback in callbacks]
    for watcher in reversed(watchers):
        watcher.feed(pyev.EV_CUSTOM)
    return watchers


def everything_attached(error, seen=None):
    """`error` and all that can be reached from it."""
    seen = [] if seen is None else seen
    if error is not None and error not in seen:
        seen.append(error)
        everything_attached(error.__context__, seen)
        everything_attached(error.__cause__, seen)
        for inner in getattr(error, "exceptions", ()):
            everything_attached(inner, seen)
    return seen


def function_names(error):
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


# Not in debug


def test_goes_to_the_hook_and_the_loop_goes_on(loop, kind, calls, unraisable):
    def unhappy(watcher, revents):
        raise Mine("unhappy")

    watcher = kind.new(loop, unhappy)
    watcher.start()
    watcher.feed(pyev.EV_CUSTOM)
    (later,) = fed(loop, calls)
    loop.start(pyev.EVRUN_NOWAIT)
    watcher.stop()
    (report, *rest) = unraisable
    assert type(report.exc_value) is Mine
    assert report.exc_type is Mine
    assert report.object is unhappy
    assert function_names(report.exc_value) == ["unhappy"]
    assert calls[0] == (later, pyev.EV_CUSTOM)
    if kind.name not in ("Idle", "Prepare", "Check"):  # called again in the same turn
        assert rest == []


def test_invoke_reports_too(loop, calls, unraisable):
    callback = raising(Mine())
    watcher = loop.idle(callback)
    assert watcher.invoke(pyev.EV_CUSTOM) is None
    assert [type(report.exc_value) for report in unraisable] == [Mine]
    assert unraisable[0].object is callback


def test_loop_invoke_reports_too(loop, calls, unraisable):
    watchers = fed(loop, raising(Mine()), calls, raising(Other()))
    assert loop.invoke() is None
    assert [type(report.exc_value) for report in unraisable] == [Mine, Other]
    assert calls == [(watchers[1], pyev.EV_CUSTOM)]


def test_the_watcher_stays_active(loop, unraisable):
    with loop.timer(0.0, 0.001, raising(Mine())) as timer:
        while len(unraisable) < 3:
            loop.start(pyev.EVRUN_ONCE)
        assert timer.active


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("debug", [False, True])
def test_those_that_are_no_exception_leave_start(loop, calls, unraisable, error, debug):
    loop.debug = debug
    timer = loop.timer(0.0, 0.001, raising(error("out")))
    timer.start()
    with pytest.raises(error, match="out") as caught:
        loop.start()
    assert "callback" in function_names(caught.value)
    assert timer.active
    assert loop.depth == 0
    assert unraisable == []
    timer.callback = calls
    while not calls:
        loop.start(pyev.EVRUN_ONCE)
    timer.stop()


@pytest.mark.parametrize("debug", [False, True])
def test_they_leave_invoke(loop, unraisable, debug):
    loop.debug = debug
    with pytest.raises(KeyboardInterrupt):
        loop.idle(raising(KeyboardInterrupt())).invoke(pyev.EV_CUSTOM)
    watchers = fed(loop, raising(SystemExit(3)))
    with pytest.raises(SystemExit):
        loop.invoke()
    assert not watchers[0].pending
    assert unraisable == []


@pytest.mark.parametrize("debug", [False, True])
def test_they_leave_every_nested_start(loop, debug):
    loop.debug = debug

    def outer(watcher, revents):
        with loop.timer(0.0, 0.001, raising(KeyboardInterrupt())):
            loop.start()

    timer = loop.timer(0.0, 0.001, outer)
    with timer, pytest.raises(KeyboardInterrupt) as caught:
        loop.start()
    assert function_names(caught.value)[-2:] == ["outer", "callback"]
    assert loop.depth == 0


def test_an_exception_leaves_a_nested_start_in_debug(loop):
    """What the outer callback catches is over; the outer start goes on."""
    loop.debug = True
    seen = []

    def outer(watcher, revents):
        with loop.timer(0.0, 0.001, raising(Mine("inner"))):
            try:
                loop.start()
            except Mine as error:
                seen.append(str(error))

    with loop.timer(0.0, 0.0, outer):
        assert loop.start() is False
    assert seen == ["inner"]


# In debug


def test_leaves_start_with_its_traceback(loop, unraisable):
    loop.debug = True

    def deep():
        raise Mine("unhappy")

    def unhappy(watcher, revents):
        watcher.callback = lambda watcher, revents: loop.stop()  # where it is swallowed
        deep()

    with loop.timer(0.0, 0.001, unhappy) as timer:
        with pytest.raises(Mine, match="unhappy") as caught:
            loop.start()
        assert timer.active
    assert function_names(caught.value)[-2:] == ["unhappy", "deep"]
    assert loop.depth == 0
    assert unraisable == []


def test_leaves_start_for_every_kind(loop, kind, unraisable):
    loop.debug = True

    def callback(watcher, revents):
        watcher.stop()
        raise Mine

    watcher = kind.new(loop, callback)
    watcher.start()
    watcher.feed(pyev.EV_CUSTOM)
    with pytest.raises(Mine):
        loop.start()
    assert unraisable == []
    assert loop.start(pyev.EVRUN_NOWAIT) is False


def test_leaves_invoke(loop, unraisable):
    loop.debug = True
    with pytest.raises(Mine):
        loop.idle(raising(Mine())).invoke(pyev.EV_CUSTOM)
    assert unraisable == []


def test_leaves_loop_invoke(loop, unraisable):
    loop.debug = True
    watchers = fed(loop, raising(Mine()))
    with pytest.raises(Mine):
        loop.invoke()
    assert not watchers[0].pending
    assert unraisable == []


def test_the_rest_of_the_batch_runs(loop, calls):
    loop.debug = True
    watchers = fed(loop, raising(Mine()), calls, calls)
    with pytest.raises(Mine):
        loop.start()
    assert [watcher for watcher, _ in calls] == watchers[1:]


def test_of_several_the_first_leaves_and_none_is_lost(loop, unraisable):
    loop.debug = True
    errors = [Mine("first"), Other("second"), Mine("third")]
    watchers = fed(loop, *(raising(error) for error in errors))
    with pytest.raises(Mine, match="first") as caught:
        loop.start()
    known = [*everything_attached(caught.value), *(report.exc_value for report in unraisable)]
    for error in errors:
        assert any(error is one for one in known), error
    assert not any(watcher.pending for watcher in watchers)


def test_nothing_of_it_is_left_for_the_next_start(loop, calls, unraisable):
    loop.debug = True
    watchers = fed(loop, raising(Mine()), raising(Other()))
    with pytest.raises(Mine):
        loop.start()
    for watcher in watchers:
        watcher.callback = calls
        watcher.feed(pyev.EV_CUSTOM)
    assert loop.start() is False
    assert len(calls) == 2


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("how", ["nested start", "cancel"])
def test_nothing_later_in_its_batch_takes_it_back(loop, calls, how, debug):
    """Neither a start() inside, which has a stop() of its own, nor stop(EVBREAK_CANCEL)."""
    loop.debug = debug

    def callback(watcher, revents):
        if how == "cancel":
            loop.stop(pyev.EVBREAK_CANCEL)
        else:
            loop.start(pyev.EVRUN_NOWAIT)

    error = Mine() if debug else KeyboardInterrupt()
    later = loop.timer(0.05, 0.0, calls)
    with later, loop.timer(0.0, 0.0, callback):
        raises = loop.timer(0.0, 0.0, raising(error), None, pyev.EV_MAXPRI)
        with raises, pytest.raises(type(error)):
            loop.start()
        assert later.active
    assert not calls


def test_it_leaves_a_stop_of_all_as_it_is(loop, calls):
    loop.debug = True

    def nest(watcher, revents):
        stop.start()
        raises.start()
        with pytest.raises(Mine):
            loop.start()

    stop = loop.timer(0.0, 0.0, lambda watcher, revents: loop.stop(pyev.EVBREAK_ALL), None, 2)
    raises = loop.timer(0.0, 0.0, raising(Mine()))
    later = loop.timer(0.05, 0.0, calls)
    with later, loop.timer(0.0, 0.0, nest):
        assert loop.start() is True
    assert not calls


def test_keyboard_interrupt_among_several(loop, unraisable):
    errors = [KeyboardInterrupt("first"), Mine("second"), SystemExit("third")]
    watchers = fed(loop, *(raising(error) for error in errors))
    with pytest.raises(KeyboardInterrupt) as caught:
        loop.start()
    known = [*everything_attached(caught.value), *(report.exc_value for report in unraisable)]
    for error in errors:
        assert any(error is one for one in known), error
    assert not any(watcher.pending for watcher in watchers)


def test_debug_may_change_while_running(loop, unraisable):
    def callback(watcher, revents):
        if unraisable:
            loop.debug = True
        raise Mine

    with loop.timer(0.0, 0.001, callback), pytest.raises(Mine):
        loop.start()
    assert len(unraisable) == 1


# The hook itself


def test_a_hook_that_raises(script):
    out = script("""
        import sys, os, pyev
        def hook(report):
            raise ValueError("hook")
        sys.unraisablehook = hook
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 2)
        loop = pyev.Loop()
        seen = []
        def callback(watcher, revents):
            seen.append(1)
            if len(seen) == 3:
                watcher.stop()
            1 / 0
        with loop.timer(0.0, 0.001, callback):
            loop.start()
        print(len(seen))
    """)
    assert out == "3\n"


def test_an_exception_without_arguments_and_traceback_objects(loop, unraisable):
    class Odd(Exception):
        def __repr__(self):
            raise ValueError

        __str__ = __repr__

    loop.idle(raising(Odd())).invoke(pyev.EV_CUSTOM)
    assert len(unraisable) == 1


def test_what_a_callback_returns_does_not_matter(loop, unraisable):
    for value in (None, True, 1, "text", NotImplemented, Mine()):
        loop.idle(lambda watcher, revents, value=value: value).invoke(pyev.EV_CUSTOM)
    assert unraisable == []


def test_a_callback_with_a_wrong_signature(loop, unraisable):
    loop.idle(lambda: None).invoke(pyev.EV_CUSTOM)
    assert [type(report.exc_value) for report in unraisable] == [TypeError]


# EV_ERROR


@pytest.mark.parametrize("debug", [False, True])
def test_ev_error(loop, kind, calls, unraisable, debug):
    loop.debug = debug
    watcher = kind.new(loop, calls)
    watcher.start()
    watcher.feed(pyev.EV_ERROR)
    with pytest.raises(pyev.Error, match=kind.name):
        loop.start(pyev.EVRUN_NOWAIT)
    assert not watcher.active
    assert not watcher.pending
    assert unraisable == []
    calls_of_error = [revents for who, revents in calls if revents & pyev.EV_ERROR]
    assert calls_of_error == []


def test_ev_error_with_other_bits(loop, kind, calls):
    watcher = kind.new(loop, calls)
    watcher.start()
    watcher.feed(kind.event)
    watcher.feed(pyev.EV_ERROR)
    with pytest.raises(pyev.Error):
        loop.start(pyev.EVRUN_NOWAIT)
    assert calls == []
    assert not watcher.active


def test_the_next_start_serves_the_others(loop, pair, calls):
    a, b = pair
    bad = loop.idle(calls)
    with loop.io(a, pyev.EV_READ, calls) as good, loop.timer(0.0, 0.0, calls) as timer:
        bad.feed(pyev.EV_ERROR)
        with pytest.raises(pyev.Error):
            loop.start()
        assert good.active
        b.send(b"x")
        while (good, pyev.EV_READ) not in calls or timer.active:
            loop.start(pyev.EVRUN_ONCE)
    assert (timer, pyev.EV_TIMER) in calls
    assert bad not in [watcher for watcher, _ in calls]


def test_ev_error_on_an_io_whose_fd_is_closed(loop, calls):
    r, w = os.pipe()
    watcher = loop.io(r, pyev.EV_READ, calls)
    watcher.start()
    loop.start(pyev.EVRUN_NOWAIT)
    os.close(r)
    os.close(w)
    watcher.feed(pyev.EV_ERROR | pyev.EV_READ | pyev.EV_WRITE)
    with pytest.raises(OSError, match="Errno 9") as caught:
        loop.start(pyev.EVRUN_NOWAIT)
    assert caught.value.errno == errno.EBADF
    assert "Io" in str(caught.value)
    assert not watcher.active
    assert calls == []
    assert loop.start(pyev.EVRUN_NOWAIT) is False


def test_the_rest_of_the_batch_runs_after_ev_error(loop, calls):
    bad, good = fed(loop, calls, calls)
    bad.feed(pyev.EV_ERROR)
    with pytest.raises(pyev.Error):
        loop.start()
    assert calls == [(good, pyev.EV_CUSTOM)]


# Ctrl-C

CTRL_C = """
    import os, signal, socket, threading, time, pyev
    def ctrl_c():
        os.kill(os.getpid(), signal.SIGINT)
    loop = pyev.Loop(**OPTIONS)
    def end():
        assert loop.depth == 0
        loop.close()
        print("KeyboardInterrupt", signal.getsignal(signal.SIGINT) is signal.default_int_handler,
              signal.set_wakeup_fd(-1))
"""


@pytest.fixture
def ctrl_c(script):
    def run(source, options="{}"):
        whole = textwrap.dedent(CTRL_C).replace("OPTIONS", options) + textwrap.dedent(source)
        assert script(whole) == "KeyboardInterrupt True -1\n"

    return run


@pytest.mark.every_backend
def test_ctrl_c_while_waiting(ctrl_c, backend):
    """No watcher asks for it; another thread sends it once the loop is about to wait."""
    ctrl_c(
        """
        thread = threading.Thread(target=ctrl_c)
        started = []
        def prepare(watcher, revents):
            if not started:
                started.append(thread.start())
        try:
            with loop.prepare(prepare, keepalive=False), loop.timer(1000.0, 0.0, print):
                loop.start()
        except KeyboardInterrupt:
            end()
        thread.join()
        """,
        f"{{'flags': {backend}}}",
    )


def test_ctrl_c_long_after_the_wait_began(ctrl_c):
    ctrl_c("""
        signal.signal(signal.SIGALRM, lambda signum, frame: ctrl_c())
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            with loop.timer(1000.0, 0.0, print):
                loop.start()
        except KeyboardInterrupt:
            end()
    """)


def test_ctrl_c_with_nothing_but_a_reference(ctrl_c):
    ctrl_c("""
        signal.signal(signal.SIGALRM, lambda signum, frame: ctrl_c())
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        loop.ref()
        try:
            loop.start()
        except KeyboardInterrupt:
            loop.unref()
            end()
    """)


def test_ctrl_c_in_a_callback(ctrl_c):
    ctrl_c("""
        def callback(watcher, revents):
            ctrl_c()
            while True:
                pass
        try:
            with loop.timer(0.0, 0.001, callback):
                loop.start()
        except KeyboardInterrupt:
            end()
    """)


def test_ctrl_c_at_the_end_of_a_prepare(ctrl_c):
    """Pending when the callback is over: seen there, or before the wait, never after it."""
    ctrl_c("""
        try:
            with loop.prepare(lambda watcher, revents: signal.raise_signal(signal.SIGINT)):
                loop.start()
        except KeyboardInterrupt:
            end()
    """)


def test_ctrl_c_taken_by_another_thread(ctrl_c):
    """The kernel may hand the signal to a thread that does not run the loop."""
    ctrl_c("""
        go = threading.Event()
        def other():
            go.wait()
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        thread = threading.Thread(target=other)
        thread.start()
        def prepare(watcher, revents):
            go.set()
        try:
            with loop.prepare(prepare, keepalive=False), loop.timer(1000.0, 0.0, print):
                loop.start()
        except KeyboardInterrupt:
            end()
        thread.join()
    """)


def test_ctrl_c_during_io_interval(ctrl_c):
    ctrl_c(
        """
        signal.signal(signal.SIGALRM, lambda signum, frame: ctrl_c())
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            with loop.timer(1000.0, 0.0, print):
                loop.start()
                loop.start()
        except KeyboardInterrupt:
            end()
        """,
        "{'io_interval': 40.0}",
    )


def test_ctrl_c_again_and_again(ctrl_c):
    ctrl_c("""
        signal.signal(signal.SIGALRM, lambda signum, frame: ctrl_c())
        for n in range(10):
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            try:
                with loop.timer(1000.0, 0.0, print):
                    loop.start()
            except KeyboardInterrupt:
                continue
            raise SystemExit("not interrupted")
        end()
    """)


def test_a_python_handler_runs_while_waiting_and_the_loop_goes_on(loop, calls):
    seen = []
    before = signal.signal(signal.SIGALRM, lambda signum, frame: seen.append(signum))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        check = loop.check(lambda *args: seen and loop.stop(), keepalive=False)
        with loop.timer(10.0, 0.0, calls), check:
            loop.start()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert seen == [signal.SIGALRM]
    assert calls == []


def test_a_python_handler_that_raises_leaves_start(loop, calls, unraisable):
    def handler(signum, frame):
        raise Mine("from the handler")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with loop.timer(10.0, 0.0, calls), pytest.raises(Mine, match="from the handler"):
            loop.start()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert unraisable == []


def test_the_wakeup_fd_of_a_loop_that_is_closed_is_not_put_back(script):
    """The inner loop keeps its own for longer than the outer one lives."""
    script("""
    import asyncio, os, pyev, signal

    inner = pyev.new_event_loop()
    inner.call_soon(inner.add_signal_handler, signal.SIGTERM, print)
    inner.call_soon(inner.stop)
    before = signal.set_wakeup_fd(-1)
    outer = pyev.Loop()
    with outer.timer(0.0, 0.0, lambda watcher, revents: inner.run_forever()) as timer:
        outer.start()
    outer.close()
    strangers = [os.pipe2(os.O_NONBLOCK) for _ in range(8)]  # they get its numbers
    inner.close()
    assert signal.set_wakeup_fd(-1) == before == -1
    """)


def test_a_wakeup_fd_that_the_program_closes(loop, calls):
    """The loop has another, and is not busy with the end of the first."""
    before = signal.signal(signal.SIGALRM, calls)

    def close(watcher, revents):
        os.close(signal.set_wakeup_fd(-1))
        signal.setitimer(signal.ITIMER_REAL, 0.1)

    try:
        with loop.timer(0.001, 0.0, close), loop.timer(0.2, 0.0, lambda watcher, revents: None):
            loop.start()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(calls) == 1
    assert loop.iteration < 30
    assert signal.set_wakeup_fd(-1) == -1


def test_a_foreign_wakeup_fd_is_put_back_and_still_told(loop, pair):
    a, b = pair
    before = signal.signal(signal.SIGALRM, lambda signum, frame: None)
    old = signal.set_wakeup_fd(b.fileno())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        io = loop.io(a, pyev.EV_READ, lambda watcher, revents: loop.stop(), keepalive=False)
        with io, loop.timer(10.0, 0.0, print):
            assert loop.start() is True
        assert signal.set_wakeup_fd(b.fileno()) == b.fileno()
    finally:
        signal.set_wakeup_fd(old)
        signal.signal(signal.SIGALRM, before)
    assert a.recv(10) == bytes([signal.SIGALRM])
