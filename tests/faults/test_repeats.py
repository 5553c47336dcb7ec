"""Timers and Periodics with repeats and intervals that are none."""

import math
import sys

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


# 4. Repeats and intervals.


@scenario("A4", repeat=["nan", "-1e-9", "-1", "-inf"])
def test_a_repeat_that_is_none(repeat: str) -> None:
    with kit.new_loop() as loop:
        timer = loop.timer(0.0, 1.0, kit.nothing)
        for active in (False, True):
            if active:
                timer.start()
            for value in (float(repeat), Number(float(repeat))):
                kit.raises(ValueError, loop.timer, 0.0, value, kit.never)
                kit.raises((ValueError, pyev.Error), timer.set, 0.0, value)
                kit.raises(ValueError, setattr, timer, "repeat", value)
                assert timer.repeat == 1.0
        kit.turns(loop, 2)
        timer.reset()
        timer.stop()
        kit.works(loop)


@scenario("A4")
def test_an_after_that_is_none() -> None:
    with kit.new_loop() as loop:
        timer = loop.timer(0.0, 0.0, kit.nothing)
        for value in (NAN, Number(NAN), -NAN):
            kit.raises(ValueError, loop.timer, value, 0.0, kit.never)
            kit.raises(ValueError, timer.set, value, 0.0)
            kit.raises(ValueError, timer.__init__, value, 0.0, loop, kit.never)
        for value in ("1", None, [], 1j, Number("1"), Number(None)):
            kit.raises(TypeError, loop.timer, value, 0.0, kit.never)
            kit.raises(TypeError, setattr, timer, "repeat", value)
        kit.raises(OverflowError, loop.timer, 10**400, 0.0, kit.never)
        kit.raises(KeyError, loop.timer, Number(KeyError()), 0.0, kit.never)
        kit.works(loop)


@scenario("A4")
def test_extreme_but_legal_times_do_not_break_the_heap() -> None:
    with kit.new_loop() as loop:
        numbers = (0.0, 5e-324, 1e-9, 1.0, 1e9, 1e300, sys.float_info.max)
        timers = []
        for after in (*numbers, -1.0, -1e300, INF, -INF):
            for repeat in (*numbers, INF):
                try:
                    timers.append(loop.timer(after, repeat, kit.nothing))
                except ValueError:
                    assert math.isinf(after) or math.isinf(repeat)
        for timer in timers:
            timer.start()
        for _ in range(5):
            kit.turns(loop)
            for timer in timers:
                assert not math.isnan(timer.remaining), timer
        for timer in timers:
            timer.reset()
        kit.turns(loop)
        loop.suspend()
        loop.resume()
        loop.update()
        kit.turns(loop)
        for timer in timers[::2]:
            timer.stop()
        loop.verify()
        for timer in timers:
            timer.stop()
        kit.works(loop)


@scenario("A4")
def test_an_interval_that_is_none() -> None:
    with kit.new_loop() as loop:
        wrong = (NAN, -1.0, -1e-9, -INF, INF, 1 / 8193, 5e-324, 1e-9)
        periodic = loop.periodic(0.0, 1000.0, kit.never)
        for active in (False, True):
            if active:
                periodic.start()
            for interval in (*wrong, *map(Number, wrong)):
                kit.raises(ValueError, loop.periodic, 0.0, interval, kit.never)
                kit.raises((ValueError, pyev.Error), periodic.set, 0.0, interval)
                kit.raises(ValueError, setattr, periodic, "interval", interval)
                assert periodic.interval == 1000.0
            for offset in (NAN, INF, -INF, -1.0, 1001.0):
                kit.raises(ValueError, loop.periodic, offset, 1000.0, kit.never)
                kit.raises((ValueError, pyev.Error), periodic.set, offset, 1000.0)
                kit.raises(ValueError, setattr, periodic, "offset", offset)
                assert periodic.offset == 0.0
        periodic.reset()
        kit.turns(loop, 2)
        periodic.stop()
        for offset in (NAN, INF, -INF, -1.0):
            kit.raises(ValueError, loop.periodic, offset, 0.0, kit.never)
        kit.works(loop)


@scenario("A4")
def test_extreme_but_legal_intervals_do_not_break_the_heap() -> None:
    with kit.new_loop() as loop:
        periodics = []
        for interval in (1 / 8192, 1.0, 1e9, 1e15, 1e300, sys.float_info.max):
            for offset in (0.0, interval / 3, interval):
                periodics.append(loop.periodic(offset, interval, kit.nothing))
        for offset in (0.0, 1.0, loop.now(), 1e15, sys.float_info.max):
            periodics.append(loop.periodic(offset, 0.0, kit.nothing))
        for periodic in periodics:
            periodic.start()
        for _ in range(5):
            kit.turns(loop)
            assert not any(math.isnan(p.at) for p in periodics)
        for periodic in periodics:
            if periodic.interval:
                periodic.reset()
        kit.turns(loop)
        loop.suspend()
        loop.resume()
        kit.turns(loop)
        for periodic in periodics:
            periodic.stop()
        kit.works(loop)


@scenario("A4", "A7")
def test_written_while_active_even_in_its_own_callback() -> None:
    with kit.new_loop() as loop:
        called = kit.Log()

        def change(watcher: pyev.Timer, revents: int) -> None:
            called(watcher, revents)
            kit.raises(ValueError, setattr, watcher, "repeat", -1.0)
            kit.raises(ValueError, setattr, watcher, "repeat", NAN)
            watcher.repeat = (1e-6, 0.0, 1e-3)[len(called) % 3]
            watcher.reset()

        timer = loop.timer(0.0, 1e-6, change)
        timer.start()
        kit.until(loop, lambda: not timer.active, most=1000)
        assert timer.repeat == 0.0

        def change_periodic(watcher: pyev.Periodic, revents: int) -> None:
            called(watcher, revents)
            kit.raises(ValueError, setattr, watcher, "interval", NAN)
            watcher.interval = 0.0
            watcher.offset = loop.now() - 1
            watcher.reset()

        periodic = loop.periodic(0.0, 1 / 8192, change_periodic)
        periodic.start()
        before = len(called)
        kit.until(loop, lambda: len(called) > before, most=1000)
        kit.turns(loop, 3)
        periodic.stop()
        kit.works(loop)
