"""Descriptors of the loop itself, and backends that are missing or fail."""

import asyncio
import contextlib
import errno
import gc
import os
import resource
import signal
import socket
import time
import weakref

import fault_kit as kit
import seccomp
from fault_harness import scenario

import pyev
from pyev import EV_READ, EV_WRITE

# 11. Descriptors of the loop itself, closed by code that closes everything.


@scenario(
    "A11", moment=["before", "prepare", "timer", "async", "io", "nested", "periodic"], alone=True
)
def test_everything_closed_under_a_loop(moment: str) -> None:
    loop = kit.new_loop()
    r, w = kit.pipe()
    os.write(w, b"x")

    def close(*args: object) -> None:
        os.closerange(3, 4096)

    def nested(watcher: pyev.Watcher, revents: int) -> None:
        close()
        loop.start(kit.ONCE)

    keep: list[pyev.Watcher] = [
        loop.timer(1e-3, 1e-3, kit.nothing),
        loop.periodic(0.0, 1e6, kit.nothing),
        loop.signal(signal.SIGUSR1, kit.nothing),
        loop.stat("/", 1e3, kit.nothing),
        loop.async_(kit.nothing),
    ]
    for watcher in keep:
        watcher.start()
    match moment:
        case "before":
            kit.turns(loop, 2)
            close()
        case "prepare":
            keep.append(loop.prepare(close))
        case "timer":
            keep.append(loop.timer(0.0, 0.0, close))
        case "async":
            keep.append(closer := loop.async_(close))
            closer.start()
            closer.send()
        case "io":
            keep.append(loop.io(r, EV_READ, close))
        case "nested":
            keep.append(loop.timer(0.0, 0.0, nested))
        case "periodic":
            keep.append(loop.periodic(0.0, 1 / 8192, close))
    keep[-1].start()
    # To be told so is the least; that it cannot go on as before is plain.
    with kit.Unraisable() as unraisable:
        caught = 0
        for _ in range(50):
            try:
                loop.start(kit.ONCE)
            except OSError:
                caught += 1
    assert caught or unraisable.errors
    keep[4].send()
    loop.reset()
    with kit.Unraisable():
        for _ in range(20):
            with contextlib.suppress(OSError, pyev.Error):
                loop.start(kit.NOWAIT)
    for watcher in keep:
        watcher.stop()
    loop.close()
    with kit.new_loop() as loop:
        kit.works(loop)


@scenario("A11", settled=[False, True], busy=[False, True], alone=True)
def test_each_descriptor_of_the_loop_closed_alone(settled: bool, busy: bool) -> None:
    count = 1
    index = 0
    while index < count:
        before = kit.open_fds()
        loop = kit.new_loop()
        keep: list[pyev.Watcher] = [
            loop.timer(1e-3, 1e-3, kit.nothing),
            loop.periodic(0.0, 1e6, kit.nothing),
            loop.signal(signal.SIGUSR1, kit.nothing),
            loop.stat("/", 1e3, kit.nothing),
            loop.async_(kit.nothing),
        ]
        for watcher in keep:
            watcher.start()
        if settled:
            kit.turns(loop, 2)
        mine = [fd for fd in sorted(kit.open_fds()) if fd not in before]
        count = len(mine)
        if not mine:
            break
        os.close(mine[index])
        # A number that is closed twice must not be another file by then.
        index += 1
        for _ in range(10):
            if busy:
                keep[4].send()
            with contextlib.suppress(OSError, pyev.Error):
                loop.start(kit.ONCE)
        for watcher in keep:
            watcher.stop()
        loop.close()
    with kit.new_loop() as loop:
        kit.works(loop)


@scenario("A11", start=["start", "reset"])
def test_the_timerfd_closed_before_the_first_poll(start: str) -> None:
    before = kit.open_fds()
    loop = kit.new_loop()
    periodic = loop.periodic(0.0, 1e6, kit.nothing)
    getattr(periodic, start)()
    for fd in kit.open_fds():
        if fd not in before and "timerfd" in os.readlink(f"/proc/self/fd/{fd}"):
            os.close(fd)
    with contextlib.suppress(OSError, pyev.Error):
        loop.start(kit.NOWAIT)
    periodic.stop()
    loop.close()


