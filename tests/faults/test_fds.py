"""Descriptors that are wrong from the start, die under their watchers, or come back as others."""

import errno
import fcntl
import os
import resource
import tempfile
import threading

import fault_kit as kit
from fault_harness import scenario

import pyev
from pyev import EV_ERROR, EV_READ, EV_WRITE

# Where in a turn the descriptor dies.
PLACES = [
    "before the first turn",
    "between turns",
    "in prepare",
    "in the last prepare",
    "in check",
    "in idle",
    "in timer",
    "in io",
    "in async",
    "in once",
    "in fork",
    "in periodic",
    "in the loop's callback",
    "in its own callback",
]


def close_at(place: str, loop: pyev.Loop, victim: pyev.Io, other_end: int) -> list[pyev.Watcher]:
    """Arranges for the victim's descriptor to be closed there; the watchers that do it."""
    done: list[bool] = []

    def close(*args: object) -> None:
        if not done:
            done.append(True)
            os.close(victim.fd)

    def start(watcher: pyev.Watcher) -> list[pyev.Watcher]:
        watcher.start()
        return [watcher]

    match place:
        case "before the first turn":
            close()
        case "between turns":
            kit.turns(loop, 2)
            close()
        case "in prepare":
            return start(loop.prepare(close, None, 2))
        case "in the last prepare":
            return start(loop.prepare(close, None, -2))
        case "in check":
            return start(loop.check(close))
        case "in idle":
            return start(loop.idle(close, None, 2))
        case "in timer":
            return start(loop.timer(0.0, 0.0, close))
        case "in io":
            r, w = kit.pipe()
            os.write(w, b"x")
            return start(loop.io(r, EV_READ, close, None, 2))
        case "in async":
            watcher = loop.async_(close)
            watcher.start()
            watcher.send()
            return [watcher]
        case "in once":
            r, w = kit.pipe()
            return [loop.once(w, EV_WRITE, None, close)]
        case "in fork":
            watchers = start(loop.fork(close))
            loop.reset()
            return watchers
        case "in periodic":
            return start(loop.periodic(loop.now(), 0.0, close))
        case "in the loop's callback":

            def callback(loop: pyev.Loop) -> None:
                close()
                loop.invoke()

            loop.callback = callback
            return start(loop.timer(0.0, 0.0, kit.nothing))
        case "in its own callback":
            victim.callback = close
            os.write(other_end, b"x")
        case _:
            raise AssertionError(place)
    return []


# 1. Wrong from the start.


@scenario("A1", fd=[-1, -2, -(2**31)])
def test_a_negative_fd_is_a_value_error(fd: int) -> None:
    with kit.new_loop() as loop:
        kit.raises(ValueError, loop.io, fd, EV_READ, kit.never)
        watcher = loop.io(0, EV_READ, kit.never)
        kit.raises(ValueError, watcher.set, fd, EV_READ)
        kit.raises(ValueError, watcher.__init__, fd, EV_READ, loop, kit.never)
        kit.raises(ValueError, loop.once, fd, EV_READ, None, kit.never)
        assert watcher.fd == 0 and not watcher.active
        kit.works(loop)


@scenario("A1")
def test_a_closed_fd_is_refused_at_start() -> None:
    with kit.new_loop() as loop:
        fd = kit.closed()
        for events in (EV_READ, EV_WRITE, EV_READ | EV_WRITE, 0):
            watcher = loop.io(fd, events, kit.never)
            kit.bad_fd(watcher.start)
            assert not watcher.active and not watcher.pending
            kit.turns(loop)
        kit.bad_fd(loop.once, fd, EV_READ, None, kit.never)
        kit.bad_fd(loop.once, fd, EV_READ, 0.0, kit.never)
        kit.bad_fd(loop.io(fd, EV_READ, kit.never).__enter__)
        kit.works(loop)


@scenario("A1", fd=[1023, 1024, 99_999, 2**20, 2**31 - 1])
def test_a_number_never_opened_is_refused_at_start(fd: int) -> None:
    with kit.new_loop() as loop:
        watcher = loop.io(fd, EV_READ, kit.never)
        kit.bad_fd(watcher.start)
        kit.bad_fd(watcher.start)
        loop.feed_fd_event(fd, EV_READ)
        kit.works(loop)


