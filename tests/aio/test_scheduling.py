"""call_soon and the turn: order, contexts, exceptions, fairness."""

import asyncio
import contextvars
import gc
import logging
import socket
import sys
import time
import weakref

import pytest

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


def test_order_and_arguments(aloop, spin):
    seen = []
    for i in range(200):
        aloop.call_soon(lambda *args: seen.append(args), i, -i)
    spin(aloop)
    assert seen == [(i, -i) for i in range(200)]


def test_callback_by_keyword(aloop, spin):
    seen = []
    aloop.call_soon(callback=lambda: seen.append(1))
    aloop.call_soon_threadsafe(callback=lambda: seen.append(2))
    aloop.call_later(delay=-1, callback=lambda: seen.append(3))
    aloop.call_at(when=0, callback=lambda: seen.append(4), context=None)
    spin(aloop)
    assert sorted(seen) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        ("call_soon", (), {}),
        ("call_soon_threadsafe", (), {}),
        ("call_later", (1,), {}),
        ("call_at", (1,), {}),
        ("call_later", (), {"callback": print}),
        ("call_soon", (print,), {"nonsense": 1}),
        ("call_soon", (print,), {"callback": print}),
        ("call_later", (1, print), {"delay": 1}),
        ("call_later", (None, print), {}),
        ("call_at", (None, print), {}),
        ("call_later", ("1", print), {}),
    ],
)
def test_wrong_arguments(aloop, name, args, kwargs):
    with pytest.raises(TypeError):
        getattr(aloop, name)(*args, **kwargs)


def test_only_what_was_there_when_the_turn_began(aloop, spin):
    seen = []

    def again():
        seen.append("again")
        aloop.call_soon(again)

    aloop.call_soon(again)
    spin(aloop)
    assert seen == ["again"]
    spin(aloop)
    assert seen == ["again"] * 2


def test_stop_lets_the_batch_end(aloop):
    seen = []
    aloop.call_soon(aloop.stop)
    aloop.call_soon(seen.append, 1)
    aloop.call_soon(lambda: aloop.call_soon(seen.append, 2))
    aloop.run_forever()
    assert seen == [1]
    aloop.stop()
    aloop.run_forever()
    assert seen == [1, 2]


def test_a_callback_that_schedules_itself_starves_nobody(aloop, pair):
    a, b = pair
    seen = set()

    def saw(what):
        seen.add(what)
        if what == "reader":
            aloop.remove_reader(a)
        if len(seen) == 2:
            aloop.stop()

    def again():
        aloop.call_soon(again)

    b.send(b"x")
    aloop.add_reader(a, saw, "reader")
    aloop.call_later(0.001, saw, "timer")
    again()
    aloop.run_forever()
    assert seen == {"reader", "timer"}


def test_long_callbacks_keep_nobody_waiting(aloop, pair):
    """Few of them run before a reader that is ready, however short the turns."""
    a, b = pair
    ran = 0

    def again():
        nonlocal ran
        ran += 1
        end = time.monotonic() + 0.005
        while time.monotonic() < end:
            pass
        if ran == 3:
            b.send(b"x")
        aloop.call_soon(again)

    aloop.add_reader(a, aloop.stop)
    again()
    aloop.run_forever()
    aloop.remove_reader(a)
    assert ran < 3 + 10


def test_a_flood_starves_nobody(aloop, pair):
    """Many callbacks that each make another: a turn has an end."""
    a, b = pair
    b.send(b"x")
    aloop.add_reader(a, aloop.stop)

    def again():
        aloop.call_soon(again)

    for _ in range(1000):
        again()
    aloop.run_forever()
    aloop.remove_reader(a)


# Exceptions


def test_exception_goes_to_the_handler(aloop, spin, errors):
    seen = []
    error = ValueError("x")

    def fail():
        raise error

    handle = aloop.call_soon(fail)
    aloop.call_soon(seen.append, 1)
    spin(aloop)
    assert seen == [1]
    (context,) = errors
    assert context["exception"] is error
    assert context["handle"] is handle
    assert "Exception in callback " in context["message"]
    assert "fail() at " in context["message"]
    assert ("source_traceback" in context) == aloop.get_debug()


