"""Child."""

import os
import signal

from leak_probe import COUNT, Probe, nothing

import pyev

probe = Probe()
loop, data = probe.loop, probe.data
r, w = os.pipe()
pid = os.fork()
if not pid:
    os.close(w)
    os.read(r, 1)
    os._exit(0)
os.close(r)
probe.watcher(
    lambda callback, data: loop.child(pid, False, callback, data),
    lambda watcher: watcher.__init__(pid, False, loop, nothing),
    [
        lambda: loop.child(0, True, nothing).start(),
        lambda: loop.child(2**31 - 1, False, nothing).start(),
        lambda: loop.child("x", False, nothing),
    ],
)


def exited(loop: pyev.Loop, any_child: bool) -> None:
    # A fork costs a thousand times what the rest does: there are fewer.
    pid = os.fork()
    if not pid:
        os._exit(3)
    done: list[int] = []
    watcher = loop.child(0 if any_child else pid, False, lambda w, r: done.append(w.rstatus), data)
    watcher.start()
    # A child that is gone already is told of before the turn blocks.
    ticks = loop.timer(0.01, 0.01, nothing)
    ticks.start()
    while not done:
        loop.start(pyev.EVRUN_ONCE)
    ticks.stop()
    assert done == [3 << 8]


probe.run("exited", lambda: exited(loop, False), COUNT // 50)
default = pyev.default_loop()
anyone = default.child(0, True, nothing)


def any_child_started_and_stopped() -> None:
    anyone.start()
    anyone.stop()
    default.start(pyev.EVRUN_NOWAIT)


probe.run("any child: started, stopped", any_child_started_and_stopped)
probe.run("any child: exited", lambda: exited(default, True), COUNT // 50)
default.close()
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
probe.end()
