"""Signal: the kernel's signals as events."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

import pyev

NOTHING = pyev.EVFLAG_AUTO


def handler(signum, frame):
    """One of Python's own, to be put back."""


@pytest.fixture(params=[NOTHING, pyev.EVFLAG_SIGNALFD], ids=["handler", "signalfd"])
def loop(request, new_loop, backend):
    """Both ways libev has of hearing a signal, on every backend."""
    return new_loop(request.param, data=backend | request.param)


pytestmark = pytest.mark.every_backend


def kernel_has(signum, field):
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        if line.startswith(field):
            return bool(int(line.split()[1], 16) >> (signum - 1) & 1)
    raise AssertionError(field)


def until(loop, ready):
    while not ready():
        loop.start(pyev.EVRUN_ONCE)


def test_delivered(loop, calls):
    with loop.signal(signal.SIGUSR1, calls) as watcher:
        loop.start(pyev.EVRUN_NOWAIT)
        assert calls == []
        signal.raise_signal(signal.SIGUSR1)
        until(loop, lambda: calls)
    assert calls == [(watcher, pyev.EV_SIGNAL)]


def test_delivered_to_the_process(script, loop, backend):
    """The kernel gives it to any thread: one that knows nothing of the loop may get it."""
    out = script(
        """
        import os, signal, sys, threading, pyev
        go = threading.Event()
        thread = threading.Thread(target=go.wait)
        thread.start()
        loop = pyev.Loop(int(sys.argv[1]))
        seen = []
        def callback(watcher, revents):
            seen.append(revents)
            if len(seen) == 20:
                watcher.stop()
            else:
                os.kill(os.getpid(), signal.SIGUSR1)
        with loop.signal(signal.SIGUSR1, callback):
            os.kill(os.getpid(), signal.SIGUSR1)
            loop.start()
        go.set()
        thread.join()
        print(len(seen))
        """,
        str(loop.data),
    )
    assert out == "20\n"


def test_delivered_again_and_again(loop, calls):
    with loop.signal(signal.SIGUSR1, calls):
        for n in range(20):
            signal.raise_signal(signal.SIGUSR1)
            until(loop, lambda n=n: len(calls) > n)
    assert len(calls) == 20


def test_wakes_a_loop_that_waits(loop, calls):
    def callback(watcher, revents):
        calls(watcher, revents)
        watcher.stop()

    here = threading.get_ident()
    thread = threading.Thread(target=signal.pthread_kill, args=(here, signal.SIGUSR1))
    started = []

    def prepare(watcher, revents):
        if not started:
            started.append(thread.start())

    with loop.signal(signal.SIGUSR1, callback), loop.prepare(prepare, keepalive=False):
        assert loop.start() is False
    thread.join()
    assert calls.revents == [pyev.EV_SIGNAL]


def test_several_watchers_of_one_signal(loop, calls):
    watchers = {loop.signal(signal.SIGUSR1, calls) for _ in range(3)}
    for watcher in watchers:
        watcher.start()
    signal.raise_signal(signal.SIGUSR1)
    until(loop, lambda: {watcher for watcher, _ in calls} == watchers)
    first = watchers.pop()
    first.stop()
    calls.clear()
    signal.raise_signal(signal.SIGUSR1)
    until(loop, lambda: {watcher for watcher, _ in calls} == watchers)
    for watcher in watchers:
        watcher.stop()


def test_different_signals(loop, calls):
    with (
        loop.signal(signal.SIGUSR1, calls) as one,
        loop.signal(signal.SIGUSR2, calls) as two,
    ):
        signal.raise_signal(signal.SIGUSR2)
        until(loop, lambda: calls)
        assert calls == [(two, pyev.EV_SIGNAL)]
        signal.raise_signal(signal.SIGUSR1)
        until(loop, lambda: len(calls) == 2)
        assert calls[1] == (one, pyev.EV_SIGNAL)


def test_feed_signal(loop, calls):
    with loop.signal(signal.SIGUSR1, calls) as watcher:
        pyev.feed_signal(signal.SIGUSR1)
        until(loop, lambda: calls)
    assert calls == [(watcher, pyev.EV_SIGNAL)]


def test_python_is_not_called_while_it_is_watched(loop, calls):
    python = []
    before = signal.signal(signal.SIGUSR1, lambda signum, frame: python.append(signum))
    try:
        with loop.signal(signal.SIGUSR1, calls):
            signal.raise_signal(signal.SIGUSR1)
            until(loop, lambda: calls)
        assert python == []
        signal.raise_signal(signal.SIGUSR1)
        assert python == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


