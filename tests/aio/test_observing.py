"""Observing the loop: debug mode, reports, exception handlers, generators, call graphs."""

import asyncio
import contextlib
import contextvars
import gc
import logging
import signal
import subprocess
import sys
import textwrap
import threading
import time
from unittest import mock

import pytest

import pyev

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")

PYTHON_3_12 = pytest.mark.skipif(sys.version_info < (3, 12), reason="of Python 3.12")
PYTHON_3_14 = pytest.mark.skipif(sys.version_info < (3, 14), reason="of Python 3.14")


class Unprintable:
    def __repr__(self):
        raise RuntimeError("repr")

    def __call__(self, *args):
        pass


# Debug mode


@pytest.mark.parametrize("name", ["pyev.new_event_loop", "asyncio.SelectorEventLoop"])
def test_debug_mode_from_outside(script, name):
    source = f"""
    import asyncio, pyev
    loop = {name}()
    print(loop.get_debug())
    loop.close()
    """
    clean = {"PYTHONASYNCIODEBUG": "", "PYTHONDEVMODE": ""}
    assert script(source, env=clean).split() == ["False"]
    assert script(source, env=clean | {"PYTHONASYNCIODEBUG": "1"}).split() == ["True"]
    assert script(source, env=clean | {"PYTHONDEVMODE": "1"}).split() == ["True"]


def test_origin_tracking_lasts_as_long_as_the_loop_runs(aloop):
    """In debug mode a coroutine knows where it was made."""
    depths = []

    def depth():
        depths.append(bool(sys.get_coroutine_origin_tracking_depth()))

    depth()
    aloop.call_soon(depth)
    aloop.call_soon(aloop.stop)
    aloop.run_forever()
    depth()
    assert depths == [False, aloop.get_debug(), False]


def test_debug_mode_changes_while_it_runs(aloop, spin):
    """However often, with callbacks of both kinds in the queue."""
    ran = []
    for i in range(100):
        aloop.call_soon(ran.append, i)
        aloop.call_soon(aloop.set_debug, bool(i % 3))
        aloop.call_later(0, ran.append, i)
        aloop.call_soon_threadsafe(ran.append, i)
    while len(ran) < 300:
        spin(aloop)
    assert sorted(ran) == sorted([*range(100)] * 3)


def spend(seconds=0.002):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def slow_task(loop):
    async def slow():
        spend()

    loop.create_task(slow(), name="the slow one")


def slow_reader(loop, pair):
    def readable():
        spend()
        loop.remove_reader(pair[0])

    pair[1].send(b"x")
    loop.add_reader(pair[0], readable)


SLOW = {
    "task": ("name='the slow one'", lambda loop, pair: slow_task(loop)),
    "call_soon": ("spend", lambda loop, pair: loop.call_soon(spend)),
    "call_later": ("spend", lambda loop, pair: loop.call_later(0, spend)),
    "threadsafe": ("spend", lambda loop, pair: loop.call_soon_threadsafe(spend)),
    "reader": ("readable", slow_reader),
}


@pytest.mark.parametrize("kind", SLOW)
def test_what_is_slow_is_named(aloop, spin, pair, caplog, kind):
    caplog.set_level(logging.WARNING, "asyncio")
    name, start = SLOW[kind]
    aloop.set_debug(True)
    aloop.slow_callback_duration = 0.001
    start(aloop, pair)
    while name not in caplog.text:
        spin(aloop)
    assert "Executing <" in caplog.text
    assert " seconds" in caplog.text
    caplog.clear()
    aloop.set_debug(False)
    start(aloop, pair)
    for _ in range(20):
        spin(aloop)
    # Asleep in the selector is not slow, and nothing is measured out of debug mode.
    assert "Executing" not in caplog.text


@pytest.mark.parametrize("make", [pyev.new_event_loop, asyncio.SelectorEventLoop])
def test_slow_is_a_tenth_of_a_second(make):
    loop = make()
    assert loop.slow_callback_duration == 0.1
    loop.close()


