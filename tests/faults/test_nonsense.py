"""Types built by hand or given nonsense, and every attribute and method of theirs used."""

import contextlib
import gc
import os
import sys
import threading

import fault_kit as kit
from fault_harness import scenario

import pyev

KINDS = ["Io", "Timer", "Periodic", "Scheduler", "Signal", "Child", "Stat", "Idle", "Prepare"]
KINDS += ["Check", "Embed", "Fork", "Async", "Cleanup", "Once", "Watcher", "Loop", "StatResult"]

# What is answered to nonsense: an ordinary exception, never an internal one.
ORDINARY = (
    TypeError, ValueError, OverflowError, AttributeError, pyev.Error, OSError, RuntimeError,
    KeyError, IndexError, ZeroDivisionError,
)  # fmt: skip


class Evil:
    """Answers every question with an error."""

    def fail(self, *args: object) -> object:
        raise ZeroDivisionError

    __float__ = __index__ = __int__ = __bool__ = __len__ = __call__ = __hash__ = fail  # type: ignore[assignment]
    __eq__ = __lt__ = __iter__ = __getitem__ = __fspath__ = __enter__ = fileno = fail  # type: ignore[assignment]


def nonsense(loop: pyev.Loop) -> list[object]:
    values: list[object] = [
        None, True, -1, 0, 1, 2, 3, 2**31, -(2**31), 2**63, 10**400, 0.0, -1.0, 1e308,
        float("nan"), float("inf"), "", "x", "\0", "\udc80", b"", b"\0", "x" * 100_000, (), [], {},
        (1, 2), int, type, len, kit.nothing, object(), Evil(), Evil, lambda: None, loop, sys,
        pyev.Timer, pyev.Watcher, ...,
    ]  # fmt: skip
    return values


def half(kind: str) -> object:
    cls = getattr(pyev, kind)
    try:
        return cls.__new__(cls)
    except TypeError:
        return None  # Made by the module only.


def poke(target: object, values: list[object], skipped: tuple[str, ...] = ()) -> int:
    """Reads, writes, deletes and calls everything of it; how many exceptions that made."""
    count = 0

    def attempt(function: object, *arguments: object, **keywords: object) -> object:
        nonlocal count
        try:
            return function(*arguments, **keywords)  # type: ignore[operator]
        except ORDINARY:
            count += 1
        return None

    for name in dir(type(target)):
        if name in skipped or name in ("__class__", "__del__", "__subclasshook__"):
            continue
        if name.startswith("__") and name not in (
            "__repr__", "__str__", "__enter__", "__exit__", "__hash__", "__eq__", "__sizeof__",
            "__reduce__", "__reduce_ex__", "__getstate__", "__dir__", "__doc__", "__init__",
        ):  # fmt: skip
            continue
        method = attempt(getattr, target, name)
        if callable(method):
            attempt(method)
            for value in values:
                attempt(method, value)
                attempt(method, value, value)
            for arguments in zip(values, values[1:], values[2:], strict=False):
                attempt(method, *arguments)
                attempt(method, *arguments, *arguments)
            attempt(method, unknown=1)
            attempt(method, callback=None)
        if not name.startswith("__"):
            for value in values:
                attempt(setattr, target, name, value)
                attempt(getattr, target, name)
            attempt(delattr, target, name)
            attempt(getattr, target, name)
    attempt(repr, target)
    attempt(gc.get_referents, target)
    return count


@scenario("C47", backends="any", kind=KINDS)
def test_built_by_new_only(kind: str) -> None:
    with kit.new_loop() as loop:
        target = half(kind)
        if target is None:
            assert kind in ("Once", "Watcher", "StatResult")
            return
        values = nonsense(loop)
        values = [v for v in values if v is not loop]
        with kit.Unraisable():
            # Calling start() of what is by then a whole loop would block.
            skipped = ("start",) if kind == "Loop" else ()
            assert poke(target, values, skipped)
            fresh = half(kind)
            if kind == "Loop":
                for method in ("start", "invoke", "reset", "now", "update", "verify", "stop"):
                    kit.raises((pyev.Error, TypeError), getattr(fresh, method))
                kit.raises((pyev.Error, TypeError), pyev.Timer, 0.0, 0.0, fresh, kit.never)
                kit.raises((pyev.Error, TypeError), loop.embed, fresh)
                fresh.close()  # type: ignore[union-attr]
            else:
                for method in ("start", "invoke", "feed"):
                    arguments = () if method == "start" else (1,)
                    kit.raises((pyev.Error, TypeError), getattr(fresh, method), *arguments)
            with kit.dropping():
                del target, fresh
        with kit.new_loop() as other:
            kit.works(other)


