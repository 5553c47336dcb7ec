"""Scheduler: a function of yours says when the next time is. Here: backing off."""

import pyev

loop = pyev.Loop()
tries = 0


def next_time(watcher: pyev.Scheduler[float], now: float) -> float:
    """Asked at start(), when it is due and by reset(): a time, not before now."""
    delay = watcher.data
    watcher.data *= 2
    print(f"the next one {delay} s later")
    return now + delay


def attempt(watcher: pyev.Scheduler[float], revents: int) -> None:
    global tries
    tries += 1
    print("try number", tries)
    if tries == 3:
        watcher.stop()


with loop.scheduler(next_time, attempt, 0.05):
    loop.start()
