"""Does something 100,000 times (10,000 under sanitizers), and finds whether anything grew.

After a warm-up of a tenth of that, and with everything collected, these must be what they were:
the bytes that malloc has given out (Python's own objects included: PYTHONMALLOC=malloc), the
objects the collector knows, the references to everything involved, the open descriptors. Resident
memory may not grow by more than an allocator may be untidy.
"""

import contextlib
import ctypes
import functools
import gc
import os
import sys
import sysconfig
import time
import warnings
from collections.abc import Callable, Sequence

import pyev

SANITIZED = "PYEV_SANITIZED" in os.environ
COUNT = int(os.environ.get("PYEV_LEAK_COUNT", "10000" if SANITIZED else "100000"))
# Over all of a run: a hash table resized, a free list filled. A leak of one object is megabytes,
# or hundreds of kilobytes in fewer times.
BYTES = 128 * 1024 if SANITIZED else 256 * 1024
# Without a GIL, Python has an allocator of its own that tells of blocks only; this is a small one.
BLOCK = 64 if sysconfig.get_config_var("Py_GIL_DISABLED") else 0
OBJECTS = 20
RESIDENT = 3 * 1024 * 1024

BACKENDS = {
    "select": pyev.EVBACKEND_SELECT,
    "poll": pyev.EVBACKEND_POLL,
    "epoll": pyev.EVBACKEND_EPOLL,
    "kqueue": pyev.EVBACKEND_KQUEUE,
    "port": pyev.EVBACKEND_PORT,
    "linuxaio": pyev.EVBACKEND_LINUXAIO,
    "io_uring": pyev.EVBACKEND_IOURING,
}
# Every asyncio loop asks for this, and so adds its names to the table of interned strings for a
# moment: after some thousand times that makes itself anew, and half a megabyte larger.
CLOCK = time.get_clock_info("monotonic")
FLAGS = BACKENDS.get(os.environ.get("PYEV_LEAK_BACKEND", ""), 0)


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    ]


def allocated() -> int:
    """Bytes that malloc has given out; 0 where it cannot tell."""
    libc = ctypes.CDLL(None)
    try:
        if SANITIZED:
            of_asan = libc.__sanitizer_get_current_allocated_bytes
            of_asan.restype = ctypes.c_size_t
            return int(of_asan())
        mallinfo2 = libc.mallinfo2
    except AttributeError:
        return 0
    mallinfo2.restype = _Mallinfo
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd) + (BLOCK * sys.getallocatedblocks() if BLOCK else 0)


def resident() -> int:
    if SANITIZED:
        return 0  # Freed memory is kept in quarantine.
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def descriptors() -> int:
    for directory in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return len(os.listdir(directory))
    return 0


def nothing(watcher: pyev.Watcher, revents: int) -> None:
    """A callback."""


def failing(watcher: pyev.Watcher, revents: int) -> None:
    raise LookupError


def refused(function: Callable[[], object]) -> None:
    try:
        function()
    except Exception:
        return
    raise SystemExit(f"{function} was let pass")


class Data:
    """Something to be kept by watchers, counted by references to it."""


