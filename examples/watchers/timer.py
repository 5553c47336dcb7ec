"""Timer: one that repeats, and one that something keeps pushing back."""

import pyev

loop = pyev.Loop()
beats = 0


def beat(watcher: pyev.Timer, revents: int) -> None:
    global beats
    beats += 1
    print("beat", beats)
    if beats < 5:
        timeout.reset()  # something happened: 0.3 s from now again
    else:
        watcher.stop()


def timed_out(watcher: pyev.Timer, revents: int) -> None:
    print("nothing happened for 0.3 s, after", beats, "beats")
    watcher.stop()


timeout = loop.timer(0.0, 0.3, timed_out)
timeout.reset()  # also starts it, and costs less than stop() and start()
with loop.timer(0.05, 0.05, beat):
    loop.start()
