"""call_later and call_at."""

import asyncio
import contextlib
import contextvars
import functools
import gc
import math
import sys
import time
import weakref

import pytest

FAR = [2**55, float(sys.maxsize), sys.maxsize, 1e300, math.inf]


def test_order(aloop):
    seen = []
    start = aloop.time()
    for i in reversed(range(50)):
        aloop.call_at(start + i * 1e-4, seen.append, i)
    aloop.call_at(start + 0.01, aloop.stop)
    aloop.run_forever()
    assert seen == list(range(50))


def test_timers_of_one_time_run_in_the_order_of_the_calls(ours, spin):
    seen = []
    for i in range(1000):
        ours.call_at(1.0, seen.append, i)
    spin(ours)
    assert seen == list(range(1000))


@pytest.mark.parametrize("delay", [0, -1, -math.inf, -(2**55), False, 1e-300])
def test_due_at_once(aloop, spin, delay):
    seen = []
    handle = aloop.call_later(delay, seen.append, 1)
    assert type(handle).__name__ == "TimerHandle"
    assert isinstance(handle, asyncio.TimerHandle)
    while not seen:
        spin(aloop)


@pytest.mark.parametrize("delay", FAR)
def test_far_away(aloop, spin, delay):
    handle = aloop.call_later(delay, pytest.fail)
    sooner = aloop.call_later(1000, pytest.fail)
    assert isinstance(handle, asyncio.TimerHandle)
    assert handle.when() >= delay
    assert sooner < handle and handle > sooner and sooner <= handle and handle >= sooner
    assert handle != sooner
    spin(aloop)
    aloop.call_later(0.001, aloop.stop)
    aloop.run_forever()
    assert not handle.cancelled()
    handle.cancel()
    sooner.cancel()
    assert handle.cancelled()
    spin(aloop)


@pytest.mark.parametrize("name", ["call_later", "call_at"])
def test_not_a_number(ours, spin, name):
    others = [ours.call_later(i, pytest.fail) for i in range(1000, 1010)]
    with pytest.raises(ValueError, match="NaN"):
        getattr(ours, name)(math.nan, pytest.fail)
    spin(ours)
    for other in others:
        other.cancel()


def test_when_is_what_was_given(aloop):
    when = 10**9
    handle = aloop.call_at(when, print)
    assert handle.when() == when
    handle.cancel()
    assert handle.when() == when


def test_never_early(aloop):
    late = []

    def check(handle):
        late.append(aloop.time() - handle[0].when())
        if len(late) == 20:
            aloop.stop()

    for i in range(20):
        handle = []
        handle.append(aloop.call_later(i * 1.7e-4, check, handle))
    aloop.run_forever()
    # asyncio rounds up by its clock's resolution
    assert min(late) >= -time.get_clock_info("monotonic").resolution


def test_time_is_the_monotonic_clock(aloop):
    before = time.monotonic()
    now = aloop.time()
    assert before <= now <= time.monotonic()


def test_delay_counts_from_the_call(aloop):
    """However long ago the turn began."""

    def long():
        until = time.monotonic() + 0.02
        while time.monotonic() < until:
            pass
        called.append(time.monotonic())
        aloop.call_later(0.01, lambda: called.append(time.monotonic()) or aloop.stop())

    called = []
    aloop.call_soon(long)
    aloop.run_forever()
    assert called[1] - called[0] >= 0.01 - 1e-6


def test_a_clock_of_ones_own(aloop, spin):
    seen = []
    now = [100.0]
    aloop.time = lambda: now[0]
    handle = aloop.call_later(1000, seen.append, 1)
    assert handle.when() == 1100
    spin(aloop)
    assert seen == []
    now[0] = 1100.0
    spin(aloop)
    assert seen == [1]


def test_a_class_with_a_clock_of_its_own(spin):
    import pyev

    class Clock(pyev.EventLoop):
        now = 0.0

        def time(self):
            return self.now

    loop = Clock()
    seen = []
    loop.call_later(60, seen.append, 1)
    spin(loop)
    assert seen == []
    loop.now = 60.0
    spin(loop)
    assert seen == [1]
    loop.close()


def test_a_class_with_a_clock_of_its_own_and_another_for_a_while(aloop):
    class Clock(type(aloop)):
        def time(self):
            return 100.0

    with contextlib.closing(Clock()) as own:
        own.time = lambda: 200.0
        assert own.call_later(1, print).when() == 201
        del own.time
        assert own.call_later(1, print).when() == 101


def test_a_clock_that_raises(ours):
    def broken():
        raise ZeroDivisionError

    ours.call_later(1, print)
    ours.time = broken
    with pytest.raises(ZeroDivisionError):
        ours.run_forever()
    del ours.time
    ours.call_soon(ours.stop)
    ours.run_forever()


# Cancelling


def test_cancel(aloop, spin):
    handle = aloop.call_later(0, pytest.fail)
    assert not handle.cancelled()
    handle.cancel()
    handle.cancel()
    assert handle.cancelled()
    spin(aloop)


def test_cancel_a_timer_of_the_same_turn(aloop, spin):
    handles = []

    def cancel():
        seen.append(1)
        for handle in handles:
            handle.cancel()

    seen = []
    handles += [aloop.call_at(0, cancel) for _ in range(10)]
    spin(aloop)
    assert seen == [1]


def test_cancel_from_its_own_callback_and_after(aloop, spin):
    handle = aloop.call_later(-1, lambda: handle.cancel())
    spin(aloop)
    handle.cancel()
    assert handle.cancelled()


