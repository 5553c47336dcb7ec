"""Each type made, started, stopped and dropped 100,000 times in an interpreter of its own."""

import os
import subprocess
from pathlib import Path

import leak_probe
import pytest

import pyev
from strict import STRICT

HERE = Path(__file__).parent
SCRIPTS = sorted(path.stem for path in HERE.glob("leak_*.py") if path.stem != "leak_probe")
# What they do differs by backend.
KERNEL = {"leak_io", "leak_loop"}


def cases() -> list[tuple[str, str]]:
    found = []
    for script in SCRIPTS:
        found.append((script, ""))
        if script == "leak_tls":
            found.append((script, "stdlib"))
        if script in KERNEL:
            for name, flag in leak_probe.BACKENDS.items():
                # libev's own assertions end the process there now and then: `make faults`.
                if name == "io_uring" and "PYEV_TEST_IO_URING" not in os.environ:
                    continue
                if (
                    pyev.supported_backends() & flag and not pyev.recommended_backends() & flag
                ) or (script == "leak_io" and pyev.supported_backends() & flag):
                    found.append((script, name))
    return found


@pytest.mark.parametrize(("script", "backend"), cases())
def test_nothing_grows(script: str, backend: str) -> None:
    environment = dict(os.environ, PYEV_LEAK_BACKEND=backend)
    if not leak_probe.BLOCK:
        environment["PYTHONMALLOC"] = "malloc"
    environment.pop("LIBEV_FLAGS", None)
    if backend == "stdlib":
        environment["PYEV_TLS"] = backend
    result = subprocess.run(
        [*STRICT, str(HERE / f"{script}.py")],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if result.stdout.strip() == "not here":
        pytest.skip(f"no {backend} here")
    print(f"\n{script} {backend}\n{result.stderr}")  # the figures: pytest -s
    if result.returncode or result.stdout.strip() != "ok":
        pytest.fail(f"exit status {result.returncode}\n{result.stderr}", pytrace=False)


def test_every_type_has_its_script() -> None:
    kinds = {
        name.lower()
        for name, value in vars(pyev).items()
        if isinstance(value, type) and issubclass(value, pyev.Watcher | pyev.Loop)
    } - {"watcher"}
    assert {f"leak_{kind}" for kind in kinds} <= set(SCRIPTS)