# The handler before


@pytest.mark.parametrize(
    "before", [signal.SIG_DFL, signal.SIG_IGN, handler], ids=["default", "ignored", "python's"]
)
@pytest.mark.parametrize("end", ["stop", "close", "drop"])
def test_the_previous_handler_is_put_back(loop, calls, before, end):
    was = signal.signal(signal.SIGUSR1, before)
    caught, ignored, blocked = (
        kernel_has(signal.SIGUSR1, field) for field in ("SigCgt", "SigIgn", "SigBlk")
    )
    try:
        holder = [loop.signal(signal.SIGUSR1, calls)]
        holder[0].start()
        loop.start(pyev.EVRUN_NOWAIT)
        if end == "stop":
            holder[0].stop()
        elif end == "close":
            loop.close()
        else:
            with pytest.warns(ResourceWarning):
                holder.clear()
        assert signal.getsignal(signal.SIGUSR1) == before
        assert kernel_has(signal.SIGUSR1, "SigCgt") == caught
        assert kernel_has(signal.SIGUSR1, "SigIgn") == ignored
        assert kernel_has(signal.SIGUSR1, "SigBlk") == blocked
    finally:
        signal.signal(signal.SIGUSR1, was)


def test_the_previous_handler_works_again(loop, calls):
    seen = []
    was = signal.signal(signal.SIGUSR1, lambda signum, frame: seen.append(signum))
    try:
        watcher = loop.signal(signal.SIGUSR1, calls)
        for n in range(1, 4):
            with watcher:
                signal.raise_signal(signal.SIGUSR1)
                until(loop, lambda n=n: len(calls) == n)
            signal.raise_signal(signal.SIGUSR1)
            assert len(seen) == n
    finally:
        signal.signal(signal.SIGUSR1, was)


def test_it_comes_back_with_the_last_watcher_only(loop, calls):
    seen = []
    was = signal.signal(signal.SIGUSR1, lambda signum, frame: seen.append(signum))
    try:
        first, second = loop.signal(signal.SIGUSR1, calls), loop.signal(signal.SIGUSR1, calls)
        first.start()
        second.start()
        first.stop()
        signal.raise_signal(signal.SIGUSR1)
        until(loop, lambda: calls)
        assert seen == []
        second.stop()
        signal.raise_signal(signal.SIGUSR1)
        assert seen == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, was)


def test_sigint_raises_keyboard_interrupt_afterwards(loop, calls):
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with loop.signal(signal.SIGINT, calls):
        signal.raise_signal(signal.SIGINT)
        until(loop, lambda: calls)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


# One signal, one loop


@pytest.mark.parametrize("blocked", [False, True])
def test_stopping_it_in_another_thread_leaves_that_ones_mask(loop, calls, blocked):
    def in_thread(body):
        thread = threading.Thread(target=body)
        thread.start()
        thread.join()

    def stop():
        signal.pthread_sigmask(
            signal.SIG_BLOCK if blocked else signal.SIG_UNBLOCK, [signal.SIGUSR1]
        )
        watcher.stop()
        masks.append(signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, []))

    def start():
        signal.pthread_sigmask(
            signal.SIG_UNBLOCK if blocked else signal.SIG_BLOCK, [signal.SIGUSR1]
        )
        watcher.start()
        stopper = threading.Thread(target=stop)  # which has this one's mask
        stopper.start()
        stopper.join()

    masks = []
    watcher = loop.signal(signal.SIGUSR1, calls)
    in_thread(start)
    assert masks == [blocked]


def test_a_second_loop_is_refused(loop, new_loop, calls):
    other = new_loop()
    watcher = other.signal(signal.SIGUSR1, calls)
    with loop.signal(signal.SIGUSR1, calls):
        with pytest.raises(pyev.Error, match="loop"):
            watcher.start()
        assert not watcher.active
        assert other.start(pyev.EVRUN_NOWAIT) is False
        with other.signal(signal.SIGUSR2, calls) as different:
            assert different.active
        signal.raise_signal(signal.SIGUSR1)
        until(loop, lambda: calls)
    watcher.start()
    signal.raise_signal(signal.SIGUSR1)
    until(other, lambda: len(calls) == 2)
    watcher.stop()
    assert calls[1] == (watcher, pyev.EV_SIGNAL)


