"""Clocks that jump, processes that stop, timers that must not be early and must not spin."""

import ctypes
import faulthandler
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

import fault_kit as kit
from fault_harness import scenario

import pyev

# Interposes the clocks, so that a jump is a number in memory. Python is subject to it as well.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

double jump_realtime, jump_monotonic;

static void add(struct timespec *t, double seconds)
{
    long long all = t->tv_sec * 1000000000LL + t->tv_nsec + (long long)(seconds * 1e9);
    t->tv_sec = all / 1000000000LL;
    t->tv_nsec = all % 1000000000LL;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    int result = syscall(SYS_clock_gettime, id, t);
    if (id == CLOCK_REALTIME) add(t, jump_realtime);
    if (id == CLOCK_MONOTONIC) add(t, jump_monotonic);
    return result;
}

int gettimeofday(struct timeval *restrict v, void *restrict zone)
{
    struct timespec t;
    int result = clock_gettime(CLOCK_REALTIME, &t);
    v->tv_sec = t.tv_sec;
    v->tv_usec = t.tv_nsec / 1000;
    return result;
}
"""


def with_clocks() -> Callable[..., None]:
    """Starts the scenario again under the shim; there, gives what makes a clock jump."""
    if "PYEV_FAULT_SHIM" not in os.environ:
        compiler = shutil.which("cc")
        if not compiler or "LD_PRELOAD" in os.environ:
            kit.skip("no compiler, or another library is preloaded")
        with tempfile.TemporaryDirectory() as directory:
            source, shim = (os.path.join(directory, n) for n in ("shim.c", "shim.so"))
            with open(source, "w") as file:
                file.write(SHIM)
            subprocess.run([compiler, "-shared", "-fPIC", "-o", shim, source], check=True)
            environment = dict(os.environ, LD_PRELOAD=shim, PYEV_FAULT_SHIM=shim)
            result = subprocess.run(
                [sys.executable, *sys.orig_argv[1:]], env=environment, stdout=subprocess.PIPE
            )
        assert result.stdout == b"ok\n", result
        print("ok", flush=True)
        os._exit(result.returncode)
    shim = ctypes.CDLL(os.environ["PYEV_FAULT_SHIM"])
    clocks = {
        name: ctypes.c_double.in_dll(shim, f"jump_{name}") for name in ("realtime", "monotonic")
    }
    clocks["realtime"].value = clocks["monotonic"].value = 0.0
    before = time.time(), time.monotonic()
    clocks["realtime"].value = clocks["monotonic"].value = 1000.0
    assert time.time() > before[0] + 500 and time.monotonic() > before[1] + 500
    clocks["realtime"].value = clocks["monotonic"].value = 0.0

    def jump(realtime: float = 0.0, monotonic: float = 0.0) -> None:
        # libev compares the clocks every half a second: that much passes at least.
        clocks["realtime"].value += realtime + 0.6
        clocks["monotonic"].value += monotonic + 0.6

    return jump


# 14. Jumps.


@scenario("A14", by=[3600.0, -3600.0, 86400.0 * 365, 1.5])
def test_the_wall_clock_jumps(by: float) -> None:
    jump = with_clocks()
    with kit.new_loop() as loop:
        far, due, hourly = kit.Log(), kit.Log(), kit.Log()
        timers = [
            loop.timer(1800.0, 0.0, far),
            loop.timer(0.0, 1800.0, due),
        ]
        hour = loop.periodic(0.0, 7200.0, hourly)
        once = loop.periodic(loop.now() + 3e9, 0.0, kit.never)
        asked: list[float] = []

        def schedule(watcher: pyev.Scheduler, now: float) -> float:
            asked.append(now)
            return now + 5000.0

        scheduler = loop.scheduler(schedule, kit.Log())
        watchers = [*timers, hour, once, scheduler]
        for watcher in watchers:
            watcher.start()
        kit.turns(loop, 3)
        assert len(due) == 1
        hourly_before = len(hourly)
        jumper = loop.prepare(lambda w, revents: (w.stop(), jump(realtime=by)))
        jumper.start()
        kit.turns(loop, 5)
        # Timers keep to the monotonic clock.
        assert not far and len(due) == 1
        assert 1790.0 < timers[0].remaining <= 1800.0
        # Periodics realign, and fire once at most however many times were skipped.
        assert len(hourly) - hourly_before <= 1
        assert loop.now() < hour.at <= loop.now() + 7200.0
        assert math.isclose(hour.at % 7200.0, 0.0, abs_tol=1e-3)
        assert loop.now() <= scheduler.at <= loop.now() + 5000.0 + 1e-3
        assert len(asked) <= 4, asked
        kit.calm(loop)
        for watcher in watchers:
            watcher.stop()
        kit.works(loop)


# Not on io_uring: there libev has the kernel wait until a time, and the kernel's clock goes on.
@scenario("A14", backends=[name for name in kit.available() if name != "io_uring"], by=[10.0, 1e6])
def test_the_process_was_stopped(by: float) -> None:
    # As seen from inside: both clocks are suddenly later.
    jump = with_clocks()
    with kit.new_loop() as loop:
        ticks, aligned, late = kit.Log(), kit.Log(), kit.Log()
        watchers = [
            loop.timer(0.5, 0.5, ticks),
            loop.periodic(0.0, 0.5, aligned),
            loop.timer(5.0, 0.0, late),
        ]
        for watcher in watchers:
            watcher.start()
        kit.turns(loop, 2)
        count = len(ticks), len(aligned)
        jump(by, by)
        kit.turns(loop, 4)
        assert len(late) == 1
        # One tick is late and the next is due at once; the others are gone.
        assert 1 <= len(ticks) - count[0] <= 2, len(ticks)
        assert len(aligned) - count[1] == 1
        for watcher in watchers:
            watcher.stop()
        kit.works(loop)


@scenario("A14", backends=[name for name in kit.available() if name != "io_uring"])
def test_suspended_while_the_clocks_ran() -> None:
    jump = with_clocks()
    with kit.new_loop() as loop:
        watcher = loop.timer(5.0, 0.0, kit.never)
        watcher.start()
        loop.suspend()
        jump(100.0, 100.0)
        loop.resume()
        kit.turns(loop, 2)
        assert 4.0 < watcher.remaining <= 5.0
        watcher.stop()
        kit.works(loop)


@scenario("A14", by=[-3600.0, 3600.0])
def test_a_scheduler_asked_because_of_a_jump_may_be_wrong(by: float) -> None:
    jump = with_clocks()
    with kit.new_loop() as loop:
        jumped = False

        def schedule(watcher: pyev.Scheduler, now: float) -> float:
            return math.nan if jumped else now + 1e6

        watchers = [loop.scheduler(schedule, kit.never) for _ in range(20)]
        others = [loop.periodic(0.0, 1e6 + i, kit.nothing) for i in range(20)]
        for watcher in (*watchers, *others):
            watcher.start()
        kit.turns(loop, 2)
        jump(realtime=by)
        jumped = True
        with kit.Unraisable() as unraisable:
            assert not kit.drain(loop)
        assert len(unraisable.errors) == 20, len(unraisable.errors)
        assert not any(w.active for w in watchers) and all(o.active for o in others)
        loop.verify()
        for other in others:
            other.stop()
        kit.works(loop)


@scenario("A14")
def test_stopped_and_continued_while_waiting() -> None:
    with kit.new_loop() as loop:
        r, w = kit.pipe()
        script = 'kill -STOP $PPID; kill -CONT $PPID; printf x >&"$1"'
        log = kit.Log(kit.reader)
        io = loop.io(r, pyev.EV_READ, log)
        io.start()
        for count in range(1, 6):
            with subprocess.Popen(["sh", "-c", script, "sh", str(w)], pass_fds=[w]) as process:
                before = loop.iteration
                kit.until(loop, lambda count=count: len(log) == count, most=50)
                assert loop.iteration - before < 50
                process.wait()
        io.stop()
        kit.works(loop)


@scenario("A14", by=[3600.0, -3600.0], backends="any")
def test_the_wall_clock_jumps_in_a_sleep(by: float) -> None:
    """One that a signal interrupts takes as long as it was told, all the same."""
    jump = with_clocks()
    begun = time.clock_gettime(time.CLOCK_BOOTTIME)
    signal.signal(signal.SIGALRM, lambda number, frame: jump(realtime=by - 0.6, monotonic=-0.6))
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    # One that took the hour for its own is not waited for.
    faulthandler.dump_traceback_later(20.0, exit=True)
    pyev.sleep(0.5)
    faulthandler.cancel_dump_traceback_later()
    assert 0.5 <= time.clock_gettime(time.CLOCK_BOOTTIME) - begun < 10.0


# 15. Where delays count from.


def busy(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@scenario("A15")
def test_a_delay_counts_from_the_turn_unless_updated() -> None:
    with kit.new_loop() as loop:
        remaining: dict[str, float] = {}

        def long(watcher: pyev.Watcher, revents: int) -> None:
            turn = loop.now()
            busy(0.06)
            assert loop.now() == turn
            plain.start()
            remaining["plain"] = plain.remaining
            loop.update()
            remaining["late"] = plain.remaining
            assert loop.now() >= turn + 0.06
            updated.start()
            remaining["updated"] = updated.remaining

        plain = loop.timer(0.05, 0.0, kit.nothing)
        updated = loop.timer(1000.0, 0.0, kit.nothing)
        first = loop.timer(0.0, 0.0, long)
        first.start()
        kit.turns(loop)
        assert remaining["plain"] == plain_after(0.05), remaining
        assert remaining["late"] < 0.0, remaining
        assert remaining["updated"] == plain_after(1000.0), remaining
        kit.turns(loop)
        assert not plain.active, "it was due at once"
        updated.stop()
        kit.works(loop)


def plain_after(after: float) -> object:
    class Close:
        def __eq__(self, other: object) -> bool:
            return isinstance(other, float) and math.isclose(other, after, abs_tol=1e-5)

    return Close()


@scenario("A15")
def test_a_delay_started_between_runs_counts_from_real_now() -> None:
    with kit.new_loop() as loop:
        kit.turns(loop, 2)
        busy(0.05)
        timers = [loop.timer(0.04, 0.0, kit.nothing), loop.timer(0.0, 0.04, kit.nothing)]
        for timer, method in zip(timers, ("start", "reset"), strict=True):
            begin = time.monotonic()
            getattr(timer, method)()
            kit.until(loop, lambda timer=timer: not timer.active or timer.remaining > 0.0)
            if timer is timers[1]:
                kit.turns(loop)
        begin = time.monotonic()
        last = loop.timer(0.04, 0.0, kit.nothing)
        busy(0.05)
        last.start()
        begin = time.monotonic()
        kit.until(loop, lambda: not last.active)
        assert time.monotonic() - begin >= 0.04
        timers[1].stop()
        kit.works(loop)


# 16. Neither early nor spinning.


@scenario("A16")
def test_never_early_and_without_a_spin() -> None:
    with kit.new_loop() as loop:
        for step in range(60):
            delay = 0.0001 + step * 0.00037
            timer = loop.timer(delay, 0.0, kit.nothing)
            before = loop.iteration
            begin = time.monotonic()
            timer.start()
            loop.start()
            took = time.monotonic() - begin
            assert took >= delay, f"{delay - took} s early"
            assert loop.iteration - before <= 6, loop.iteration - before
            assert not timer.active
        kit.works(loop)


@scenario("A16")
def test_a_periodic_is_never_early() -> None:
    with kit.new_loop() as loop:
        times: list[float] = []
        periodic = loop.periodic(0.0, 1 / 128, lambda w, revents: times.append(time.time()))
        periodic.start()
        before = loop.iteration
        due = periodic.at
        while len(times) < 10:
            count = len(times)
            loop.start(kit.ONCE)
            if len(times) > count:
                # libev trusts the two clocks to within a millisecond or so of each other.
                assert times[-1] >= due - 0.002, due - times[-1]
                due = periodic.at
        assert loop.iteration - before <= 60
        periodic.stop()
        kit.works(loop)


@scenario("A16", interval=[0.0, 0.005])
def test_a_timeout_interval_delays_and_does_not_spin(interval: float) -> None:
    with kit.new_loop(timeout_interval=interval, io_interval=interval) as loop:
        log = kit.Log()
        timer = loop.timer(0.001, 0.001, log)
        timer.start()
        before = loop.iteration
        kit.until(loop, lambda: len(log) >= 10)
        assert loop.iteration - before <= 10 * len(log)
        timer.stop()
        kit.works(loop)


@scenario("A16")
def test_a_thread_that_wakes_the_loop_early_does_not_fire_the_timer() -> None:
    with kit.new_loop() as loop:
        waker = loop.async_(kit.nothing, keepalive=False)
        waker.start()
        stop = threading.Event()

        def disturb() -> None:
            while not stop.is_set():
                waker.send()

        thread = threading.Thread(target=disturb)
        begin = time.monotonic()
        timer = loop.timer(0.03, 0.0, kit.nothing)
        timer.start()
        thread.start()
        kit.until(loop, lambda: not timer.active)
        assert time.monotonic() - begin >= 0.03
        stop.set()
        thread.join()
        waker.stop()
        kit.works(loop)


@scenario("A14", "A16")
def test_alarms_interrupt_the_wait_without_effect() -> None:
    # EINTR, hundreds of times.
    hits: list[int] = []
    signal.signal(signal.SIGALRM, lambda signum, frame: hits.append(signum))
    with kit.new_loop() as loop:
        begin = time.monotonic()
        timer = loop.timer(0.1, 0.0, kit.nothing)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        timer.start()
        loop.start()
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert hits and time.monotonic() - begin >= 0.1 and not timer.active
        kit.works(loop)
