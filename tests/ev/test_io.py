"""Io: descriptors that become readable or writable."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys

import pytest

import pyev

pytestmark = pytest.mark.every_backend
RW = pyev.EV_READ | pyev.EV_WRITE


def closed_fd():
    """The number of a descriptor that was open a moment ago."""
    r, w = os.pipe()
    os.close(r)
    os.close(w)
    return r


def until(loop, ready):
    while not ready():
        loop.start(pyev.EVRUN_ONCE)


# What it tells


def test_readable(loop, pair, calls):
    a, b = pair
    with loop.io(a, pyev.EV_READ, calls) as watcher:
        loop.start(pyev.EVRUN_NOWAIT)
        assert calls == []
        b.send(b"x")
        until(loop, lambda: calls)
        assert calls == [(watcher, pyev.EV_READ)]


def test_writable(loop, pair, calls):
    a, _ = pair
    with loop.io(a, pyev.EV_WRITE, calls) as watcher:
        until(loop, lambda: calls)
        assert calls == [(watcher, pyev.EV_WRITE)]


def test_both(loop, pair, calls):
    a, b = pair
    b.send(b"x")
    with loop.io(a, RW, calls):
        until(loop, lambda: calls)
        assert calls.revents == [RW]


def test_level_triggered(loop, pair, calls):
    a, b = pair
    b.send(b"xy")
    with loop.io(a, pyev.EV_READ, calls):
        until(loop, lambda: len(calls) >= 2)
        a.recv(1)
        until(loop, lambda: len(calls) >= 3)
        a.recv(1)
        calls.clear()
        # io_uring may tell once more of what it had queued before; then it is quiet.
        loop.start(pyev.EVRUN_NOWAIT)
        calls.clear()
        for _ in range(3):
            loop.start(pyev.EVRUN_NOWAIT)
        assert calls == []


def test_end_of_file_is_readable(loop, pair, calls):
    a, b = pair
    with loop.io(a, pyev.EV_READ, calls):
        b.close()
        until(loop, lambda: calls)
        assert calls.revents[0] & pyev.EV_READ
        assert a.recv(10) == b""


def test_events_of_nothing(loop, pair, calls):
    a, b = pair
    b.send(b"x")
    with loop.io(a, 0, calls) as watcher:
        assert watcher.events == 0
        for _ in range(3):
            loop.start(pyev.EVRUN_NOWAIT)
    assert calls == []


def test_several_watchers_of_one_fd(loop, pair, calls):
    a, b = pair
    with (
        loop.io(a, pyev.EV_READ, calls) as reader,
        loop.io(a, pyev.EV_WRITE, calls) as writer,
        loop.io(a, pyev.EV_READ, calls) as second,
    ):
        until(loop, lambda: calls)
        assert {watcher for watcher, _ in calls} == {writer}
        b.send(b"x")
        until(loop, lambda: len({watcher for watcher, _ in calls}) == 3)
        assert (reader, pyev.EV_READ) in calls
        assert (second, pyev.EV_READ) in calls
        assert (writer, pyev.EV_WRITE) in calls


def test_the_same_watcher_in_turn_on_many_fds(loop, calls):
    watcher = None
    for _ in range(50):
        a, b = socket.socketpair()
        with a, b:
            if watcher is None:
                watcher = loop.io(a, pyev.EV_READ, calls)
            else:
                watcher.set(a, pyev.EV_READ)
            b.send(b"x")
            with watcher:
                until(loop, lambda: calls)
            assert calls == [(watcher, pyev.EV_READ)]
            calls.clear()


def test_a_fd_number_used_again(loop, calls):
    """Closed and opened as another file under the same number: the new one is watched."""
    a, b = socket.socketpair()
    number = a.fileno()
    watcher = loop.io(number, pyev.EV_READ, calls)
    watcher.start()
    loop.start(pyev.EVRUN_NOWAIT)
    watcher.stop()
    a.close()
    b.close()
    c, d = socket.socketpair()
    with c, d:
        if c.fileno() != number:
            os.dup2(c.fileno(), number)
        watcher.start()
        loop.start(pyev.EVRUN_NOWAIT)
        assert calls == []
        d.send(b"x")
        until(loop, lambda: calls)
        watcher.stop()
        if c.fileno() != number:
            os.close(number)
    assert calls.revents[0] == pyev.EV_READ


def test_many_fds_in_one_turn(loop, calls):
    pairs = [socket.socketpair() for _ in range(100)]
    watchers = {loop.io(a, pyev.EV_READ, calls) for a, _ in pairs}
    for watcher in watchers:
        watcher.start()
    for _, b in pairs:
        b.send(b"x")
    until(loop, lambda: {watcher for watcher, _ in calls} == watchers)
    for watcher in watchers:
        watcher.stop()
    for a, b in pairs:
        a.close()
        b.close()


def test_set_between_read_and_write_under_load(loop, pair):
    """As reactors do: writing is watched only while something waits to be written."""
    a, b = pair
    to_send = bytearray(os.urandom(1 << 20))
    sent, received = bytes(to_send), bytearray()
    seen = []

    def near(watcher, revents):
        if revents & pyev.EV_WRITE:
            del to_send[: a.send(to_send[:65536])]
            if not to_send:
                watcher.stop()
                watcher.set(a, pyev.EV_READ)
                watcher.start()
        if revents & pyev.EV_READ:
            seen.append(a.recv(1))
            loop.stop()

    def far(watcher, revents):
        received.extend(b.recv(65536))
        if len(received) == len(sent):
            b.send(b"!")

    with loop.io(a, RW, near), loop.io(b, pyev.EV_READ, far):
        loop.start()
    assert bytes(received) == sent
    assert seen == [b"!"]


def test_stopped_by_another_of_its_batch(loop, calls):
    pairs = [socket.socketpair() for _ in range(2)]

    def callback(watcher, revents):
        calls(watcher, revents)
        for other in watchers:
            other.stop()

    watchers = [loop.io(a, pyev.EV_READ, callback) for a, _ in pairs]
    for watcher in watchers:
        watcher.start()
    for _, b in pairs:
        b.send(b"x")
    assert loop.start() is False
    assert len(calls) == 1
    for a, b in pairs:
        a.close()
        b.close()


# Attributes


def test_attributes_read_back_as_given(loop, pair):
    a, b = pair
    for events in (0, pyev.EV_READ, pyev.EV_WRITE, RW):
        watcher = loop.io(a, events, print)
        assert watcher.fd == a.fileno()
        assert watcher.events == events
        with watcher:
            loop.start(pyev.EVRUN_NOWAIT | 0) if events == 0 else None
            assert watcher.events == events
    watcher.set(b, pyev.EV_READ)
    assert watcher.fd == b.fileno()
    assert watcher.events == pyev.EV_READ


@pytest.mark.parametrize("name", ["fd", "events"])
def test_read_only(loop, pair, name):
    watcher = loop.io(pair[0], pyev.EV_READ, print)
    with pytest.raises(AttributeError):
        setattr(watcher, name, 1)
    with pytest.raises((AttributeError, TypeError)):
        delattr(watcher, name)


def test_repr(loop, pair):
    shown = repr(loop.io(pair[0], RW, print))
    assert str(pair[0].fileno()) in shown
    assert "READ" in shown
    assert "WRITE" in shown


# fd


def test_fd_as_an_object(loop, pair, calls):
    a, b = pair

    class File:
        def fileno(self):
            return a.fileno()

    b.send(b"x")
    watcher = loop.io(File(), pyev.EV_READ, calls)
    assert watcher.fd == a.fileno()
    with watcher:
        until(loop, lambda: calls)


def test_fd_as_an_index(loop, pair):
    class Number:
        def __index__(self):
            return pair[0].fileno()

    assert loop.io(Number(), pyev.EV_READ, print).fd == pair[0].fileno()


@pytest.mark.parametrize("wrong", [None, "0", 1.0, object(), b"0", [0]])
def test_fd_of_a_wrong_type(loop, pair, wrong):
    with pytest.raises(TypeError, match=r"fd|fileno"):
        loop.io(wrong, pyev.EV_READ, print)
    watcher = loop.io(pair[0], pyev.EV_READ, print)
    with pytest.raises(TypeError, match=r"fd|fileno"):
        watcher.set(wrong, pyev.EV_READ)
    assert watcher.fd == pair[0].fileno()


@pytest.mark.parametrize("result", ["0", None, 1.0])
def test_fileno_of_a_wrong_type(loop, result):
    class File:
        def fileno(self):
            return result

    with pytest.raises(TypeError):
        loop.io(File(), pyev.EV_READ, print)


def test_fileno_that_raises(loop):
    class File:
        def fileno(self):
            raise LookupError("no file")

    with pytest.raises(LookupError, match="no file"):
        loop.io(File(), pyev.EV_READ, print)


def test_a_negative_fd(loop, pair):
    for wrong in (-1, -2, -(2**31)):
        with pytest.raises(ValueError, match="file descriptor"):
            loop.io(wrong, pyev.EV_READ, print)
    a, b = pair
    watcher = loop.io(a, pyev.EV_READ, print)
    with pytest.raises(ValueError, match="file descriptor"):
        watcher.set(-1, pyev.EV_READ)
    b.close()
    with pytest.raises(ValueError, match="is it closed"):
        loop.io(b, pyev.EV_READ, print)  # a closed socket's fileno() is -1


def test_a_fd_no_int_holds(loop):
    for wrong in (2**31, 2**80, -(2**31) - 1):
        with pytest.raises(OverflowError):
            loop.io(wrong, pyev.EV_READ, print)


def test_a_fd_far_out_of_range(loop):
    watcher = loop.io(2**31 - 1, pyev.EV_READ, print)
    with pytest.raises(OSError, match="Errno 9") as caught:
        watcher.start()
    assert caught.value.errno == errno.EBADF
    assert loop.start(pyev.EVRUN_NOWAIT) is False


def test_a_closed_fd_is_refused_at_start(loop, calls):
    fd = closed_fd()
    watcher = loop.io(fd, pyev.EV_READ, calls)
    with pytest.raises(OSError, match="Errno 9") as caught:
        watcher.start()
    assert caught.value.errno == errno.EBADF
    assert str(fd) in str(caught.value)
    assert not watcher.active
    with pytest.raises(OSError, match="Errno 9"), watcher:
        pass
    assert loop.start(pyev.EVRUN_NOWAIT) is False
    assert calls == []


def test_start_works_once_the_fd_is_open(loop, calls):
    fd = closed_fd()
    watcher = loop.io(fd, pyev.EV_READ, calls)
    with pytest.raises(OSError, match="Errno 9"):
        watcher.start()
    r, w = os.pipe()
    os.write(w, b"x")
    watcher.set(r, pyev.EV_READ)
    with watcher:
        until(loop, lambda: calls)
    os.close(r)
    os.close(w)


# events


@pytest.mark.parametrize("wrong", [4, 0x80, -1, pyev.EV_TIMER, pyev.EV_READ | pyev.EV_TIMER, 2**30])
def test_a_wrong_mask(loop, pair, wrong):
    with pytest.raises(pyev.Error, match="event"):
        loop.io(pair[0], wrong, print)
    watcher = loop.io(pair[0], pyev.EV_READ, print)
    with pytest.raises(pyev.Error, match="event"):
        watcher.set(pair[0], wrong)
    assert watcher.events == pyev.EV_READ


def test_a_mask_of_a_wrong_type(loop, pair):
    for wrong in (None, "read", 1.0):
        with pytest.raises(TypeError):
            loop.io(pair[0], wrong, print)
    for wrong in (2**40, -(2**40)):
        with pytest.raises(OverflowError):
            loop.io(pair[0], wrong, print)


def test_set_by_keyword_or_position_only_changes_what_is_legal(loop, pair):
    a, b = pair
    watcher = loop.io(a, pyev.EV_READ, print)
    with pytest.raises((pyev.Error, ValueError)):
        watcher.set(b, 64)
    assert (watcher.fd, watcher.events) == (a.fileno(), pyev.EV_READ)


# Files of other kinds


def test_a_regular_file_never_aborts(loop, tmp_path, calls):
    """epoll refuses regular files (libev then calls them always ready); the others are ready."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    with open(path, "rb") as file:
        watcher = loop.io(file, pyev.EV_READ, calls)
        with watcher:
            until(loop, lambda: calls)
        assert calls[0] == (watcher, pyev.EV_READ)


