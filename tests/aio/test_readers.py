"""add_reader and add_writer."""

import asyncio
import contextlib
import errno
import os
import socket
import tty
from pathlib import Path

import pytest

import pyev


def test_reader(aloop, pair):
    a, b = pair
    seen = []

    def readable(*args):
        seen.append((args, a.recv(10)))
        aloop.stop()

    assert aloop.add_reader(a, readable, 1, 2) is None
    b.send(b"x")
    aloop.run_forever()
    assert seen == [((1, 2), b"x")]
    assert aloop.remove_reader(a) is True
    assert aloop.remove_reader(a) is False


def test_writer(aloop, pair):
    a, _ = pair
    aloop.add_writer(a.fileno(), aloop.stop)
    aloop.run_forever()
    assert aloop.remove_writer(a) is True
    assert aloop.remove_writer(a) is False


def test_both_directions(aloop, pair):
    a, b = pair
    seen = set()

    def saw(what):
        seen.add(what)
        if len(seen) == 2:
            aloop.stop()

    aloop.add_reader(a, saw, "reader")
    aloop.add_writer(a, saw, "writer")
    b.send(b"x")
    aloop.run_forever()
    assert aloop.remove_writer(a)
    seen.clear()
    seen.add("")
    aloop.run_forever()
    assert aloop.remove_reader(a)


@pytest.mark.parametrize("direction", ["reader", "writer"])
def test_cancelled(aloop, pair, spin, direction):
    """What the handle stood for is watched no more, or the loop would never rest."""
    a, b = pair
    handle = getattr(aloop, f"_add_{direction}")(a, pytest.fail)
    handle.cancel()
    b.send(b"x")
    spin(aloop)
    assert getattr(aloop, f"remove_{direction}")(a) is False


def test_level_triggered(aloop, pair):
    a, b = pair
    seen = []

    def readable():
        seen.append(a.recv(1))
        if len(seen) == 3:
            aloop.stop()

    aloop.add_reader(a, readable)
    b.send(b"xyz")
    aloop.run_forever()
    aloop.remove_reader(a)
    assert seen == [b"x", b"y", b"z"]


def test_replaced(aloop, pair):
    a, b = pair
    b.send(b"x")
    aloop.add_reader(a, pytest.fail)
    aloop.add_reader(a, aloop.stop)
    aloop.run_forever()
    assert aloop.remove_reader(a)
    assert not aloop.remove_reader(a)


def test_removed_in_the_same_turn(aloop, pair, spin):
    """Two are ready, and the first removes the other."""
    a, b = pair
    seen = []

    def readable(own, other, ends):
        seen.append(own)
        aloop.remove_reader(ends[other])

    ends = {"a": a, "b": b}
    a.send(b"x")
    b.send(b"x")
    aloop.add_reader(a, readable, "a", "b", ends)
    aloop.add_reader(b, readable, "b", "a", ends)
    while not seen:
        spin(aloop)
    spin(aloop)
    assert len(set(seen)) == 1
    aloop.remove_reader(a)
    aloop.remove_reader(b)


def test_removes_itself(aloop, pair, spin):
    a, b = pair
    seen = []
    b.send(b"x")
    aloop.add_reader(a, lambda: seen.append(aloop.remove_reader(a)))
    while not seen:
        spin(aloop)
    spin(aloop)
    assert seen == [True]


def test_exception(aloop, pair, errors, spin):
    a, b = pair
    b.send(b"x")

    def fail():
        aloop.remove_reader(a)
        raise ZeroDivisionError

    aloop.add_reader(a, fail)
    while not errors:
        spin(aloop)
    assert isinstance(errors[0]["exception"], ZeroDivisionError)


# What is no descriptor


@pytest.mark.parametrize("name", ["add_reader", "add_writer"])
@pytest.mark.parametrize(
    "value",
    [None, "x", 1.5, object(), -1, -(2**31)],
    ids=["none", "str", "float", "object", "minus one", "least int"],
)
def test_no_descriptor(aloop, name, value):
    with pytest.raises(ValueError, match=r"Invalid file|negative"):
        getattr(aloop, name)(value, print)
    with pytest.raises(ValueError, match=r"Invalid file|negative"):
        getattr(aloop, name.replace("add", "remove"))(value)


