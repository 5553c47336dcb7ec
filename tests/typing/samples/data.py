"""A watcher is generic over its `data`, inferred from what it was given."""

from dataclasses import dataclass
from typing import Any, assert_type

import pyev


@dataclass
class Connection:
    name: str


def on_io(watcher: pyev.Io[Connection], revents: int) -> None:
    assert_type(watcher.data, Connection)
    assert_type(watcher.fd, int)
    assert_type(watcher.loop, pyev.Loop)
    watcher.data.name.upper()


def on_timer(watcher: pyev.Timer[int], revents: int) -> None:
    watcher.data += 1


def on_any(watcher: pyev.Watcher[Any], revents: int) -> None:
    watcher.stop()


loop = pyev.default_loop()
connection = Connection("a")

io = loop.io(0, pyev.EV_READ, on_io, connection)
assert_type(io, pyev.Io[Connection])
assert_type(io.data, Connection)
assert_type(pyev.Io(0, pyev.EV_READ, loop, on_io, connection), pyev.Io[Connection])
io.data = Connection("b")
io.data = 1  # type: ignore[assignment]

timer = loop.timer(0.0, 1.5, on_timer, 0)
assert_type(timer.data, int)
loop.timer(0, 1, on_timer, "text")  # type: ignore[arg-type]
loop.timer(0, 1, on_io)  # type: ignore[arg-type]

# One callback may serve every kind.
loop.prepare(on_any).start()
loop.check(on_any, None).start()
pyev.Idle(loop, on_any, [1, 2]).data.append(3)

with loop.async_(None, 5) as wake:
    assert_type(wake, pyev.Async[int])
    wake.send()
    assert_type(wake.sent, bool)

once = loop.once(None, 0, 0.5, lambda watcher, revents: None, connection)
assert_type(once, pyev.Once[Connection])
assert_type(once.data.name, str)
