"""Runs each scenario of the catalogue in a fresh interpreter, so that an abort is one red test.

A scenario is an ordinary function of a test file. ``@scenario`` turns it into a test that starts
``fault_child.py`` on that file, which compiles just that function (and the undecorated helpers of
its file) and calls it. It passes when the interpreter exits with 0, says "ok" and nothing else on
stdout, and nothing at all on stderr, under ``-W error -X faulthandler`` and CPython's debugging
allocator.
"""

import contextlib
import inspect
import itertools
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import fault_kit
import pytest

from strict import STRICT

HERE = Path(__file__).parent
# Generous: it only bounds a hang, nothing is measured by it. Sanitizer builds are slow.
TIMEOUT = float(os.environ.get("PYEV_FAULT_TIMEOUT", "120"))
# What no caller of libev can prevent: see "io_uring" in README.md.
LIBEV_IO_URING = "libev: io_uring_enter did not consume all sqes"


def run_script(
    arguments: Iterable[str], *, backend: str, timeout: float = TIMEOUT, source: str | None = None
) -> None:
    """Runs python with `arguments` (and `source` as its program, if given); fails unless it is
    silent and ends with "ok"."""
    environment = dict(os.environ, PYEV_FAULT_BACKEND=backend, PYEV_FAULT_LIMIT=str(timeout * 0.9))
    environment.pop("LIBEV_FLAGS", None)
    # Freed memory is overwritten, so a use after free is found without a sanitizer; and with one,
    # each object is an allocation of its own, so that it is found by that.
    if "PYEV_FAULT_PLAIN_MALLOC" not in os.environ:
        environment["PYTHONMALLOC"] = "malloc_debug" if "PYEV_SANITIZED" in os.environ else "debug"
    command = [*STRICT]
    if source is not None:
        command += ["-c", source]
    with tempfile.TemporaryDirectory() as directory:
        note = Path(directory) / "note"
        environment["PYEV_FAULT_NOTE"] = str(note)
        outcome = run(command + list(arguments), environment, timeout)
        case = note.read_text() if note.exists() else ""
    status, out, err = outcome
    if status == fault_kit.SKIPPED:
        pytest.skip(err.strip())
    if LIBEV_IO_URING in err:
        pytest.xfail("libev 4.33's io_uring aborts by itself on this kernel: see README.md")
    if status or out.strip() != "ok" or err:
        pytest.fail(f"exit status {status} {case}\n{out}{err}", pytrace=False)


def run(
    command: list[str], environment: dict[str, str], timeout: float
) -> tuple[int | str, str, str]:
    child = subprocess.Popen(
        command,
        env=environment,
        cwd=HERE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",
        start_new_session=True,
    )
    status: int | str
    try:
        out, err = child.communicate(timeout=timeout)
        status = child.returncode
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        out, err = child.communicate()
        status = f"none: hung for {timeout} s"
    finally:
        # Whatever the scenario forked and lost must not outlive it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    return status, out, err


def scenario(
    *numbers: str,
    backends: str | Iterable[str] = "each",
    timeout: float = TIMEOUT,
    alone: bool = False,
    **cases: Iterable[Any],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a test of a function: `numbers` are its places in the catalogue (README.md),
    `backends` is "each", "any" (one is enough) or names, `cases` are JSON values to call it with,
    all in one interpreter unless it is to be `alone` each time.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        path, name = inspect.getsourcefile(function), function.__name__
        assert path is not None

        def test(**arguments: Any) -> None:
            backend = arguments.pop("backend")
            every = [arguments] if alone else products(cases)
            if backend not in fault_kit.available():
                pytest.skip(f"no {backend} here")
            run_script(
                [str(HERE / "fault_child.py"), path, name, json.dumps(every)],
                backend=backend,
                timeout=timeout,
            )

        test.__name__ = name
        test.__qualname__ = function.__qualname__
        test.__module__ = function.__module__
        test.__doc__ = function.__doc__
        shown = cases if alone else {}
        parameters = ["backend", *shown]
        test.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(p, inspect.Parameter.POSITIONAL_OR_KEYWORD) for p in parameters]
        )
        if backends == "each":
            names = list(fault_kit.available())
        elif backends == "any":
            names = [fault_kit.preferred()]
        else:
            names = [backends] if isinstance(backends, str) else list(backends)
        rows = [
            pytest.param(*row, id="-".join(map(_word, row)))
            for row in itertools.product(names, *shown.values())
        ]
        marked = pytest.mark.parametrize(parameters, rows)(test)
        return pytest.mark.scenario(*numbers)(marked)  # type: ignore[no-any-return]

    return decorate


def products(cases: dict[str, Iterable[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(cases, row, strict=True)) for row in itertools.product(*cases.values())]


def _word(value: object) -> str:
    return value.replace(" ", "_") if isinstance(value, str) else json.dumps(value)