def test_closed_socket(aloop):
    with socket.socket() as gone:
        pass
    with pytest.raises(ValueError, match=r"Invalid file|negative"):
        aloop.add_reader(gone, print)


def test_number_too_large(aloop):
    with pytest.raises(OverflowError):
        aloop.add_reader(2**40, print)
    assert aloop.remove_reader(2**40) is False
    assert aloop.remove_writer(2**40) is False


def test_never_opened(aloop):
    with pytest.raises(OSError, match="Bad file") as caught:
        aloop.add_reader(1_000_000, print)
    assert caught.value.errno == errno.EBADF
    assert aloop.remove_reader(1_000_000) is False


@pytest.mark.parametrize("name", ["add_reader", "add_writer"])
def test_the_largest_number(aloop, name):
    with pytest.raises(OSError, match="Bad file"):
        getattr(aloop, name)(2**31 - 1, print)


def test_descriptor_of_a_transport(aloop, pair):
    a, _ = pair

    async def main():
        transport, _ = await aloop.create_connection(asyncio.Protocol, sock=a)
        with pytest.raises(RuntimeError, match="is used by transport"):
            aloop.add_reader(a.fileno(), print)
        with pytest.raises(RuntimeError, match="is used by transport"):
            aloop.remove_writer(a.fileno())
        transport.close()
        await asyncio.sleep(0)

    aloop.run_until_complete(main())


def test_after_close(aloop, pair):
    a, _ = pair
    aloop.close()
    with pytest.raises(RuntimeError, match="closed"):
        aloop.add_reader(a, print)
    with pytest.raises(RuntimeError, match="closed"):
        aloop.add_writer(a, print)
    assert aloop.remove_reader(a) is False
    assert aloop.remove_writer(a) is False


def test_missing_arguments(aloop, pair):
    for args in ((), (pair[0],)):
        with pytest.raises(TypeError):
            aloop.add_reader(*args)
    with pytest.raises(TypeError, match="unexpected keyword argument 'context'"):
        aloop.add_reader(pair[0], print, context=None)


# Descriptors closed behind the loop's back


@pytest.mark.parametrize("turns", [0, 1])
def test_closed_while_watched(ours, pair, errors, spin, turns):
    fd = os.dup(pair[0].fileno())
    other = []
    ours.add_reader(pair[0], lambda: other.append(pair[0].recv(1)))
    ours.add_reader(fd, pytest.fail)
    for _ in range(turns):
        spin(ours)
    os.close(fd)
    pair[1].send(b"x")
    for _ in range(10):
        spin(ours)
    assert other == [b"x"]
    ours.remove_reader(fd)
    ours.remove_reader(pair[0])


@pytest.mark.every_backend
def test_who_hears_of_it_opens_another_file(backend):
    """Which gets the number of the one that was closed."""
    reports, opened = [], []

    def reconnect(loop, context):
        reports.append(context["message"])
        opened.extend(socket.socketpair())
        loop.add_reader(opened[0], loop.stop)
        opened[1].send(b"x")

    with contextlib.closing(pyev.EventLoop(backend)) as loop:
        loop.set_exception_handler(reconnect)
        read, write = os.pipe()
        # Once it has waited, it has opened what it needs itself.
        when = loop.time() + 0.01
        loop.call_at(when, loop.add_reader, read, pytest.fail)
        loop.call_at(when, os.close, read)
        loop.run_forever()
        assert opened[0].fileno() == read
        assert len(reports) == 1
        assert loop.remove_reader(read)
    os.close(write)
    for end in opened:
        end.close()


@pytest.mark.every_backend
def test_who_hears_of_it_closes_another(backend):
    """Which had been found open a moment before."""
    reports = []

    def give_up(loop, context):
        reports.append(context["message"])
        with contextlib.suppress(OSError):
            os.close(first[0])

    with contextlib.closing(pyev.EventLoop(backend)) as loop:
        loop.set_exception_handler(give_up)
        first, second = os.pipe(), os.pipe()

        async def main():
            await asyncio.sleep(0.001)
            loop.add_reader(first[0], pytest.fail)
            loop.add_reader(second[0], pytest.fail)
            os.close(second[0])
            await asyncio.sleep(0.001)

        loop.run_until_complete(main())
    assert [
        f"descriptor {fd} was closed" in told
        for told, fd in zip(reports, (second[0], first[0]), strict=True)
    ] == [True, True]
    os.close(first[1])
    os.close(second[1])