class Probe:
    def __init__(self) -> None:
        warnings.simplefilter("ignore", ResourceWarning)  # Active watchers are let go on purpose.
        sys.unraisablehook = lambda arguments: None
        gc.disable()  # Collected where this says so, or it would depend on chance.
        gc.freeze()  # And without a look at all that was imported.
        try:
            self.loop = pyev.Loop(FLAGS)
        except (pyev.Error, OSError):
            print("not here")
            sys.exit()
        self.data = Data()
        self.involved: list[object] = [self.loop, self.data, nothing, failing, pyev.Error]
        self.problems: list[str] = []

    def measure(self) -> tuple[dict[str, int], list[int]]:
        for _ in range(3):
            gc.collect()
        counts = {
            "bytes": allocated(),
            "objects": len(gc.get_objects()),
            "resident": resident(),
            "descriptors": descriptors(),
        }
        return counts, [sys.getrefcount(thing) for thing in self.involved]

    def run(
        self, name: str, way: Callable[[], object], count: int = COUNT, spare: int = BYTES
    ) -> None:
        """`way`, over and over, must leave nothing behind. spare: bytes that others may keep."""
        blocks = 10
        for block in range(blocks + 1):
            if block == 1:
                before, before_references = self.measure()
            for number in range(count // blocks):
                way()
                if not number % 500:
                    gc.collect()
                    # What is dropped while pending keeps its place in libev's list until then.
                    with contextlib.suppress(LookupError):
                        self.loop.start(pyev.EVRUN_NOWAIT)
        after, after_references = self.measure()
        limits = {
            "bytes": max(BYTES, spare),
            "objects": OBJECTS,
            "resident": RESIDENT,
            "descriptors": 0,
        }
        for what, limit in limits.items():
            if after[what] - before[what] > limit:
                self.problems.append(f"{name}: {what} {before[what]} -> {after[what]}")
        for thing, was, now in zip(self.involved, before_references, after_references, strict=True):
            if was != now:
                self.problems.append(f"{name}: references to {thing!r} {was} -> {now}")
        grown = {what: after[what] - before[what] for what in limits}
        print(f"{name:34} {count:7} times: {grown}", file=sys.stderr, flush=True)

    def watcher(
        self,
        make: Callable[[Callable[[pyev.Watcher, int], None], object], pyev.Watcher],
        again: Callable[[pyev.Watcher], None] | None = None,
        wrong: Sequence[Callable[[], object]] = (),
        keeps: Sequence[object] = (),
    ) -> None:
        """The ways that a watcher of any kind may live and die. `make(callback, data)` makes one,
        `again` runs its __init__ again, each of `wrong` raises."""
        self.involved += [*keeps, type(make(nothing, None))]
        loop, data = self.loop, self.data

        def made() -> None:
            make(nothing, data)

        def started_and_stopped() -> None:
            watcher = make(nothing, data)
            watcher.start()
            watcher.stop()

        kept = make(nothing, data)

        def started_and_stopped_again() -> None:
            kept.start()
            kept.stop()

        def died_active() -> None:
            make(nothing, data).start()

        def died_pending() -> None:
            watcher = make(nothing, data)
            watcher.start()
            watcher.feed(pyev.EV_CUSTOM)

        def died_in_a_cycle() -> None:
            watcher = make(nothing, None)
            watcher.data = watcher
            watcher.start()

        def died_in_a_cycle_with_its_callback() -> None:
            holder: list[object] = [data]
            watcher = make(lambda w, revents: holder, holder)
            holder.append(watcher)
            watcher.start()

        def fed() -> None:
            kept.feed(pyev.EV_CUSTOM)
            loop.start(pyev.EVRUN_NOWAIT)

        raising = make(failing, data)

        def raised() -> None:
            raising.feed(pyev.EV_CUSTOM)
            loop.start(pyev.EVRUN_NOWAIT)

        def raised_out_of_start() -> None:
            loop.debug = True
            raising.feed(pyev.EV_CUSTOM)
            with contextlib.suppress(LookupError):
                loop.start(pyev.EVRUN_NOWAIT)
            loop.debug = False

        def erroneous() -> None:
            kept.feed(pyev.EV_ERROR)
            with contextlib.suppress(pyev.Error, OSError):
                loop.start(pyev.EVRUN_NOWAIT)

        def changed() -> None:
            kept.data = Data()
            kept.data = data
            kept.callback = lambda w, revents: None
            kept.callback = nothing
            kept.priority = 2
            kept.priority = 0
            kept.keepalive = False
            kept.keepalive = True
            repr(kept)
            with contextlib.suppress(TypeError):
                del kept.callback

        def inside() -> None:
            with make(nothing, data):
                pass

        def half_made() -> None:
            watcher = type(kept).__new__(type(kept))
            with contextlib.suppress(pyev.Error, TypeError):
                watcher.start()

        subclass = type("Subclass", (type(kept),), {})

        def subclassed() -> None:
            watcher = subclass.__new__(subclass)
            watcher.attribute = watcher

        ways = [
            made, started_and_stopped, started_and_stopped_again, died_active, died_pending,
            died_in_a_cycle, died_in_a_cycle_with_its_callback, fed, raised, raised_out_of_start,
            erroneous, changed, inside, half_made, subclassed,
        ]  # fmt: skip
        if again is not None:

            def again_and_again() -> None:
                again(kept)

            ways.append(again_and_again)
        for way in ways:
            self.run(way.__name__, way)
        for number, function in enumerate(wrong):
            self.run(f"refused {number}", functools.partial(refused, function))

    def end(self) -> None:
        self.loop.close()
        if self.problems:
            sys.exit("\n".join(["leaks:", *self.problems]))
        print("ok")