@scenario(
    "A3",
    what=["io", "once", "child", "embed"],
    how=["told", "stop", "clear", "start", "set", "drop"],
    backends=["epoll"],
)
def test_the_kernel_has_no_room_for_a_descriptor(what: str, how: str) -> None:
    """libev gives up the watcher by itself. Nothing of it is left, whatever is done to it then."""
    loop, inner = kit.new_loop(), kit.new_loop()
    kit.works(loop)
    fd, peer = kit.pair()
    pid = kit.child_that_waits()
    arguments: dict[str, tuple[object, ...]] = {
        "io": (peer, EV_READ),
        "once": (fd, EV_READ, 0.01),
        "child": (pid, False),
        "embed": (inner,),
    }

    def give_up() -> None:
        watchers = [getattr(loop, what)(*arguments[what], kit.never)]
        watchers[0].start()
        gone = weakref.ref(watchers[0])

        def meddle(check: pyev.Watcher, revents: int) -> None:
            check.stop()
            assert watchers[0].pending and not watchers[0].active
            if how == "drop":
                watchers.clear()
            elif how == "set" and what != "once":
                watchers[0].set(*(arguments[what] if what != "io" else (fd, EV_READ)))
            elif how != "told":
                getattr(watchers[0], "start" if how == "set" else how)()

        told = []
        with kit.dropping(), loop.check(meddle, None, pyev.EV_MAXPRI):
            for _ in range(2):
                try:
                    loop.start(kit.NOWAIT)
                except pyev.Error as error:
                    told.append(error)
        assert told or how != "told"
        told.clear()
        for watcher in watchers:
            watcher.stop()
            del watcher
        watchers.clear()
        gc.collect()
        assert gone() is None

    if not seccomp.without(give_up, "epoll_ctl", code=errno.ENOSPC):
        kit.skip("no seccomp")
    log = kit.Log()
    again = [loop.io(number, EV_WRITE, log) for number in (fd, peer)]
    for io in again:
        io.start()
    loop.start(kit.NOWAIT)
    assert len(log) == 2
    for io in again:
        io.stop()
    time.sleep(0.02)
    assert not loop.start(kit.NOWAIT)
    kit.raises(pyev.Error, loop.unref)
    kit.works(loop)
    os.kill(pid, signal.SIGKILL)
    with loop.child(pid, False, kit.Log()) as child:
        kit.until(loop, lambda: child.callback)
    inner.close()
    loop.close()


@scenario("A3", backends=["epoll"])
def test_the_kernel_has_no_room_for_one_of_those_it_had() -> None:
    """That is told at once, though nothing else is due."""
    loop = kit.new_loop()
    kit.works(loop)
    fd, _ = kit.pair()
    with loop.io(fd, EV_READ, kit.never) as io, loop.timer(5.0, 0.0, kit.nothing) as far:
        kit.turns(loop)
        forbid("epoll_ctl", code=errno.ENOSPC, third=fd)
        loop.reset()
        kit.raises(pyev.Error, loop.start, kit.ONCE)
        assert far.active and not io.active
    kit.works(loop)
    loop.close()


@scenario("A3", "C31", backends=["epoll"])
def test_the_kernel_has_no_room_for_what_ends_a_wait() -> None:
    loop = kit.new_loop()
    forbid("epoll_ctl", code=errno.ENOSPC, third=kit.closed())
    kit.calm(loop)
    loop.close()


@scenario("A3", backends="any")
def test_the_kernel_has_no_room_for_a_reader() -> None:
    """It is told so at once, and an operation fails with that, though nothing else is due."""
    a, b = socket.socketpair()
    a.setblocking(False)
    told: list[object] = []
    loop = pyev.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.set_exception_handler(lambda loop, context: told.append(context["exception"]))

    async def watch() -> None:
        try:
            await loop.sock_recv(a, 1)
        except OSError as error:
            told.append(error)
        loop.add_reader(b, print)
        while len(told) < 2:
            await asyncio.sleep(0)

    if not seccomp.without(
        lambda: loop.run_until_complete(asyncio.wait_for(watch(), 20)),
        "epoll_ctl",
        code=errno.ENOSPC,
    ):
        kit.skip("no seccomp")
    assert [getattr(error, "errno", None) for error in told] == [errno.ENOSPC] * 2
    assert not loop.remove_reader(b)
    b.send(b"x")
    assert loop.run_until_complete(loop.sock_recv(a, 1)) == b"x"
    loop.close()
    a.close()
    b.close()


