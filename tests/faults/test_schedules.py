"""Schedulers whose function answers nonsense, raises, or changes the loop that asks it."""

import contextlib
import functools
import gc
import math

import fault_kit as kit
from fault_harness import scenario

import pyev

NAN, INF = math.nan, math.inf


class Number:
    """Whatever a float may be made of."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __float__(self) -> object:
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value


# 5. Schedules.

ANSWERS = {
    "past": lambda now: now - 1e-6,
    "long past": lambda now: 0.0,
    "minus infinity": lambda now: -INF,
    "nan": lambda now: NAN,
    "none": lambda now: None,
    "text": lambda now: "1",
    "complex": lambda now: 1j,
    "huge": lambda now: 10**400,
    "nan by float": lambda now: Number(NAN),
    "past by float": lambda now: Number(now - 1),
    "raises": lambda now: 1 / 0,
    "raises in float": lambda now: Number(KeyError("x")),
}


@scenario(
    "A5", answer=list(ANSWERS), moment=["start", "event", "reset", "resume"], debug=[False, True]
)
def test_a_schedule_that_is_none(answer: str, moment: str, debug: bool) -> None:
    with kit.new_loop(debug=debug) as loop:
        bad = False
        asked = 0

        def schedule(watcher: pyev.Scheduler, now: float) -> object:
            nonlocal asked
            asked += 1
            return ANSWERS[answer](now) if bad else now + (0.0 if moment == "event" else 3600)

        def turn_bad(watcher: pyev.Watcher, revents: int) -> None:
            nonlocal bad
            bad = True

        watcher = loop.scheduler(schedule, turn_bad)
        with kit.Unraisable() as unraisable:
            errors: list[Exception] = []
            bad = moment == "start"
            try:
                watcher.start()
                if moment == "reset":
                    kit.turns(loop)
                    bad = True
                    watcher.reset()
                elif moment == "resume":
                    kit.turns(loop)
                    bad = True
                    loop.suspend()
                    loop.resume()
            except Exception as error:
                errors.append(error)
            errors += kit.drain(loop, 10)
        watcher_stopped = not watcher.active and not watcher.pending
        reported = [*errors, *unraisable.errors]
        if moment == "resume" and not reported:
            assert watcher.active  # Clocks that did not jump ask for nothing.
        else:
            assert watcher_stopped, watcher
            assert len(reported) == 1, reported
            kind = {"raises": ZeroDivisionError, "raises in float": KeyError}.get(answer)
            expected = kind or (pyev.Error, TypeError, ValueError, OverflowError)
            assert isinstance(reported[0], expected), reported
            before = asked
            kit.turns(loop, 3)
            assert asked == before
        bad = False
        watcher.stop()
        watcher.start()
        watcher.stop()
        kit.works(loop)


@scenario("A5", left=["KeyboardInterrupt", "SystemExit"], moment=["start", "event"])
def test_a_schedule_that_is_interrupted(left: str, moment: str) -> None:
    kind = {"KeyboardInterrupt": KeyboardInterrupt, "SystemExit": SystemExit}[left]
    with kit.new_loop() as loop:
        bad = moment == "start"

        def schedule(watcher: pyev.Scheduler, now: float) -> float:
            if bad:
                raise kind
            return now

        def turn_bad(watcher: pyev.Watcher, revents: int) -> None:
            nonlocal bad
            bad = True

        watcher = loop.scheduler(schedule, turn_bad)
        caught = 0
        try:
            watcher.start()
            for _ in range(5):
                loop.start(kit.NOWAIT)
        except kind:
            caught += 1
        assert caught == 1 and not watcher.active
        kit.works(loop)


@scenario("A5")
def test_equal_to_now_is_legal() -> None:
    with kit.new_loop() as loop:
        log = kit.Log(lambda w, revents: w.stop() if len(log) == 5 else None)
        watcher = loop.scheduler(lambda w, now: now, log)
        watcher.start()
        kit.until(loop, lambda: not watcher.active, most=100_000)
        assert len(log) == 5
        kit.works(loop)


MISCHIEF = ["start others", "stop others", "stop itself", "restart itself", "reset itself"]
MISCHIEF += ["drop others", "run", "close", "suspend", "collect", "init", "update", "feed"]


@scenario("A5", what=MISCHIEF, moment=["start", "event", "reset", "resume"])
def test_a_scheduler_function_that_changes_the_heap_it_is_asked_from(
    what: str, moment: str
) -> None:
    loop = kit.new_loop()
    others = [loop.periodic(0.0, 1000.0 + i, kit.nothing) for i in range(50)]
    others += [loop.scheduler(lambda w, now: now + 500, kit.nothing) for i in range(50)]
    for other in others[::2]:
        other.start()
    asked = 0
    made: list[pyev.Watcher] = []

    def schedule(watcher: pyev.Scheduler, now: float) -> float:
        nonlocal asked
        asked += 1
        due = now + (0.0 if moment == "event" and asked < 4 else 3600.0)
        if asked > 20:
            return due
        match what:
            case "start others":
                for other in others:
                    other.start()
                for i in range(100):
                    made.append(loop.periodic(0.0, 1 / 8192 + i / 10, kit.nothing))
                    made[-1].start()
                    made.append(loop.timer(0.0, 1.0, kit.nothing))
                    made[-1].start()
            case "stop others":
                for other in others:
                    other.stop()
            case "stop itself":
                watcher.stop()
            case "restart itself":
                watcher.stop()
                watcher.start()
            case "reset itself":
                if asked < 10:
                    watcher.reset()
            case "drop others":
                with kit.dropping():
                    others.clear()
            case "run":
                if asked < 10:
                    loop.start(kit.NOWAIT)
            case "close":
                loop.close()
            case "suspend":
                loop.suspend()
                loop.resume()
            case "collect":
                gc.collect()
            case "init":
                watcher.__init__(lambda w, now: now + 1, loop, kit.nothing)
            case "update":
                loop.update()
            case "feed":
                watcher.feed(pyev.EV_CUSTOM)
                watcher.clear()
        return due

    watcher = loop.scheduler(schedule, kit.nothing)
    # Each of these may be refused; the heap must stand, and nothing may be lost or crash.
    with kit.Unraisable():
        for step in (
            watcher.start,
            functools.partial(loop.start, kit.NOWAIT),
            (watcher.reset if moment == "reset" else watcher.clear),
            (loop.suspend if moment == "resume" else loop.update),
            (loop.resume if moment == "resume" else loop.update),
            functools.partial(loop.start, kit.NOWAIT),
            functools.partial(loop.start, kit.NOWAIT),
        ):
            with contextlib.suppress(pyev.Error, RuntimeError, RecursionError):
                step()
            if not loop.closed:
                loop.verify()
        watcher.stop()
        if not loop.closed:
            for other in [*others, *made]:
                other.stop()
            loop.verify()
            kit.drain(loop)
    if not loop.closed:
        kit.works(loop)
        loop.close()
