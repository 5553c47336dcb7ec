"""Numbers that come back as other files, files with two numbers, files that cannot be polled."""

import asyncio
import errno
import os
import select
import socket
import tempfile
from collections.abc import Callable
from typing import Any

import fault_kit as kit
from fault_harness import scenario

import pyev
from pyev import EV_READ, EV_WRITE

# 8 and 9. Numbers that come back as other files.


def exchange(number: int, fd: int) -> None:
    """The number stands for another file from now on; that file's own number is given up."""
    os.dup2(fd, number, inheritable=False)
    os.close(fd)


@scenario("A8", renew=["set", "start", "init", "new"], turn=[True, False], live=[True, False])
def test_a_number_reused_is_registered_anew(renew: str, turn: bool, live: bool) -> None:
    with kit.new_loop() as loop:
        old_r, old_w = kit.pipe()
        # Kept open, the old file's registration outlives its number.
        kept = kit.opened(os.dup(old_r)) if live else None
        log = kit.Log(kit.reader)
        watcher = loop.io(old_r, EV_READ, log)
        watcher.start()
        kit.turns(loop, 2)
        watcher.stop()
        if turn:
            kit.turns(loop, 2)
        new_r, new_w = kit.pipe()
        exchange(old_r, new_r)
        match renew:
            case "set":
                watcher.set(old_r, EV_READ)
            case "init":
                watcher.__init__(old_r, EV_READ, loop, log)
            case "new":
                watcher = loop.io(old_r, EV_READ, log)
        watcher.start()
        if live:
            os.write(old_w, b"old")
            assert not kit.drain(loop)
            assert not log, "an event of the old file reached the new one"
            kit.calm(loop)
        os.write(new_w, b"new")
        kit.until(loop, lambda: log)
        assert len(log) == 1
        if kept is not None:
            assert os.read(kept, 10) == b"old"
        kit.works(loop)


@scenario("A8", first=["file", "pipe", "path"], second=["file", "pipe"])
def test_a_number_reused_by_another_kind_of_file(first: str, second: str) -> None:
    def make(kind: str) -> tuple[int, int]:
        if kind == "pipe":
            r, w = kit.pipe()
            os.write(w, b"x")
            return r, w
        flags = os.O_PATH if kind == "path" else os.O_RDONLY
        return kit.opened(os.open("/etc/passwd", flags)), -1

    with kit.new_loop() as loop:
        one, _ = make(first)
        watcher = loop.io(one, EV_READ, kit.nothing)
        try:
            watcher.start()
        except OSError as error:
            assert error.errno == errno.EBADF
        kit.all_bad_fd(kit.drain(loop))
        watcher.stop()
        two, w = make(second)
        exchange(one, two)
        log = kit.Log(kit.reader)
        watcher.set(one, EV_READ)
        watcher.callback = log
        watcher.start()
        kit.until(loop, lambda: log)
        if second == "pipe":
            # Nothing of the always-ready file may remain.
            before = len(log)
            kit.calm(loop)
            assert len(log) == before
        watcher.stop()
        kit.turns(loop)
        kit.works(loop)


@scenario("A8", backends="any", what=["io", "writer", "child"], then=["close", "start"])
def test_who_hears_that_a_number_is_anothers(what: str, then: str) -> None:
    """Before the next poll: what starts the watch that has the number now runs no Python code."""
    heard: list[str] = []

    class Loop(pyev.EventLoop):
        def call_soon(self, *args: Any, **keywords: Any) -> asyncio.Handle:
            if armed:
                armed.clear()
                heard.append(then)
                if then == "start":
                    start()
                else:
                    kit.raises(RuntimeError, loop.close)
            return super().call_soon(*args, **keywords)

    armed: list[bool] = []
    loop = Loop(kit.BACKENDS[kit.backend])
    pid = kit.child_that_waits() if what == "child" else os.getpid()
    gone = socket.socket(fileno=os.dup(kit.pair()[0]))
    gone.setblocking(False)
    waiting = loop.create_task(loop.sock_recv(gone, 1))
    loop.run_until_complete(asyncio.sleep(0.001))
    number = gone.detach()
    os.close(number)
    if what != "child":
        assert number in kit.pair()
    before = kit.open_fds()
    io = loop.ev.io(number, EV_READ, kit.nothing, keepalive=False)
    child = loop.ev.child(pid, False, kit.nothing)
    start: Callable[[], object]
    stop: Callable[[], object]
    start, stop = {
        "io": (io.start, io.stop),
        "child": (child.start, child.stop),
        "writer": (lambda: loop.add_writer(number, int), lambda: loop.remove_writer(number)),
    }[what]
    armed.append(True)
    start()
    assert not heard
    kit.bad_fd(loop.run_until_complete, waiting)
    assert heard == [then]
    stop()
    assert kit.open_fds() == before
    turns = loop.ev.iteration
    loop.run_until_complete(asyncio.sleep(0.02))
    assert loop.ev.iteration - turns < 10
    loop.close()


