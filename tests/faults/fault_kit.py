"""What scenarios use, in the interpreter that runs them and nothing else."""

import builtins
import contextlib
import faulthandler
import functools
import gc
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NoReturn, Self

import pyev

SKIPPED = 77
NOWAIT = pyev.EVRUN_NOWAIT
ONCE = pyev.EVRUN_ONCE
BACKENDS = {
    "select": pyev.EVBACKEND_SELECT,
    "poll": pyev.EVBACKEND_POLL,
    "epoll": pyev.EVBACKEND_EPOLL,
    "kqueue": pyev.EVBACKEND_KQUEUE,
    "port": pyev.EVBACKEND_PORT,
    "linuxaio": pyev.EVBACKEND_LINUXAIO,
    "io_uring": pyev.EVBACKEND_IOURING,
}
backend = os.environ.get("PYEV_FAULT_BACKEND", "")


@functools.cache
def available() -> tuple[str, ...]:
    """The backends that libev was built with and that the kernel allows."""
    names = []
    for name, flag in BACKENDS.items():
        # libev calls it experimental, and its own assertions end the process now and then ("did not
        # consume all sqes"), whatever pyev does: `make faults` runs it.
        if name == "io_uring" and "PYEV_TEST_IO_URING" not in os.environ:
            continue
        # Tried in another process: an abort makes its tests fail, not the collection of all.
        if pyev.supported_backends() & flag and fork(lambda flag=flag: refused(flag)):
            names.append(name)
    return tuple(names)


def refused(flag: int) -> None:
    faulthandler.disable()
    try:
        pyev.Loop(flag)
    except (pyev.Error, OSError):
        return
    os._exit(1)


def preferred() -> str:
    """The backend libev takes by itself."""
    with pyev.Loop() as loop:
        return next(name for name, flag in BACKENDS.items() if flag == loop.backend)


def note(text: str) -> None:
    """Leaves a word where the harness finds it when this process is gone."""
    if "PYEV_FAULT_NOTE" in os.environ:
        with open(os.environ["PYEV_FAULT_NOTE"], "w") as file:
            file.write(text)


def skip(reason: str) -> NoReturn:
    sys.stderr.write(reason)
    sys.stderr.flush()
    os._exit(SKIPPED)


# Loops and turns.


def new_loop(flags: int = 0, **keywords: Any) -> pyev.Loop:
    """A loop on the backend under test."""
    loop = pyev.Loop(BACKENDS[backend] | flags, **keywords)
    assert loop.backend == BACKENDS[backend]
    return loop


def turns(loop: pyev.Loop, count: int = 1) -> None:
    for _ in range(count):
        loop.start(NOWAIT)
        loop.verify()


def drain(loop: pyev.Loop, count: int = 3, most: int = 2000) -> list[Exception]:
    """Turns until `count` in a row raised nothing; what the others raised."""
    raised: list[Exception] = []
    quiet = 0
    while quiet < count:
        try:
            loop.start(NOWAIT)
            quiet += 1
        except Exception as error:
            quiet = 0
            raised.append(error)
            assert len(raised) < most, f"start() raises for ever: {error!r}"
        loop.verify()
    return raised


def until(loop: pyev.Loop, condition: Callable[[], object], most: int = 100_000) -> int:
    """Runs turn by turn, blocking, until the condition holds; how many turns that took."""
    # The condition may come true in a turn that would go on to block.
    ticks = loop.timer(0.02, 0.02, nothing)
    ticks.start()
    try:
        for turn in range(most):
            if condition():
                return turn
            loop.start(ONCE)
    finally:
        ticks.stop()
    raise AssertionError(f"not in {most} turns")


def calm(loop: pyev.Loop, most: int = 30, seconds: float = 0.05) -> None:
    """The loop must block, not spin: it may make but few turns until a timer ends it."""
    done = loop.timer(seconds, 0.0, lambda w, revents: w.loop.stop(pyev.EVBREAK_ALL))
    before = loop.iteration
    done.start()
    loop.start()
    assert not done.active, "the timer that ends the run did not fire"
    made = loop.iteration - before
    assert made <= most, f"{made} turns in {seconds} s: the loop spins"