@pytest.mark.every_backend
@pytest.mark.parametrize("before", ["reader", "operation"])
@pytest.mark.parametrize("after", ["reader", "operation"])
def test_a_number_used_again_while_it_is_watched(backend, before, after):
    """What comes for the new file is heard of, whoever still waits for the old one."""

    async def main():
        a, b = socket.socketpair()
        a.setblocking(False)
        task = None
        if before == "reader":
            loop.add_reader(a.fileno(), pytest.fail)
        else:
            task = loop.create_task(loop.sock_recv(a, 1))
        await asyncio.sleep(0.001)
        number = a.fileno()
        a.close()
        c, d = socket.socketpair()
        c.setblocking(False)
        assert c.fileno() == number
        loop.call_later(0.001, d.send, b"x")
        if after == "reader":
            came = asyncio.Event()
            loop.add_reader(c, came.set)
            await asyncio.wait_for(came.wait(), 20)
            loop.remove_reader(c)
        else:
            assert await asyncio.wait_for(loop.sock_recv(c, 1), 20) == b"x"
        if task:
            task.cancel()
        for end in (b, c, d):
            end.close()

    with contextlib.closing(pyev.EventLoop(backend)) as loop:
        loop.run_until_complete(main())


def test_a_subclass_that_is_woken_removes_the_others(pair):
    """Of those who are to be told that a number is another file's, while they are told."""

    class Loop(pyev.EventLoop):
        number = None

        def call_soon(self, *args, **kwargs):
            if self.number is not None:
                number, self.number = self.number, None
                self.remove_reader(number)
                self.remove_writer(number)
            return super().call_soon(*args, **kwargs)

    async def main():
        gone = socket.socket(fileno=os.dup(pair[0].fileno()))
        gone.setblocking(False)
        number = gone.fileno()
        first = loop.ev.io(number, pyev.EV_READ)  # awaited: it is told by a call_soon()
        tasks = [
            asyncio.ensure_future(work)
            for work in (
                loop.sock_recv(gone, 1),
                loop.sock_sendall(gone, b"x" * 10_000_000),
                one(first),
            )
        ]
        await asyncio.sleep(0.001)
        gone.close()
        with contextlib.closing(socket.socket()) as other:
            assert other.fileno() == number
            loop.number = number
            with loop.ev.io(number, pyev.EV_WRITE, lambda watcher, revents: None):
                pass
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            first.stop()

    async def one(watcher):
        await watcher

    with contextlib.closing(Loop()) as loop:
        loop.run_until_complete(main())


@pytest.mark.every_backend
def test_a_subclass_hears_of_a_number_used_again(backend, pair):
    """Whoever waited for the old file is woken before the loop polls with the new one."""

    class Loop(pyev.EventLoop):
        todo = ()

        def call_soon(self, *args, **kwargs):
            while self.todo:
                self.todo.pop()()
            return super().call_soon(*args, **kwargs)

    async def main():
        old, far = os.pipe()
        gone = socket.socket(fileno=os.dup(pair[0].fileno()))
        gone.setblocking(False)
        number = gone.fileno()
        task = loop.create_task(loop.sock_recv(gone, 1))
        await asyncio.sleep(0.01)
        gone.close()
        assert os.dup2(far, number) == number
        high = os.dup2(old, 1000)
        came = asyncio.Event()
        loop.todo = [
            lambda: loop.add_writer(number, came.set),
            lambda: loop.add_reader(high, pytest.fail),
        ]
        loop.add_writer(number, pytest.fail)
        assert loop.todo
        async with asyncio.timeout(20):
            await came.wait()
        assert loop.remove_writer(number)
        assert not loop.remove_writer(number)
        assert loop.remove_reader(high)
        with pytest.raises(OSError, match="Bad file"):
            await task
        for fd in (old, far, number, high):
            os.close(fd)

    with contextlib.closing(Loop(backend)) as loop:
        loop.run_until_complete(main())


