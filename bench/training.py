"""Has pyev do what event loops do, row by row and operation by operation.

A build with PYEV_PROFILE=generate counts meanwhile how often each branch is taken, and the next one
is laid out by that: `tools/environment.py --profile` does both.
"""

import pathlib
import subprocess
import sys
import tempfile

import rows
import suite

HERE = pathlib.Path(__file__).parent
# What uvicorn and aiohttp do is left out: their rows show what the training is worth to others.
FAMILIES = ("scheduling", "descriptors", "sockets", "streams", "tls", "datagrams", "processes")
# The counts are written when a process comes to its end, which row.py's do not wait for.
PROGRAM = """
import os, runpy, sys
os._exit = sys.exit
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def train(script: str, *arguments: str) -> None:
    command = [sys.executable, "-c", PROGRAM, script, *arguments]
    subprocess.run(command, cwd=HERE, stdout=subprocess.DEVNULL, timeout=300, check=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        suite.make_certificate(pathlib.Path(folder))
        for row in rows.load().values():
            if row.family in FAMILIES:
                train("row.py", "pyev", row.name, "--folder", folder)
    train("operations.py")
    for contender in ("pyev", "pyev-plain"):
        train("pairs.py", contender, "100", "100", "20000", "3")


if __name__ == "__main__":
    main()
