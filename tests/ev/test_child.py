"""Child: the end, and with `trace` the stops, of child processes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

import pyev

pytestmark = pytest.mark.every_backend


@pytest.fixture
def loop(new_loop):
    return new_loop()


@pytest.fixture
def default_loop(backend):
    loop = pyev.default_loop(backend)
    yield loop
    loop.close()


@pytest.fixture
def spawn():
    """Children that do as told; those still there at the end are killed and reaped."""
    pids = []

    def spawn(action):
        pid = os.fork()
        if pid == 0:
            try:
                action()
            finally:
                os._exit(99)
        pids.append(pid)
        return pid

    yield spawn
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def exits(code):
    return lambda: os._exit(code)


def pause():
    while True:
        signal.pause()


class Statuses(list):
    """Remembers what a Child saw, and stops it at the end of its process."""

    def __call__(self, watcher, revents):
        assert revents == pyev.EV_CHILD
        self.append((watcher.rpid, watcher.rstatus))
        if os.WIFEXITED(watcher.rstatus) or os.WIFSIGNALED(watcher.rstatus):
            watcher.stop()


@pytest.fixture
def statuses():
    return Statuses()


def ended(pid):
    """Waits for the end of `pid` without reaping it."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_exit_code(loop, spawn, statuses, code):
    pid = spawn(exits(code))
    with loop.child(pid, False, statuses):
        loop.start()
    assert statuses == [(pid, code << 8)]
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # reaped


def test_on_the_default_loop(default_loop, spawn, statuses):
    pid = spawn(exits(3))
    with default_loop.child(pid, False, statuses):
        default_loop.start()
    assert statuses == [(pid, 3 << 8)]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_killed_by_a_signal(loop, spawn, statuses, signum):
    pid = spawn(pause)
    with loop.child(pid, False, statuses):
        loop.start(pyev.EVRUN_NOWAIT)
        assert statuses == []
        os.kill(pid, signum)
        loop.start()
    assert len(statuses) == 1
    assert statuses[0][0] == pid
    assert os.WTERMSIG(statuses[0][1]) == signum
    assert os.waitstatus_to_exitcode(statuses[0][1]) == -signum


def test_ended_before_the_watcher_was_made(loop, spawn, statuses):
    pid = spawn(exits(4))
    ended(pid)
    with loop.child(pid, False, statuses):
        loop.start()
    assert statuses == [(pid, 4 << 8)]


def test_ended_before_the_loop_was_made(spawn, statuses):
    pid = spawn(exits(4))
    ended(pid)
    with pyev.Loop() as loop, loop.child(pid, False, statuses):
        loop.start()
    assert statuses == [(pid, 4 << 8)]


def test_many_at_once(loop, spawn, statuses):
    pids = [spawn(exits(n % 256)) for n in range(100)]
    watchers = [loop.child(pid, False, statuses) for pid in pids]
    for watcher in watchers:
        watcher.start()
    assert loop.start() is False
    assert sorted(statuses) == sorted((pid, (n % 256) << 8) for n, pid in enumerate(pids))


def test_two_watchers_of_one_child(loop, spawn, statuses):
    pid = spawn(pause)
    with loop.child(pid, False, statuses), loop.child(pid, False, statuses):
        os.kill(pid, signal.SIGTERM)
        loop.start()
    assert statuses == [(pid, signal.SIGTERM)] * 2


def test_other_children_are_left_alone(loop, default_loop, spawn, statuses):
    foreign = spawn(exits(6))
    ended(foreign)
    for each in (loop, default_loop):
        pid = spawn(exits(5))
        with each.child(pid, False, statuses):
            each.start()
    assert len(statuses) == 2
    assert os.waitstatus_to_exitcode(os.waitpid(foreign, 0)[1]) == 6


def test_subprocess_and_a_watcher(loop, statuses):
    """Popen finds its child gone, as for anyone who waits elsewhere; no crash, no zombie."""
    with (
        subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as process,
        loop.child(process.pid, False, statuses),
    ):
        loop.start()
    assert statuses == [(process.pid, 3 << 8)]


