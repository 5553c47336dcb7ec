"""Programs written to the API of pyev 0.9 run unchanged, warnings being errors.

Each is a small real one in a style that API was used in, and ends by itself; README.md says
which paragraph of the old API is tested where.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from strict import STRICT

PROGRAMS = Path(__file__).parent / "programs"

PRINTS = {
    "amqp_client": ["attempts 4", "end False"],
    "echo_server": ["accepted 24"],
    "log_watcher": ["lines ['one', 'two', 'three', 'four', 'five', 'six is longer', '7']"],
    "reactor": ["sets True", "nested [1, 2, 1]"],
    "scheduler": ["end 17"],
    "thread_pool": ["results 2015"],
}


def test_every_program_is_run():
    assert sorted(PRINTS) == sorted(path.stem for path in PROGRAMS.glob("*.py"))


@pytest.mark.parametrize("options", [[], ["-X", "dev"]], ids=["plain", "dev mode"])
@pytest.mark.parametrize("name", PRINTS)
def test_program(name, options):
    done = subprocess.run(
        [*STRICT, *options, PROGRAMS / f"{name}.py"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    printed = done.stdout.splitlines()
    if name == "scheduler":
        assert sorted(printed[:-1]) == sorted(
            f"finished {job}" for job in ("every few", "on the tick", "idle", "failing")
        )
        printed = printed[-1:]
    assert printed == PRINTS[name]
