"""Random walks over everything at once (fuzz.py); longer ones when asked for.

PYEV_FUZZ_WALKS is how many walks each backend gets, PYEV_FUZZ_SEED the first one's seed. A failure
tells the seed to run again: `python tests/faults/fuzz.py SEED 1`.
"""

import os
import subprocess
import sys
from pathlib import Path

import fault_kit as kit
import pytest

WALKS = int(os.environ.get("PYEV_FUZZ_WALKS", "40"))
SEED = int(os.environ.get("PYEV_FUZZ_SEED", "1"))


@pytest.mark.scenario("C47", "A2", "A17", "C42")
@pytest.mark.parametrize("backend", kit.available())
def test_random_walks(backend: str) -> None:
    script = Path(__file__).with_name("fuzz.py")
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(script), str(SEED), str(WALKS)],
        env={**os.environ, "PYEV_FAULT_BACKEND": backend, "PYTHONMALLOC": "debug"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    lines = result.stdout.split()
    if result.returncode or not lines or lines[-1] != "ok":
        pytest.fail(
            f"PYEV_FAULT_BACKEND={backend} fuzz.py {lines[-1] if lines else SEED} 1: "
            f"exit status {result.returncode}\n{result.stderr[-4000:]}",
            pytrace=False,
        )