@scenario("C47", backends="any", kind=KINDS[:14], state=["idle", "active", "pending", "dead"])
def test_whole_ones_given_nonsense(kind: str, state: str) -> None:
    loop, embedded = kit.new_loop(), pyev.Loop(pyev.EVBACKEND_EPOLL)
    fd, _ = kit.pair()
    child = os.fork()
    if not child:
        os._exit(0)
    arguments: dict[str, tuple[object, ...]] = {
        "Io": (fd, 1),
        "Timer": (1000.0, 0.0),
        "Periodic": (0.0, 1e6),
        "Scheduler": (lambda w, now: now + 1e6,),
        "Signal": (10,),
        "Child": (child, False),
        "Stat": ("/", 1e3),
        "Embed": (embedded,),
    }
    watcher = getattr(pyev, kind)(*arguments.get(kind, ()), loop, kit.nothing)
    if state != "idle":
        watcher.start()
    if state == "pending":
        watcher.feed(pyev.EV_CUSTOM)
    if state == "dead":
        loop.close()
    values = nonsense(loop)
    with kit.Unraisable():
        assert poke(watcher, values)
        if not loop.closed:
            with contextlib.suppress(ORDINARY):
                watcher.callback = kit.nothing
            loop.verify()
            watcher.stop()
            kit.drain(loop)
            kit.works(loop)
        with kit.dropping():
            del watcher
    os.waitpid(-1, os.WNOHANG)
    loop.close()
    embedded.close()


@scenario("C47")
def test_a_whole_loop_given_nonsense() -> None:
    with kit.new_loop() as loop:
        keep = loop.timer(0.001, 0.001, lambda w, revents: w.loop.stop(pyev.EVBREAK_ALL))
        keep.start()
        values = nonsense(loop)
        with kit.Unraisable(), kit.dropping():
            assert poke(loop, values, ("close", "__exit__", "suspend", "unref", "ref", "sleep"))
            loop.callback = None
            loop.io_interval = loop.timeout_interval = 0.0
            loop.debug = False
        keep.stop()
        kit.drain(loop)
        kit.works(loop)


@scenario("C47", backends="any")
def test_module_functions_given_nonsense() -> None:
    with kit.new_loop() as loop:
        values = nonsense(loop)
        for name in ("version", "abi_version", "time", "supported_backends", "feed_signal",
                     "recommended_backends", "embeddable_backends"):  # fmt: skip
            function = getattr(pyev, name)
            for value in values:
                with contextlib.suppress(ORDINARY):
                    function(value)
        for value in (-1.0, "x", None, float("nan"), Evil(), -0.5, 10**400):
            kit.raises(ORDINARY, pyev.sleep, value)
        pyev.sleep(0)
        kit.works(loop)


@scenario("C47", backends="any", kind=KINDS)
def test_subclasses_that_forget_their_base(kind: str) -> None:
    base = getattr(pyev, kind)
    try:
        forgetful = type("Forgetful", (base,), {"__init__": lambda self, *args: None})
    except TypeError:
        return  # It is final.
    try:
        target = forgetful()
    except TypeError:
        assert kind == "Watcher"
        return
    with kit.Unraisable():
        for method in ("start", "stop", "clear", "reset", "close", "now"):
            with contextlib.suppress(ORDINARY):
                getattr(target, method)()
        repr(target)
        with kit.dropping():
            del target


@scenario("C47", backends="any", kind=KINDS[:14])
def test_a_constructor_that_fails_half_way(kind: str) -> None:
    with kit.new_loop() as loop:
        cls = getattr(pyev, kind)
        watcher = cls.__new__(cls)
        for value in nonsense(loop):
            for arguments in (
                (), (value,), (value, value), (value, value, loop, kit.nothing),
                (value, loop, kit.nothing), (loop, value), (loop, kit.nothing, 1, value),
                (1, 1, value, kit.nothing), (1, 1, loop, value),
            ):  # fmt: skip
                with contextlib.suppress(ORDINARY):
                    watcher.__init__(*arguments)
            with kit.Unraisable(), contextlib.suppress(ORDINARY):
                watcher.start()
            repr(watcher)
            with contextlib.suppress(ORDINARY):
                watcher.stop()
        with kit.Unraisable():
            for error in kit.drain(loop):
                assert isinstance(error, ORDINARY), repr(error)
        with kit.dropping():
            del watcher
        kit.works(loop)


