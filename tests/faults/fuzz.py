"""python fuzz.py SEED COUNT: random walks over everything a loop has, in this process.

Each walk draws its operations from a seed of its own, which it prints before it starts, so that
whatever kills the process can be run again alone: `python fuzz.py SEED 1`. After every operation
the loops are verified. Exceptions of the ordinary kinds are expected; an abort, a hang or anything
else is not.
"""

import contextlib
import errno
import faulthandler
import gc
import logging
import os
import random
import signal
import sys
import warnings
import weakref
from collections.abc import Callable

import fault_kit as kit

import pyev

EXPECTED = (pyev.Error, OSError, ValueError, TypeError, RuntimeError, OverflowError)
EXPECTED_INSIDE = (*EXPECTED, LookupError, AssertionError)


class Dying:
    """A callback, or a file, that has something done when it is let go or asked for its number."""

    def __init__(self, walk: "Walk", callback: Callable[..., object], fd: int = -1) -> None:
        self.walk = walk
        self.callback = callback
        self.fd = fd

    def __call__(self, *arguments: object) -> object:
        return self.callback(*arguments)

    def __del__(self) -> None:
        self.walk.step_inside()

    def fileno(self) -> int:
        self.walk.step_inside()
        return self.fd


class Walk:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.loops: list[pyev.Loop] = []
        self.event_loops: dict[pyev.Loop, pyev.EventLoop] = {}  # what drives some of them
        self.watchers: list[pyev.Watcher] = []
        self.crowd: list[pyev.Watcher] = []
        self.fds: list[int] = []
        self.children: list[int] = []
        self.depth = 0
        self.trace = "PYEV_FUZZ_TRACE" in os.environ
        self.operations = [
            getattr(self, name) for name in sorted(dir(type(self))) if name.startswith("do_")
        ]
        # The ones that keep the walk going are drawn more often.
        self.operations += [self.do_turn, self.do_make, self.do_start, self.do_open] * 4
        self.add_loop()

    # What is drawn from.

    def pick(self, things: list[object]) -> object:
        return self.random.choice(things)

    def loop(self) -> pyev.Loop:
        return self.random.choice(self.loops)

    def watcher(self) -> pyev.Watcher:
        if not self.watchers:
            self.do_make()
        return self.random.choice(self.watchers)

    def fd(self) -> int:
        if not self.fds or self.random.random() < 0.03:
            return self.random.choice([-1, 0, 900, 2**31 - 1])
        return self.random.choice(self.fds)

    def time(self) -> float:
        return self.random.choice([0.0, 0.0, 1e-9, 1e-4, 0.5, 1e3, 1e300, -1.0, float("inf"),
                                   float("nan")])  # fmt: skip

    def add_loop(self) -> None:
        backends = [kit.BACKENDS[name] for name in kit.available() if name != "io_uring"]
        backends += [kit.BACKENDS[kit.backend]] * 2 if kit.backend else []
        flags = self.random.choice(backends)
        if self.random.random() < 0.2:
            flags |= pyev.EVFLAG_FORKCHECK
        if self.random.random() < 0.2:
            flags |= pyev.EVFLAG_SIGNALFD
        if self.random.random() < 0.3:
            event_loop = pyev.EventLoop(flags)
            self.event_loops[event_loop.ev] = event_loop
            self.loops.append(event_loop.ev)
        else:
            self.loops.append(pyev.Loop(flags, debug=self.random.random() < 0.3))
        if self.random.random() < 0.2:  # so many that their memory is fetched ahead
            self.crowd += [self.loops[-1].cleanup(kit.nothing) for _ in range(1024)]

    def callback(self) -> Callable[..., object]:
        plan = self.random.randrange(10)

        def callback(watcher: object, revents: int = 0) -> None:
            if isinstance(watcher, pyev.Io) and plan < 5:
                with contextlib.suppress(OSError, ValueError):
                    os.read(watcher.fd, 4096)
            if plan == 9:
                raise LookupError
            if plan >= 4:
                self.step_inside()

        return Dying(self, callback) if self.random.random() < 0.2 else callback

    def schedule(self) -> Callable[..., object]:
        plan = self.random.randrange(8)

        def schedule(watcher: object, now: float) -> object:
            if plan == 0:
                self.step_inside()
            if plan == 1:
                return now - 1.0
            if plan == 2:
                raise LookupError
            return now + self.random.choice([0.0, 1e-6, 1.0, 1e9])

        return schedule

    # What is done.

    def do_open(self) -> None:
        kind = self.random.randrange(6)
        if kind < 3:
            self.fds += kit.pair()
        elif kind < 5:
            self.fds += kit.pipe()
        else:
            path = self.random.choice([os.devnull, "/", "/etc/passwd"])
            flags = os.O_PATH if self.random.random() < 0.3 else os.O_RDONLY
            self.fds.append(kit.opened(os.open(path, flags)))

    def do_close_fd(self) -> None:
        if self.fds:
            fd = self.random.choice(self.fds)
            if self.random.random() < 0.5:
                self.fds.remove(fd)
            kit.forget(fd)

    def do_dup(self) -> None:
        if self.fds:
            self.fds.append(kit.opened(os.dup(self.random.choice(self.fds))))

    def do_dup2(self) -> None:
        # Only over numbers that are ours: the loops' own would be another test.
        mine = [fd for fd in self.fds if kit.is_ours(fd)]
        if len(mine) > 1:
            one, two = self.random.sample(mine, 2)
            os.dup2(one, two)

    def do_write(self) -> None:
        if self.fds:
            os.write(self.random.choice(self.fds), b"x")

    def do_make(self) -> None:
        loop, callback, draw = self.loop(), self.callback(), self.random
        priority = draw.choice([0, 0, 0, 2, -2, 1, -1, 5, -(2**31)])
        match draw.randrange(16):
            case 0 | 1 | 2:
                fd: int | Dying = self.fd()
                if draw.random() < 0.2:
                    fd = Dying(self, kit.nothing, fd)
                made: pyev.Watcher = loop.io(fd, draw.randrange(4), callback)
            case 3 | 4:
                made = loop.timer(self.time(), self.time(), callback)
            case 5:
                made = loop.periodic(self.time(), self.time(), callback)
            case 6:
                made = loop.scheduler(self.schedule(), callback)
            case 7:
                made = loop.signal(draw.choice([10, 12, 17, 34]), callback)
            case 8:
                path = draw.choice(["/", "/nonexistent/x", "/proc/self", "/tmp"])
                made = loop.stat(path, 1000.0, callback)
            case 9:
                made = loop.embed(self.loop(), None if draw.random() < 0.5 else callback)
            case 10:
                made = loop.async_(callback)
            case 11:
                if len(self.children) > 20:
                    return
                pid = os.fork()
                if not pid:
                    os._exit(3)
                self.children.append(pid)
                made = loop.child(pid, False, callback)
            case 12:
                number = None if draw.random() < 0.5 else self.fd()
                made = loop.once(number, draw.randrange(4), self.time(), callback)
            case _:
                made = getattr(loop, draw.choice(["idle", "prepare", "check", "fork", "cleanup"]))(
                    callback
                )
        made.data = made if draw.random() < 0.2 else None
        if draw.random() < 0.3:
            made.priority = priority
        made.keepalive = draw.random() < 0.9
        weakref.finalize(made, self.step_inside).atexit = False
        self.watchers.append(made)
        if len(self.watchers) > 40:
            self.do_drop()

    def do_start(self) -> None:
        self.watcher().start()

    def do_stop(self) -> None:
        self.watcher().stop()

    def do_drop(self) -> None:
        if self.watchers:
            self.watchers.pop(self.random.randrange(len(self.watchers)))

    def do_collect(self) -> None:
        if self.random.random() < 0.1:
            gc.collect()

    def do_feed(self) -> None:
        self.watcher().feed(self.random.choice([1, 2, 3, pyev.EV_CUSTOM, pyev.EV_ERROR, 0, -1]))

    def do_feed_many(self) -> None:
        for watcher in self.watchers:
            with contextlib.suppress(EXPECTED):
                watcher.feed(pyev.EV_CUSTOM)

    def do_invoke(self) -> None:
        self.watcher().invoke(self.random.choice([1, pyev.EV_CUSTOM, pyev.EV_ERROR]))

    def do_clear(self) -> None:
        self.watcher().clear()

    def do_priority(self) -> None:
        self.watcher().priority = self.random.randrange(-4, 5)

    def do_keepalive(self) -> None:
        watcher = self.watcher()
        watcher.keepalive = not watcher.keepalive

    def do_set(self) -> None:
        watcher = self.watcher()
        if isinstance(watcher, pyev.Io):
            watcher.set(self.fd(), self.random.randrange(4))
        elif isinstance(watcher, pyev.Timer | pyev.Periodic):
            watcher.set(self.time(), self.time())
        elif isinstance(watcher, pyev.Signal):
            watcher.set(self.random.choice([10, 12, 34, 0]))
        elif isinstance(watcher, pyev.Embed):
            watcher.set(self.loop())
        elif isinstance(watcher, pyev.Stat):
            watcher.set("/tmp", 500.0)

    def do_write_attribute(self) -> None:
        watcher = self.watcher()
        if isinstance(watcher, pyev.Timer):
            watcher.repeat = self.time()
        elif isinstance(watcher, pyev.Periodic):
            setattr(watcher, self.random.choice(["offset", "interval"]), self.time())
        elif isinstance(watcher, pyev.Scheduler):
            watcher.scheduler = self.schedule()
        watcher.callback = self.callback()

    def do_init(self) -> None:
        watcher = self.watcher()
        if isinstance(watcher, pyev.Io):
            watcher.__init__(self.fd(), 1, self.loop(), self.callback())
        elif isinstance(watcher, pyev.Timer):
            watcher.__init__(self.time(), self.time(), self.loop(), self.callback())
        elif isinstance(watcher, pyev.Idle | pyev.Prepare | pyev.Check | pyev.Fork | pyev.Async):
            watcher.__init__(self.loop(), self.callback())

    def do_special(self) -> None:
        watcher = self.watcher()
        for name in ("reset", "sweep", "send", "stat"):
            if hasattr(watcher, name):
                getattr(watcher, name)()

    def do_read(self) -> None:
        watcher = self.watcher()
        repr(watcher)
        for name in ("remaining", "at", "sent", "active", "pending", "current", "previous"):
            getattr(watcher, name, None)

    def do_turn(self) -> None:
        loop = self.loop()
        if event_loop := self.event_loops.get(loop):
            event_loop.call_soon(event_loop.stop)
            event_loop.run_forever()
        elif loop.depth < 4:
            loop.start(kit.NOWAIT)

    def do_once(self) -> None:
        # Blocking is safe with something sure to come, and again where an inner run has had it.
        loop = self.loop()
        if loop.depth < 4:
            with loop.timer(1e-4, 1e-4, kit.nothing):
                loop.start(kit.ONCE)

    def do_loop_stop(self) -> None:
        self.loop().stop(self.random.choice([0, 1, 2]))

    def do_loop_invoke(self) -> None:
        self.loop().invoke()

    def do_loop_update(self) -> None:
        self.loop().update()

    def do_loop_suspend(self) -> None:
        loop = self.loop()
        loop.suspend()
        loop.resume()

    def do_loop_reset(self) -> None:
        if self.random.random() < 0.3:
            self.loop().reset()

    def do_loop_callback(self) -> None:
        def callback(loop: pyev.Loop) -> None:
            self.step_inside()
            loop.invoke()

        self.loop().callback = callback if self.random.random() < 0.3 else None

    def do_loop_feed(self) -> None:
        self.loop().feed_fd_event(self.fd(), self.random.randrange(4))
        self.loop().feed_signal_event(self.random.choice([10, 12, 17]))

    def do_signal(self) -> None:
        pyev.feed_signal(self.random.choice([10, 12, 17, 34]))

    def do_loop_make(self) -> None:
        if len(self.loops) < 4:
            self.add_loop()

    def do_loop_close(self) -> None:
        if self.random.random() < 0.15:
            loop = self.loop()
            self.event_loops.get(loop, loop).close()
            self.loops.remove(loop)
            self.event_loops.pop(loop, None)
            if not self.loops:
                self.add_loop()

    def do_loop_drop(self) -> None:
        if self.random.random() < 0.1 and len(self.loops) > 1:
            loop = self.loops.pop(self.random.randrange(len(self.loops)))
            self.event_loops.pop(loop, None)

    def do_fork(self) -> None:
        if self.random.random() < 0.02:
            pid = os.fork()
            if not pid:
                for loop in list(self.loops):
                    for _ in range(3):
                        with contextlib.suppress(EXPECTED_INSIDE):
                            loop.start(kit.NOWAIT)
                os._exit(0)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if status:
                sys.exit(f"the child of a fork ended with {status}")

    # What an event loop has beside.

    def event_loop(self) -> pyev.EventLoop:
        if not self.event_loops:
            raise LookupError
        return self.random.choice(list(self.event_loops.values()))

    def do_reader(self) -> None:
        event_loop, fd = self.event_loop(), self.fd()
        match self.random.randrange(4):
            case 0:
                event_loop.add_reader(fd, self.callback(), None)
            case 1:
                event_loop.add_writer(fd, self.callback(), None)
            case 2:
                event_loop.remove_reader(fd)
            case 3:
                event_loop.remove_writer(fd)

    def do_call(self) -> None:
        event_loop = self.event_loop()
        match self.random.randrange(4):
            case 0:
                event_loop.call_soon(self.callback(), None)
            case 1:
                event_loop.call_soon_threadsafe(self.callback(), None)
            case 2:
                event_loop.call_later(self.time(), self.callback(), None)
            case 3:
                event_loop.call_later(0.0, self.callback(), None).cancel()

    def do_await(self) -> None:
        event_loop, callback = self.event_loop(), self.callback()

        async def wait() -> None:
            watcher = event_loop.ev.io(self.fd(), self.random.randrange(1, 4))
            self.watchers.append(watcher)
            async for revents in watcher:
                callback(watcher, revents)

        task = event_loop.create_task(wait())
        event_loop.call_later(self.random.choice([0.0, 1e-4]), task.cancel)

    # The walk.

    def step_inside(self) -> None:
        """In the midst of something else."""
        if self.depth < 4:
            self.step()

    def step(self) -> None:
        operation = self.random.choice(self.operations)
        if self.trace:
            os.write(2, b"  " * self.depth + operation.__name__.encode() + b"\n")
        self.depth += 1
        try:
            operation()
        except OSError as error:
            assert error.errno != errno.EFAULT
        except EXPECTED_INSIDE:
            pass
        finally:
            self.depth -= 1
        for loop in list(self.loops):
            with contextlib.suppress(RuntimeError, pyev.Error):
                loop.verify()

    def end(self) -> None:
        self.depth = 4  # nothing more is done by what goes
        self.watchers.clear()
        self.crowd.clear()
        for loop in self.loops:
            for _ in range(20):
                try:
                    self.event_loops.get(loop, loop).close()
                    break
                except EXPECTED_INSIDE:
                    pass
        self.loops.clear()
        self.event_loops.clear()
        gc.collect()
        for pid in self.children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def main() -> None:
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    steps = int(os.environ.get("PYEV_FUZZ_STEPS", "300"))
    warnings.simplefilter("ignore")
    logging.disable()
    sys.unraisablehook = lambda args: None
    # What signals do where no watcher takes them.
    for signum in (10, 12, 34):
        signal.signal(signum, signal.SIG_IGN)
    before = set(kit.open_fds())
    for number in range(seed, seed + count):
        print(number, flush=True)
        faulthandler.dump_traceback_later(60, exit=True)
        walk = Walk(number)
        for _ in range(steps):
            walk.step()
        walk.end()
        del walk
        kit.clean_up()
        left = set(kit.open_fds()) - before
        assert not left, f"seed {number} left open: {[kit.open_fds().get(fd) for fd in left]}"
    faulthandler.cancel_dump_traceback_later()
    print("ok", flush=True)


if __name__ == "__main__":
    main()
