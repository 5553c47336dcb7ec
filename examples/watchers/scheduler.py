"""Scheduler: a function of yours says when the next time is. Here: backing off."""

import pyev

loop = pyev.Loop()
tries = 0


def next_time(watcher: pyev.Scheduler, now: float) -> float:
    """Asked at start(), after each event and by reset(): a time, not before now."""
    delay = 0.05 * 2**tries
    print(f"the next try in {delay} s")
    return now + delay


def attempt(watcher: pyev.Scheduler, revents: int) -> None:
    global tries
    tries += 1
    print("try number", tries)
    if tries == 3:
        watcher.stop()


with loop.scheduler(next_time, attempt):
    loop.start()