@scenario("A1", "A8", then=["nothing", "path", "epoll", "timerfd"])
def test_what_has_the_number_of_a_socket_is_refused_at_start(then: str) -> None:
    loop, fds = kit.fds_of(kit.new_loop)
    polled = [fd for fd, target in fds.items() if "eventpoll" in target]
    fd, _ = kit.pair()
    watcher = loop.io(fd, EV_READ, kit.never)
    watcher.start()
    kit.turns(loop, 2)
    watcher.stop()
    kit.turns(loop)
    refused = {errno.EBADF}
    match then:
        case "nothing":
            kit.forget(fd)
        case "path":
            exchange(fd, os.open("/", os.O_PATH))
        case "epoll":
            # One that watches this loop, where that is one.
            with select.epoll() as outer:
                for backend_fd in polled:
                    outer.register(backend_fd, select.EPOLLIN)
                os.dup2(outer.fileno(), fd, inheritable=False)
            refused = {errno.ELOOP, errno.EINVAL} if polled else set()
        case "timerfd":
            # libev's own, for Periodics.
            kit.forget(fd)
            periodic = loop.periodic(0.0, 3600.0, kit.nothing)
            periodic.start()
            if "timerfd" not in kit.open_fds().get(fd, ""):
                refused = set()
    if refused:
        error = kit.raises(OSError, watcher.start)
        assert isinstance(error, OSError) and error.errno in refused, repr(error)
        assert not watcher.active
    kit.works(loop)
    loop.close()


@scenario("A8")
def test_replaced_without_a_word_then_watched_for_more() -> None:
    with kit.new_loop() as loop:
        fd, _ = kit.pair()
        one = loop.io(fd, EV_READ, kit.never)
        one.start()
        kit.turns(loop, 2)
        new, new_other = kit.pair()
        exchange(fd, new)
        log = kit.Log(kit.reader)
        two = loop.io(fd, EV_WRITE, kit.nothing)
        two.start()
        kit.turns(loop, 2)
        two.stop()
        one.stop()
        one = loop.io(fd, EV_READ, log)
        one.start()
        kit.turns(loop)
        os.write(new_other, b"x")
        kit.until(loop, lambda: log)
        one.stop()
        kit.works(loop)


@scenario("A9", how=["new", "set", "init", "start"])
def test_an_event_collected_before_its_number_changed_hands_is_dropped(how: str) -> None:
    with kit.new_loop() as loop:
        victim_r, victim_w = kit.pipe()
        first_r, first_w = kit.pipe()
        made: list[pyev.Watcher] = []

        def swap(first: pyev.Io, revents: int) -> None:
            first.stop()
            assert victim.pending
            victim.stop()
            new_r, new_w = kit.pipe()
            exchange(victim_r, new_r)
            watcher = victim
            if how == "set":
                victim.set(victim_r, EV_READ)
            elif how == "init":
                victim.__init__(victim_r, EV_READ, loop, kit.never)
            elif how == "new":
                watcher = loop.io(victim_r, EV_READ, kit.never)
            watcher.start()
            made.append(watcher)

        victim = loop.io(victim_r, EV_READ, kit.never)
        first = loop.io(first_r, EV_READ, swap, None, 2)
        victim.start()
        first.start()
        os.write(victim_w, b"x")
        os.write(first_w, b"x")
        kit.until(loop, lambda: made)
        kit.turns(loop, 3)
        kit.calm(loop)
        made[0].stop()
        kit.works(loop)


# 10. Dup'ed.


