"""What every test stands on: loops on each backend, one watcher of each kind, and a check that
nothing is left behind.

Every test, whatever it asks for, is followed by the `tidy` check: no descriptor, child process,
thread, signal handler or wake-up descriptor may differ from what was there before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

import pyev

sys.path.append(str(Path(__file__).parent))  # for what lies beside this

from strict import STRICT

BACKENDS = {
    name.removeprefix("EVBACKEND_").lower(): getattr(pyev, name)
    for name in dir(pyev)
    if name.startswith("EVBACKEND_")
    and name not in ("EVBACKEND_ALL", "EVBACKEND_MASK")
    and getattr(pyev, name) & pyev.supported_backends()
}
# The kernel may refuse these two at run time (sysctl, seccomp), whatever libev was built with.
MAY_BE_REFUSED = pyev.EVBACKEND_IOURING | pyev.EVBACKEND_LINUXAIO


def pytest_configure(config: pytest.Config) -> None:
    # A shell's background jobs ignore it, and so would every process that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers", "every_backend: run the test once per backend that the linked libev has"
    )
    config.addinivalue_line(
        "markers",
        "asyncio_fails(reason, when=True, **options of xfail): the standard loop gets this wrong",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames and metafunc.definition.get_closest_marker(
        "every_backend"
    ):
        metafunc.parametrize("backend", BACKENDS.values(), ids=list(BACKENDS), indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker in item.iter_markers("asyncio_fails"):
            options = dict(marker.kwargs)
            wrong = options.pop("when", True)
            factory = item.callspec.params["factory"]  # type: ignore[attr-defined]
            if wrong and factory.startswith("asyncio"):
                item.add_marker(pytest.mark.xfail(reason=marker.args[0], **options))


def pytest_collection_finish() -> None:
    # The collected tests never die: keep them out of the collection that follows each test.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


FAILED = pytest.StashKey[bool]()


# Nothing left behind


def open_fds() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own descriptor is gone by now
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def wakeup_fd() -> int:
    fd = signal.set_wakeup_fd(-1)
    if fd != -1:
        signal.set_wakeup_fd(fd)
    return fd


def kernel_signals() -> dict[str, str]:
    """The dispositions the kernel has, which Python's `getsignal` knows nothing of."""
    lines = Path("/proc/thread-self/status").read_text().splitlines()
    return dict(
        line.split(":\t") for line in lines if line.startswith(("SigBlk", "SigIgn", "SigCgt"))
    )


def has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def surroundings() -> dict[str, Any]:
    return {
        "fds": open_fds(),
        "handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "kernel": kernel_signals(),
        "wakeup fd": wakeup_fd(),
        "children": has_children(),
        "threads": set(threading.enumerate()),
    }


@pytest.fixture(autouse=True)
def tidy(request: pytest.FixtureRequest) -> Iterator[None]:
    before = surroundings()
    yield
    if FAILED in request.node.stash:
        return  # its traceback keeps alive what it made
    gc.collect()
    after = surroundings()
    for what, was in before.items():
        assert after[what] == was, f"{what} left behind"
    # What is left is pytest's, and never dies: the collection after the next test need not look at
    # it. Thousands of these took more than half of the processor's time in tests/net.
    gc.freeze()


# Loops


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> int:
    flags = getattr(request, "param", pyev.EVFLAG_AUTO)
    if flags & MAY_BE_REFUSED:
        try:
            pyev.Loop(flags).close()
        except pyev.Error as refusal:
            pytest.skip(f"the kernel refuses this backend: {refusal}")
    return flags


@pytest.fixture
def loop(backend: int) -> Iterator[pyev.Loop]:
    loop = pyev.Loop(backend)
    yield loop
    loop.close()


@pytest.fixture
def new_loop(backend: int) -> Iterator[Callable[..., pyev.Loop]]:
    """More loops of the test's backend, closed at its end."""
    with contextlib.ExitStack() as stack:

        def new(flags: int = 0, **kwargs: Any) -> pyev.Loop:
            loop = pyev.Loop(backend | flags, **kwargs)
            stack.callback(loop.close)
            return loop

        yield new


@pytest.fixture
def turn(loop: pyev.Loop) -> Callable[[], bool]:
    """One turn of the loop that does not wait."""
    return lambda: loop.start(pyev.EVRUN_NOWAIT)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    a, b = socket.socketpair()
    with a, b:
        a.setblocking(False)
        b.setblocking(False)
        yield a, b


class Calls(list[Any]):
    """A watcher's callback that remembers its arguments."""

    def __call__(self, watcher: Any, revents: int) -> None:
        self.append((watcher, revents))

    @property
    def revents(self) -> list[int]:
        return [revents for _, revents in self]


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `sys.unraisablehook` was called with during the test."""
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    return seen


# Event loops: ours, and the standard one, which says what asyncio's answer is


def debugging(factory: Callable[[], Any]) -> Callable[[], Any]:
    def make() -> Any:
        loop = factory()
        loop.set_debug(True)
        loop.slow_callback_duration = 1e6  # a busy machine is no news
        return loop

    return make


FACTORIES: dict[str, Callable[[], Any]] = {
    "pyev": pyev.new_event_loop,
    "pyev-debug": debugging(pyev.new_event_loop),
    "asyncio": asyncio.SelectorEventLoop,
    "asyncio-debug": debugging(asyncio.SelectorEventLoop),
}


@pytest.fixture(params=list(FACTORIES))
def factory(request: pytest.FixtureRequest) -> Callable[[], Any]:
    """What makes each event loop, in and out of debug mode."""
    return FACTORIES[request.param]


@pytest.fixture
def aloop(factory: Callable[[], Any]) -> Iterator[Any]:
    """Each event loop, in and out of debug mode."""
    with contextlib.closing(factory()) as loop:
        yield loop


@pytest.fixture(params=["pyev", "pyev-debug"])
def ours(request: pytest.FixtureRequest) -> Iterator[Any]:
    """For what only our loop promises."""
    with contextlib.closing(FACTORIES[request.param]()) as loop:
        yield loop


def spin(loop: Any) -> None:
    """One turn that does not wait."""
    loop.call_soon(loop.stop)
    loop.run_forever()


@pytest.fixture(name="spin")
def _spin() -> Callable[[Any], None]:
    return spin


@pytest.fixture
def errors(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """What the test's loop told its exception handler."""
    seen: list[dict[str, Any]] = []
    name = "aloop" if "aloop" in request.fixturenames else "ours"
    loop = request.getfixturevalue(name)
    loop.set_exception_handler(lambda loop, context: seen.append(context))
    return seen


