"""The module's own functions and constants, and the default loop."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import threading
import time
import warnings
import weakref
from pathlib import Path

import pytest

import pyev

# libev 4.33's own values: programs keep them in files and pass them to C.
VALUES = {
    "EVFLAG_AUTO": 0,
    "EVFLAG_NOENV": 0x01000000,
    "EVFLAG_FORKCHECK": 0x02000000,
    "EVFLAG_NOINOTIFY": 0x00100000,
    "EVFLAG_SIGNALFD": 0x00200000,
    "EVFLAG_NOSIGMASK": 0x00400000,
    "EVFLAG_NOTIMERFD": 0x00800000,
    "EVBACKEND_SELECT": 0x01,
    "EVBACKEND_POLL": 0x02,
    "EVBACKEND_EPOLL": 0x04,
    "EVBACKEND_KQUEUE": 0x08,
    "EVBACKEND_DEVPOLL": 0x10,
    "EVBACKEND_PORT": 0x20,
    "EVBACKEND_LINUXAIO": 0x40,
    "EVBACKEND_IOURING": 0x80,
    "EVBACKEND_ALL": 0xFF,
    "EVBACKEND_MASK": 0xFFFF,
    "EVRUN_NOWAIT": 1,
    "EVRUN_ONCE": 2,
    "EVBREAK_CANCEL": 0,
    "EVBREAK_ONE": 1,
    "EVBREAK_ALL": 2,
    "EV_UNDEF": -1,
    "EV_NONE": 0,
    "EV_READ": 0x01,
    "EV_WRITE": 0x02,
    "EV_IO": 0x01,
    "EV_TIMER": 0x100,
    "EV_PERIODIC": 0x200,
    "EV_SIGNAL": 0x400,
    "EV_CHILD": 0x800,
    "EV_STAT": 0x1000,
    "EV_IDLE": 0x2000,
    "EV_PREPARE": 0x4000,
    "EV_CHECK": 0x8000,
    "EV_EMBED": 0x10000,
    "EV_FORK": 0x20000,
    "EV_CLEANUP": 0x40000,
    "EV_ASYNC": 0x80000,
    "EV_CUSTOM": 0x1000000,
    "EV_MINPRI": -2,
    "EV_MAXPRI": 2,
}


def test_versions():
    assert isinstance(pyev.version(), str)
    assert isinstance(pyev.__version__, str)
    assert pyev.__version__ in pyev.version()
    assert pyev.abi_version() == (4, 33)


@pytest.mark.parametrize("name", VALUES)
def test_constant(name):
    value = getattr(pyev, name)
    assert type(value) is int
    assert value == VALUES[name]


def test_ev_error_is_a_bit_of_its_own():
    # libev has it as the sign bit of an int: one of the two signs, never another bit.
    assert type(pyev.EV_ERROR) is int
    assert pyev.EV_ERROR & 0xFFFFFFFF == 0x80000000


def test_error_is_an_exception_of_its_own():
    assert issubclass(pyev.Error, Exception)
    assert not issubclass(pyev.Error, (OSError, ValueError, TypeError, RuntimeError))
    assert pickle.loads(pickle.dumps(pyev.Error("x"))).args == ("x",)


def test_time_is_the_wall_clock():
    before = time.time()
    now = pyev.time()
    after = time.time()
    assert type(now) is float
    assert before - 0.001 <= now <= after + 0.001


def test_backends():
    supported = pyev.supported_backends()
    recommended = pyev.recommended_backends()
    embeddable = pyev.embeddable_backends()
    assert supported & pyev.EVBACKEND_ALL == supported != 0
    assert recommended & supported == recommended != 0
    assert not embeddable & (pyev.EVBACKEND_SELECT | pyev.EVBACKEND_POLL)


# sleep


def test_sleep_waits():
    before = time.monotonic()
    assert pyev.sleep(0.02) is None
    assert time.monotonic() - before >= 0.02


def test_sleep_takes_numbers():
    class Number:
        def __float__(self):
            return 0.0

    pyev.sleep(0)
    pyev.sleep(0.0)
    pyev.sleep(Number())


def test_sleep_of_a_negative_interval():
    with pytest.raises(ValueError, match="interval"):
        pyev.sleep(-0.001)


def test_sleep_of_nan():
    with pytest.raises(ValueError, match="interval"):
        pyev.sleep(float("nan"))


def test_sleep_over_a_day_warns():
    # The warning made an error leaves before the sleep begins.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning):
            pyev.sleep(86400.5)


@pytest.mark.parametrize("wrong", [None, "1", [], 1j])
def test_sleep_of_a_wrong_type(wrong):
    with pytest.raises(TypeError):
        pyev.sleep(wrong)


def test_sleep_lets_other_threads_run():
    class Woken(Exception):
        pass

    def handler(signum, frame):
        raise Woken

    def wake():
        time.sleep(0.02)  # by when the other one most likely sleeps
        signal.pthread_kill(here, signal.SIGUSR1)

    here = threading.get_ident()
    thread = threading.Thread(target=wake)
    old = signal.signal(signal.SIGUSR1, handler)
    try:
        thread.start()
        with pytest.raises(Woken):
            pyev.sleep(10)  # to its end, if nothing else could run
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, old)


def test_sleep_is_interrupted_by_a_handler_that_raises(script):
    out = script("""
        import os, signal, pyev
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        class Alarm(Exception): pass
        def handler(signum, frame): raise Alarm
        signal.signal(signal.SIGALRM, handler)
        try:
            pyev.sleep(3600)
        except Alarm:
            print("out")
    """)
    assert out == "out\n"


# feed_signal


@pytest.mark.every_backend
def test_feed_signal_reaches_the_watcher(loop, turn, calls):
    with loop.signal(signal.SIGUSR1, calls) as watcher:
        pyev.feed_signal(signal.SIGUSR1)
        turn()
        assert calls == [(watcher, pyev.EV_SIGNAL)]


def test_feed_signal_without_a_watcher_does_nothing():
    assert pyev.feed_signal(signal.SIGUSR2) is None


@pytest.mark.parametrize("signum", [-1, 0, signal.NSIG, 100000])
def test_feed_signal_of_an_illegal_number(signum):
    with pytest.raises(ValueError, match="signal"):
        pyev.feed_signal(signum)


def test_feed_signal_of_a_number_no_int_holds():
    with pytest.raises(OverflowError):
        pyev.feed_signal(2**40)


def test_feed_signal_of_a_wrong_type():
    with pytest.raises(TypeError):
        pyev.feed_signal("SIGUSR1")


# default_loop


def test_default_loop_is_one():
    loop = pyev.default_loop()
    assert isinstance(loop, pyev.Loop)
    assert loop.default is True
    assert pyev.default_loop() is loop
    loop.close()


def test_default_loop_takes_the_arguments_of_a_loop():
    data = object()
    loop = pyev.default_loop(
        flags=pyev.EVBACKEND_POLL,
        callback=len,
        data=data,
        io_interval=0.25,
        timeout_interval=0.5,
        debug=True,
    )
    assert loop.backend == pyev.EVBACKEND_POLL
    assert loop.callback is len
    assert loop.data is data
    assert (loop.io_interval, loop.timeout_interval) == (0.25, 0.5)
    assert loop.debug is True
    loop.close()


def test_default_loop_by_position():
    data = object()
    loop = pyev.default_loop(pyev.EVBACKEND_SELECT, None, data, 0.25, 0.5, True)
    assert loop.backend == pyev.EVBACKEND_SELECT
    assert loop.data is data
    assert loop.debug is True
    loop.close()


def test_later_default_loops_warn_of_arguments_and_ignore_them():
    loop = pyev.default_loop(pyev.EVBACKEND_POLL)
    with pytest.warns(RuntimeWarning, match="default"):
        again = pyev.default_loop(pyev.EVBACKEND_SELECT, data="other", debug=True)
    assert again is loop
    assert loop.backend == pyev.EVBACKEND_POLL
    assert loop.data is None
    assert loop.debug is False
    with pytest.warns(RuntimeWarning):
        assert pyev.default_loop(debug="nonsense", io_interval=-1) is loop
    loop.close()


def test_later_default_loops_without_arguments_are_silent(recwarn):
    loop = pyev.default_loop(debug=True)
    assert pyev.default_loop() is loop
    assert not recwarn.list
    loop.close()


def test_default_loop_is_held_weakly(recwarn):
    loop = pyev.default_loop(data="first")
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None
    loop = pyev.default_loop(data="second")
    assert loop.data == "second"
    assert not recwarn.list
    loop.close()


def test_default_loop_is_kept_by_its_watchers(calls):
    watcher = pyev.default_loop(data="kept").timer(0.0, 0.0, calls)
    gc.collect()
    assert pyev.default_loop().data == "kept"
    watcher.loop.close()


def test_a_closed_default_loop_is_replaced(recwarn):
    first = pyev.default_loop()
    first.close()
    second = pyev.default_loop(data="second")
    assert second is not first
    assert second.default is True
    assert second.data == "second"
    assert not recwarn.list
    second.close()
    assert pyev.default_loop() is not second


def test_a_failed_default_loop_can_be_tried_again():
    missing = pyev.EVBACKEND_KQUEUE & ~pyev.supported_backends()
    with pytest.raises(pyev.Error):
        pyev.default_loop(missing)
    with pytest.raises(TypeError):
        pyev.default_loop(callback="not callable")
    loop = pyev.default_loop()
    assert not loop.closed
    loop.close()


def test_other_loops_are_not_the_default():
    with pyev.Loop() as loop:
        assert loop.default is False
        default = pyev.default_loop()
        assert default is not loop
        default.close()


def caught_signals():
    """The kernel's mask of signals that have a handler."""
    return Path("/proc/thread-self/status").read_text().split("SigCgt:")[1].split()[0]


def test_making_the_default_loop_takes_no_signal():
    # libev's own default loop would install a handler that reaps every child.
    before = signal.getsignal(signal.SIGCHLD)
    status = caught_signals()
    loop = pyev.default_loop()
    assert signal.getsignal(signal.SIGCHLD) == before
    assert caught_signals() == status
    loop.close()


def test_the_default_loop_leaves_foreign_children_alone():
    loop = pyev.default_loop()
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    with loop.timer(0.05, 0.0, lambda watcher, revents: None):
        loop.start()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    loop.close()