def test_dev_null_never_aborts(loop, calls):
    with open(os.devnull, "r+b") as file:
        watcher = loop.io(file, pyev.EV_READ, calls)
        with watcher:
            until(loop, lambda: calls)
        assert calls[0] == (watcher, pyev.EV_READ)


def test_a_pipe(loop, calls):
    r, w = os.pipe()
    with loop.io(r, pyev.EV_READ, calls) as reader, loop.io(w, pyev.EV_WRITE, calls) as writer:
        until(loop, lambda: calls)
        assert calls[0] == (writer, pyev.EV_WRITE)
        os.write(w, b"x")
        until(loop, lambda: (reader, pyev.EV_READ) in calls)
    os.close(r)
    os.close(w)


def test_a_high_fd(loop, pair, calls):
    """Beyond 1024, where select() of the C library ends."""
    a, b = pair
    high = 1500
    os.dup2(a.fileno(), high)
    try:
        with loop.io(high, pyev.EV_READ, calls):
            b.send(b"x")
            until(loop, lambda: calls)
    finally:
        os.close(high)
    assert calls.revents[0] == pyev.EV_READ


# Errors


def test_ev_error_of_an_open_fd(loop, pair, calls):
    a, b = pair
    watcher = loop.io(a, pyev.EV_READ, calls)
    watcher.start()
    watcher.feed(pyev.EV_ERROR)
    with pytest.raises(pyev.Error, match="Io"):
        loop.start(pyev.EVRUN_NOWAIT)
    assert not watcher.active
    assert calls == []
    watcher.start()
    b.send(b"x")
    until(loop, lambda: calls)
    watcher.stop()


