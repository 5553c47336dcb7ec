"""Periodic: wall-clock time, here each full half second, whenever the program was started."""

import pyev

loop = pyev.Loop()
ticks = 0


def tick(watcher: pyev.Periodic, revents: int) -> None:
    global ticks
    ticks += 1
    print(f"{loop.now() % 60:05.2f} s past the minute, next at {watcher.at % 60:05.2f}")
    if ticks == 2:
        watcher.stop()


# At offset + n * interval: (0.0, 3600.0) is each full hour, (300.0, 3600.0) five minutes past.
watcher = loop.periodic(0.0, 0.5, tick)
watcher.start()
loop.start()

# Interval 0 is one point in time.
with loop.periodic(loop.now() + 0.1, 0.0, lambda watcher, revents: print("the time has come")):
    loop.start()