@scenario("A1", fd=[2**31, -(2**31) - 1, 2**63, -(2**63) - 1, 10**40])
def test_a_number_no_int_holds_overflows(fd: int) -> None:
    with kit.new_loop() as loop:
        watcher = loop.io(0, EV_READ, kit.never)
        for function in (
            lambda: loop.io(fd, EV_READ, kit.never),
            lambda: watcher.set(fd, EV_READ),
            lambda: loop.once(fd, EV_READ, None, kit.never),
            lambda: loop.feed_fd_event(fd, EV_READ),
            lambda: loop.io(0, fd, kit.never),
        ):
            kit.raises((OverflowError, ValueError, pyev.Error), function)
        kit.works(loop)


@scenario("A1")
def test_set_to_a_closed_fd() -> None:
    with kit.new_loop() as loop:
        r, w = kit.pipe()
        watcher = loop.io(r, EV_READ, kit.never)
        watcher.start()
        kit.turns(loop)
        watcher.stop()
        watcher.set(kit.closed(), EV_READ)
        kit.bad_fd(watcher.start)
        watcher.__init__(kit.closed(), EV_READ, loop, kit.never)
        kit.bad_fd(watcher.start)
        log = kit.Log(kit.reader)
        watcher.__init__(r, EV_READ, loop, log)
        watcher.start()
        os.write(w, b"x")
        kit.until(loop, lambda: log)
        kit.works(loop)


@scenario("A1")
def test_objects_with_an_evil_fileno() -> None:
    class Evil:
        def __init__(self, answer: object) -> None:
            self.answer = answer

        def fileno(self) -> object:
            if isinstance(self.answer, BaseException):
                raise self.answer
            return self.answer

    with kit.new_loop() as loop:
        for answer in ("3", None, 3.0, [], Evil(3)):
            kit.raises(TypeError, loop.io, Evil(answer), EV_READ, kit.never)
        kit.raises(ValueError, loop.io, Evil(-1), EV_READ, kit.never)
        kit.raises(KeyError, loop.io, Evil(KeyError("x")), EV_READ, kit.never)
        kit.raises(KeyboardInterrupt, loop.io, Evil(KeyboardInterrupt()), EV_READ, kit.never)
        kit.raises(OverflowError, loop.io, Evil(2**40), EV_READ, kit.never)
        with open(os.devnull) as file:
            pass
        kit.raises(ValueError, loop.io, file, EV_READ, kit.never)
        for wrong in (None, "3", 3.0, b"3", object(), int, [3]):
            kit.raises(TypeError, loop.io, wrong, EV_READ, kit.never)
        kit.works(loop)


@scenario("A1", kind=["directory", "file", "pipe", "symlink"], others=[True, False])
def test_an_fd_that_only_names_a_path(kind: str, others: bool) -> None:
    # Open as far as fcntl() can tell, but epoll_ctl, poll and io_uring say EBADF: all of libev's
    # assertions in one.
    with tempfile.TemporaryDirectory() as directory:
        path = directory
        if kind == "file":
            path = os.path.join(directory, "file")
            open(path, "w").close()
        elif kind == "pipe":
            os.mkfifo(path := os.path.join(directory, "pipe"))
        elif kind == "symlink":
            os.symlink(directory, path := os.path.join(directory, "link"))
        fd = kit.opened(os.open(path, os.O_PATH | (os.O_NOFOLLOW if kind == "symlink" else 0)))
        with kit.new_loop() as loop:
            r, w = kit.pipe()
            log = kit.Log(kit.reader)
            other = loop.io(r, EV_READ, log)
            if others:
                other.start()
            watcher = loop.io(fd, EV_READ, kit.never)
            try:
                watcher.start()
            except OSError as error:
                assert error.errno == errno.EBADF
            kit.all_bad_fd(kit.drain(loop))
            other.start()
            os.write(w, b"x")
            kit.until(loop, lambda: log)
            assert not watcher.active
            kit.works(loop)


@scenario("A1")
def test_an_fd_that_turns_into_a_mere_path() -> None:
    with kit.new_loop() as loop:
        r, w = kit.pipe()
        watcher = loop.io(r, EV_READ, kit.never)
        watcher.start()
        kit.turns(loop)
        path = kit.opened(os.open("/", os.O_PATH))
        os.dup2(path, r)
        kit.all_bad_fd(kit.drain(loop))
        watcher.stop()
        kit.all_bad_fd(kit.drain(loop))
        try:
            watcher.start()
        except OSError as error:
            assert error.errno == errno.EBADF
        loop.reset()
        kit.all_bad_fd(kit.drain(loop))
        kit.works(loop)