def test_ev_error_of_a_closed_fd(loop, calls):
    r, w = os.pipe()
    watcher = loop.io(r, pyev.EV_READ, calls)
    os.close(r)
    watcher.feed(pyev.EV_ERROR)
    with pytest.raises(OSError, match="Errno 9") as caught:
        loop.start(pyev.EVRUN_NOWAIT)
    assert caught.value.errno == errno.EBADF
    assert "Io" in str(caught.value)
    assert str(r) in str(caught.value)
    os.close(w)
    assert calls == []


def test_closed_while_active(loop, pair, calls):
    """Reported, stopped, and the others are served."""
    a, b = pair
    r, w = os.pipe()
    bad = loop.io(r, pyev.EV_READ, calls)
    good = loop.io(a, pyev.EV_READ, calls)
    bad.start()
    good.start()
    os.close(r)
    with pytest.raises(OSError, match="Errno 9") as caught:
        loop.start(pyev.EVRUN_NOWAIT)
    assert caught.value.errno == errno.EBADF
    assert not bad.active
    assert good.active
    b.send(b"x")
    until(loop, lambda: calls)
    assert calls == [(good, pyev.EV_READ)]
    good.stop()
    os.close(w)


@pytest.mark.skipif(sys.platform != "linux", reason="poll asserts on every active fd")
def test_closed_after_it_was_polled(loop, pair, calls):
    """No abort, whatever happens next: stop, start, collection, or the loop simply polls."""
    a, b = pair
    r, w = os.pipe()
    bad = loop.io(r, pyev.EV_READ, calls)
    good = loop.io(a, pyev.EV_READ, calls)
    bad.start()
    good.start()
    loop.start(pyev.EVRUN_NOWAIT)
    os.close(r)
    b.send(b"x")
    for _ in range(3):
        try:
            loop.start(pyev.EVRUN_NOWAIT)
        except OSError as error:
            assert error.errno == errno.EBADF
            assert not bad.active
    assert (good, pyev.EV_READ) in calls
    assert all(watcher is good for watcher, _ in calls)
    bad.stop()
    with pytest.raises(OSError, match="Errno 9"):
        bad.start()
    good.stop()
    assert loop.start(pyev.EVRUN_NOWAIT) is False
    os.close(w)