def test_the_status_somebody_else_took(loop, spawn, statuses):
    pid = spawn(pause)
    with loop.child(pid, False, statuses):
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        loop.start()
    assert statuses == [(pid, 0xFF00)]


def test_sigchld_ignored(loop, default_loop, spawn, statuses):
    """The kernel reaps then: waiting still ends."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        for each in (loop, default_loop):
            statuses.clear()
            pid = spawn(pause)
            with each.child(pid, False, statuses):
                os.kill(pid, signal.SIGTERM)
                each.start()
            assert statuses[0][0] == pid
            assert len(statuses) == 1
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_handler_of_pythons_for_sigchld_stays(loop, default_loop, spawn, statuses):
    seen = []

    def handler(signum, frame):
        seen.append(signum)

    before = signal.signal(signal.SIGCHLD, handler)
    try:
        for each in (loop, default_loop):
            pid = spawn(exits(1))
            with each.child(pid, False, statuses):
                each.start()
            assert signal.getsignal(signal.SIGCHLD) is handler
        assert len(statuses) == 2
        assert seen
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_process_that_does_not_exist(loop, spawn, calls):
    pid = spawn(exits(0))
    os.waitpid(pid, 0)
    watcher = loop.child(pid, False, calls)
    with pytest.raises(ProcessLookupError) as caught:
        watcher.start()
    assert caught.value.errno == errno.ESRCH
    assert str(pid) in str(caught.value)
    assert not watcher.active
    assert loop.start(pyev.EVRUN_NOWAIT) is False


def test_stopped_before_the_end(loop, spawn, calls):
    pid = spawn(pause)
    watcher = loop.child(pid, False, calls)
    watcher.start()
    loop.start(pyev.EVRUN_NOWAIT)
    watcher.stop()
    os.kill(pid, signal.SIGTERM)
    ended(pid)
    assert loop.start() is False
    assert calls == []
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGTERM  # not reaped


def test_started_again_for_another_child(loop, spawn, statuses):
    watcher = None
    pids = [spawn(exits(n)) for n in range(5)]
    for pid in pids:
        if watcher is None:
            watcher = loop.child(pid, False, statuses)
        else:
            watcher.set(pid, False)
            assert watcher.pid == pid
        watcher.start()
        loop.start()
    assert statuses == [(pid, n << 8) for n, pid in enumerate(pids)]


# pid 0 and trace: the default loop


def test_any_child(default_loop, spawn):
    seen = {}

    def callback(watcher, revents):
        seen[watcher.rpid] = watcher.rstatus
        if len(seen) == 3:
            watcher.stop()

    with default_loop.child(0, False, callback):
        pids = [spawn(exits(n)) for n in range(3)]
        default_loop.start()
    assert seen == {pid: n << 8 for n, pid in enumerate(pids)}


def test_any_child_and_one_of_them(default_loop, loop, spawn, statuses):
    """The one that reaps hands the status to who watches that pid, on any loop."""
    seen = []

    def callback(watcher, revents):
        seen.append((watcher.rpid, watcher.rstatus))
        watcher.stop()

    pid = spawn(pause)
    with default_loop.child(0, False, callback), loop.child(pid, False, statuses):
        os.kill(pid, signal.SIGTERM)
        default_loop.start()
        loop.start()
    assert seen == statuses == [(pid, signal.SIGTERM)]


def test_any_child_on_another_loop_is_refused(loop, calls):
    with pytest.raises(pyev.Error, match="default"):
        loop.child(0, False, calls).start()
    assert loop.start(pyev.EVRUN_NOWAIT) is False


def test_trace(default_loop, spawn, statuses):
    pid = spawn(pause)
    with default_loop.child(pid, True, statuses) as watcher:
        assert watcher.trace is True
        os.kill(pid, signal.SIGSTOP)
        while len(statuses) < 1:
            default_loop.start(pyev.EVRUN_ONCE)
        os.kill(pid, signal.SIGCONT)
        while len(statuses) < 2:
            default_loop.start(pyev.EVRUN_ONCE)
        os.kill(pid, signal.SIGKILL)
        while len(statuses) < 3:
            default_loop.start(pyev.EVRUN_ONCE)
    assert {rpid for rpid, _ in statuses} == {pid}
    stopped, continued, killed = (status for _, status in statuses)
    assert os.WIFSTOPPED(stopped) and os.WSTOPSIG(stopped) == signal.SIGSTOP
    assert os.WIFCONTINUED(continued)
    assert os.WIFSIGNALED(killed) and os.WTERMSIG(killed) == signal.SIGKILL


def test_without_trace_stops_are_not_told(default_loop, loop, spawn, statuses):
    for each in (default_loop, loop):
        statuses.clear()
        pid = spawn(pause)
        with each.child(pid, False, statuses):
            os.kill(pid, signal.SIGSTOP)
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
            for _ in range(3):
                each.start(pyev.EVRUN_NOWAIT)
            assert statuses == []
            os.kill(pid, signal.SIGKILL)
            each.start()
        assert statuses == [(pid, signal.SIGKILL)]


def test_trace_on_another_loop_is_refused(loop, spawn, calls):
    pid = spawn(pause)
    with pytest.raises(pyev.Error, match="default"):
        loop.child(pid, True, calls).start()
    assert loop.start(pyev.EVRUN_NOWAIT) is False


@pytest.mark.parametrize("pid", ["any", "traced"])
def test_sigchld_is_taken_only_while_active(default_loop, spawn, calls, pid):
    def handler(signum, frame):
        pass

    before = signal.signal(signal.SIGCHLD, handler)
    try:
        arguments = (0, False) if pid == "any" else (spawn(pause), True)
        with default_loop.child(*arguments, calls):
            default_loop.start(pyev.EVRUN_NOWAIT)
        assert signal.getsignal(signal.SIGCHLD) is handler
        signal.raise_signal(signal.SIGCHLD)
    finally:
        signal.signal(signal.SIGCHLD, before)


# Arguments and attributes


def test_attributes(loop):
    watcher = loop.child(12345, 0, print)
    assert watcher.pid == 12345
    assert watcher.trace is False
    assert watcher.rpid == 0
    assert watcher.rstatus == 0
    watcher.set(54321, False)
    assert watcher.pid == 54321
    for name in ("pid", "trace"):
        with pytest.raises(AttributeError):
            setattr(watcher, name, 1)


def test_rpid_and_rstatus_are_writable(loop):
    watcher = loop.child(12345, False, print)
    watcher.rpid = 17
    watcher.rstatus = 0x100
    assert (watcher.rpid, watcher.rstatus) == (17, 0x100)
    for name in ("rpid", "rstatus"):
        with pytest.raises(TypeError):
            setattr(watcher, name, "1")
        with pytest.raises(OverflowError):
            setattr(watcher, name, 2**40)
        with pytest.raises(TypeError, match=name):
            delattr(watcher, name)
    assert (watcher.rpid, watcher.rstatus) == (17, 0x100)


def test_illegal_pids(loop):
    for wrong in (-1, -(2**31)):
        with pytest.raises(ValueError, match="pid"):
            loop.child(wrong, False, print)
    for wrong in (2**31, 2**80):
        with pytest.raises(OverflowError):
            loop.child(wrong, False, print)
    for wrong in (None, "1", 1.0):
        with pytest.raises(TypeError):
            loop.child(wrong, False, print)


def test_trace_takes_any_truth_value(default_loop):
    for value in (1, True, "yes"):
        assert default_loop.child(12345, value, print).trace is True
    for value in (0, False, "", None):
        assert default_loop.child(12345, value, print).trace is False


def test_repr(loop):
    assert "12345" in repr(loop.child(12345, False, print))