def test_exception_handler_that_raises(aloop, spin, caplog):
    def handler(loop, context):
        raise RuntimeError("the handler")

    aloop.set_exception_handler(handler)
    aloop.call_soon(lambda: 1 / 0)
    spin(aloop)
    assert "Unhandled error in exception handler" in caplog.text
    caplog.clear()
    spin(aloop)
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["call_soon", "call_soon_threadsafe", "call_later"])
def test_exception_handler_finds_the_exception_being_handled(aloop, spin, caplog, name):
    """As in an `except` block, for logging.exception(), and as the context of what it raises."""

    def handler(loop, context):
        found.append((sys.exc_info()[1], context["exception"]))
        raise RuntimeError("the handler")

    def fail():
        try:
            raise KeyError("inner")
        finally:
            raise ZeroDivisionError

    def run():
        getattr(aloop, name)(*(0,) * (name == "call_later"), fail)
        spin(aloop)
        outside.append(sys.exc_info()[1])
        yield
        outside.append(sys.exc_info()[1])

    found, outside = [], []
    aloop.set_exception_handler(handler)
    steps = run()
    try:
        raise LookupError("outer")
    except LookupError as error:
        outer = error
        next(steps)
    list(steps)
    ((handled, told),) = found
    assert handled is told
    assert repr(told.__context__) == "KeyError('inner')"
    assert outside == [outer, None]
    (record,) = caplog.records
    assert record.exc_info[1].__context__ is told


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_what_leaves_the_loop(aloop, spin, errors, leaving):
    seen = []

    def leave():
        raise leaving

    aloop.call_soon(leave)
    aloop.call_soon(seen.append, 1)
    with pytest.raises(leaving):
        aloop.run_forever()
    assert seen == []
    assert not aloop.is_running()
    spin(aloop)
    assert seen == [1]
    assert errors == []


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_an_exception_handler_may_leave_the_loop(aloop, spin, leaving):
    def handler(loop, context):
        raise leaving

    aloop.set_exception_handler(handler)
    aloop.call_soon(lambda: 1 / 0)
    with pytest.raises(leaving):
        aloop.run_forever()
    spin(aloop)


def test_base_exception_goes_to_the_handler(aloop, spin, errors):
    class Odd(BaseException):
        pass

    def fail():
        raise Odd

    aloop.call_soon(fail)
    spin(aloop)
    assert isinstance(errors[0]["exception"], Odd)


