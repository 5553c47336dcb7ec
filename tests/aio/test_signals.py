"""Signals, and what Python's own handlers raise."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading

import pytest

import pyev


def test_handler(aloop):
    seen = []

    def handler(*args):
        seen.append(args)
        aloop.stop()

    assert aloop.add_signal_handler(signal.SIGUSR1, handler, 1, 2) is None
    signal.raise_signal(signal.SIGUSR1)
    aloop.run_forever()
    assert seen == [(1, 2)]
    assert aloop.remove_signal_handler(signal.SIGUSR1) is True
    assert aloop.remove_signal_handler(signal.SIGUSR1) is False


def test_replaced(aloop):
    aloop.add_signal_handler(signal.SIGUSR1, pytest.fail)
    aloop.add_signal_handler(signal.SIGUSR1, aloop.stop)
    signal.raise_signal(signal.SIGUSR1)
    aloop.run_forever()
    assert aloop.remove_signal_handler(signal.SIGUSR1)


@pytest.mark.parametrize("other", [signal.SIG_IGN, signal.SIG_DFL, "handler"])
def test_replaced_when_another_handler_is_over_it(aloop, other, spin):
    """add_signal_handler() takes the signal back."""
    seen = []
    aloop.add_signal_handler(signal.SIGUSR1, seen.append, "before")
    before = signal.signal(
        signal.SIGUSR1, (lambda *args: seen.append("other")) if other == "handler" else other
    )
    aloop.add_signal_handler(signal.SIGUSR1, seen.append, "after")
    assert signal.getsignal(signal.SIGUSR1) is before
    for _ in range(2):
        signal.raise_signal(signal.SIGUSR1)
        spin(aloop)
        spin(aloop)
    assert seen == ["after", "after"]
    assert aloop.remove_signal_handler(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_replaced_when_the_signal_has_come(aloop, pair):
    """One of the two hears of it, whichever."""
    seen = []

    def replace():
        aloop.add_signal_handler(signal.SIGUSR1, seen.append, "new")
        aloop.call_later(0.01, aloop.stop)

    def readable():
        aloop.remove_reader(pair[0])
        signal.raise_signal(signal.SIGUSR1)
        aloop.call_soon(replace)

    aloop.add_signal_handler(signal.SIGUSR1, seen.append, "old")
    aloop.add_reader(pair[0], readable)
    pair[1].send(b"x")
    aloop.run_forever()
    assert len(seen) == 1
    aloop.remove_signal_handler(signal.SIGUSR1)


def test_several(aloop):
    seen = set()

    def handler(number):
        seen.add(number)
        if len(seen) == 3:
            aloop.stop()

    numbers = {signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP}
    for number in numbers:
        aloop.add_signal_handler(number, handler, number)
    for number in numbers:
        signal.raise_signal(number)
    aloop.run_forever()
    assert seen == numbers
    for number in numbers:
        aloop.remove_signal_handler(number)


def test_wakes_a_loop_that_waits(aloop):
    aloop.add_signal_handler(signal.SIGALRM, aloop.stop)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    aloop.run_forever()
    aloop.remove_signal_handler(signal.SIGALRM)


def test_close_removes_handlers(factory):
    loop = factory()
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGINT, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_handler_before_is_put_back(ours):
    def before(*args):
        pass

    signal.signal(signal.SIGUSR1, before)
    try:
        ours.add_signal_handler(signal.SIGUSR1, print)
        ours.remove_signal_handler(signal.SIGUSR1)
        assert signal.getsignal(signal.SIGUSR1) is before
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)


def test_another_handler_for_a_while(aloop):
    """As uvicorn does: signal.signal(), later what that gave back, and the signal raised again."""
    seen, other = [], []

    async def raised():
        signal.raise_signal(signal.SIGTERM)
        while not seen:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)
        return seen.pop(), seen

    async def main():
        await asyncio.sleep(0.001)
        aloop.add_signal_handler(signal.SIGTERM, seen.append, "ours")
        before = signal.signal(signal.SIGTERM, lambda *args: other.append(args[0]))
        assert await raised() == ("ours", [])
        assert other == [signal.SIGTERM]
        signal.signal(signal.SIGTERM, before)
        assert await raised() == ("ours", [])
        assert aloop.remove_signal_handler(signal.SIGTERM)

    aloop.run_until_complete(main())
    assert len(other) == 1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.fixture
def other():
    """Who else handles SIGTERM: the signals that it got."""
    seen = []
    yield seen
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def turns(loop, seen):
    """As many turns as it takes until something was seen; none of them waits."""
    left = 1000

    def turn():
        nonlocal left
        left -= 1
        if seen or not left:
            loop.stop()
        else:
            loop.call_soon(turn)

    loop.call_soon(turn)
    loop.run_forever()


@pytest.mark.parametrize("ran", [False, True], ids=["new", "ran before"])
@pytest.mark.parametrize("where", ["first turn", "between runs"])
def test_signals_come_where_the_loop_does_not_wait(aloop, other, where, ran):
    """Past another handler, too; and somebody else's wake-up fd is back when nobody listens."""
    seen = []
    if ran:
        aloop.run_until_complete(asyncio.sleep(0.001))
    aloop.add_signal_handler(signal.SIGTERM, seen.append, "ours")
    signal.signal(signal.SIGTERM, lambda *args: other.append(args[0]))
    for _ in range(2):
        if where == "first turn":
            aloop.call_soon(signal.raise_signal, signal.SIGTERM)
        else:
            signal.raise_signal(signal.SIGTERM)
        turns(aloop, seen)
        assert seen == ["ours"]
        seen.clear()
    assert other == [signal.SIGTERM] * 2
    assert aloop.remove_signal_handler(signal.SIGTERM)
    assert signal.set_wakeup_fd(-1) == -1


