"""Every kind of watcher: its constructor, its factory, and what it tells."""

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Any, assert_type

import pyev


def called(watcher: pyev.Watcher[Any], revents: int) -> None: ...


def soon(watcher: pyev.Scheduler[Any], now: float) -> float:
    return now + 1


with pyev.Loop(pyev.EVFLAG_AUTO | pyev.EVBACKEND_EPOLL, debug=True) as loop:
    assert_type(loop, pyev.Loop)
    assert_type(loop.start(pyev.EVRUN_NOWAIT), bool)
    assert_type(loop.backend, int)
    loop.backend = 1  # type: ignore[misc]
    loop.callback = lambda loop: loop.invoke()

    with socket.socket() as sock:
        loop.io(sock, pyev.EV_READ | pyev.EV_WRITE, called, keepalive=False).set(sock.fileno(), 0)
    loop.io("0", pyev.EV_READ, called)  # type: ignore[arg-type]

    timer = pyev.Timer(1, 0.5, loop, called, priority=2)
    timer.set(1, 2)
    timer.repeat = 3.5
    assert_type(timer.remaining, float)
    timer.remaining = 1.0  # type: ignore[misc]

    periodic = loop.periodic(0.0, 60.0, called)
    assert_type((periodic.offset, periodic.interval, periodic.at), tuple[float, float, float])
    scheduler = loop.scheduler(soon, called)
    scheduler.scheduler = lambda watcher, now: now

    loop.signal(signal.SIGINT, called).set(2)
    child = loop.child(os.getpid(), False, called)
    assert_type((child.pid, child.rpid, child.rstatus), tuple[int, int, int])

    stat = loop.stat(Path("/etc/passwd"), 0.0, called)
    if stat.current is not None and stat.previous is not None:
        assert_type(stat.current.size, int)
        assert_type(stat.current.mtime, float)
        assert_type(stat.current[6], int)
        _, _, _, size, *rest = stat.previous
        assert_type((size, rest), tuple[int, list[int]])

    for simple in (loop.idle, loop.prepare, loop.check, loop.fork, loop.async_, loop.cleanup):
        assert_type(simple(called).active, bool)

    other = pyev.Loop(pyev.embeddable_backends())
    embed = loop.embed(other)
    assert_type(embed.other, pyev.Loop)
    embed.sweep()

    loop.timer(0)  # type: ignore[call-arg]
    loop.timer(0, 0, 1)  # type: ignore[arg-type]
    loop.cleanup()  # type: ignore[call-arg]


async def awaiting(loop: pyev.Loop) -> None:
    timer = loop.timer(1.0, 0.0, data="tick")
    assert_type(timer, pyev.Timer[str])
    assert_type(await timer, int)
    async for revents in loop.stat("/etc/passwd"):
        assert_type(revents, int)
    first: int = await anext(aiter(loop.async_()))
    assert_type(await asyncio.wait_for(loop.signal(signal.SIGHUP), first), int)
    assert_type(await asyncio.gather(timer, loop.once(None, 0, 1.0)), tuple[int, int])


pyev.Watcher.start(timer)
pyev.feed_signal(signal.SIGUSR1)
assert_type(pyev.version(), str)
assert_type(pyev.abi_version(), tuple[int, int])