@pytest.mark.parametrize("name", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_closed(aloop, name):
    args = (0,) if name in ("call_later", "call_at") else ()
    aloop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        getattr(aloop, name)(*args, print)


def test_not_callable_in_debug_mode(aloop):
    async def coroutine():
        pass

    aloop.set_debug(True)
    with pytest.raises(TypeError, match=r"coroutines cannot be used with call_soon\(\)"):
        aloop.call_soon(coroutine)
    with pytest.raises(TypeError, match=r"a callable object was expected by call_soon\(\)"):
        aloop.call_soon(1)
    with pytest.raises(TypeError, match=r"a callable object was expected by call_at\(\)"):
        aloop.call_later(1, None)


def test_not_callable_out_of_debug_mode(aloop, spin, errors):
    aloop.set_debug(False)
    aloop.call_soon(1)
    spin(aloop)
    assert isinstance(errors[0]["exception"], TypeError)


# Contexts


def test_context_is_a_copy_of_the_current_one(aloop, spin):
    seen = []
    token = VARIABLE.set("at the call")
    aloop.call_soon(lambda: seen.append(VARIABLE.get()))
    aloop.call_soon(VARIABLE.set, "inside")
    aloop.call_later(0, lambda: seen.append(VARIABLE.get()))
    VARIABLE.reset(token)
    spin(aloop)
    while len(seen) < 2:
        spin(aloop)
    assert seen == ["at the call"] * 2
    assert VARIABLE.get() == "default"


def test_context_given(aloop, spin):
    context = contextvars.copy_context()
    aloop.call_soon(VARIABLE.set, "inside", context=context)
    spin(aloop)
    assert context[VARIABLE] == "inside"


def test_context_entered_already(aloop, spin, errors, caplog):
    seen = []
    context = contextvars.copy_context()
    aloop.call_soon(pytest.fail, context=context)
    aloop.call_soon(seen.append, 1)
    context.run(spin, aloop)
    assert seen == [1]
    # From Python 3.12 on, the exception handler cannot enter it either.
    assert errors or "Unhandled error in exception handler" in caplog.text
    spin(aloop)


def test_context_is_left_after_an_exception(aloop, spin, errors):
    context = contextvars.copy_context()
    aloop.call_soon(lambda: 1 / 0, context=context)
    spin(aloop)
    assert isinstance(errors[0]["exception"], ZeroDivisionError)
    assert context.run(lambda: 1) == 1


def test_reader_runs_in_the_context_of_add_reader(aloop, pair):
    a, b = pair
    seen = []
    token = VARIABLE.set("at add_reader")

    def readable():
        seen.append(VARIABLE.get())
        aloop.stop()

    aloop.add_reader(a, readable)
    VARIABLE.reset(token)
    b.send(b"x")
    aloop.run_forever()
    aloop.remove_reader(a)
    assert seen == ["at add_reader"]


def test_task_with_a_context(aloop):
    async def get():
        await asyncio.sleep(0)
        return VARIABLE.get()

    context = contextvars.copy_context()
    context.run(VARIABLE.set, "given")
    task = aloop.create_task(get(), name="a task", context=context)
    assert task.get_name() == "a task"
    assert aloop.run_until_complete(task) == "given"


def test_task_of_what_is_not_taken(aloop):
    async def nothing():
        pass

    coroutine = nothing()
    for bad in ({"nome": "x"}, {"loop": aloop}, {"name": "x", "other": None}):
        with pytest.raises(TypeError):
            aloop.create_task(coroutine, **bad)
    with pytest.raises(TypeError):
        aloop.create_task(coroutine, "a name")
    with pytest.raises(TypeError):
        aloop.create_task(name="x")
    with pytest.raises(TypeError):
        aloop.create_task(print, name="x")
    coroutine.close()


def test_task_without_a_name(aloop):
    async def nothing():
        pass

    task = aloop.create_task(nothing(), name=None, context=None)
    assert task.get_name().startswith("Task-")
    aloop.run_until_complete(task)


def test_task_of_a_closed_loop(aloop):
    async def nothing():
        pass

    coroutine = nothing()
    aloop.close()
    with pytest.raises(RuntimeError, match="closed"):
        aloop.create_task(coroutine, name="too late")
    coroutine.close()


def test_task_with_keywords_by_a_factory(aloop):
    async def nothing():
        return "done"

    seen = []

    def factory(loop, coroutine, **keywords):
        seen.append(keywords.get("context"))
        return asyncio.Task(coroutine, loop=loop, **keywords)

    context = contextvars.copy_context()
    aloop.set_task_factory(factory)
    task = aloop.create_task(nothing(), name="made", context=context)
    assert task.get_name() == "made"
    assert aloop.run_until_complete(task) == "done"
    assert seen == [context]


def test_task_in_debug_mode(aloop):
    async def nothing():
        pass

    aloop.set_debug(True)
    task = aloop.create_task(nothing(), name="watched")
    assert task.get_name() == "watched"
    assert task._source_traceback[-1].name == "test_task_in_debug_mode"
    aloop.run_until_complete(task)


# A loop's create_task() hands on any keyword since then, asyncio's own since 3.14.
@pytest.mark.skipif(sys.version_info < (3, 13, 3), reason="create_task() takes it since 3.13.3")
def test_eager_task(aloop):
    running = []

    async def work(value):
        running.append(value)
        return value

    async def main():
        eager = aloop.create_task(work(1), eager_start=True, name="eager")
        assert eager.done()
        assert running == [1]
        lazy = aloop.create_task(work(2), eager_start=False)
        assert running == [1]
        return eager.get_name(), await lazy

    assert aloop.run_until_complete(main()) == ("eager", 2)


@pytest.mark.skipif(
    not (3, 12) <= sys.version_info < (3, 13, 3), reason="refused by 3.12 and 3.13 alone"
)
def test_eager_task_refused(aloop):
    async def nothing():
        pass

    coroutine = nothing()
    with pytest.raises(TypeError):
        aloop.create_task(coroutine, eager_start=True)
    coroutine.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are of Python 3.12")
def test_eager_task_factory(aloop):
    async def nothing():
        return "eager"

    async def main():
        task = asyncio.create_task(nothing())
        assert task.done()
        with socket.create_server(("127.0.0.1", 0)) as server:
            # Before 3.13.1, asyncio's own happy eyeballs do not stand eager tasks.
            delay = 0.1 if sys.version_info >= (3, 13, 1) else None
            _, writer = await asyncio.open_connection(
                *server.getsockname(), happy_eyeballs_delay=delay
            )
            writer.close()
            await writer.wait_closed()
        return await task

    aloop.set_task_factory(asyncio.eager_task_factory)
    assert aloop.run_until_complete(main()) == "eager"


# Lifetime


class Callback:
    def __call__(self, *args):
        pass


def test_callback_and_arguments_live_until_it_returns(aloop, spin):
    class Cancels:
        def __call__(self, argument):
            handle.cancel()
            gc.collect()
            assert references[0]() is self
            assert references[1]() is argument

    callback, argument = Cancels(), Callback()
    references = [weakref.ref(callback), weakref.ref(argument)]
    handle = aloop.call_soon(callback, argument)
    del callback, argument
    spin(aloop)
    gc.collect()
    assert references[0]() is None
    assert references[1]() is None


def test_release_runs_code(aloop, spin):
    """A finalizer that schedules and cancels while the handle is let go of."""
    seen = []

    class Finalized:
        def __init__(self, other):
            self.other = other

        def __del__(self):
            self.other.cancel()
            aloop.call_soon(seen.append, 1)
            aloop.call_later(-1, seen.append, 2)

    for make in (aloop.call_soon, lambda *args: aloop.call_later(1000, *args)):
        others = [make(print) for _ in range(3)]
        handles = [make(Callback(), Finalized(other)) for other in others]
        for handle in handles:
            handle.cancel()
        assert all(other.cancelled() for other in others)
    del others, handles, handle
    gc.collect()
    while len(seen) < 12:
        spin(aloop)
    assert sorted(seen) == [1] * 6 + [2] * 6


def test_run_lets_go(aloop, spin):
    callback = Callback()
    reference = weakref.ref(callback)
    aloop.call_soon(callback, callback)
    del callback
    spin(aloop)
    assert reference() is None


def test_a_failed_task_is_let_go_of_at_once(aloop):
    """Without a garbage collection: its exception's traceback must not hold it."""

    async def fail():
        return 1 / 0

    async def main():
        reference = weakref.ref(aloop.create_task(fail()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert reference() is None

    messages = []
    aloop.set_exception_handler(lambda loop, context: messages.append(context["message"]))
    gc.disable()
    try:
        aloop.run_until_complete(main())
    finally:
        gc.enable()
    assert messages == ["Task exception was never retrieved"]


# Debug mode


def test_debug_mode_at_run_time(aloop, spin, errors):
    aloop.set_debug(False)
    aloop.call_soon(lambda: 1 / 0)
    aloop.call_soon(aloop.set_debug, True)
    aloop.call_soon(lambda: aloop.call_soon(lambda: 1 / 0))
    spin(aloop)
    spin(aloop)
    assert ["source_traceback" in context for context in errors] == [False, True]
    aloop.set_debug(False)
    assert not aloop.get_debug()


def test_slow_callbacks_are_reported(aloop, caplog):
    caplog.set_level(logging.WARNING)
    aloop.set_debug(True)

    class Bad:
        def __repr__(self):
            raise RuntimeError("repr")

    async def work():
        aloop.slow_callback_duration = 0
        await asyncio.sleep(0)

    task = aloop.create_task(work(), name="working")
    aloop.call_soon(lambda argument: None, Bad())
    aloop.run_until_complete(task)
    assert "Executing <Task " in caplog.text
    assert "name='working'" in caplog.text
    assert " took " in caplog.text


def test_debug_attribute(aloop):
    aloop.set_debug(True)
    assert aloop.get_debug() is True
    assert aloop._debug is True


# What a program on this loop sends to itself


class Told(asyncio.Protocol):
    def __init__(self):
        self.told = []

    def data_received(self, data):
        self.told.append(data)

    def eof_received(self):
        self.told.append("eof")
        return True

    def connection_lost(self, exc):
        self.told.append("lost")


@pytest.mark.parametrize(("do", "turns"), [("write", 2), ("write_eof", 2), ("close", 3)])
def test_what_was_sent_arrives_in_the_next_turn(aloop, pair, do, turns):
    """Programs wait for it by `await asyncio.sleep(0)`, and always have something else to do."""

    async def main():
        here, _ = await aloop.create_connection(Told, sock=pair[0])
        there, told = await aloop.create_connection(Told, sock=pair[1])
        await asyncio.sleep(0)
        if do == "write":
            here.write(b"x")
        else:
            getattr(here, do)()
        for _ in range(turns):
            await asyncio.sleep(0)
        seen = list(told.told)
        here.abort()
        there.abort()
        await asyncio.sleep(0)
        return seen

    expected = [b"x"] if do == "write" else ["eof"]
    assert aloop.run_until_complete(main()) == expected