def test_cancelled_in_any_order(ours, spin):
    """The heap stays one whatever is taken out of it."""
    import random

    numbers = random.Random(1)
    handles = [ours.call_at(numbers.random(), print) for _ in range(500)]
    numbers.shuffle(handles)
    seen = []
    for handle in handles[:400]:
        handle.cancel()
    for handle in handles[400:]:
        when = handle.when()
        handle.cancel()
        ours.call_at(when, seen.append, when)
    spin(ours)
    assert len(seen) == 100
    assert seen == sorted(seen)


def test_cancelled_timers_give_back_their_memory(ours):
    ours.set_debug(False)

    class Argument:
        pass

    argument = Argument()
    reference = weakref.ref(argument)
    handle = ours.call_later(10**6, print, argument)
    del argument
    handle.cancel()
    assert reference() is None

    def churn(count):
        for _ in range(count):
            ours.call_later(10**6, print, "x").cancel()
        gc.collect()
        return sys.getallocatedblocks()

    before = churn(1000)
    assert churn(100_000) - before < 500


@pytest.mark.parametrize("ours", ["pyev"], indirect=True)
def test_a_million_timeouts(ours):
    """As each wait_for makes one that is cancelled early: none is kept until its deadline."""

    def churn(count):
        for _ in range(count // 1000):
            handles = [ours.call_later(60, print) for _ in range(1000)]
            for handle in handles:
                handle.cancel()
        gc.collect()
        return sys.getallocatedblocks()

    before = churn(10_000)
    assert churn(1_000_000) - before < 500


def test_many_at_once_give_back_their_memory(ours):
    ours.set_debug(False)

    def churn(count):
        for handle in [ours.call_later(10**6, print) for _ in range(count)]:
            handle.cancel()
        gc.collect()
        return sys.getallocatedblocks()

    before = churn(10_000)
    churn(100_000)
    assert churn(10_000) - before < 500


def test_close_lets_go_of_timers(factory):
    class Argument:
        pass

    loop = factory()
    argument = Argument()
    reference = weakref.ref(argument)
    handle = loop.call_later(1000, print, argument)
    loop.call_soon(print, argument)
    del argument
    loop.close()
    handle.cancel()
    del handle
    gc.collect()
    assert reference() is None


# What is built on them


def test_wait_for_and_sleep(aloop):
    async def main():
        assert await asyncio.wait_for(asyncio.sleep(0, "x"), 1000) == "x"
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.sleep(1000), 0.001)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.sleep(1000)
        await asyncio.gather(*(asyncio.sleep(i * 1e-4) for i in range(20)))

    aloop.run_until_complete(main())


# Many of them, in whatever order


@pytest.mark.parametrize("seed", range(6))
def test_a_list_that_is_sorted_does_the_same(ours, spin, seed):
    """Made, cancelled and due in turns, against the plainest thing that does it."""
    import random

    numbers = random.Random(seed)
    now = 0.0
    ours.time = lambda: now
    expected, seen, alive = [], [], {}
    number = 0
    for _ in range(60):
        for _ in range(numbers.choice([0, 1, 3, 50, 400])):
            when = now + numbers.choice([0.0, 1.0, 2.0, numbers.random() * 20, -1.0])
            alive[number] = (when, ours.call_at(when, seen.append, number))
            number += 1
        for one in numbers.sample(sorted(alive), len(alive) // numbers.choice([2, 3, 10, 1000])):
            alive.pop(one)[1].cancel()
        now += numbers.choice([0.0, 0.5, 2.5, 15.0])
        due = sorted((when, one) for one, (when, _) in alive.items() if when <= now)
        expected += [one for _, one in due]
        for _, one in due:
            del alive[one]
        spin(ours)
        assert seen == expected
        assert all(handle._scheduled for _, handle in alive.values())
    now = math.inf
    spin(ours)
    assert seen == expected + [one for _, one in sorted((w, n) for n, (w, _) in alive.items())]


def test_the_next_one_is_waited_for_when_the_first_was_cancelled(aloop):
    start = aloop.time()
    aloop.call_later(0.02, aloop.stop)
    for _ in range(10):
        aloop.call_later(0.001, pytest.fail).cancel()
    aloop.run_forever()
    assert aloop.time() - start >= 0.02 - time.get_clock_info("monotonic").resolution


def test_cancelled_by_one_that_is_due_with_it(aloop, spin):
    """In whatever way they were found to be due."""
    seen = []
    for size in (1, 4, 300):
        handles = [aloop.call_at(1.0, seen.append, size)]
        handles += [aloop.call_at(2.0 + i, pytest.fail) for i in range(size)]
        aloop.call_at(1.5, lambda handles=handles: [one.cancel() for one in handles])
        spin(aloop)
    assert seen == [1, 4, 300]


@pytest.mark.parametrize("where", ["class", "object"])
def test_call_later_goes_through_another_call_at(aloop, where):
    """As all of asyncio's timers do, asyncio.sleep()'s too."""
    seen = []
    base = type(aloop)

    def call_at(self, when, *args, context):
        seen.append(when)
        return base.call_at(self, when, *args, context=context)

    with contextlib.closing(type("Own", (base,), {"call_at": call_at})()) as own:
        loop = own if where == "class" else aloop
        if where == "object":
            loop.call_at = functools.partial(call_at, loop)
        loop.time = lambda: 100.0
        context = contextvars.copy_context()
        handle = loop.call_later(5, print, 1, 2, context=context)
        assert seen == [105.0]
        assert handle.when() == 105.0
        assert handle._args == (1, 2)
        assert handle._context is context
        if where == "object":
            del loop.call_at
            assert loop.call_later(5, print).when() == 105.0
            assert seen == [105.0]
        del loop.time
        loop.call_later(5, print)
        assert len(seen) == (2 if where == "class" else 1)
