"""Stat."""

import os
import tempfile
from pathlib import Path

from leak_probe import Probe, nothing

probe = Probe()
loop, data = probe.loop, probe.data
directory = tempfile.TemporaryDirectory()
path = Path(directory.name) / "file"
path.touch()
missing = os.fsencode(Path(directory.name) / "missing")
probe.watcher(
    lambda callback, data: loop.stat(path, 1000.0, callback, data),
    lambda watcher: watcher.__init__(missing, 500.0, loop, nothing),
    [
        lambda: loop.stat("a\0b", 0.0, nothing),
        lambda: loop.stat(3, 0.0, nothing),
        lambda: loop.stat("/", -1.0, nothing),
        lambda: loop.stat(missing, 0.0, nothing).stat(),
    ],
    [path, missing],
)
watcher = loop.stat(str(path), 1000.0, nothing)


def read() -> None:
    watcher.stat()
    assert watcher.attr is not None and watcher.attr.mtime is not None
    for name in ("current", "previous", "path", "interval"):
        getattr(watcher, name)


def missing_started_and_dropped() -> None:
    loop.stat(missing, 1000.0, nothing, data).start()


def other_path() -> None:
    watcher.set("/", 100.0)
    watcher.start()
    watcher.stop()
    watcher.set(path, 100.0)


for way in (read, missing_started_and_dropped, other_path):
    probe.run(way.__name__, way)
directory.cleanup()
probe.end()
