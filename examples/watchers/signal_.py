"""Signal: called by the loop, not in the middle of whatever was running."""

import os
import signal

import pyev

loop = pyev.Loop()


def received(watcher: pyev.Signal, revents: int) -> None:
    print("received", signal.Signals(watcher.signum).name)
    if watcher.signum == signal.SIGTERM:
        loop.stop(pyev.EVBREAK_ALL)
    else:
        os.kill(os.getpid(), signal.SIGTERM)


before = signal.getsignal(signal.SIGUSR1)
with (
    loop.signal(signal.SIGUSR1, received),
    loop.signal(signal.SIGTERM, received),
):
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.start()

print("the handler of before is back:", signal.getsignal(signal.SIGUSR1) == before)