# Exception handlers


def test_exception_handler_is_kept_and_put_back(aloop, spin, caplog):
    seen = []

    def handler(loop, context):
        assert loop is aloop
        seen.append(context)

    assert aloop.get_exception_handler() is None
    aloop.set_exception_handler(handler)
    assert aloop.get_exception_handler() is handler
    aloop.call_soon(lambda: 1 / 0)
    spin(aloop)
    assert len(seen) == 1
    assert caplog.text == ""
    aloop.set_exception_handler(None)
    aloop.call_soon(lambda: 1 / 0)
    spin(aloop)
    assert len(seen) == 1
    assert "Exception in callback" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    with pytest.raises(TypeError, match="callable"):
        aloop.set_exception_handler(1)


def test_context_without_an_exception(aloop, caplog):
    aloop.call_exception_handler({"message": "a word", "color": "red"})
    assert "a word" in caplog.text
    assert "color: 'red'" in caplog.text


@PYTHON_3_12
def test_exception_handler_runs_in_the_context_of_what_failed(aloop, spin):
    """Of a handle, a task and a future's own task."""
    seen = []

    def handler(loop, context):
        seen.append(VARIABLE.get())

    def set_and_fail(value):
        VARIABLE.set(value)
        raise ZeroDivisionError

    async def fail(value):
        set_and_fail(value)

    aloop.set_exception_handler(handler)
    aloop.call_soon(set_and_fail, "call_soon")
    aloop.call_soon_threadsafe(set_and_fail, "threadsafe")
    spin(aloop)
    aloop.call_later(0, set_and_fail, "call_later")
    while len(seen) < 3:
        spin(aloop)
    task = aloop.create_task(fail("task"))
    spin(aloop)
    assert task.done()
    del task
    gc.collect()
    assert seen == ["call_soon", "threadsafe", "call_later", "task"]


def test_what_cannot_be_printed(aloop, spin, caplog):
    """A report that raises does no harm."""
    aloop.call_soon(lambda argument: 1 / 0, Unprintable())
    spin(aloop)
    aloop.call_exception_handler({"message": "a word", "thing": Unprintable()})

    def handler(loop, context):
        raise ZeroDivisionError

    aloop.set_exception_handler(handler)
    aloop.call_soon(lambda argument: 1 / 0, Unprintable())
    spin(aloop)
    assert "Unhandled error in exception handler" in caplog.text
    aloop.set_debug(True)
    aloop.slow_callback_duration = 0
    handle = aloop.call_soon(Unprintable())
    with contextlib.suppress(RuntimeError):
        spin(aloop)
    with contextlib.suppress(RuntimeError):
        repr(handle)
    aloop.set_debug(False)
    spin(aloop)


def test_never_retrieved(aloop, spin, errors):
    future = aloop.create_future()
    future.set_exception(ZeroDivisionError())
    del future
    gc.collect()
    (context,) = errors
    assert context["message"] == "Future exception was never retrieved"
    assert isinstance(context["exception"], ZeroDivisionError)
    assert ("source_traceback" in context) == aloop.get_debug()


def test_a_pending_task_that_is_destroyed(aloop, spin, errors):
    async def wait():
        await asyncio.Future(loop=aloop)

    aloop.create_task(wait(), name="dropped")
    spin(aloop)
    spin(aloop)
    gc.collect()
    (context,) = errors
    assert context["message"] == "Task was destroyed but it is pending!"
    assert context["task"].get_name() == "dropped"


# Asynchronous generators


async def numbers(closing=None):
    try:
        while True:
            yield 1
    finally:
        if closing:
            await closing()


