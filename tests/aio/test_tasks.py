"""Tasks on our loop, by the rules of each Python: names, contexts, factories, eager tasks."""

import asyncio
import contextvars
import inspect
import sys
import threading

import pytest

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")

EAGER = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are of Python 3.12")
# From 3.13.3 on, create_task() hands what it does not know to the task or its factory.
PASSES_ON = "kwargs" in inspect.signature(asyncio.BaseEventLoop.create_task).parameters
PASSED_ON = pytest.mark.skipif(not PASSES_ON, reason="create_task() passes on from Python 3.13.3")


async def nothing():
    return VARIABLE.get()


async def later():
    await asyncio.sleep(0)
    return VARIABLE.get()


def given_context():
    context = contextvars.copy_context()
    context.run(VARIABLE.set, "given")
    return context


def test_a_task_is_asyncios(aloop):
    task = aloop.create_task(nothing())
    assert type(task) is asyncio.Task
    assert task.get_loop() is aloop
    assert task in asyncio.all_tasks(aloop)
    assert aloop.run_until_complete(task) == "default"
    assert asyncio.all_tasks(aloop) == set()
    assert type(aloop.create_future()) is asyncio.Future


def test_name_and_context(aloop):
    task = aloop.create_task(later(), name="a task", context=given_context())
    assert task.get_name() == "a task"
    assert "name='a task'" in repr(task)
    assert aloop.run_until_complete(task) == "given"
    task = aloop.create_task(later(), name=None, context=None)
    assert task.get_name().startswith("Task-")
    assert aloop.run_until_complete(task) == "default"


def test_what_is_no_coroutine(aloop):
    for wrong in (None, 1, print, nothing):
        with pytest.raises(TypeError, match="coroutine"):
            aloop.create_task(wrong)
    coroutine = nothing()
    with pytest.raises(TypeError, match="argument"):
        aloop.create_task(coroutine, nonsense=1)
    with pytest.raises(TypeError):
        aloop.create_task(coroutine, "a name")
    coroutine.close()


def test_closed(aloop):
    aloop.close()
    coroutine = nothing()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        aloop.create_task(coroutine)
    coroutine.close()


# Factories


class Factory:
    """A task factory that remembers what it was given."""

    def __init__(self):
        self.given = []

    def __call__(self, loop, coroutine, **kwargs):
        self.given.append(kwargs)
        return asyncio.Task(coroutine, loop=loop, **kwargs)


def test_factory(aloop):
    factory = Factory()
    assert aloop.get_task_factory() is None
    aloop.set_task_factory(factory)
    assert aloop.get_task_factory() is factory
    context = given_context()
    task = aloop.create_task(later(), name="a task", context=context)
    assert task.get_name() == "a task"
    assert aloop.run_until_complete(task) == "given"
    (given,) = factory.given
    assert given["context"] is context
    aloop.set_task_factory(None)
    aloop.run_until_complete(aloop.create_task(nothing()))
    assert len(factory.given) == 1
    with pytest.raises(TypeError, match="callable"):
        aloop.set_task_factory(1)


@PASSED_ON
def test_a_factory_is_given_everything(aloop):
    def factory(loop, coroutine, *, color, **kwargs):
        colors.append(color)
        return asyncio.Task(coroutine, loop=loop, **kwargs)

    colors = []
    aloop.set_task_factory(factory)
    aloop.run_until_complete(aloop.create_task(nothing(), color="red"))
    assert colors == ["red"]


# Eager tasks


@PASSED_ON
@EAGER
def test_eager_start(aloop):
    async def main():
        task = aloop.create_task(nothing(), eager_start=True, name="eager", context=given_context())
        assert task.done()
        assert task.get_name() == "eager"
        assert task.result() == "given"
        task = aloop.create_task(later(), eager_start=True)
        assert not task.done()
        assert await task == "default"
        task = aloop.create_task(nothing(), eager_start=False)
        assert not task.done()
        await task

    aloop.run_until_complete(main())


@PASSED_ON
@EAGER
@pytest.mark.skipif(sys.version_info < (3, 14), reason="of Python 3.14")
def test_eager_start_under_a_factory_and_through_asyncio(aloop):
    async def main():
        assert asyncio.create_task(nothing(), eager_start=True).done()
        lazy = asyncio.create_task(nothing(), eager_start=False)
        assert not lazy.done()
        async with asyncio.TaskGroup() as group:
            assert group.create_task(nothing(), eager_start=True).done()
            assert not group.create_task(later(), eager_start=True).done()
        await lazy

    aloop.run_until_complete(main())
    aloop.set_task_factory(asyncio.eager_task_factory)
    aloop.run_until_complete(main())


