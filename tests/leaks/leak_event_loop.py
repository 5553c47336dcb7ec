"""EventLoop: its handles, timers, readers, and loops themselves."""

import asyncio
import contextlib
import gc
import os
import signal
import socket

from leak_probe import COUNT, Probe, nothing

import pyev

probe = Probe()
data = probe.data
aloop = pyev.new_event_loop()
aloop.set_exception_handler(lambda loop, context: None)
read, write = os.pipe()
ends = socket.socketpair()
for end in ends:
    end.setblocking(False)
probe.involved += [aloop, pyev.EventLoop, aloop.ev, type(aloop.call_soon(nothing, None, 0))]


def turn() -> None:
    aloop.call_soon(aloop.stop)
    aloop.run_forever()


def failing(*args: object) -> None:
    raise LookupError


def soon() -> None:
    aloop.call_soon(nothing, data, 0)
    aloop.call_soon(nothing, data, 0).cancel()
    aloop.call_soon_threadsafe(callback=failing)
    turn()


def later() -> None:
    aloop.call_later(0, nothing, data, 0)
    aloop.call_later(1000, nothing, data, 0).cancel()
    aloop.call_at(0, failing, data)
    turn()


def refused() -> None:
    for call in (
        lambda: aloop.call_soon(),
        lambda: aloop.call_soon(nothing, nonsense=data),
        lambda: aloop.call_later(float("nan"), nothing, data),
        lambda: aloop.call_later("x", nothing, data),
        lambda: aloop.add_reader(data, nothing, data),
        lambda: aloop.add_reader(1_000_000, nothing, data),
    ):
        try:
            call()
        except (TypeError, ValueError, OSError):
            continue
        raise SystemExit("let pass")


def readers() -> None:
    aloop.add_reader(read, nothing, data, 0)
    aloop.add_reader(read, nothing, data, 1)
    aloop.add_writer(write, nothing, data, 2)
    turn()
    aloop.remove_reader(read)
    aloop.remove_writer(write)


def operations() -> None:
    a, b = ends
    waiting = aloop.sock_recv(a, 1)
    waiting.send(None)
    waiting.close()
    waiting = aloop.sock_recv(a, 1)
    waiting.send(None)
    b.send(b"x")
    turn()
    turn()
    with contextlib.suppress(StopIteration):
        waiting.send(None)
    aloop.sock_sendall(a, b"x" * 100_000).close()
    with contextlib.suppress(TypeError):
        aloop.sock_recv(a, "x").send(None)  # type: ignore[arg-type]


def signals() -> None:
    aloop.add_signal_handler(signal.SIGUSR1, nothing, data, 0)
    aloop.remove_signal_handler(signal.SIGUSR1)


def tasks() -> None:
    async def main() -> None:
        with aloop.ev.timer(1000.0, 0.0, nothing, data):
            await asyncio.sleep(0)

    aloop.run_until_complete(main())


def in_debug_mode() -> None:
    aloop.set_debug(True)
    aloop.call_later(1000, nothing, data, 0).cancel()
    aloop.call_soon(failing, data)
    turn()
    aloop.set_debug(False)


def loops() -> None:
    loop = pyev.new_event_loop()
    loop.call_soon(nothing, data, loop)
    loop.call_later(1000, nothing, data, loop)
    loop.add_reader(read, nothing, data, loop)
    loop.close()


def loops_dropped() -> None:
    loop = pyev.new_event_loop()
    loop.call_soon(nothing, data, loop)
    loop.call_later(1000, nothing, data, loop)
    loop.add_reader(read, nothing, data, loop)


turn()
# Freed handles are kept, some hundreds of them: let there be as many as there will be.
for way in (loops, loops_dropped, in_debug_mode):
    for _ in range(2000):
        way()
    gc.collect()
for way in (soon, later, refused, readers, operations):
    probe.run(way.__name__, way)
for way in (signals, tasks, in_debug_mode, loops, loops_dropped):
    probe.run(way.__name__, way, COUNT // 20)
aloop.close()
os.close(read)
os.close(write)
for end in ends:
    end.close()
probe.end()
