"""Watchers are classes to inherit, with a `data` type of the subclass's choice or its user's."""

from typing import Any, TypeVar, assert_type

import pyev

T = TypeVar("T")


class Ticker(pyev.Timer[str]):
    def __init__(self, loop: pyev.Loop, interval: float, name: str) -> None:
        super().__init__(interval, interval, loop, self.tick, name)
        self.ticks = 0

    def tick(self, watcher: pyev.Timer[str], revents: int) -> None:
        self.ticks += 1
        assert_type(self.data, str)


class Bag(pyev.Idle[list[T]]):
    def add(self, item: T) -> None:
        self.data.append(item)


class Failing(pyev.Error): ...


loop = pyev.Loop()
ticker = Ticker(loop, 0.5, "a")
with ticker as same:
    assert_type(same, Ticker)
ticker.data = 3  # type: ignore[assignment]


class Counter(pyev.Timer[int]):
    def __init__(self, loop: pyev.Loop) -> None:
        # Called with the watcher itself, so a method of its class will do.
        super().__init__(0.0, 1.0, loop, Counter.count, data=0)

    def count(self, revents: int) -> None:
        self.data += 1


bag = Bag[int](loop, lambda watcher, revents: None, [1])
bag.add(2)
bag.add("two")  # type: ignore[arg-type]
assert_type(bag.data, list[int])

watchers: set[pyev.Watcher[Any]] = {ticker, bag}
by_watcher: dict[pyev.Io[bytes], bytes] = {}


class Refused(pyev.Once[int]): ...  # type: ignore[misc]