def test_the_wakeup_fd_of_somebody_else(ours, other, pair):
    """It gets its bytes while the loop has one of its own, and is set again afterwards."""
    for end in pair:
        end.setblocking(False)
    signal.set_wakeup_fd(pair[1].fileno())
    try:
        seen = []
        ours.add_signal_handler(signal.SIGTERM, seen.append, "ours")
        signal.signal(signal.SIGTERM, lambda *args: other.append(args[0]))
        signal.raise_signal(signal.SIGTERM)
        turns(ours, seen)
        assert pair[0].recv(10) == bytes([signal.SIGTERM])
        ours.remove_signal_handler(signal.SIGTERM)
    finally:
        assert signal.set_wakeup_fd(-1) == pair[1].fileno()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first", "last"])
def test_two_loops_with_handlers_leave_nothing(aloop, factory, order):
    """Whichever gives its signal up first: no signal writes to a descriptor that is another's."""
    with contextlib.closing(factory()) as second:
        loops = (aloop, second)
        for loop in loops:
            loop.add_signal_handler(signal.SIGUSR1 + 2 * loops.index(loop), print)
        for i in order:
            assert loops[i].remove_signal_handler(signal.SIGUSR1 + 2 * i)
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize("closed", [True, False])
def test_two_loops_with_handlers_run_in_turn(ours, other, spin, closed):
    """What one hears goes on to the other, and comes back to nobody."""
    heard = []
    with contextlib.closing(pyev.new_event_loop()) as second:
        ours.add_signal_handler(signal.SIGTERM, heard.append, "ours")
        second.add_signal_handler(signal.SIGUSR2, pytest.fail)
        signal.signal(signal.SIGTERM, lambda *args: other.append(args[0]))
        for _ in range(2):
            for loop in (ours, second):
                loop.run_until_complete(asyncio.sleep(0.001))
        if closed:
            second.close()
        signal.raise_signal(signal.SIGTERM)
        for _ in range(3):
            spin(ours)
            if not closed:
                spin(second)
        assert other == [signal.SIGTERM]
        assert heard == ["ours"]
        ours.remove_signal_handler(signal.SIGTERM)


def test_a_wakeup_fd_that_is_put_back_too_late(other):
    """Somebody set their own over ours while the loop ran, and knows no better afterwards."""
    before = []

    async def main():
        await asyncio.sleep(0.001)
        before.append(signal.set_wakeup_fd(-1))

    with contextlib.closing(pyev.new_event_loop()) as loop:
        loop.run_until_complete(main())
        signal.set_wakeup_fd(*before)
    assert signal.set_wakeup_fd(-1) == -1