def works(loop: pyev.Loop) -> None:
    """The loop serves as if nothing had happened, and does not spin."""
    seen: set[str] = set()
    r, w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def read(io: pyev.Io, revents: int) -> None:
        assert revents == pyev.EV_READ, revents
        seen.add("io" if os.read(io.fd, 10) == b"x" else "eof")

    def note(name: str) -> Callable[[pyev.Watcher, int], object]:
        return lambda watcher, revents: seen.add(name)

    watchers = [
        loop.io(r, pyev.EV_READ, read),
        loop.timer(0.001, 0.0, note("timer")),
        loop.prepare(note("prepare")),
        loop.check(note("check")),
        asynchronous := loop.async_(note("async")),
    ]
    for watcher in watchers:
        watcher.start()
    os.write(w, b"x")
    asynchronous.send()
    until(loop, lambda: len(seen) == 5, most=1000)
    assert seen == {"io", "timer", "prepare", "check", "async"}
    calm(loop)
    for watcher in watchers:
        watcher.stop()
    os.close(r)
    os.close(w)
    turns(loop)


def warm(loop: pyev.Loop) -> None:
    """The loop has blocked once: all the descriptors it will ever open, it has."""
    timer = loop.timer(0.0, 0.0, nothing)
    timer.start()
    loop.start(ONCE)


# Descriptors.

_opened: set[int] = set()
kept: list[object] = []


def pipe() -> tuple[int, int]:
    """A pipe of plain non-blocking descriptors, closed by the harness if the scenario doesn't."""
    fds = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    _opened.update(fds)
    return fds


def pair() -> tuple[int, int]:
    a, b = socket.socketpair()
    a.setblocking(False)
    b.setblocking(False)
    fds = a.detach(), b.detach()
    _opened.update(fds)
    return fds


def opened(fd: int) -> int:
    """Has the harness close this one too."""
    _opened.add(fd)
    return fd


def forget(fd: int) -> None:
    """Closes it, if it is still the scenario's own."""
    if fd in _opened:
        _opened.remove(fd)
        os.close(fd)


def is_ours(fd: int) -> bool:
    return fd in _opened


def closed() -> int:
    """A number that no file is open on."""
    fd = os.open(os.devnull, os.O_RDONLY)
    os.close(fd)
    return fd


def clean_up() -> None:
    gc.collect()
    for fd in _opened:
        with contextlib.suppress(OSError):
            os.close(fd)
    _opened.clear()
    for pid in _forked:
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    _forked.clear()


def open_fds() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return {fd: target for fd, target in found.items() if not target.endswith("/fd")}


def fds_of(loop_maker: Callable[[], pyev.Loop]) -> tuple[pyev.Loop, dict[int, str]]:
    """A loop, and the descriptors that making it opened."""
    before = open_fds()
    loop = loop_maker()
    return loop, {fd: target for fd, target in open_fds().items() if fd not in before}


# Errors.


def raises(
    kind: type[BaseException] | tuple[type[BaseException], ...],
    function: Callable[..., object],
    *arguments: Any,
    **keywords: Any,
) -> BaseException:
    try:
        result = function(*arguments, **keywords)
    except kind as error:
        return error
    raise AssertionError(f"{function!r} returned {result!r} and raised nothing")


def bad_fd(function: Callable[..., object], *arguments: Any) -> None:
    import errno

    error = raises(OSError, function, *arguments)
    assert isinstance(error, OSError) and error.errno == errno.EBADF, repr(error)


def all_bad_fd(errors: list[Any], count: int | None = None) -> None:
    import errno

    for error in errors:
        assert isinstance(error, OSError) and error.errno == errno.EBADF, repr(error)
    assert count is None or len(errors) == count, errors


class Unraisable:
    """Catches what goes to sys.unraisablehook meanwhile."""

    def __init__(self) -> None:
        self.errors: list[BaseException | None] = []

    def __enter__(self) -> Self:
        self.hook = sys.unraisablehook
        sys.unraisablehook = lambda args: self.errors.append(args.exc_value)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        sys.unraisablehook = self.hook


