"""Check: called after the loop has waited. With Prepare it measures for how long."""

import time

import pyev

loop = pyev.Loop()
waited = 0.0


def before(watcher: pyev.Prepare, revents: int) -> None:
    watcher.data = time.monotonic()


def after(watcher: pyev.Check, revents: int) -> None:
    global waited
    waited += time.monotonic() - prepare.data


def busy(watcher: pyev.Timer, revents: int) -> None:
    until = time.monotonic() + 0.1
    while time.monotonic() < until:
        pass


# keepalive=False: they alone do not keep start() from returning.
prepare = loop.prepare(before, keepalive=False)
check = loop.check(after, keepalive=False)
began = time.monotonic()
with prepare, check, loop.timer(0.2, 0.0, busy):
    loop.start()

print(f"waited {waited:.1f} s of {time.monotonic() - began:.1f} s")