def close_pipe(end):
    """One that was left open, for signals write to it: both of its ends."""
    pipe = os.fstat(end).st_ino
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if os.fstat(fd).st_ino == pipe and fd != end:
                os.close(fd)
    os.close(end)


def test_closed_in_another_thread_with_a_handler(ours, other):
    """Only the main thread may take the wake-up fd back: no signal writes to another's file."""
    ours.add_signal_handler(signal.SIGTERM, other.append, "ours")
    signal.signal(signal.SIGTERM, lambda *args: other.append(args[0]))
    thread = threading.Thread(target=ours.close)
    thread.start()
    thread.join()
    with tempfile.TemporaryFile() as first, tempfile.TemporaryFile() as second:
        signal.raise_signal(signal.SIGTERM)
        assert [os.fstat(file.fileno()).st_size for file in (first, second)] == [0, 0]
    assert other == [signal.SIGTERM]
    writer = signal.set_wakeup_fd(-1)
    if writer >= 0:  # since Python 3.13 other threads may
        close_pipe(writer)


def test_closed_in_another_thread_that_may_not(aloop):
    """The handler is the main thread's to remove; the loop is closed all the same."""
    before = signal.getsignal(signal.SIGUSR1)
    aloop.add_signal_handler(signal.SIGUSR1, print)
    raised = []

    def close():
        try:
            aloop.close()
        except ValueError as error:
            raised.append(error)

    thread = threading.Thread(target=close)
    thread.start()
    thread.join()
    assert len(raised) == 1 and aloop.is_closed()
    signal.signal(signal.SIGUSR1, before)
    writer = signal.set_wakeup_fd(-1)
    if isinstance(aloop, pyev.EventLoop) and writer >= 0:
        close_pipe(writer)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_another_handler_stays(ours, number):
    def other(*args):
        pass

    before = signal.getsignal(number)
    ours.add_signal_handler(number, print)
    signal.signal(number, other)
    try:
        ours.remove_signal_handler(number)
        assert signal.getsignal(number) is other
    finally:
        signal.signal(number, before)


def test_exception(aloop, errors, spin):
    def fail():
        raise ZeroDivisionError

    aloop.add_signal_handler(signal.SIGUSR1, fail)
    signal.raise_signal(signal.SIGUSR1)
    while not errors:
        spin(aloop)
    assert isinstance(errors[0]["exception"], ZeroDivisionError)
    aloop.remove_signal_handler(signal.SIGUSR1)


# Refusals


@pytest.mark.parametrize("number", ["x", None, 1.5])
def test_no_number(aloop, number):
    with pytest.raises(TypeError):
        aloop.add_signal_handler(number, print)
    with pytest.raises(TypeError):
        aloop.remove_signal_handler(number)


@pytest.mark.parametrize("number", [0, -1, 10_000])
def test_no_signal(aloop, number):
    with pytest.raises(ValueError, match="invalid signal number"):
        aloop.add_signal_handler(number, print)
    with pytest.raises(ValueError, match="invalid signal number"):
        aloop.remove_signal_handler(number)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_cannot_be_caught(aloop, number):
    with pytest.raises(RuntimeError, match="cannot be caught"):
        aloop.add_signal_handler(number, print)
    assert aloop.remove_signal_handler(number) is False


def test_coroutine(aloop):
    async def coroutine():
        pass

    with pytest.raises(TypeError, match="coroutines cannot be used with add_signal_handler"):
        aloop.add_signal_handler(signal.SIGUSR1, coroutine)


def test_closed(aloop):
    aloop.close()
    with pytest.raises(RuntimeError, match="closed"):
        aloop.add_signal_handler(signal.SIGUSR1, print)


def test_another_thread(aloop):
    caught = []

    def add():
        try:
            aloop.add_signal_handler(signal.SIGUSR1, print)
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=add)
    thread.start()
    thread.join()
    assert len(caught) == 1


# Beside a watcher of the same signal


