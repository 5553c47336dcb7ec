"""What is done aside: by a thread (Async), and when there is nothing else to do (Idle)."""

import queue
import statistics
import threading
from collections import deque
from collections.abc import Callable

import pyev


class Worker:
    """A thread that computes; `reported(text)` is called on the loop with each result."""

    def __init__(self, loop: pyev.Loop, reported: Callable[[str], None]) -> None:
        self.reported = reported
        self.jobs: queue.SimpleQueue[list[float] | None] = queue.SimpleQueue()
        self.results: deque[str] = deque()
        self.woken = loop.async_(self.take)
        self.woken.start()
        self.thread = threading.Thread(target=self.work, name="worker")
        self.thread.start()

    def work(self) -> None:
        while (prices := self.jobs.get()) is not None:
            deviation = statistics.pstdev(prices)
            self.results.append(f"EUR deviates {deviation:.4f}")
            self.woken.send()

    def take(self, watcher: pyev.Async, revents: int) -> None:
        """Calls of send() may fall together, so results are counted, not calls."""
        while self.results:
            self.reported(self.results.popleft())

    def close(self) -> None:
        self.jobs.put(None)
        self.thread.join()


class Indexer:
    """Counts moves by symbol, a slice at a time, while nothing else is to be done."""

    SLICE = 500

    def __init__(self, loop: pyev.Loop, indexed: Callable[[str], None]) -> None:
        self.indexed = indexed
        self.slices: deque[list[str]] = deque()
        self.counts: dict[str, int] = {}
        self.idle = loop.idle(self.index)

    def add(self, symbols: list[str]) -> int:
        """More to do; in how many slices."""
        slices = [symbols[i : i + self.SLICE] for i in range(0, len(symbols), self.SLICE)]
        self.slices += slices
        if slices and not self.idle.active:
            self.idle.start()
        return len(slices)

    def index(self, watcher: pyev.Idle, revents: int) -> None:
        for symbol in self.slices.popleft():
            self.counts[symbol] = self.counts.get(symbol, 0) + 1
        if not self.slices:
            watcher.stop()  # An active Idle keeps the loop from sleeping.
        self.indexed(f"{sum(self.counts.values())} moves indexed")