@scenario("A3", backends="any")
def test_the_kernel_has_no_room_for_a_connection() -> None:
    """It is lost, as for any other error, and its descriptor closed. The others go on."""
    a, b = socket.socketpair()
    fd = a.fileno()
    lost: list[Exception | None] = []
    gone: list[weakref.ref[object]] = []

    class Protocol(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.append(exc)

    loop = pyev.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0.01))

    async def connect() -> None:
        transport, _ = await loop.create_connection(Protocol, sock=a)
        gone.append(weakref.ref(transport))
        while not lost:
            await asyncio.sleep(0.001)

    if not seccomp.without(
        lambda: loop.run_until_complete(connect()), "epoll_ctl", code=errno.ENOSPC
    ):
        kit.skip("no seccomp")
    gc.collect()
    assert isinstance(lost[0], OSError) and gone[0]() is None
    kit.raises(OSError, os.fstat, fd)
    loop.ev.reset()  # every descriptor is looked at
    loop.run_until_complete(asyncio.sleep(0.01))
    assert b.recv(1) == b""
    b.close()
    loop.close()


@scenario("A11", "41")
def test_a_daemon_closes_everything_in_the_child() -> None:
    with kit.new_loop() as loop:
        r, w = kit.pipe()
        io = loop.io(r, EV_READ, kit.nothing)
        timer = loop.timer(1e-3, 1e-3, kit.nothing)
        io.start()
        timer.start()
        kit.turns(loop, 2)

        def daemon() -> None:
            os.closerange(3, 4096)
            with kit.Unraisable():
                for _ in range(10):
                    with contextlib.suppress(OSError, pyev.Error):
                        loop.start(kit.ONCE)
            loop.close()
            with kit.new_loop() as mine:
                kit.works(mine)

        assert kit.fork(daemon) == 0
        io.stop()
        timer.stop()
        kit.works(loop)


@scenario("A11", room=[0, 1, 2, 3, 4], alone=True)
def test_no_descriptors_left_for_a_loop(room: int) -> None:
    kit.new_loop().close()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = kit.closed()
    filler = [kit.opened(os.open(os.devnull, os.O_RDONLY)) for _ in range(5)]
    for fd in filler:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + room, hard))
    for _ in range(3):
        try:
            loop = kit.new_loop()
        except OSError as error:
            assert "many" in str(error)  # EMFILE
            continue
        except pyev.Error as error:
            raise AssertionError(f"not an OSError: {error!r}") from error
        # Made, but with nothing to spare: what needs more must say so.
        for watcher in (
            loop.signal(signal.SIGUSR1, kit.nothing),
            loop.periodic(0.0, 1e6, kit.nothing),
            loop.stat("/", 1e3, kit.nothing),
            loop.async_(kit.nothing),
        ):
            try:
                watcher.start()
            except OSError:
                continue
            kit.turns(loop)
            watcher.stop()
        loop.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with kit.new_loop() as loop:
        kit.works(loop)


@scenario("A11", "C31")
def test_no_descriptors_left_for_the_first_wait() -> None:
    """Its waits are short until there are some, and signals end them all the same."""
    shoot = kit.assassin(signal.SIGINT)
    with kit.new_loop() as loop:
        keep = loop.async_(kit.never)
        keep.start()
        about_to_block = loop.prepare(lambda w, revents: (w.stop(), shoot()))
        before = kit.open_fds()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (kit.closed(), hard))
        kit.calm(loop)
        for _ in range(3):
            about_to_block.start()
            kit.raises(KeyboardInterrupt, loop.start)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert kit.open_fds() == before
        kit.works(loop)
        assert len(kit.open_fds()) == len(before) + 2
        keep.stop()


@scenario("A11", "41", room=[0, 1, 2], alone=True)
def test_no_descriptors_left_after_a_fork(room: int) -> None:
    with kit.new_loop() as loop:
        r, w = kit.pipe()
        log = kit.Log(kit.reader)
        io = loop.io(r, EV_READ, log)
        io.start()
        kit.turns(loop)

        def child() -> None:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            filler = []
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
            try:
                while True:
                    filler.append(os.dup(0))
            except OSError:
                pass
            for fd in filler[:room]:
                os.close(fd)
            for _ in range(3):
                with contextlib.suppress(OSError):
                    loop.start(kit.NOWAIT)
            for fd in filler[room:]:
                os.close(fd)
            os.write(w, b"x")
            try:
                kit.until(loop, lambda: log, most=100)
            except OSError:
                loop.close()  # Refused clearly: this loop is gone, others can be made.
                with kit.new_loop() as mine:
                    kit.works(mine)
            else:
                kit.works(loop)

        assert kit.fork(child) == 0
        kit.works(loop)