@pytest.mark.parametrize("first", ["handler", "watcher"])
@pytest.mark.parametrize("removed", ["handler", "watcher"])
def test_with_a_watcher(ours, spin, first, removed):
    seen = []
    watcher = ours.ev.signal(signal.SIGUSR1, lambda w, revents: seen.append("watcher"))

    def add():
        ours.add_signal_handler(signal.SIGUSR1, seen.append, "handler")

    for step in [add, watcher.start] if first == "handler" else [watcher.start, add]:
        step()
    signal.raise_signal(signal.SIGUSR1)
    while len(seen) < 2:
        spin(ours)
    assert sorted(seen) == ["handler", "watcher"]
    seen.clear()
    if removed == "handler":
        assert ours.remove_signal_handler(signal.SIGUSR1)
    else:
        watcher.stop()
    signal.raise_signal(signal.SIGUSR1)
    while not seen:
        spin(ours)
    assert seen == [{"handler": "watcher", "watcher": "handler"}[removed]]
    watcher.stop()
    ours.remove_signal_handler(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_another_loop_has_it(ours):
    other = pyev.Loop()
    with other, other.signal(signal.SIGUSR1, lambda w, revents: None):
        with pytest.raises(RuntimeError):
            ours.add_signal_handler(signal.SIGUSR1, print)
        assert not ours.remove_signal_handler(signal.SIGUSR1)
    ours.add_signal_handler(signal.SIGUSR1, print)
    assert ours.remove_signal_handler(signal.SIGUSR1)


def test_the_last_loop_to_ask_has_it(aloop, factory, errors):
    """A loop that was not closed keeps no signal from the next one, on asyncio either."""
    before = signal.getsignal(signal.SIGUSR1)
    aloop.add_signal_handler(signal.SIGUSR1, pytest.fail, "the first loop's")
    with contextlib.closing(factory()) as other:
        other.add_signal_handler(signal.SIGUSR1, other.stop)
        signal.raise_signal(signal.SIGUSR1)
        other.run_forever()
        assert other.remove_signal_handler(signal.SIGUSR1)
    aloop.call_soon(aloop.stop)
    aloop.run_forever()
    assert not errors
    assert signal.getsignal(signal.SIGUSR1) == before
    aloop.add_signal_handler(signal.SIGUSR1, aloop.stop)
    signal.raise_signal(signal.SIGUSR1)
    aloop.run_forever()
    aloop.remove_signal_handler(signal.SIGUSR1)


def test_a_loop_that_another_thread_runs_keeps_it(ours):
    """And it works on there as if nobody had asked."""
    started, heard = threading.Event(), threading.Event()
    ours.add_signal_handler(signal.SIGUSR1, heard.set)
    ours.call_soon(started.set)
    thread = threading.Thread(target=ours.run_forever)
    thread.start()
    started.wait(20)
    try:
        with (
            contextlib.closing(pyev.new_event_loop()) as other,
            pytest.raises(RuntimeError, match="watched by another loop"),
        ):
            other.add_signal_handler(signal.SIGUSR1, print)
        signal.raise_signal(signal.SIGUSR1)
        assert heard.wait(20)
    finally:
        ours.call_soon_threadsafe(ours.stop)
        thread.join()
    assert ours.remove_signal_handler(signal.SIGUSR1)


def test_a_loop_that_has_a_watcher_too_keeps_its_handler(ours):
    watched, heard = [], []
    ours.add_signal_handler(signal.SIGUSR1, heard.append, "handler")
    with (
        ours.ev.signal(signal.SIGUSR1, lambda w, revents: watched.append(revents)),
        contextlib.closing(pyev.new_event_loop()) as other,
    ):
        with pytest.raises(RuntimeError, match="watched by another loop"):
            other.add_signal_handler(signal.SIGUSR1, print)
        signal.raise_signal(signal.SIGUSR1)
        ours.call_later(0.001, ours.stop)
        ours.run_forever()
    assert (heard, watched) == (["handler"], [pyev.EV_SIGNAL])
    assert ours.remove_signal_handler(signal.SIGUSR1)


def test_a_handler_whose_signal_was_taken_in_the_child(script):
    """It can be added again; whoever awaits the signal on the loop that lost it is told."""
    program = """
    import asyncio, os, pyev, signal

    async def wait(watcher):
        try:
            await watcher
        except pyev.Error as error:
            return str(error)

    loop = pyev.new_event_loop()
    loop.add_signal_handler(signal.SIGUSR1, print, "the parent's")
    task = loop.create_task(wait(loop.ev.signal(signal.SIGUSR1)))
    loop.run_until_complete(asyncio.sleep(0))
    pid = os.fork()
    if pid:
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        print(loop.remove_signal_handler(signal.SIGUSR1))
        task.cancel()
        loop.run_until_complete(asyncio.wait([task]))
        loop.close()
    else:
        with pyev.Loop() as mine, mine.signal(signal.SIGUSR1, lambda w, revents: None):
            pass
        told = loop.run_until_complete(asyncio.wait_for(task, 20))
        heard = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, heard.set_result, None)
        signal.raise_signal(signal.SIGUSR1)
        loop.run_until_complete(asyncio.wait_for(heard, 20))
        os._exit(7 if "stopped while it was awaited" in told else 1)
    """
    assert script(program) == "7\nTrue\n"


def test_watchers_go_while_they_lose_their_signal_in_the_child(script):
    """A call_soon() that wakes those who await it lets go of them all."""
    program = """
    import asyncio, gc, os, pyev, signal, warnings

    class Loop(pyev.EventLoop):
        def call_soon(self, *args, **keywords):
            if taken:
                warnings.simplefilter("ignore", ResourceWarning)
                waits.clear()
                gc.collect()
            return super().call_soon(*args, **keywords)

    async def main():
        for _ in range(5):
            wait = loop.ev.signal(signal.SIGUSR1).__await__()
            waits.append((wait, wait.send(None)))

    waits, taken = [], []
    loop = Loop()
    loop.run_until_complete(main())
    for wait in waits:
        wait[1].add_done_callback(id)
    del wait
    pid = os.fork()
    if pid:
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        waits.clear()
        loop.close()
    else:
        taken.append(1)
        with pyev.Loop() as mine, mine.signal(signal.SIGUSR1, lambda w, revents: None):
            os._exit(7 - len(waits))
    """
    assert script(program, env={"PYTHONMALLOC": "debug"}) == "7\n"


@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.parametrize("thread", [False, True])
@pytest.mark.parametrize("loop", ["asyncio.new_event_loop", "pyev.new_event_loop"])
def test_a_child_has_signals_of_its_own(script, loop, thread, runs):
    """A loop made in a child process gets what one of the parent's had a handler for."""
    program = f"""
    import asyncio, os, pyev, signal, threading

    def child():
        events._set_running_loop(None)
        mine = {loop}()
        for number in (signal.SIGUSR1, signal.SIGINT):
            mine.add_signal_handler(number, mine.stop)
            os.kill(os.getpid(), number)
            mine.run_forever()
            mine.remove_signal_handler(number)
        mine.close()
        return signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def fork():
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = 0 if child() else 2
            finally:
                os._exit(code)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    def work():
        fork()
        if {runs}:
            loop.call_soon_threadsafe(loop.stop)

    from asyncio import events
    codes, heard = [], []
    loop = {loop}()
    for number in (signal.SIGUSR1, signal.SIGINT):
        loop.add_signal_handler(number, heard.append, number)
    thread = threading.Thread(target=work)
    start = thread.start if {thread} else work
    if {runs}:
        loop.call_soon(start)
        loop.run_forever()
    else:
        start()
    if {thread}:
        thread.join()
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.call_later(0.1, loop.stop)
    loop.run_forever()
    loop.close()
    print(codes, len(heard))
    """
    assert script(program) == "[0] 1\n"


# Ctrl-C, and handlers of Python's own


class Raised(Exception):
    pass


@pytest.fixture
def alarm():
    """A Python handler of SIGALRM that raises what it is told to, soon."""
    raising = []

    def handler(*args):
        raise raising[0]

    def soon(error):
        raising.append(error)
        signal.setitimer(signal.ITIMER_REAL, 0.01)

    before = signal.signal(signal.SIGALRM, handler)
    yield soon
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, Raised])
def test_python_handler_raises_while_the_loop_waits(ours, alarm, error, spin):
    alarm(error)
    with pytest.raises(error):
        ours.run_forever()
    assert not ours.is_running()
    spin(ours)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_python_handler_raises_in_a_callback(aloop, alarm, error, spin):
    def busy():
        alarm(error)
        while True:
            pass

    aloop.call_soon(busy)
    with pytest.raises(error):
        aloop.run_forever()
    spin(aloop)