@EAGER
def test_eager_tasks_begin_at_once(aloop):
    order = []

    async def child(name):
        task = asyncio.current_task()
        assert task is not outer
        order.append(f"{name} begins")
        await asyncio.sleep(0)
        assert asyncio.current_task() is task
        order.append(f"{name} ends")

    async def main():
        first = asyncio.create_task(child("first"))
        assert asyncio.current_task() is outer
        second = asyncio.create_task(child("second"))
        order.append("main")
        assert {first, second} < asyncio.all_tasks()
        await asyncio.gather(first, second)

    aloop.set_task_factory(asyncio.eager_task_factory)
    # What is made outside of the running loop begins in it.
    outer = aloop.create_task(main())
    assert order == []
    aloop.run_until_complete(outer)
    assert order == ["first begins", "second begins", "main", "first ends", "second ends"]


@EAGER
def test_eager_tasks_that_fail_or_are_cancelled(aloop, errors):
    async def fail():
        raise ZeroDivisionError

    async def main():
        failed = asyncio.create_task(fail())
        assert failed.done()
        with pytest.raises(ZeroDivisionError):
            await failed
        cancelled = asyncio.create_task(asyncio.sleep(1000))
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.create_task(asyncio.sleep(1000))
        with pytest.raises(ExceptionGroup):
            await group()

    async def group():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(1000))
            tasks.create_task(fail())

    aloop.set_task_factory(asyncio.eager_task_factory)
    aloop.run_until_complete(main())
    assert errors == []


@EAGER
@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_an_eager_task_may_leave_the_loop(aloop, leaving):
    async def leave():
        raise leaving

    async def main():
        await asyncio.create_task(leave())

    aloop.set_task_factory(asyncio.eager_task_factory)
    task = aloop.create_task(main())
    with pytest.raises(leaving):
        aloop.run_until_complete(task)
    assert not aloop.is_running()
    aloop.set_task_factory(None)
    assert aloop.run_until_complete(aloop.create_task(nothing())) == "default"


@EAGER
def test_a_class_of_eager_tasks(aloop):
    class Task(asyncio.Task):
        pass

    async def main():
        task = asyncio.create_task(nothing())
        assert type(task) is Task
        assert task.done()

    aloop.set_task_factory(asyncio.create_eager_task_factory(Task))
    aloop.run_until_complete(main())


# Who is there


def test_tasks_of_another_thread(aloop):
    """asyncio.all_tasks() may ask for a loop that runs elsewhere."""

    async def main():
        task = asyncio.current_task()
        waiting = asyncio.create_task(asyncio.sleep(1000), name="waiting")
        await asyncio.sleep(0)
        seen = await asyncio.to_thread(asyncio.all_tasks, aloop)
        assert seen == {task, waiting}
        waiting.cancel()

    aloop.run_until_complete(main())
    aloop.run_until_complete(aloop.shutdown_default_executor())


def test_current_task(aloop):
    seen = []

    async def main():
        task = asyncio.current_task()
        aloop.call_soon(lambda: seen.append(asyncio.current_task()))
        await asyncio.sleep(0)
        assert asyncio.current_task() is task

    task = aloop.create_task(main())
    aloop.run_until_complete(task)
    assert seen == [None]
    assert asyncio.current_task(aloop) is None


def test_tasks_of_two_loops(factory):
    """Each in its own thread, and neither sees the other's."""
    loops = [factory(), factory()]
    together = threading.Barrier(2)
    seen = []

    async def main():
        together.wait()
        seen.append(asyncio.all_tasks())
        together.wait()

    threads = [threading.Thread(target=loop.run_until_complete, args=(main(),)) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for loop in loops:
        loop.close()
    assert [len(tasks) for tasks in seen] == [1, 1]
    assert not seen[0] & seen[1]


def test_another_class_in_asyncios_modules(aloop, monkeypatch):
    """Whoever puts one there has it used, as in asyncio."""

    class Task(asyncio.tasks._PyTask):
        pass

    class Future(asyncio.futures._PyFuture):
        pass

    plain = aloop.create_future()
    assert type(plain) is asyncio.Future
    monkeypatch.setattr(asyncio.tasks, "Task", Task)
    monkeypatch.setattr(asyncio.futures, "Future", Future)
    task, future = aloop.create_task(nothing()), aloop.create_future()
    assert type(task) is Task
    assert type(future) is Future
    assert future.get_loop() is aloop
    aloop.run_until_complete(task)


def test_a_future_of_a_closed_loop(aloop):
    aloop.close()
    assert aloop.create_future().get_loop() is aloop