@pytest.mark.parametrize("direction", ["reader", "writer"])
def test_removed_after_its_socket_was_closed(aloop, pair, errors, spin, direction):
    a, b = pair
    getattr(aloop, f"add_{direction}")(a, print)
    spin(aloop)
    a.close()
    remove = getattr(aloop, f"remove_{direction}")
    assert remove(a) is True
    with pytest.raises(ValueError, match=r"Invalid file|negative"):
        remove(a)
    spin(aloop)
    assert errors == []


def test_number_used_again(aloop, spin):
    """The reader of a closed descriptor is removed; its number is somebody else's at once."""
    read, write = os.pipe()
    aloop.add_reader(read, pytest.fail)
    spin(aloop)
    aloop.remove_reader(read)
    os.close(read)
    os.close(write)
    read, write = os.pipe()
    os.write(write, b"x")
    aloop.add_reader(read, aloop.stop)
    aloop.run_forever()
    assert aloop.remove_reader(read)
    os.close(read)
    os.close(write)


def test_one_of_two_of_a_file_is_closed(ours, pair, errors, spin):
    a, b = pair
    copy = os.dup(a.fileno())
    ours.add_reader(a, ours.stop)
    ours.add_reader(copy, lambda: None)
    spin(ours)
    ours.remove_reader(copy)
    os.close(copy)
    b.send(b"x")
    ours.run_forever()
    assert ours.remove_reader(a)
    assert errors == []


@pytest.mark.parametrize("direction", ["reader", "writer"])
@pytest.mark.parametrize("kind", ["file", "directory", "null"])
def test_what_epoll_cannot_wait_for(aloop, tmp_path, kind, direction):
    """Programs take that for the end of their input, or read it otherwise."""
    path = {"file": tmp_path / "file", "directory": tmp_path, "null": Path(os.devnull)}[kind]
    if kind == "file":
        path.write_bytes(b"x")
    fd = os.open(path, os.O_RDONLY)
    try:
        for _ in range(2):
            with pytest.raises(PermissionError):
                getattr(aloop, f"add_{direction}")(fd, print)
        assert getattr(aloop, f"remove_{direction}")(fd) is False
    finally:
        os.close(fd)


def test_terminal(aloop):
    parent, child = os.openpty()
    tty.setraw(child)
    aloop.add_reader(child, aloop.stop)
    aloop.add_writer(child, print)
    assert aloop.remove_writer(child)
    os.write(parent, b"x")
    aloop.run_forever()
    assert os.read(child, 2) == b"x"
    assert aloop.remove_reader(child)
    os.close(parent)
    os.close(child)


@pytest.mark.parametrize("flags", [pyev.EVBACKEND_SELECT, pyev.EVBACKEND_POLL])
def test_other_backends_have_files_ready(flags, tmp_path, spin):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    seen = []
    with contextlib.closing(pyev.EventLoop(flags)) as loop, path.open("rb") as file:
        loop.add_reader(file, seen.append, 1)
        while not seen:
            spin(loop)
        assert loop.remove_reader(file)


ORDER = [3, 1, 4, 0, 5, 2]


def in_order(aloop, prepare):
    """What is told of six sockets that become readable in that order, between two polls."""
    told = []
    pairs = [socket.socketpair() for _ in ORDER]
    for pair in pairs:
        for end in pair:
            end.setblocking(False)

    async def main():
        tasks = [prepare(aloop, a, told, number) for number, (a, _) in enumerate(pairs)]
        await asyncio.sleep(0.001)  # in which the loop polls, so that the kernel knows them
        for number in ORDER:
            pairs[number][1].send(b"x")
        while len(told) < len(ORDER):
            await asyncio.sleep(0)
        await asyncio.gather(*filter(None, tasks))

    aloop.run_until_complete(main())
    for a, b in pairs:
        aloop.remove_reader(a)
        a.close()
        b.close()
    return told


def test_the_first_to_be_ready_is_the_first_to_run(aloop):
    def add(loop, sock, told, number):
        loop.add_reader(sock, lambda: (sock.recv(1), told.append(number)))

    assert in_order(aloop, add) == ORDER


def test_the_first_to_be_ready_is_the_first_to_wake(aloop):
    async def receive(loop, sock, told, number):
        await loop.sock_recv(sock, 1)
        told.append(number)

    def start(loop, sock, told, number):
        return loop.create_task(receive(loop, sock, told, number))

    assert in_order(aloop, start) == ORDER