def test_python_handler_raises_in_a_callback_an_exception(aloop, alarm, errors, spin):
    def busy():
        alarm(Raised)
        while True:
            pass

    aloop.call_soon(busy)
    spin(aloop)
    assert isinstance(errors[0]["exception"], Raised)


def test_python_handlers_run_while_the_loop_waits(aloop):
    before = signal.signal(signal.SIGALRM, lambda *args: aloop.call_soon_threadsafe(aloop.stop))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        aloop.run_forever()
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("what", ["await asyncio.sleep(1000)", "await asyncio.Event().wait()"])
def test_ctrl_c_while_waiting(script, what):
    program = f"""
    import asyncio, pyev, signal
    signal.signal(signal.SIGALRM, lambda *args: signal.raise_signal(signal.SIGINT))
    async def main():
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        try:
            {what}
        except asyncio.CancelledError:
            print("cancelled")
            raise
    try:
        pyev.run(main())
    except KeyboardInterrupt:
        print("interrupted")
    """
    assert script(program).split() == ["cancelled", "interrupted"]


def test_ctrl_c_in_a_callback(script):
    program = """
    import asyncio, pyev, signal
    async def main():
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            print("cancelled")
            raise
    try:
        pyev.run(main())
    except KeyboardInterrupt:
        print("interrupted")
    """
    assert script(program).split() == ["cancelled", "interrupted"]