def test_a_generator_whose_end_fails(aloop, errors):
    async def fail():
        raise ZeroDivisionError

    async def main():
        generator = numbers(fail)
        await anext(generator)
        return generator

    generator = aloop.run_until_complete(main())
    aloop.run_until_complete(aloop.shutdown_asyncgens())
    (context,) = errors
    assert context["asyncgen"] is generator
    assert isinstance(context["exception"], ZeroDivisionError)
    assert "closing of asynchronous generator" in context["message"]


def test_a_generator_after_the_shutdown(aloop):
    async def main():
        generator = numbers()
        with pytest.warns(ResourceWarning, match="was scheduled after loop.shutdown_asyncgens"):
            await anext(generator)
        await generator.aclose()

    aloop.run_until_complete(aloop.shutdown_asyncgens())
    aloop.run_until_complete(main())


def test_a_generator_dropped_in_another_thread(aloop, spin):
    """Its end runs in its loop all the same."""
    closed = []

    async def closing():
        closed.append(asyncio.get_running_loop())

    async def main():
        holder = [numbers(closing)]
        await anext(holder[0])
        await asyncio.to_thread(holder.clear)
        gc.collect()
        while not closed:
            await asyncio.sleep(0)

    aloop.run_until_complete(main())
    assert closed == [aloop]
    aloop.run_until_complete(aloop.shutdown_default_executor())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Python 3.12 waits for it all the same")
def test_an_executor_that_does_not_end(aloop):
    before = set(threading.enumerate())
    release = threading.Event()
    future = aloop.run_in_executor(None, release.wait)
    with pytest.warns(RuntimeWarning, match="executor did not finish"):
        aloop.run_until_complete(aloop.shutdown_default_executor(timeout=0.01))
    release.set()
    assert aloop.run_until_complete(future) is True
    for thread in set(threading.enumerate()) - before:
        thread.join()


# Call graphs


@PYTHON_3_14
def test_call_graph(aloop):
    async def inner():
        await asyncio.sleep(0)
        graphs.append(asyncio.capture_call_graph())
        texts.append(asyncio.format_call_graph())

    async def outer():
        async with asyncio.TaskGroup() as group:
            group.create_task(inner(), name="the inner one")

    graphs, texts = [], []
    task = aloop.create_task(outer(), name="the outer one")
    aloop.run_until_complete(task)
    (graph,) = graphs
    assert graph.future.get_name() == "the inner one"
    assert graph.call_stack[0].frame.f_code.co_name == "inner"
    (awaited_by,) = graph.awaited_by
    assert awaited_by.future is task
    (text,) = texts
    assert text.index("the inner one") < text.index("inner()") < text.index("the outer one")
    assert asyncio.capture_call_graph(task) is not None


@PYTHON_3_14
def test_call_graph_of_another_task(aloop):
    async def waiting(event):
        await event.wait()

    async def main():
        event = asyncio.Event()
        task = asyncio.create_task(waiting(event))
        await asyncio.sleep(0)
        graph = asyncio.capture_call_graph(task)
        names = [entry.frame.f_code.co_name for entry in graph.call_stack]
        assert names == ["wait", "waiting"]
        event.set()
        await task
        # Without a GIL a task keeps its coroutine, which has no frame any more.
        graph = asyncio.capture_call_graph(task)
        assert [entry.frame for entry in graph.call_stack if entry.frame] == []

    aloop.run_until_complete(main())


@PYTHON_3_14
def test_call_graph_of_a_task_that_reads(aloop, pair):
    """A native method has no frame; who awaits it has."""

    async def reading():
        await aloop.sock_recv(pair[0], 1)

    async def main():
        task = asyncio.create_task(reading())
        await asyncio.sleep(0)
        graph = asyncio.capture_call_graph(task)
        names = [entry.frame.f_code.co_name for entry in graph.call_stack]
        assert names == [*asyncios, "reading"]
        pair[1].send(b"x")
        await task

    asyncios = [] if isinstance(aloop, pyev.EventLoop) else ["sock_recv"]
    aloop.run_until_complete(main())


