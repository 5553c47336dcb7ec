"""Cleanup: called when the loop is closed, while it can still be used."""

import tempfile
from pathlib import Path

import pyev


def clean(watcher: pyev.Cleanup, revents: int) -> None:
    print("cleaning up after", watcher.loop.iteration, "turns")
    path.unlink()


path = Path(tempfile.mkstemp()[1])
with pyev.Loop() as loop:
    cleanup = loop.cleanup(clean)
    cleanup.start()  # does not keep start() running, whatever its keepalive is
    with loop.timer(0.01, 0.0, lambda watcher, revents: print("working")):
        loop.start()

print("closed:", loop.closed, "- the file is there:", path.exists())
