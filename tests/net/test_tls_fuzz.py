"""Mutated conversations (tls_fuzz.py), some thousands of them; `make fuzz-tls` for a million.

PYEV_TLS_FUZZ is how many. A failure tells the seed that it happened with.
"""

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from strict import STRICT

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))  # has one allocator only
COUNT = os.environ.get("PYEV_TLS_FUZZ", "300" if "PYEV_SANITIZED" in os.environ else "3000")


@pytest.mark.parametrize("seed", ["1", "1000000000"])
def test_mutated_conversations(seed: str) -> None:
    script = Path(__file__).with_name("tls_fuzz.py")
    result = subprocess.run(
        [*STRICT, str(script), "--conversations", COUNT, "--seed", seed],
        env=os.environ | ({} if FREE_THREADED else {"PYTHONMALLOC": "malloc"}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if result.returncode or not result.stdout.endswith("ok\n"):
        pytest.fail(f"exit status {result.returncode}\n{result.stderr[-4000:]}", pytrace=False)