WATCHED = """
    import asyncio, ctypes, sys
    import pyev

    # Let a program that is no parent of this one look into it.
    ctypes.CDLL(None).prctl(0x59616d61, ctypes.c_ulong(-1), 0, 0, 0)

    async def leaf():
        print("ready", flush=True)
        await asyncio.Event().wait()

    async def branch():
        async with asyncio.TaskGroup() as group:
            group.create_task(leaf(), name="the leaf")

    async def main():
        await asyncio.create_task(branch(), name="the branch")

    with asyncio.Runner(loop_factory={factory}) as runner:
        runner.run(main())
"""


@PYTHON_3_14
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it may take privileges")
@pytest.mark.parametrize("name", ["pyev.new_event_loop", "asyncio.SelectorEventLoop"])
@pytest.mark.parametrize("word", ["ps", "pstree"])
def test_asyncio_ps(name, word):
    """`python -m asyncio ps PID`: a program's tasks, from outside."""
    source = textwrap.dedent(WATCHED.format(factory=name))
    with subprocess.Popen(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            for _ in range(20):
                # It reads memory that may be changing: while the leaf begins to wait, it may fail.
                done = subprocess.run(
                    [sys.executable, "-m", "asyncio", word, str(process.pid)],
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                )
                if done.returncode == 0 and "the leaf" in done.stdout:
                    break
        finally:
            process.send_signal(signal.SIGKILL)
    if "ermission" in done.stderr or "not permitted" in done.stderr:
        pytest.skip("this process may not look into others")
    assert done.returncode == 0, done.stderr
    for expected in ("the leaf", "the branch", "leaf", "branch"):
        assert expected in done.stdout


# asyncio's private parts


def test_what_is_scheduled(aloop, spin):
    """Tools look through these; what they do to the lists, ours does not mind."""
    assert not aloop._ready and not aloop._scheduled
    later = [aloop.call_later(seconds, print, seconds) for seconds in (60, 30, 45)]
    soon = aloop.call_soon(print, "soon")
    later[1].cancel()
    assert list(aloop._ready) == [soon]
    alive = [handle for handle in aloop._scheduled if not handle.cancelled()]
    assert aloop._scheduled[0].when() <= min(handle.when() for handle in alive)
    assert sorted(alive) == [later[2], later[0]]
    assert [handle._args for handle in sorted(alive)] == [(45,), (60,)]
    if isinstance(aloop, pyev.EventLoop):
        aloop._ready.clear()
        assert aloop._ready == [soon]
        aloop._scheduled.clear()
        assert aloop._scheduled == [later[2], later[0]]
    for handle in list(aloop._scheduled):
        handle.cancel()
    spin(aloop)
    assert [handle for handle in aloop._scheduled if not handle.cancelled()] == []


def test_a_turn_of_asyncios_own_is_refused(ours):
    """What would never be called is told at once."""
    ours.call_soon(print)
    with pytest.raises(NotImplementedError, match="polls by itself"):
        ours._run_once()
    with pytest.raises(AttributeError, match=r"polls by itself.* another select\(\)"):
        ours._selector.select = print
    with (
        pytest.raises(AttributeError, match=r"polls by itself"),
        mock.patch.object(ours._selector, "select"),
    ):
        pytest.fail("was replaced")


def test_a_call_by_asyncios_own_hook(aloop):
    """Some libraries make their calls by it."""
    seen = []
    handle = aloop._call_soon(seen.append, (1,), None)
    aloop._call_soon(aloop.stop, (), None)
    aloop.run_forever()
    assert seen == [1]
    assert isinstance(handle, asyncio.Handle)


def test_a_stop_that_is_taken_back(aloop):
    """A server that was stopped before its loop runs once more."""
    aloop.stop()
    assert aloop._stopping is True
    aloop._stopping = False
    assert aloop.run_until_complete(asyncio.sleep(0, "done")) == "done"
    assert aloop._stopping is False