# 13. io_uring and backends that are missing.


def forbid(*calls: str, code: int = errno.ENOSYS, third: int | None = None) -> None:
    if not seccomp.forbid(*calls, code=code, third=third):
        kit.skip("no seccomp here")


@scenario("A13", backends="io_uring", code=[38, 1, 12], alone=True)
def test_io_uring_forbidden(code: int) -> None:
    forbid("io_uring_setup", code=code)
    for _ in range(3):
        error = kit.raises((pyev.Error, OSError), pyev.Loop, pyev.EVBACKEND_IOURING)
        assert isinstance(error, pyev.Error | OSError)
    with pyev.Loop(pyev.EVBACKEND_IOURING | pyev.EVBACKEND_EPOLL) as loop:
        assert loop.backend == pyev.EVBACKEND_EPOLL
        kit.works(loop)
    with pyev.Loop(pyev.EVBACKEND_IOURING | pyev.EVBACKEND_POLL) as loop:
        assert loop.backend == pyev.EVBACKEND_POLL
        kit.works(loop)


@scenario("A13", backends="io_uring")
def test_io_uring_failing_while_running() -> None:
    loop = kit.new_loop()
    r, w = kit.pipe()
    io = loop.io(r, EV_READ, kit.nothing)
    io.start()
    kit.turns(loop, 2)
    forbid("io_uring_enter")
    io.stop()
    io.set(w, EV_WRITE)
    io.start()
    before = loop.iteration
    kit.raises(OSError, loop.start)
    assert loop.iteration - before < 10
    io.stop()
    loop.close()
    with pyev.Loop() as loop:
        kit.works(loop)


@scenario("A13", "41", backends="io_uring")
def test_io_uring_forbidden_after_a_fork() -> None:
    with kit.new_loop() as loop:
        r, w = kit.pipe()
        io = loop.io(r, EV_READ, kit.nothing)
        io.start()
        kit.turns(loop)

        def child() -> None:
            forbid("io_uring_setup")
            for _ in range(3):
                kit.raises((OSError, pyev.Error), loop.start, kit.NOWAIT)
            loop.close()

        assert kit.fork(child) == 0
        kit.works(loop)


@scenario("A13", count=[40, 130, 1000])
def test_more_ready_descriptors_than_a_ring_holds(count: int) -> None:
    with kit.new_loop() as loop:
        seen = set()
        watchers = []
        for _ in range(count):
            fd, _other = kit.pair()
            watchers.append(loop.io(fd, EV_WRITE, lambda w, revents: seen.add(w.fd)))
            watchers[-1].start()
        kit.until(loop, lambda: len(seen) == count, most=200)
        seen.clear()
        kit.until(loop, lambda: len(seen) == count, most=200)
        assert loop.backend == kit.BACKENDS[kit.backend] or kit.backend == "io_uring"
        for watcher in watchers:
            watcher.stop()
        kit.turns(loop, 2)
        # Nothing is active: it must end by itself.
        assert loop.start() is False
        kit.works(loop)


@scenario("A13", backends="any")
def test_the_silent_default_is_not_experimental() -> None:
    experimental = pyev.EVBACKEND_IOURING | pyev.EVBACKEND_LINUXAIO
    with pyev.Loop() as loop:
        assert not loop.backend & experimental
        assert not pyev.recommended_backends() & pyev.EVBACKEND_IOURING
    default = pyev.default_loop()
    assert not default.backend & experimental
    default.close()


@scenario("A13", backends="any", flags=[0x08, 0x10, 0x20, 0x40, 0x400, 0x8000])
def test_a_backend_that_is_unknown_or_missing(flags: int) -> None:
    if pyev.supported_backends() & flags:
        return
    for _ in range(3):
        kit.raises(pyev.Error, pyev.Loop, flags)
        if flags & pyev.EVBACKEND_MASK:
            kit.raises(pyev.Error, pyev.default_loop, flags)
    for flags in (2**32, 2**64, -1, -(2**63)):
        kit.raises((OverflowError, ValueError, pyev.Error), pyev.Loop, flags)
    with pyev.default_loop() as loop:
        kit.works(loop)
