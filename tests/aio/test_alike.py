"""Random programs of callbacks, tasks, futures and timers: on our loop they do, step by step, what
they do on asyncio's own."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import pyev
from alike_kit import examples

# A program is steps, and a step is a tuple: what is done, and with which of a few names. A
# callback's steps cannot wait, a coroutine's can.

NAMES = st.integers(0, 3)
VALUES = st.integers(0, 9)

callback = st.deferred(lambda: st.lists(in_callback, max_size=4))
coroutine = st.deferred(lambda: st.lists(in_coroutine, max_size=5))

in_callback = st.one_of(
    st.tuples(st.just("note"), VALUES),
    st.tuples(st.just("raise"), VALUES),
    st.tuples(st.just("exit"), VALUES),
    st.tuples(st.just("set variable"), VALUES),
    st.tuples(st.sampled_from(["call_soon", "call_soon_threadsafe"]), NAMES, callback),
    st.tuples(st.just("call_at"), NAMES, VALUES, callback),
    st.tuples(st.just("cancel"), NAMES),
    st.tuples(st.just("create_task"), NAMES, st.booleans(), coroutine),
    st.tuples(st.just("cancel_task"), NAMES),
    st.tuples(st.just("create_future"), NAMES),
    st.tuples(st.sampled_from(["set_result", "set_exception", "cancel_future"]), NAMES),
    st.tuples(st.just("add_done_callback"), NAMES, callback),
    st.tuples(st.just("remove_done_callback"), NAMES),
    st.tuples(st.just("put"), VALUES),
    st.tuples(st.sampled_from(["set_event", "clear_event", "stop", "uncancel"])),
)
in_coroutine = st.one_of(
    in_callback,
    st.tuples(st.just("sleep"), st.sampled_from([0, -1, 0.0])),
    st.tuples(st.sampled_from(["await_task", "await_future", "shield"]), NAMES),
    st.tuples(st.just("gather"), st.lists(NAMES, max_size=3), st.booleans()),
    st.tuples(
        st.just("wait"),
        st.lists(NAMES, min_size=1, max_size=3),
        st.sampled_from(["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"]),
    ),
    st.tuples(st.just("timeout"), st.sampled_from([None, 0, -1, 1000]), coroutine),
    st.tuples(st.just("wait_for"), st.sampled_from([None, 0, -1, 1000]), coroutine),
    # These two have sets of tasks, in the order of their addresses: one has only one order.
    st.tuples(st.just("as_completed"), st.lists(NAMES, max_size=1)),
    st.tuples(st.just("group"), st.lists(coroutine, max_size=1)),
    st.tuples(st.just("lock"), coroutine),
    st.tuples(st.just("catch"), coroutine),
    st.tuples(st.just("generate"), st.booleans(), coroutine),
    st.tuples(st.sampled_from(["get", "wait_event", "barrier"])),
)


class Run:
    """A program on a loop, and what it does there."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.trace: list[Any] = []
        self.handles: dict[int, asyncio.Handle] = {}
        self.tasks: dict[int, asyncio.Task[Any]] = {}
        self.numbers: dict[asyncio.Task[Any], int] = {}
        self.futures: dict[int, asyncio.Future[Any]] = {}
        self.observers: dict[int, Any] = {}
        self.count = itertools.count()
        self.past = loop.time() - 1000
        self.variable = contextvars.ContextVar("variable", default=-1)
        self.queue: asyncio.Queue[int] = asyncio.Queue(2)
        self.event = asyncio.Event()
        self.lock = asyncio.Lock()
        self.stopping = False

    def note(self, *what: Any) -> None:
        self.trace.append((*what, self.variable.get()))

    def on_exception(self, loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if (
            "never retrieved" not in context["message"]
        ):  # that is a matter of who still refers to it
            message = context["message"].split(" ")[:3]
            self.note("handler", message, sorted(context), repr(error))

    def callback(self, number: int, steps: list[Any], *arguments: Any) -> None:
        self.note("callback", number, len(arguments))
        for step in steps:
            self.step(number, step)

    def step(self, number: int, step: Any) -> None:
        """What needs no waiting."""
        what, arguments = step[0], step[1:]
        loop = self.loop
        self.note(number, what)
        match what:
            case "note":
                self.note("note", arguments[0], len(asyncio.all_tasks(loop)))
            case "raise":
                raise ValueError(arguments[0])
            case "exit":
                if arguments[0] > 7:  # rarely: it ends the run
                    raise SystemExit(arguments[0])
            case "set variable":
                self.variable.set(arguments[0])
            case "call_soon" | "call_soon_threadsafe":
                name, steps = arguments
                call = getattr(loop, what)
                self.handles[name] = call(self.callback, next(self.count), steps)
            case "call_at":
                name, rank, steps = arguments
                number = next(self.count)
                when = self.past + rank + number / 1000
                self.handles[name] = loop.call_at(when, self.callback, number, steps)
            case "cancel":
                if handle := self.handles.get(arguments[0]):
                    handle.cancel()
                    self.note(handle.cancelled())
            case "create_task":
                name, named, steps = arguments
                number = next(self.count)
                options = {"name": f"{name}"} if named else {}
                task = loop.create_task(self.coroutine(number, steps), **options)
                self.tasks[name] = task
                self.numbers[task] = number
                self.note("made", task.done())
            case "cancel_task":
                if task := self.tasks.get(arguments[0]):
                    self.note(task.cancel("because"), task.cancelling(), task.cancelled())
            case "uncancel":
                if (task := self.current()) is not None:
                    self.note(task.uncancel())
            case "create_future":
                self.futures[arguments[0]] = loop.create_future()
            case "set_result" | "set_exception" | "cancel_future":
                future = self.futures.get(arguments[0])
                if future is None:
                    return
                try:
                    if what == "set_result":
                        future.set_result(arguments[0])
                    elif what == "set_exception":
                        future.set_exception(KeyError(arguments[0]))
                    else:
                        self.note(future.cancel())
                except asyncio.InvalidStateError as error:
                    self.note(repr(error))
            case "add_done_callback":
                name, steps = arguments
                number = next(self.count)
                if future := self.futures.get(name) or self.tasks.get(name):
                    self.observers[name] = lambda found: self.callback(number, steps, found)
                    future.add_done_callback(self.observers[name])
            case "remove_done_callback":
                name = arguments[0]
                future = self.futures.get(name) or self.tasks.get(name)
                if future and name in self.observers:
                    self.note(future.remove_done_callback(self.observers[name]))
            case "put":
                try:
                    self.queue.put_nowait(arguments[0])
                except asyncio.QueueFull as error:
                    self.note(repr(error))
            case "set_event":
                self.event.set()
            case "clear_event":
                self.event.clear()
            case "stop":
                loop.stop()

    def current(self) -> Any:
        return asyncio.current_task(self.loop)

    def awaitable(self, number: int, found: Any) -> bool:
        """Whether a coroutine may wait for it: tasks are to be younger, so that none wait for each
        other in a circle."""
        return found is not None and self.numbers.get(found, number + 1) > number

    def chosen(self, number: int, names: list[int]) -> list[Any]:
        """The tasks and futures of these names, none twice."""
        found = [self.tasks.get(name) or self.futures.get(name) for name in names]
        return list(dict.fromkeys(one for one in found if self.awaitable(number, one)))

    async def coroutine(self, number: int, steps: list[Any]) -> int:
        self.note("begins", number)
        try:
            for step in steps:
                await self.waiting_step(number, step)
            return number
        except BaseException as error:
            self.note("raises", number, repr(error))
            raise
        finally:
            self.note("ends", number)

    async def generator(self, number: int, steps: list[Any]) -> Any:
        try:
            for step in steps:
                await self.waiting_step(number, step)
                yield number
        finally:
            self.note("closed", number)

    async def waiting_step(self, number: int, step: Any) -> None:
        what, arguments = step[0], step[1:]
        match what:
            case "sleep":
                await asyncio.sleep(arguments[0])
            case "await_task" | "await_future" | "shield":
                waited = (self.futures if what == "await_future" else self.tasks).get(arguments[0])
                if self.awaitable(number, waited):
                    self.note(await (asyncio.shield(waited) if what == "shield" else waited))
            case "gather":
                names, returned = arguments
                found = await asyncio.gather(
                    *self.chosen(number, names), return_exceptions=returned
                )
                self.note([repr(one) for one in found])
            case "wait":
                names, mode = arguments
                if chosen := self.chosen(number, names):
                    done, pending = await asyncio.wait(chosen, return_when=getattr(asyncio, mode))
                    self.note(len(done), len(pending))
            case "timeout":
                delay, steps = arguments
                async with asyncio.timeout(delay) as timeout:
                    await self.coroutine(number, steps)
                self.note(timeout.expired())
            case "wait_for":
                delay, steps = arguments
                waited = self.coroutine(next(self.count), steps)
                self.note(await asyncio.wait_for(waited, delay))
            case "as_completed":
                for one in asyncio.as_completed(self.chosen(number, arguments[0])):
                    self.note(await one)
            case "group":
                async with asyncio.TaskGroup() as group:
                    for steps in arguments[0]:
                        group.create_task(self.coroutine(next(self.count), steps))
            case "lock":
                async with self.lock:
                    await self.coroutine(number, arguments[0])
            case "catch":
                try:
                    await self.coroutine(number, arguments[0])
                except (Exception, asyncio.CancelledError) as error:
                    self.note("caught", repr(error))
            case "generate":
                whole, steps = arguments
                async for one in self.generator(next(self.count), steps):
                    self.note("yielded", one)
                    if not whole:
                        break
            case "get":
                self.note(await self.queue.get())
            case "wait_event":
                await self.event.wait()
            case "barrier":
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            case _:
                self.step(number, step)

    async def settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    def drive(self, what: Any) -> None:
        """Runs until `what` is done, though the program may stop the loop or leave it."""
        future = asyncio.ensure_future(what, loop=self.loop)
        for _ in range(200):
            try:
                self.loop.run_until_complete(future)
            except RuntimeError as error:
                self.note("left", repr(error))
            except (SystemExit, asyncio.CancelledError) as error:
                self.note("left", repr(error))
            if future.done():
                return
        raise AssertionError("no end")

    def whole(self, steps: list[Any]) -> None:
        loop = self.loop
        loop.set_exception_handler(self.on_exception)
        self.drive(self.main(steps))
        for _ in range(20):
            if not (tasks := sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())):
                break
            self.note("left over", len(tasks))
            for task in sorted(tasks, key=self.order):
                task.cancel()
            self.drive(self.settle())
        self.drive(loop.shutdown_asyncgens())

    def order(self, task: asyncio.Task[Any]) -> int:
        """When it was made, which the set of all tasks does not tell."""
        return task.get_coro().cr_frame.f_locals.get("number", -1)  # type: ignore[union-attr]

    async def main(self, steps: list[Any]) -> None:
        number = next(self.count)
        task = self.loop.create_task(self.coroutine(number, steps))
        self.tasks[0] = task
        self.numbers[task] = number
        await self.settle()


def run(factory: Any, steps: list[Any]) -> list[Any]:
    loop = factory()
    asyncio.set_event_loop(loop)
    try:
        program = Run(loop)
        program.whole(steps)
        trace = program.trace
        program.handles.clear()
        program.tasks.clear()
        program.numbers.clear()
        program.futures.clear()
        return trace
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@examples(300)
@given(coroutine)
def test_programs(steps: list[Any]) -> None:
    gc.disable()
    try:
        theirs = run(asyncio.SelectorEventLoop, steps)
        ours = run(pyev.new_event_loop, steps)
    finally:
        gc.enable()
    assert ours == theirs
