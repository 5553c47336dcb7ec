"""The programs of examples/watchers, which the documentation shows: each runs and says this."""

import re
import subprocess
from pathlib import Path

import pytest

import pyev
from strict import STRICT

WATCHERS = Path(__file__).parents[2] / "examples" / "watchers"

# A regular expression for each line of output.
OUTPUT = {
    "async_": [rf"the thread says {n * n}" for n in range(1, 6)],
    "check": [r"waited \d+\.\d s of \d+\.\d s"],
    "child": ["hello from the child", "it is ours: True - it exited with status 3"],
    "cleanup": [
        "working",
        r"cleaning up after \d+ turns",
        "closed: True - the file is there: False",
    ],
    "embed": ["the inner loop has events", "the inner loop received b'hello'"],
    "fork": [
        "child: the loop has found itself in another process",
        "parent: the child's status is 0",
    ],
    "idle": [
        "a timer is served while the work goes on: True",
        "the sum is 45000150000",
    ],
    "io": ["received b'hello'", "echoed b'HELLO'", "the other end has closed"],
    "once": ["no answer", "answered: b'hello'", "and a timeout alone"],
    "periodic": [r"\d\d\.\d\d s past the minute, next at \d\d\.[05]0"] * 2 + ["the time has come"],
    "prepare": ["sending 4 pieces together", "received b'tick tick tick tick'"],
    "scheduler": [
        "the next one 0.05 s later",
        "the next one 0.1 s later",
        "try number 1",
        "the next one 0.2 s later",
        "try number 2",
        "the next one 0.4 s later",
        "try number 3",
    ],
    "signal_": ["received SIGUSR1", "received SIGTERM", "the handler of before is back: True"],
    "stat_": ["it appeared, with 6 bytes", "it changed from 6 to 17 bytes", "it is gone"],
    "timer": [
        *(f"beat {n}" for n in range(1, 6)),
        "nothing happened for 0.3 s, after 5 beats",
    ],
}
# What happens in another process may be told earlier or later.
ANY_ORDER = {"child"}


@pytest.mark.parametrize("name", OUTPUT)
def test_example_says_what_it_should(name: str) -> None:
    if name == "embed" and not pyev.embeddable_backends() & pyev.EVBACKEND_EPOLL:
        pytest.skip("there is no epoll to embed here")
    done = subprocess.run(
        [*STRICT, WATCHERS / f"{name}.py"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines, expected = done.stdout.splitlines(), list(OUTPUT[name])
    if name in ANY_ORDER:
        lines.sort()
        expected.sort()
    assert len(lines) == len(expected), done.stdout
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line), done.stdout


def test_every_example_is_run_here() -> None:
    assert {path.stem for path in WATCHERS.glob("*.py")} == set(OUTPUT)


def test_every_watcher_has_an_example() -> None:
    kinds = {kind.__name__.lower() for kind in pyev.Watcher.__subclasses__()}
    assert kinds == {name.removesuffix("_") for name in OUTPUT}


@pytest.mark.parametrize("name", OUTPUT)
def test_example_is_short(name: str) -> None:
    assert len((WATCHERS / f"{name}.py").read_text().splitlines()) <= 40