# Kinds of watchers


class Kind:
    """One kind of watcher, and leading arguments with which it can be made and started."""

    leading: ClassVar = {
        "Io": ("fd", "events"),
        "Timer": ("after", "repeat"),
        "Periodic": ("offset", "interval"),
        "Scheduler": ("scheduler",),
        "Signal": ("signum",),
        "Child": ("pid", "trace"),
        "Stat": ("path", "interval"),
        "Idle": (),
        "Prepare": (),
        "Check": (),
        "Embed": ("other",),
        "Fork": (),
        "Async": (),
        "Cleanup": (),
    }

    def __init__(self, name: str, tmp_path: Path, stack: contextlib.ExitStack) -> None:
        self.name = name
        self.cls: type[pyev.Watcher[Any]] = getattr(pyev, name)
        self.factory = {"Async": "async_"}.get(name, name.lower())
        self.names = self.leading[name]
        self.event = getattr(pyev, f"EV_{name.upper()}", pyev.EV_READ)
        if name == "Scheduler":
            self.event = pyev.EV_PERIODIC
        if name == "Io":
            self.event = pyev.EV_READ
        self._tmp_path = tmp_path
        self._stack = stack
        self._args: tuple[Any, ...] | None = None

    @property
    def args(self) -> tuple[Any, ...]:
        if self._args is None:
            self._args = getattr(self, f"_make_{self.name.lower()}", tuple)()
        return self._args

    @property
    def keywords(self) -> dict[str, Any]:
        return dict(zip(self.names, self.args, strict=True))

    def new(self, loop: pyev.Loop, callback: Any, *rest: Any, **kwargs: Any) -> Any:
        return self.cls(*self.args, loop, callback, *rest, **kwargs)

    def make(self, loop: pyev.Loop, callback: Any, *rest: Any, **kwargs: Any) -> Any:
        return getattr(loop, self.factory)(*self.args, callback, *rest, **kwargs)

    def _make_io(self) -> tuple[Any, ...]:
        a, b = socket.socketpair()
        self._stack.enter_context(a)
        self._stack.enter_context(b)
        return (a.fileno(), pyev.EV_READ)

    def _make_timer(self) -> tuple[Any, ...]:
        return (1000.0, 1000.0)

    def _make_periodic(self) -> tuple[Any, ...]:
        return (0.0, 100000.0)

    def _make_scheduler(self) -> tuple[Any, ...]:
        return (lambda watcher, now: now + 1000.0,)

    def _make_signal(self) -> tuple[Any, ...]:
        return (signal.SIGUSR1,)

    def _make_child(self) -> tuple[Any, ...]:
        process = self._stack.enter_context(subprocess.Popen(["sleep", "1000"]))
        self._stack.callback(process.kill)
        return (process.pid, False)

    def _make_stat(self) -> tuple[Any, ...]:
        path = self._tmp_path / "watched"
        path.write_text("x")
        return (str(path), 5.0)

    def _make_embed(self) -> tuple[Any, ...]:
        other = pyev.Loop(pyev.embeddable_backends() & pyev.recommended_backends())
        self._stack.callback(other.close)
        return (other,)

    def __repr__(self) -> str:
        return self.name


KINDS = list(Kind.leading)


@pytest.fixture
def new_kind(tmp_path: Path) -> Iterator[Callable[[str], Kind]]:
    with contextlib.ExitStack() as stack:
        yield lambda name: Kind(name, tmp_path, stack)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, new_kind: Callable[[str], Kind]) -> Kind:
    """Each of the fourteen kinds in turn."""
    return new_kind(request.param)


# Threads


def at_once(count: int, function: Callable[[int], Any], seconds: float = 50) -> list[Any]:
    """Calls function(0), function(1), ... at the same moment, each in a thread of its own.

    What each returned, in that order; what one raised is raised here.
    """
    results: list[Any] = [TimeoutError(f"a thread still runs after {seconds} seconds")] * count
    start = threading.Barrier(count)

    def work(number: int) -> None:
        try:
            start.wait()
            results[number] = ("returned", function(number))
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [value for _, value in results]


@pytest.fixture(name="at_once")
def _at_once() -> Callable[..., list[Any]]:
    return at_once


# Programs


@pytest.fixture
def script() -> Callable[..., str]:
    """Runs a program in an interpreter of its own, warnings being errors; its output."""

    def run(source: str, *args: str, env: dict[str, str] | None = None, status: int = 0) -> str:
        done = subprocess.run(
            [*STRICT, "-c", textwrap.dedent(source), *args],
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        if done.returncode != status:
            pytest.fail(f"ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        if status == 0:
            assert done.stderr == ""
        return done.stdout

    return run
