"""The module's functions, and whole interpreters that import it."""

from leak_probe import COUNT, Probe

import pyev

probe = Probe()
NAMES = ["version", "abi_version", "time", "supported_backends", "recommended_backends"]
NAMES += ["embeddable_backends"]


def functions() -> None:
    for name in NAMES:
        getattr(pyev, name)()
    pyev.sleep(0.0)
    pyev.feed_signal(10)
    for wrong in ("x", None):
        try:
            pyev.sleep(wrong)
        except TypeError:
            continue
        raise SystemExit("taken")


probe.run("functions", functions)
SOURCE = """
import pyev
with pyev.Loop() as loop:
    timer = loop.timer(0.0, 0.0, lambda w, revents: None)
    timer.start()
    loop.start()
"""
try:
    import _xxsubinterpreters as interpreters
except ImportError:
    interpreters = None


def interpreter() -> None:
    identifier = interpreters.create()
    try:
        interpreters.run_string(identifier, SOURCE)
    except interpreters.RunFailedError as error:
        assert "Import" in str(error)
    interpreters.destroy(identifier)


if interpreters is not None:
    # CPython itself loses memory with each; what is of ours would be descriptors.
    before = probe.measure()[0]["descriptors"]
    for _ in range(max(COUNT // 5000, 1)):
        interpreter()
    assert probe.measure()[0]["descriptors"] == before
probe.end()