@contextlib.contextmanager
def dropping() -> Iterator[None]:
    """Active watchers are let go in here on purpose: no ResourceWarning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


class Garbage:
    """A cycle that acts when it is collected."""

    def __init__(self, actions: list[Callable[[], object]]) -> None:
        self.me, self.actions = self, actions

    def __del__(self) -> None:
        while self.actions:
            self.actions.pop()()


@contextlib.contextmanager
def collecting(action: Callable[[], object], after: int) -> Iterator[None]:
    """The collector runs so many allocations after this began, and the action is done by what it
    finds: before Python 3.12 in the middle of a call, since then between two bytecodes."""
    actions, threshold = [action], gc.get_threshold()
    gc.collect()
    gc.disable()
    Garbage(actions)
    gc.set_threshold(gc.get_count()[0] + after)
    gc.enable()
    try:
        yield
    finally:
        actions.clear()
        gc.set_threshold(*threshold)


def keep(*things: object) -> None:
    """Alive until the very end of the interpreter."""
    kept.append(things)
    builtins.kept = kept  # type: ignore[attr-defined]


def nothing(watcher: pyev.Watcher, revents: int) -> None:
    """A callback."""


def never(watcher: pyev.Watcher, revents: int) -> None:
    raise AssertionError(f"{watcher!r} was called with {revents:#x}")


class Log:
    """A callback that keeps what it was called with."""

    def __init__(self, action: Callable[[pyev.Watcher, int], object] | None = None) -> None:
        self.events: list[int] = []
        self.action = action

    def __call__(self, watcher: pyev.Watcher, revents: int) -> None:
        self.events.append(revents)
        if self.action:
            self.action(watcher, revents)

    def __len__(self) -> int:
        return len(self.events)


def reader(watcher: pyev.Io, revents: int) -> None:
    with contextlib.suppress(BlockingIOError):  # A poll may be wrong, or another was faster.
        os.read(watcher.fd, 65536)


# Other processes and threads.

_forked: list[int] = []


def assassin(signum: int, pid: int | None = None) -> Callable[[], None]:
    """Another process that sends `signum` here when told to. Call it before making loops."""
    victim = os.getpid() if pid is None else pid
    r, w = os.pipe()
    child = os.fork()
    if not child:
        os.close(w)
        while os.read(r, 1):
            os.kill(victim, signum)
        os._exit(0)
    os.close(r)
    _forked.append(child)
    opened(w)

    def shoot() -> None:
        os.write(w, b"x")

    return shoot


def child_that_waits() -> int:
    """Until the harness kills it."""
    child = os.fork()
    if not child:
        while True:
            signal.pause()
    _forked.append(child)
    return child


def busy_loop(loop: pyev.Loop, callback: Callable[..., object] = nothing) -> list[pyev.Watcher]:
    """One active watcher of every kind."""
    fd, other = pair()
    child = child_that_waits()
    watchers: list[pyev.Watcher] = [
        loop.io(fd, pyev.EV_READ, callback),
        loop.io(fd, pyev.EV_WRITE, callback),
        loop.timer(1000.0, 0.0, callback),
        loop.timer(0.0, 1000.0, callback),
        loop.periodic(0.0, 1e6, callback),
        loop.scheduler(lambda w, now: now + 1000, callback),
        loop.signal(signal.SIGUSR1, callback),
        loop.child(child, False, callback),
        loop.stat("/", 100.0, callback),
        loop.stat("/nonexistent", 100.0, callback),
        loop.idle(callback),
        loop.prepare(callback),
        loop.check(callback),
        loop.fork(callback),
        loop.async_(callback),
        loop.cleanup(callback),
        loop.once(fd, pyev.EV_READ, 1000.0, callback),
        loop.once(None, 0, 1000.0, callback),
    ]
    for watcher in watchers:
        watcher.start()
    return watchers


def fork(function: Callable[[], object]) -> int:
    """Runs the function in a forked child; its exit status: 0 if it returned."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = 1
    try:
        function()
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


# The system calls a loop may wait in, as x86-64 and arm64 number them.
WAITS = {
    "x86_64": {"7", "23", "35", "230", "232", "270", "271", "281", "426", "441"},
    "aarch64": {"22", "72", "73", "101", "115", "426", "441"},
}


def wait_until_blocked() -> None:
    """Until the main thread polls, having let go of the interpreter's lock."""
    waits = WAITS.get(os.uname().machine)
    if waits is None:
        skip("how system calls are numbered here is not known")
    pid = os.getpid()
    # It may also poll with the lock held, for a moment; no more once this thread has had the lock.
    in_a_row = 0
    while in_a_row < 3:
        with open(f"/proc/{pid}/task/{pid}/syscall") as file:
            in_a_row = in_a_row + 1 if file.read().split()[0] in waits else 0


def in_thread(function: Callable[[], object]) -> None:
    """Runs the function in another thread to its end; what it raises is raised here."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