def test_ctrl_c_from_another_thread(script):
    program = """
    import asyncio, os, pyev, signal, threading
    async def main():
        signal.pthread_sigmask(signal.SIG_BLOCK, [])
        thread = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT))
        thread.start()
        try:
            await asyncio.sleep(1000)
        finally:
            thread.join()
    try:
        pyev.run(main())
    except KeyboardInterrupt:
        print("interrupted")
    """
    assert script(program).split() == ["interrupted"]


def test_wakeup_fd_of_somebody_else(ours, pair, spin):
    """It is there while the loop runs and after, and gets the bytes that are for it."""
    a, b = pair
    before = signal.signal(signal.SIGALRM, lambda *args: ours.call_soon_threadsafe(ours.stop))
    signal.set_wakeup_fd(a.fileno(), warn_on_full_buffer=False)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        ours.run_forever()
        assert b.recv(10) == bytes([signal.SIGALRM])
    finally:
        assert signal.set_wakeup_fd(-1) == a.fileno()
        signal.signal(signal.SIGALRM, before)


def test_a_loop_inside_keeps_the_outer_ones_signals(ours, spin):
    seen = []
    ours.add_signal_handler(signal.SIGUSR1, seen.append, 1)

    def inner():
        other = pyev.new_event_loop()
        asyncio._set_running_loop(None)
        try:
            spin(other)
        finally:
            asyncio._set_running_loop(ours)
            other.close()

    ours.call_soon(inner)
    spin(ours)
    signal.raise_signal(signal.SIGUSR1)
    while not seen:
        spin(ours)
    ours.remove_signal_handler(signal.SIGUSR1)