@scenario("C47", backends="any")
def test_wrong_owners_and_wrong_selves() -> None:
    with kit.new_loop() as loop:
        timer = loop.timer(1.0, 0.0, kit.nothing)
        for kind in KINDS[:14]:
            cls = getattr(pyev, kind)
            for name in dir(cls):
                member = getattr(cls, name)
                if name.startswith("__") or not callable(member):
                    continue
                for wrong in (None, 1, object(), loop, cls, pyev.Loop):
                    if True:
                        kit.raises(TypeError, member, wrong)
        for name in ("start", "close", "stop", "now"):
            kit.raises(TypeError, getattr(pyev.Loop, name), timer)
        for wrong in (None, 1, object(), timer, pyev.Loop):
            kit.raises(TypeError, pyev.Timer, 1.0, 0.0, wrong, kit.nothing)
        timer.start()
        try:
            timer.__class__ = pyev.Idle
        except TypeError:
            pass
        else:
            raise AssertionError("a running Timer became an Idle")
        timer.stop()
        kit.works(loop)


@scenario("C47", backends="any")
def test_nobody_can_change_the_types() -> None:
    for kind in KINDS:
        cls = getattr(pyev, kind)
        for name in ("start", "stop", "__init__", "loop"):
            try:
                delattr(cls, name)
            except (TypeError, AttributeError):
                continue
            raise AssertionError(f"{kind}.{name} was deleted")
    try:
        type("Both", (pyev.Io, pyev.Timer), {})
    except TypeError:
        pass
    else:
        raise AssertionError("an Io and a Timer in one")


@scenario("C47", "C42")
def test_init_again_and_again_on_a_loop() -> None:
    loop = kit.new_loop()
    keep = loop.timer(1.0, 1.0, kit.nothing)
    keep.start()
    for _ in range(10):
        with contextlib.suppress(pyev.Error, TypeError, RuntimeError):
            loop.__init__(kit.BACKENDS[kit.backend])
        loop.verify()
    keep.stop()
    loop.close()
    try:
        loop.__init__()
    except (pyev.Error, TypeError, RuntimeError):
        assert loop.closed
    loop.close()


@scenario("C47", "C42", backends="any")
def test_init_from_a_thread_or_a_callback_while_it_is_used() -> None:
    with kit.new_loop() as loop:

        def again(watcher: pyev.Timer, revents: int) -> None:
            watcher.__init__(0.0, 0.0, loop, kit.nothing)
            watcher.start()

        timer = loop.timer(0.0, 0.0, again)
        timer.start()
        kit.until(loop, lambda: not timer.active and not timer.pending, most=10)
        stop = threading.Event()

        def meddle() -> None:
            while not stop.is_set():
                for function in (
                    lambda: timer.__init__(0.0, 0.0, loop, kit.nothing),
                    timer.start,
                    timer.stop,
                    lambda: timer.set(0.0, 0.0),
                    lambda: setattr(timer, "priority", 1),
                    lambda: setattr(timer, "data", object()),
                    lambda: setattr(timer, "callback", kit.nothing),
                ):
                    with contextlib.suppress(RuntimeError, pyev.Error):
                        function()

        thread = threading.Thread(target=meddle)
        thread.start()
        for _ in range(300):
            with contextlib.suppress(RuntimeError):
                loop.start(kit.NOWAIT)
        stop.set()
        thread.join()
        timer.stop()
        kit.works(loop)


@scenario("C47", backends="any")
def test_deep_and_wide_cycles_are_collected() -> None:
    with kit.new_loop() as loop:
        for kind in ("timer", "idle", "async_"):
            arguments = (1.0, 1.0) if kind == "timer" else ()
            chain: object = None
            for _ in range(20_000):
                chain = getattr(loop, kind)(*arguments, kit.nothing, chain)
            del chain
        gc.collect()
        kit.works(loop)