@pytest.mark.parametrize("first", ["reader", "writer"])
def test_of_one_descriptor_the_reader_runs_first(aloop, pair, first):
    a, b = pair
    told = []

    def tell(what):
        told.append(what)
        if len(told) == 2:
            aloop.stop()

    add = [lambda: aloop.add_reader(a, tell, "reader"), lambda: aloop.add_writer(a, tell, "writer")]
    for what in add if first == "reader" else reversed(add):
        what()
    b.send(b"x")
    aloop.run_forever()
    aloop.remove_reader(a)
    aloop.remove_writer(a)
    assert told == ["reader", "writer"]


def test_a_reader_that_is_removed_by_another_of_the_same_poll(aloop, pair):
    """In order, so that the one which was ready first removes the other."""
    a, b = pair
    c, d = socket.socketpair()
    with c, d:
        aloop.add_reader(a, lambda: (aloop.remove_reader(c), aloop.stop()))
        aloop.add_reader(c, pytest.fail, "a reader that was removed")
        b.send(b"x")
        d.send(b"x")
        aloop.run_forever()
        aloop.call_soon(aloop.stop)
        aloop.run_forever()
        aloop.remove_reader(a)


@pytest.mark.parametrize("how", ["reader", "transport"])
def test_what_is_ready_already_is_seen_in_the_next_turn(aloop, pair, how):
    """However busy the loop is."""
    a, b = pair
    told = []

    class Protocol(asyncio.Protocol):
        def data_received(self, data):
            told.append("data")

    async def main():
        b.send(b"x")
        if how == "reader":
            aloop.add_reader(a, told.append, "data")
        else:
            transport, _ = await aloop.connect_read_pipe(Protocol, a)
        for turn in range(3):
            await asyncio.sleep(0)
            told.append(turn)
        if how == "reader":
            aloop.remove_reader(a)
        else:
            transport.close()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    aloop.run_until_complete(main())
    assert "data" in told[:2]


def test_what_a_reader_sends_is_seen_in_the_next_turn(aloop, pair):
    """Between two ends that are served by readers, as Tornado's are, the other end comes first."""
    a, b = pair
    told = []

    def answer():
        a.recv(1)
        a.send(b"y")
        aloop.call_soon(told.append, 0)
        aloop.call_soon(aloop.call_soon, aloop.call_soon, told.append, 1)

    def answered():
        told.append(b.recv(1))
        aloop.call_soon(aloop.stop)

    aloop.add_reader(a, answer)
    aloop.add_reader(b, answered)
    b.send(b"x")
    aloop.run_forever()
    aloop.remove_reader(a)
    aloop.remove_reader(b)
    aloop.call_soon(aloop.stop)
    aloop.run_forever()
    assert told == [0, b"y", 1]


@pytest.mark.parametrize("others", [0, 20])
def test_what_watchers_schedule_comes_before_what_the_poll_found(ours, others):
    """Wherever among it their events came, and however much else there is to run."""
    told, watchers, watched = [], [], {4, 30, 59}  # of as many as one poll tells of
    with contextlib.ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(60)]
        for number, (a, b) in enumerate(pairs):
            stack.enter_context(a)
            stack.enter_context(b)
            if number not in watched:
                ours.add_reader(a, told.append, number)
                continue

            def on_event(watcher, revents, number=number):
                watcher.stop()
                ours.call_soon(told.append, -number)

            watchers.append(ours.ev.io(a, pyev.EV_READ, on_event))
            watchers[-1].start()

        def go_on():
            if len(told) < len(pairs):
                ours.call_soon(go_on)

        async def main():
            await asyncio.sleep(0.001)  # in which the loop polls, so that the kernel knows them
            for _ in range(others):
                go_on()
            for _, b in pairs:
                b.send(b"x")
            while len(told) < len(pairs):
                await asyncio.sleep(0)

        ours.run_until_complete(main())
        for a, _ in pairs:
            ours.remove_reader(a)
    assert sorted(told[:3]) == [-59, -30, -4]
    assert told[3:60] == [number for number in range(60) if number not in watched]