@pytest.mark.parametrize("kind", ["signal", "child"])
def test_a_watcher_is_started_while_its_signal_is_taken_over_in_the_child(script, kind):
    """By whoever hears that: it is started once."""
    program = """
    import os, pyev, signal, sys

    class Loop(pyev.EventLoop):
        def call_soon(self, *args, **keywords):
            while meanwhile:
                meanwhile.pop()()
            return super().call_soon(*args, **keywords)

    async def wait(signum):
        await loop.ev.signal(signum)

    meanwhile = []
    loop = Loop()
    signum = signal.SIGCHLD if sys.argv[1] == "child" else signal.SIGUSR1
    task = loop.create_task(wait(signum))
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    pid = os.fork()
    if pid:
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        task.cancel()
        loop.call_soon(loop.call_soon, loop.stop)
        loop.run_forever()
        loop.close()
    else:
        ours = pyev.default_loop()
        came = []
        heard = lambda watcher, revents: came.append(watcher)
        if sys.argv[1] == "child":
            watcher = ours.child(0, False, heard, keepalive=False)
        else:
            watcher = ours.signal(signum, heard, keepalive=False)
        meanwhile.append(watcher.start)
        watcher.start()
        for _ in range(2):
            if not os.fork():
                os._exit(3)
        os.kill(os.getpid(), signum)
        with ours.timer(0.01, 0.01, lambda timer, revents: came and timer.stop()):
            ours.start()  # kept by the timer alone
        os._exit(7 if watcher.active else 1)
    """
    assert script(program, kind) == "7\n"


class Interrupting:
    """Ctrl-C, in the middle of what ends a connection."""

    def __init__(self, fd):
        self.fd = fd

    def fileno(self):
        return self.fd

    def close(self):
        os.close(self.fd)
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("where", ["socket", "pipe", "server", "log"])
def test_an_interrupt_while_a_connection_ends(ours, where, monkeypatch):
    """It leaves the run, as from asyncio's own transports, which leave some of it open then."""

    class Socket(socket.socket):
        def close(self):
            super().close()
            signal.raise_signal(signal.SIGINT)

    def interrupt(record):
        if "EOF" in record.getMessage():
            signal.raise_signal(signal.SIGINT)
        return False

    async def end():
        if where == "pipe":
            reader, writer = os.pipe()
            os.close(writer)
            await ours.connect_read_pipe(asyncio.Protocol, Interrupting(reader))
        elif where == "socket":
            a, b = socket.socketpair()
            a.setblocking(False)
            sock = Socket(fileno=a.detach())
            transport, _ = await ours.create_connection(asyncio.Protocol, sock=sock)
            b.close()
            transport.close()
        else:
            server = await ours.create_server(asyncio.Protocol, "127.0.0.1", 0)
            servers.append(server)
            if where == "log":
                ours.set_debug(True)
                monkeypatch.setattr(asyncio.log.logger, "filters", [interrupt])
            else:
                detach = server._detach

                def detached(*transport):
                    detach(*transport)
                    signal.raise_signal(signal.SIGINT)

                server._detach = detached
            socket.create_connection(server.sockets[0].getsockname()).close()
        await asyncio.sleep(10)

    servers = []
    level = asyncio.log.logger.level
    asyncio.log.logger.setLevel(logging.DEBUG)
    task = ours.create_task(end())
    with pytest.raises(KeyboardInterrupt):
        ours.run_until_complete(task)
    asyncio.log.logger.setLevel(level)
    task.cancel()
    for server in servers:
        server.close()
    with pytest.raises(asyncio.CancelledError):
        ours.run_until_complete(task)


def test_the_handler_of_a_runner_ends_with_it(factory):
    async def main():
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, pytest.fail)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("blocked", [False, True])
def test_the_signal_mask_is_the_programs(factory, blocked):
    one = {signal.SIGUSR1}
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK if blocked else signal.SIG_BLOCK, one)
    with contextlib.closing(factory()) as loop:
        loop.add_signal_handler(signal.SIGUSR1, pytest.fail)
        assert (signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, ())) is not blocked
        signal.pthread_sigmask(signal.SIG_BLOCK if blocked else signal.SIG_UNBLOCK, one)
    after = signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert (signal.SIGUSR1 in after) is blocked


@pytest.mark.parametrize("module", ["pyev", "asyncio"])
def test_a_handler_left_at_the_end_of_the_interpreter(module):
    program = f"""
import signal, {module}
loop = {module}.new_event_loop()
loop.add_signal_handler(signal.SIGTERM, print)
"""
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", program],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert "on interpreter shutdown stage, skipping signal handlers removal" in done.stderr
