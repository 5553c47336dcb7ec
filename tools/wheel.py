"""Builds the wheel that others install, and tries it where nothing else of ours is.

    wheel.py [DIR]        into dist/

auditwheel copies libev into it and names the oldest Linux it runs on. Then it is installed into an
environment of its own, and both faces have to run there, on that libev and no other.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

TRIAL = """
import asyncio
import pathlib

import pyev

with pyev.Loop() as loop:
    with loop.timer(0.0, 0.0, lambda watcher, revents: None):
        loop.start()
pyev.run(asyncio.sleep(0))
maps = pathlib.Path("/proc/self/maps").read_text().splitlines()
(libev,) = {line.split()[-1] for line in maps if "/libev" in line}
assert pathlib.Path(libev).parent.name == "pyev.libs", libev
print("runs on", pathlib.Path(libev).name)
"""


def run(*command: "str | Path") -> str:
    """What it prints."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        list(command),
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}pyev: failed: {' '.join(map(str, command))}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dir", type=Path, nargs="?", default=ROOT / "dist", help="dist/")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        sys.exit("pyev: this is for Linux; elsewhere `pip wheel .` makes one that needs libev")
    python = sys.executable
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("pyev: building the wheel", flush=True)
        tag = f"{sys.implementation.cache_tag}{getattr(sys, 'abiflags', '')}"
        setting = f"--config-settings=build-dir=build/wheel-{tag}"
        pip = [python, "-m", "pip"]
        run(*pip, "wheel", "--no-deps", "--no-build-isolation", setting, "-w", folder, ".")
        (built,) = folder.glob("*.whl")
        run(python, "-m", "auditwheel", "repair", "-w", folder / "repaired", built)
        (wheel,) = (folder / "repaired").glob("*.whl")
        print(f"pyev: trying {wheel.name}", flush=True)
        run(python, "-m", "venv", folder / "trial")
        trial = folder / "trial" / "bin" / "python"
        run(trial, "-m", "pip", "install", "--no-index", wheel)
        said = run(trial, "-W", "error", "-c", TRIAL)
        arguments.dir.mkdir(exist_ok=True)
        wheel = Path(shutil.copy(wheel, arguments.dir))
    print(f"pyev: {wheel}, {wheel.stat().st_size >> 10} KiB: {said.strip()}")


if __name__ == "__main__":
    main()