@scenario("A10", stop=["before the close", "after the close", "after a turn", "never"])
def test_one_of_two_dups_closed(stop: str) -> None:
    with kit.new_loop() as loop:
        r, w = kit.pipe()
        twin = kit.opened(os.dup(r))
        survived = kit.Log(kit.reader)
        survivor = loop.io(twin, EV_READ, survived)
        survivor.start()
        gone = loop.io(r, EV_READ, kit.nothing)
        gone.start()
        kit.turns(loop, 2)
        if stop == "before the close":
            gone.stop()
        os.close(r)
        if stop == "after the close":
            gone.stop()
        kit.all_bad_fd(kit.drain(loop))
        if stop == "after a turn":
            gone.stop()
            kit.drain(loop)
        for count in range(1, 4):
            os.write(w, b"x")
            kit.until(loop, lambda count=count: len(survived) >= count)
            kit.calm(loop)
        survivor.stop()
        gone.stop()
        kit.works(loop)


@scenario("A10", "A2", events=[1, 2])
def test_a_ready_file_that_lives_on_without_its_number(events: int) -> None:
    # The kernel goes on reporting the number that the file was registered by.
    with kit.new_loop() as loop:
        fd, other_end = kit.pair()
        kit.opened(os.dup(fd))
        os.write(other_end, b"x")
        gone = loop.io(fd, events, kit.nothing)
        gone.start()
        kit.turns(loop, 2)
        gone.stop()
        os.close(fd)
        kit.drain(loop)
        kit.calm(loop)
        kit.works(loop)


@scenario("A10", "A2")
def test_a_ready_file_closed_but_not_stopped_is_no_spin() -> None:
    with kit.new_loop() as loop:
        kit.warm(loop)
        fd, other_end = kit.pair()
        kit.opened(os.dup(fd))
        gone = loop.io(fd, EV_READ, kit.nothing)
        gone.start()
        kit.turns(loop, 2)
        os.close(fd)
        kit.drain(loop)
        os.write(other_end, b"x")  # Nobody will ever read it.
        # It may take a while until that is noticed, but not for ever.
        kit.all_bad_fd(kit.drain(loop, 5000))
        kit.calm(loop)
        gone.stop()
        kit.drain(loop)
        kit.works(loop)


# 12. Files that cannot be polled.


@scenario("A12", path=["/etc/passwd", "/dev/null", "/", "/dev/zero", "/proc/self/stat"])
def test_a_file_is_always_ready(path: str) -> None:
    with kit.new_loop() as loop:
        fd = kit.opened(os.open(path, os.O_RDONLY))
        for events in (EV_READ, EV_WRITE, EV_READ | EV_WRITE):
            log = kit.Log()
            watcher = loop.io(fd, events, log)
            watcher.start()
            kit.until(loop, lambda log=log: len(log) == 3, most=100)
            assert all(e & ~events == 0 for e in log.events), log.events
            watcher.stop()
            kit.turns(loop, 2)
            kit.calm(loop)
        kit.works(loop)


@scenario("A12")
def test_a_deleted_file_and_its_dups() -> None:
    with kit.new_loop() as loop, tempfile.TemporaryFile() as file:
        twin = kit.opened(os.dup(file.fileno()))
        logs = [kit.Log(), kit.Log()]
        watchers = [loop.io(f, EV_READ, log) for f, log in zip((file, twin), logs, strict=True)]
        for watcher in watchers:
            watcher.start()
        kit.until(loop, lambda: all(logs), most=100)
        watchers[0].stop()
        before = len(logs[1])
        kit.until(loop, lambda: len(logs[1]) > before, most=100)
        watchers[1].stop()
        kit.works(loop)


@scenario("A12", "A2")
def test_a_file_closed_under_its_watcher() -> None:
    with kit.new_loop() as loop:
        kit.warm(loop)
        fd = os.open("/etc/passwd", os.O_RDONLY)
        watcher = loop.io(fd, EV_READ, kit.nothing)
        watcher.start()
        kit.turns(loop, 2)
        os.close(fd)
        kit.all_bad_fd(kit.drain(loop))
        watcher.stop()
        kit.all_bad_fd(kit.drain(loop))
        kit.bad_fd(watcher.start)
        kit.calm(loop)
        kit.works(loop)