@scenario("A1")
def test_a_high_fd_works_everywhere() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4000
    if hard != resource.RLIM_INFINITY and hard <= wanted:
        kit.skip("descriptors are scarce here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted + 1), hard))
    with kit.new_loop() as loop:
        r, w = kit.pipe()
        high = kit.opened(fcntl.fcntl(r, fcntl.F_DUPFD_CLOEXEC, wanted))
        log = kit.Log(kit.reader)
        watcher = loop.io(high, EV_READ, log)
        try:
            watcher.start()
        except (OSError, ValueError, pyev.Error):
            pass  # A refusal will do where select() has small sets.
        else:
            os.write(w, b"x")
            kit.until(loop, lambda: log)
        kit.works(loop)


@scenario("A1")
def test_feeding_events_of_fds_that_nobody_watches() -> None:
    with kit.new_loop() as loop:
        kit.raises(ValueError, loop.feed_fd_event, -1, EV_READ)
        for fd in (0, kit.closed(), 70_000, 2**31 - 1):
            for revents in (EV_READ, EV_WRITE, EV_ERROR, 0, -1):
                loop.feed_fd_event(fd, revents)
        kit.works(loop)


# 2. Closed under its watcher.


@scenario("A2", "A3", place=PLACES, events=[1, 2, 3])
def test_closed_under_its_watcher(place: str, events: int) -> None:
    with kit.new_loop() as loop:
        fd, other_end = kit.pair()
        survivor_fd, feed = kit.pipe()
        survived = kit.Log(kit.reader)
        survivor = loop.io(survivor_fd, EV_READ, survived)
        survivor.start()
        victim = loop.io(fd, events, kit.nothing)
        victim.start()
        kit.warm(loop)
        watchers = close_at(place, loop, victim, other_end)
        # Some backends never learn of it and need not; none may say so twice or of another one.
        errors = kit.drain(loop)
        kit.all_bad_fd(errors)
        assert len(errors) <= 1, errors
        if kit.backend in ("select", "poll"):
            assert len(errors) == 1 and not victim.active, (errors, victim)
        for watcher in watchers:
            watcher.stop()
        os.write(feed, b"x")
        kit.until(loop, lambda: survived)
        if victim.active:
            victim.stop()
        kit.drain(loop)
        kit.bad_fd(victim.start)
        assert not victim.active
        kit.works(loop)


# Not on poll: it tells at once, and libev asserts that nobody closes what it polls.
@scenario("A2", backends=[name for name in kit.available() if name != "poll"])
def test_closed_by_another_thread_while_the_loop_blocks() -> None:
    with kit.new_loop() as loop:
        kit.warm(loop)
        fd, _ = kit.pair()
        victim = loop.io(fd, EV_READ, kit.nothing)
        victim.start()

        def close() -> None:
            kit.wait_until_blocked()
            os.close(fd)
            waker.send()

        thread = threading.Thread(target=close)
        waker = loop.async_(lambda w, revents: thread.join())
        waker.start()
        thread.start()
        errors: list[Exception] = []
        while thread.is_alive():
            try:
                loop.start(kit.ONCE)
            except OSError as error:
                errors.append(error)
        kit.all_bad_fd(errors + kit.drain(loop))
        waker.stop()
        victim.stop()
        kit.drain(loop)
        kit.works(loop)


@scenario("A2", after=["stop", "set", "init", "drop", "close", "reset", "clear", "feed", "exit"])
def test_what_is_done_with_a_dead_one(after: str) -> None:
    for settled in (False, True):
        loop = kit.new_loop()
        r, w = kit.pipe()
        victim = loop.io(r, EV_READ, kit.nothing)
        victim.start()
        if settled:
            kit.turns(loop, 2)
        os.close(r)
        if after == "stop":
            victim.stop()
        elif after == "set":
            kit.raises(pyev.Error, victim.set, w, EV_WRITE)
        elif after == "init":
            kit.raises(pyev.Error, victim.__init__, w, EV_WRITE, loop, kit.never)
        elif after == "drop":
            with kit.dropping():
                del victim
        elif after == "close":
            loop.close()
        elif after == "reset":
            loop.reset()
        elif after == "clear":
            victim.clear()
        elif after == "feed":
            victim.feed(EV_READ)
            loop.feed_fd_event(r, EV_READ)
        elif after == "exit" and settled:
            kit.keep(loop, victim)  # The interpreter ends with it all alive.
            return
        if after != "close":
            errors = kit.drain(loop)
            kit.all_bad_fd(errors)
            assert len(errors) <= 1
            if after != "drop":
                victim.stop()  # Or a file that takes its number, and is closed again, is reported.
                kit.all_bad_fd(kit.drain(loop))
            kit.works(loop)
            loop.close()


@scenario("A2")
def test_a_pending_change_and_a_closed_fd() -> None:
    with kit.new_loop() as loop:
        for first, second in ((EV_READ, EV_WRITE), (EV_WRITE, EV_READ), (EV_READ, EV_READ)):
            fd, _ = kit.pair()
            watcher = loop.io(fd, first, kit.nothing)
            watcher.start()
            kit.turns(loop)
            watcher.stop()
            watcher.set(fd, second)
            watcher.start()
            os.close(fd)
            kit.all_bad_fd(kit.drain(loop), 1)
            assert not watcher.active
        kit.works(loop)


@scenario("A2")
def test_stopped_after_its_fd_was_closed_leaves_nothing_to_trip_over() -> None:
    with kit.new_loop() as loop:
        for count in range(3):
            fd, _ = kit.pair()
            watcher = loop.io(fd, EV_READ | EV_WRITE, kit.nothing)
            watcher.start()
            kit.turns(loop, count)
            os.close(fd)
            watcher.stop()
            assert not kit.drain(loop)
            # One of several watchers of it stopped: the others' change is pending.
            fd, _ = kit.pair()
            one, two = (loop.io(fd, e, kit.nothing) for e in (EV_READ, EV_WRITE))
            one.start()
            two.start()
            kit.turns(loop, count)
            os.close(fd)
            one.stop()
            kit.all_bad_fd(kit.drain(loop), 1)
            assert not two.active
        kit.works(loop)


@scenario("A2")
def test_a_hundred_closed_at_once_are_each_reported_once() -> None:
    with kit.new_loop() as loop:
        log = kit.Log(kit.reader)
        r, w = kit.pipe()
        survivor = loop.io(r, EV_READ, log)
        survivor.start()
        victims = []
        for _ in range(100):
            fd, _other = kit.pair()
            victims.append(loop.io(fd, EV_READ, kit.never))
            victims[-1].start()
        for victim in victims:
            os.close(victim.fd)
        with kit.Unraisable() as unraisable:
            errors = kit.drain(loop)
        # One leaves start(), the others are not lost.
        assert errors
        kit.all_bad_fd([*errors, *unraisable.errors], 100)
        assert not any(v.active for v in victims)
        os.write(w, b"x")
        kit.until(loop, lambda: log)
        kit.works(loop)


@scenario("A2", "A3")
def test_the_error_names_the_watcher() -> None:
    with kit.new_loop() as loop:
        fd, _ = kit.pair()
        watcher = loop.io(fd, EV_READ, kit.never)
        watcher.start()
        os.close(fd)
        (error,) = kit.drain(loop)
        text = f"{error} {getattr(error, '__notes__', '')}"
        assert repr(watcher) in text or f"fd={fd}" in text or f"fd {fd}" in text, text


@scenario("A3")
def test_the_name_in_the_error_moves_the_watcher() -> None:
    with kit.new_loop() as loop, kit.new_loop() as other:
        fd, _ = kit.pair()

        class Io(pyev.Io):
            def __repr__(self) -> str:
                self.__init__(fd, pyev.EV_READ, other, kit.never)
                return "moved"

        watcher = Io(fd, pyev.EV_READ, loop, kit.never)
        watcher.start()
        watcher.feed(pyev.EV_ERROR)
        error = kit.raises(pyev.Error, loop.start, kit.NOWAIT)
        assert "moved" in str(error) and watcher.loop is other
        kit.works(loop)
        kit.works(other)


@scenario("A2")
def test_a_dead_fd_and_a_raising_callback_in_one_turn() -> None:
    with kit.new_loop(debug=True) as loop:
        fd, _ = kit.pair()
        victim = loop.io(fd, EV_READ, kit.never)
        victim.start()

        def fail(watcher: pyev.Watcher, revents: int) -> None:
            os.close(fd)
            watcher.stop()
            raise LookupError("mine")

        failing = loop.prepare(fail)
        failing.start()
        with kit.Unraisable() as unraisable:
            errors = kit.drain(loop)
        everything = [*errors, *unraisable.errors]
        everything += [e.__context__ for e in errors if e.__context__]
        everything += [x for e in errors for x in getattr(e, "exceptions", ())]
        assert any(isinstance(e, LookupError) for e in everything), everything
        kit.works(loop)


@scenario("A2", how=["reset", "fork", "both"])
def test_closed_before_everything_is_registered_anew(how: str) -> None:
    with kit.new_loop() as loop:
        victims = []
        for events in (EV_READ, EV_WRITE, EV_READ | EV_WRITE):
            fd, _ = kit.pair()
            victims.append(loop.io(fd, events, kit.nothing))
            victims[-1].start()
        kit.turns(loop, 2)

        def check() -> None:
            for victim in victims:
                os.close(victim.fd)
            if how != "fork":
                loop.reset()
            with kit.Unraisable() as unraisable:
                errors = kit.drain(loop)
            kit.all_bad_fd([*errors, *unraisable.errors], 3)
            assert not any(v.active for v in victims)
            kit.works(loop)

        if how == "reset":
            check()
        else:
            assert kit.fork(check) == 0
            for victim in victims:
                victim.stop()
            kit.works(loop)


@scenario("A2", "41")
def test_closed_in_a_fork_watcher_of_the_child() -> None:
    with kit.new_loop() as loop:
        fd, _ = kit.pair()
        victim = loop.io(fd, EV_READ, kit.never)
        victim.start()
        watcher = loop.fork(lambda w, revents: (w.stop(), os.close(fd)))
        watcher.start()
        kit.turns(loop, 2)

        def check() -> None:
            kit.all_bad_fd(kit.drain(loop), 1)
            kit.works(loop)

        assert kit.fork(check) == 0
        kit.works(loop)


@scenario("A2", inner=["epoll", "kqueue"], place=["queued", "settled", "in prepare", "in fork"])
def test_a_dead_fd_in_an_embedded_loop(inner: str, place: str) -> None:
    if inner not in kit.available():
        return
    for callback in (None, lambda w, revents: w.sweep()):
        with kit.new_loop() as loop, pyev.Loop(kit.BACKENDS[inner]) as embedded:
            embed = loop.embed(embedded, callback)
            embed.start()
            fd, _ = kit.pair()
            r, w = kit.pipe()
            log = kit.Log(kit.reader)
            other = embedded.io(r, EV_READ, log)
            other.start()
            victim = embedded.io(fd, EV_READ, kit.never)
            victim.start()
            breaker = loop.prepare(lambda w, revents, fd=fd: (w.stop(), os.close(fd)), None, 2)
            if place == "queued":
                os.close(fd)
            elif place == "settled":
                kit.turns(loop, 2)
                os.close(fd)
                victim.stop()
                victim = embedded.io(r, EV_WRITE, kit.never)
            elif place == "in prepare":
                breaker.start()
            elif place == "in fork":
                kit.turns(loop, 2)
                os.close(fd)
                loop.reset()
                embedded.reset()
            # Where the embedded loop is run by the other, it reports for itself.
            with kit.Unraisable() as unraisable:
                errors = kit.drain(loop) + kit.drain(embedded)
            kit.all_bad_fd([*errors, *unraisable.errors])
            os.write(w, b"x")
            kit.until(loop, lambda log=log: log)
            embed.stop()
            kit.works(embedded)
            kit.works(loop)


@scenario("A2")
def test_closed_in_a_nested_run() -> None:
    with kit.new_loop() as loop:
        fd, _ = kit.pair()
        victim = loop.io(fd, EV_READ, kit.never)
        victim.start()
        errors: list[Exception] = []

        def nest(watcher: pyev.Watcher, revents: int) -> None:
            watcher.stop()
            os.close(fd)
            errors.extend(kit.drain(watcher.loop))

        watcher = loop.prepare(nest)
        watcher.start()
        errors += kit.drain(loop)
        kit.all_bad_fd(errors, 1)
        assert loop.depth == 0
        kit.works(loop)


@scenario("A2")
def test_closed_by_a_destructor_in_the_middle_of_a_batch() -> None:
    class Closer:
        def __init__(self, fd: int) -> None:
            self.fd = fd

        def __del__(self) -> None:
            os.close(self.fd)

    with kit.new_loop() as loop:
        fd, other_end = kit.pair()
        closer = [Closer(fd)]
        victim = loop.io(fd, EV_READ, kit.reader)
        first = loop.io(fd, EV_READ, lambda w, revents: (w.stop(), closer.clear()), None, 2)
        first.start()
        victim.start()
        os.write(other_end, b"x")
        with kit.Unraisable() as unraisable:
            errors = kit.drain(loop)
        kit.all_bad_fd(errors)
        kit.all_bad_fd([e for e in unraisable.errors if isinstance(e, Exception)])
        assert not closer
        victim.stop()
        kit.drain(loop)
        kit.works(loop)


@scenario("A2")
def test_closed_by_a_scheduler_function() -> None:
    with kit.new_loop() as loop:
        fd, _ = kit.pair()
        victim = loop.io(fd, EV_READ, kit.never)
        victim.start()

        def schedule(watcher: pyev.Scheduler, now: float) -> float:
            os.close(fd)
            return now + 3600

        with loop.periodic(0.0, 1e6, kit.nothing):  # Its timerfd, if any, is open already.
            pass
        watcher = loop.scheduler(schedule, kit.never)
        watcher.start()
        kit.all_bad_fd(kit.drain(loop), 1)
        kit.works(loop)


@scenario("A2")
def test_closed_while_fileno_is_asked() -> None:
    with kit.new_loop() as loop:
        fd, _ = kit.pair()

        class Treacherous:
            def fileno(self) -> int:
                os.close(fd)
                return fd

        watcher = loop.io(Treacherous(), EV_READ, kit.never)
        kit.bad_fd(watcher.start)
        kit.works(loop)


@scenario("A2", interval=[0.01])
def test_closed_with_an_io_interval(interval: float) -> None:
    with kit.new_loop(io_interval=interval) as loop:
        fd, _ = kit.pair()
        victim = loop.io(fd, EV_READ, kit.never)
        victim.start()
        closer = loop.timer(0.0, 0.0, lambda w, revents: os.close(fd))
        closer.start()
        kit.all_bad_fd(kit.drain(loop))
        again = loop.timer(0.02, 0.0, kit.nothing)
        again.start()
        kit.until(loop, lambda: not again.active)
        kit.works(loop)


@scenario("A2")
def test_events_none_at_all() -> None:
    with kit.new_loop() as loop:
        fd, _ = kit.pair()
        watcher = loop.io(fd, 0, kit.never)
        watcher.start()
        kit.turns(loop, 2)
        os.close(fd)
        kit.all_bad_fd(kit.drain(loop))
        watcher.stop()
        kit.drain(loop)
        kit.works(loop)


# 3. EV_ERROR.


@scenario("A3", batch=[True, False])
def test_an_error_stops_its_watcher_and_leaves_start(batch: bool) -> None:
    with kit.new_loop() as loop:
        r, w = kit.pipe()
        watchers: list[pyev.Watcher] = [
            loop.io(r, EV_READ, kit.never),
            loop.timer(3600.0, 0.0, kit.never),
            loop.periodic(0.0, 1e7, kit.never),
            loop.scheduler(lambda w, now: now + 1e6, kit.never),
            loop.signal(10, kit.never),
            loop.stat("/", 100.0, kit.never),
            loop.fork(kit.never),
            loop.async_(kit.never),
            loop.cleanup(kit.never),
        ]
        others = kit.Log()
        bystander = loop.timer(0.0, 1e-9, others)
        bystander.start()
        for watcher in watchers:
            watcher.start()
            watcher.feed(EV_ERROR)
            if not batch:
                error = kit.raises((pyev.Error, OSError), loop.start, kit.NOWAIT)
                name = type(watcher).__name__
                assert type(error) is pyev.Error, error
                assert name in f"{error} {getattr(error, '__notes__', '')}", error
        with kit.Unraisable() as unraisable:
            errors = kit.drain(loop)
        # The later ones of a batch are reported.
        assert len(errors) + len(unraisable.errors) == (len(watchers) if batch else 0)
        assert all(type(e) is pyev.Error for e in [*errors, *unraisable.errors])
        assert bool(errors) == batch
        assert not any(w.active or w.pending for w in watchers)
        before = len(others)
        kit.turns(loop)
        assert len(others) > before
        bystander.stop()
        kit.works(loop)


@scenario("A3")
def test_an_error_fed_to_an_inactive_or_mixed_with_events() -> None:
    with kit.new_loop() as loop:
        r, w = kit.pipe()
        for revents in (EV_ERROR, EV_ERROR | EV_READ, EV_ERROR | EV_READ | EV_WRITE):
            watcher = loop.io(r, EV_READ, kit.never)
            watcher.feed(revents)
            assert type(kit.raises(pyev.Error, loop.start, kit.NOWAIT)) is pyev.Error
            assert not watcher.pending
            kit.turns(loop)
        kit.works(loop)