@pytest.mark.every_backend
def test_who_hears_of_a_closed_one_starts_others_and_polls(loop, monkeypatch):
    """While the rest of those that are closed is still to be told of."""
    pipes = [os.pipe() for _ in range(60)]
    others = [os.pipe() for _ in range(200)]
    watchers = [loop.io(r, pyev.EV_READ, print) for r, _ in pipes]
    started = []

    def hook(args):
        if not started:
            started.extend(loop.io(r, pyev.EV_READ, print) for r, _ in others)
            for watcher in started:
                watcher.start()
            with contextlib.suppress(OSError):
                loop.start(pyev.EVRUN_NOWAIT)

    monkeypatch.setattr(sys, "unraisablehook", hook)
    for watcher in watchers:
        watcher.start()
    for r, _ in pipes:
        os.close(r)
    with pytest.raises(OSError, match="Errno 9"):
        loop.start(pyev.EVRUN_NOWAIT)
    assert started and not any(watcher.active for watcher in watchers)
    for watcher in started:
        watcher.stop()
    for fd in [w for _, w in pipes] + [fd for pipe in others for fd in pipe]:
        os.close(fd)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere libev opens no descriptor for it")
@pytest.mark.parametrize("how", ["reset", "fork"])
def test_libev_has_the_number_of_one_that_was_closed(script, how):
    """And gives it up when it makes its kernel objects anew."""
    program = """
    import os, sys, pyev

    low = os.open(os.devnull, os.O_RDONLY)
    loop = pyev.Loop(pyev.EVBACKEND_EPOLL)
    r, w = os.pipe()
    io = loop.io(r, pyev.EV_READ, print)
    io.start()
    loop.start(pyev.EVRUN_NOWAIT)
    os.close(r)
    periodic = loop.periodic(0.0, 1000.0, print)
    periodic.start()  # libev opens a timerfd
    assert "timerfd" in os.readlink(f"/proc/self/fd/{r}")
    os.close(low)
    child = 0
    if sys.argv[1] == "fork":
        child = os.fork()
    else:
        loop.reset()
    if not child:
        try:
            loop.start(pyev.EVRUN_NOWAIT)
        except OSError as error:
            print(error.errno)
    else:
        assert os.waitpid(child, 0)[1] == 0
    io.stop()
    periodic.stop()
    """
    assert script(program, how) == f"{errno.EBADF}\n"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere libev opens no descriptor for it")
@pytest.mark.parametrize("kind", ["timerfd", "inotify"])
def test_what_libev_has_opened_for_itself(loop, tmp_path, kind):
    """It is its own, also after it was made anew: to watch it is refused."""

    def numbers():
        found = set()
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if kind in os.readlink(f"/proc/self/fd/{name}"):
                    found.add(int(name))
        return found

    before = numbers()
    if kind == "timerfd":
        watcher = loop.periodic(0.0, 1000.0, print)
    else:
        watcher = loop.stat(str(tmp_path), 0.0, print)
    with watcher:
        own = numbers() - before
        if not own:
            pytest.skip("this libev needs none")
        for _ in range(3):
            for fd in numbers() - before:
                with pytest.raises(OSError, match="Errno 9"):
                    loop.io(fd, pyev.EV_READ, print).start()
            taken = os.open(os.devnull, os.O_RDONLY)  # so that the next number is another
            loop.reset()
            loop.start(pyev.EVRUN_NOWAIT)
            os.close(taken)
