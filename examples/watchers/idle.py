"""Idle: work for when nothing else of its priority or above is to be done."""

import pyev

loop = pyev.Loop()
numbers = iter(range(1, 300_001))
total = 0


def slice_of_work(watcher: pyev.Idle, revents: int) -> None:
    """A little at a time: the loop looks for events between two calls."""
    global total
    for _, number in zip(range(1000), numbers, strict=False):
        total += number
    if total == 300_000 * 300_001 // 2:
        print("the sum is", total)
        watcher.stop()


def urgent(watcher: pyev.Timer, revents: int) -> None:
    print("a timer is served while the work goes on:", worker.active)


worker = loop.idle(slice_of_work)
timer = loop.timer(0.0, 0.0, urgent)
worker.start()  # an active Idle keeps the loop from sleeping: stop it when there is no work
timer.start()
loop.start()
