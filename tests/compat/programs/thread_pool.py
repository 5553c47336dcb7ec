"""Work done by threads, its results brought home by an Async watcher.

Also a flood: every thread sends for each result, and libev makes a few events of the many sends.
"""

import threading
from collections import deque
from queue import Queue

import pyev

THREADS = 4


class Pool:
    def __init__(self, loop):
        self.loop = loop
        self.tasks = Queue()
        self.results = deque()
        self.wakeups = 0
        self.pending = 0
        self.watcher = getattr(loop, "async")(self.results_cb)
        self.watcher.start()
        self.threads = [threading.Thread(target=self.work) for _ in range(THREADS)]
        for thread in self.threads:
            thread.start()

    def work(self):
        for function, args, callback in iter(self.tasks.get, None):
            self.results.append((callback, function(*args)))
            self.watcher.send()

    def submit(self, callback, function, *args):
        self.pending += 1
        self.tasks.put((function, args, callback))

    def results_cb(self, watcher, revents):
        assert revents == pyev.EV_ASYNC
        self.wakeups += 1
        while self.results:
            callback, result = self.results.popleft()
            self.pending -= 1
            callback(result)
        if not self.pending:
            self.close()

    def close(self):
        self.watcher.stop()
        for _ in self.threads:
            self.tasks.put(None)
        for thread in self.threads:
            thread.join()


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def main():
    loop = pyev.Loop()
    results = {}
    ticks = []
    pool = Pool(loop)
    for n in range(15):
        pool.submit(lambda result, n=n: results.__setitem__(n, result), fib, n)
    for n in range(2000):
        pool.submit(results.setdefault, str, n)

    timer = loop.timer(0.0, 0.001, lambda watcher, revents: ticks.append(loop.now()))
    timer.start()

    def prepare(watcher, revents):
        # The pool has ended: nothing but this and the timer is left.
        if not pool.watcher.active:
            timer.stop()
            watcher.stop()

    watcher = pyev.Prepare(loop, prepare)
    watcher.start()
    assert loop.start() is False
    assert [results[n] for n in range(15)] == [fib(n) for n in range(15)]
    assert all(results.get(str(n), 0) is None for n in range(2000))
    assert len(results) == 2015
    assert 1 <= pool.wakeups <= 2015
    print("results", len(results))


if __name__ == "__main__":
    main()
