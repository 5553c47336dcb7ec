"""Stat: a path whose attributes change. It need not exist yet, nor for ever."""

import tempfile
from pathlib import Path

import pyev

loop = pyev.Loop()


def changed(watcher: pyev.Stat, revents: int) -> None:
    before, now = watcher.previous, watcher.current
    if before is None or now is None:  # only before start()
        return
    if not now.nlink:
        print("it is gone")
        watcher.stop()
    elif not before.nlink:
        print("it appeared, with", now.size, "bytes")
        path.write_text("more than before\n")
    else:
        print("it changed from", before.size, "to", now.size, "bytes")
        path.unlink()


with tempfile.TemporaryDirectory() as directory:
    path = Path(directory, "app.conf")
    # Where inotify cannot help, the path is looked at this often (0.0: libev's choice, ~5 s).
    watcher = loop.stat(path, 0.2, changed)
    watcher.start()
    path.write_text("hello\n")
    loop.start()
