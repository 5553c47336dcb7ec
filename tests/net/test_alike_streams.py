"""Random use of streams: on our loop, ours and asyncio's do, step by step, what asyncio's do on its
own."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from alike_streams_kit import (
    LIMITS,
    PIECES,
    Conversation,
    conversation,
    little,
    much,
    odd,
    raised,
    read,
    reads_much,
    waiting,
)
from hypothesis import given
from hypothesis import strategies as st

import pyev
from alike_kit import examples

# A step is done at once, or begins a task of several, which may wait.

feed = st.tuples(
    st.just("feed_data"), PIECES, st.sampled_from([bytes, bytes, bytearray, memoryview])
)
by_hand = st.one_of(
    feed,
    st.tuples(st.just("cancel"), st.integers(0, 3)),
    st.tuples(st.sampled_from(["feed_eof", "at_eof", "exception", "hold", "let go"])),
    st.tuples(st.just("set_exception"), st.sampled_from([LookupError, LookupError("an"), None])),
    st.tuples(st.just("feed_data"), st.sampled_from(["text", None, 7])),
)
in_task = st.one_of(read, odd, feed, by_hand, st.tuples(st.just("sleep")))
tasks = st.tuples(st.just("task"), st.lists(in_task, min_size=1, max_size=4))
reading = st.tuples(st.just("task"), st.lists(read, min_size=1, max_size=3))
use = st.one_of(reading, reading, tasks, feed, by_hand, st.tuples(st.just("sleep")))


class Held:
    """A transport that says whether it is held back."""

    def __init__(self, trace: list[Any], able: bool) -> None:
        self.trace, self.able = trace, able

    def pause_reading(self) -> None:
        self.trace.append("pause_reading")
        if not self.able:
            raise NotImplementedError

    def resume_reading(self) -> None:
        self.trace.append("resume_reading")


class Fed:
    """A reader without a connection."""

    def __init__(self, reader: Any, able: bool | None) -> None:
        self.reader = reader
        self.trace: list[Any] = []
        self.tasks: list[Any] = []
        self.held: list[memoryview] = []
        self.count = itertools.count()
        if able is not None:
            reader.set_transport(Held(self.trace, able))

    def note(self, *what: Any) -> None:
        reader = self.reader
        waits = reader._waiter is not None and (reader._waiter.done(), reader._waiter.cancelled())
        seen = bytes(reader._buffer), reader._eof, repr(reader._exception), reader._paused
        self.trace.append([*what, seen, reader._transport is not None, waits])

    def do(self, step: Any) -> Any:
        what, arguments = step[0], step[1:]
        match what:
            case "task":
                task = asyncio.ensure_future(self.coroutine(next(self.count), *arguments))
                self.tasks.append(task)
            case "cancel":
                return arguments[0] < len(self.tasks) and self.tasks[arguments[0]].cancel()
            case "hold":  # it cannot change its size then
                self.held.append(memoryview(self.reader._buffer))
            case "let go":
                for view in self.held:
                    view.release()
            case "feed_data" if len(arguments) == 2:
                return self.reader.feed_data(arguments[1](arguments[0]))
            case "exception":
                return raised(self.reader.exception())
            case _:
                return getattr(self.reader, what)(*arguments)

    async def try_to(self, number: int | None, step: Any) -> None:
        result: Any = None
        try:
            if step[0] == "sleep":
                await asyncio.sleep(0)
            else:
                result = self.do(step)
                if asyncio.iscoroutine(result):
                    result = await result
        except asyncio.CancelledError:
            self.note(number, "cancelled")
            if number is not None:
                raise
        except (Exception, StopAsyncIteration) as error:
            result = raised(error)
        self.note(number, step[0], result)

    async def coroutine(self, number: int, steps: list[Any]) -> None:
        for step in steps:
            await self.try_to(number, step)

    async def play(self, steps: list[Any]) -> list[Any]:
        for step in steps:
            await self.try_to(None, step)
        for end in (("let go",), *[("sleep",)] * 3, ("feed_eof",), *[("sleep",)] * 8):
            await self.try_to(None, end)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        return self.trace


@examples(300)
@given(steps=st.lists(use, max_size=12), limit=LIMITS, able=st.sampled_from([True, False, None]))
def test_fed_by_hand(steps: list[Any], limit: int, able: bool | None) -> None:
    async def main(kind: Any) -> list[Any]:
        return await Fed(kind(limit), able).play(steps)

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        theirs = runner.run(main(asyncio.StreamReader))
    with asyncio.Runner(loop_factory=pyev.new_event_loop) as runner:
        ours = runner.run(main(pyev.StreamReader))
    assert ours == theirs


@pytest.mark.parametrize("streams", ["asyncio", "pyev"])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
@examples(60)
@given(
    plan=st.fixed_dictionaries(
        {
            "limits": st.tuples(LIMITS, LIMITS),
            "served": st.none()
            | st.tuples(st.lists(st.one_of(read, read, waiting), max_size=3), st.booleans()),
        }
    ),
    conversation=conversation(little),
)
def test_little(streams: str, kind: str, plan: Any, conversation: Any) -> None:
    Conversation.alike(streams, kind, True, plan, conversation)


@pytest.mark.parametrize("streams", ["asyncio", "pyev"])
@examples(60)
@given(
    plan=st.fixed_dictionaries(
        {
            "limits": st.tuples(*[st.sampled_from([1000, 1 << 20])] * 2),
            "served": st.none()
            | st.tuples(st.lists(st.one_of(reads_much, waiting), max_size=3), st.booleans()),
        }
    ),
    conversation=conversation(much),
)
def test_much(streams: str, plan: Any, conversation: Any) -> None:
    Conversation.alike(streams, "unix", False, plan, conversation)