def test_the_signal_of_a_closed_loop_is_free(loop, new_loop, calls):
    first = loop.signal(signal.SIGUSR1, calls)
    first.start()
    loop.close()
    other = new_loop()
    with other.signal(signal.SIGUSR1, calls) as watcher:
        signal.raise_signal(signal.SIGUSR1)
        until(other, lambda: calls)
    assert calls == [(watcher, pyev.EV_SIGNAL)]
    assert not first.active


# Arguments


def test_signum(loop):
    watcher = loop.signal(signal.SIGUSR1, print)
    assert watcher.signum == signal.SIGUSR1
    assert loop.signal(int(signal.SIGUSR2), print).signum == signal.SIGUSR2
    watcher.set(signal.SIGUSR2)
    assert watcher.signum == signal.SIGUSR2
    with pytest.raises(AttributeError):
        watcher.signum = signal.SIGUSR1
    with watcher:
        assert watcher.active


@pytest.mark.parametrize(
    "signum",
    [0, -1, signal.NSIG, 1000, 2**31 - 1, -(2**31), signal.SIGKILL, signal.SIGSTOP],
)
def test_illegal_numbers(loop, signum):
    with pytest.raises(ValueError, match="sig"):
        loop.signal(signum, print)
    watcher = loop.signal(signal.SIGUSR1, print)
    with pytest.raises(ValueError, match="sig"):
        watcher.set(signum)
    assert watcher.signum == signal.SIGUSR1


def test_arguments_of_a_wrong_type(loop):
    for wrong in (None, "SIGUSR1", 1.0):
        with pytest.raises(TypeError):
            loop.signal(wrong, print)
    with pytest.raises(OverflowError):
        loop.signal(2**40, print)


def test_realtime_signals(loop, calls):
    with loop.signal(signal.SIGRTMAX, calls) as watcher:
        signal.raise_signal(signal.SIGRTMAX)
        until(loop, lambda: calls)
    assert calls == [(watcher, pyev.EV_SIGNAL)]


def test_repr(loop):
    assert "SIGUSR1" in repr(loop.signal(signal.SIGUSR1, print)) or "10" in repr(
        loop.signal(signal.SIGUSR1, print)
    )


def test_sigchld(script, loop):
    """Heard like any other, and no child is reaped by it."""
    out = script(
        """
        import os, signal, sys, pyev
        loop = pyev.Loop(int(sys.argv[1]))
        seen = []
        with loop.signal(signal.SIGCHLD, lambda watcher, revents: seen.append(revents)):
            pid = os.fork()
            if pid == 0:
                os._exit(5)
            while not seen:
                loop.start(pyev.EVRUN_ONCE)
        print(seen == [pyev.EV_SIGNAL], os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """,
        str(loop.data),
    )
    assert out == "True 5\n"


def test_started_in_a_loop_of_another_thread(loop, calls):
    """The handler is the process's: put back, whichever thread had the watcher."""

    def run():
        with loop.signal(signal.SIGUSR1, stop):
            ready.set()
            loop.start()

    def stop(watcher, revents):
        calls(watcher, revents)
        loop.stop()

    ready = threading.Event()
    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    pyev.feed_signal(signal.SIGUSR1)
    thread.join()
    assert calls.revents == [pyev.EV_SIGNAL]


MASKS = {"none": 0, "nosigmask": pyev.EVFLAG_NOSIGMASK, "signalfd": pyev.EVFLAG_SIGNALFD}


@pytest.mark.parametrize("flag", MASKS)
@pytest.mark.parametrize("blocked", [False, True])
def test_the_signal_mask_is_the_programs(calls, flag, blocked):
    def change(blocks):
        return signal.pthread_sigmask(
            signal.SIG_BLOCK if blocks else signal.SIG_UNBLOCK, {signal.SIGUSR1}
        )

    before = change(blocked)
    with pyev.Loop(MASKS[flag]) as loop:
        watcher = loop.signal(signal.SIGUSR1, calls)
        watcher.start()
        started = change(blocked)
        watcher.stop()
        stopped = change(blocked)
        watcher.start()
        change(not blocked)  # meanwhile
        watcher.stop()
        changed = signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert (signal.SIGUSR1 in started) is (blocked or flag == "signalfd")
    assert (signal.SIGUSR1 in stopped) is blocked
    # Who blocked it is not to be known where signalfd does.
    assert (signal.SIGUSR1 in changed) is (not blocked and flag != "signalfd")
