"""Async: another thread wakes the loop. send() is the one call that any thread may make."""

import threading
from collections import deque

import pyev

loop = pyev.Loop()
results: deque[int] = deque()


def work() -> None:
    for number in range(1, 6):
        results.append(number * number)
        woken.send()
    results.append(-1)
    woken.send()


def reported(watcher: pyev.Async, revents: int) -> None:
    """Many a send() may have become one call, so take all there is."""
    while results:
        result = results.popleft()
        if result < 0:
            watcher.stop()
        else:
            print("the thread says", result)


woken = loop.async_(reported)
woken.start()
thread = threading.Thread(target=work)
thread.start()
loop.start()
thread.join()
