"""CPython's own tests of asyncio, with another event loop in SelectorEventLoop's place.

    conformance.py [--loop pyev|asyncio|uvloop] [--module NAME]... [--json FILE]

Each module of test.test_asyncio runs in a process of its own, which is killed when a test takes too
long; the tests behind it then run in a new one. A failure counts unless conformance_known.toml
lists it for this version of Python, with a reason, or the standard loop fails the same test here.
A listed test that passes counts too: the list has to be true. The exit status is 1 if any counts.
"""

import argparse
import asyncio
import contextlib
import fnmatch
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import unittest
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
KNOWN = HERE.with_name("conformance_known.toml")
PACKAGE = "test.test_asyncio"
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
# Of these outcomes, which mean that the loop did not do what the test asks.
BAD = ("failed", "hung", "crashed")


# --- in the process that is killed ---------------------------------------------------------------


def loop_class(name: str) -> Any:
    module, attribute = {"pyev": ("pyev", "EventLoop"), "uvloop": ("uvloop", "Loop")}[name]
    return getattr(importlib.import_module(module), attribute)


def put_in_place(base: Any) -> None:
    """Everything in asyncio that makes or names a SelectorEventLoop."""
    import asyncio.unix_events as unix

    class SelectorEventLoop(base):  # type: ignore[misc]
        def __init__(self, selector: Any = None) -> None:
            super().__init__()
            if selector is not None:
                selector.close()

    SelectorEventLoop.__module__ = "asyncio.unix_events"
    for module in (asyncio, unix):
        for name in ("SelectorEventLoop", "_UnixSelectorEventLoop", "EventLoop"):
            if hasattr(module, name):
                setattr(module, name, SelectorEventLoop)
        for name in ("_UnixDefaultEventLoopPolicy", "_DefaultEventLoopPolicy"):
            if name in vars(module):
                vars(module)[name]._loop_factory = SelectorEventLoop


class Result(unittest.TestResult):
    """Writes each outcome down at once: the process may not live to tell at the end."""

    def __init__(self, report: Any) -> None:
        super().__init__()
        self._report = report

    def _say(self, test: Any, outcome: str, detail: str = "") -> None:
        print(json.dumps([test.id(), outcome, detail]), file=self._report, flush=True)

    def startTest(self, test: Any) -> None:  # noqa: N802
        super().startTest(test)
        self._say(test, "started")

    def addSuccess(self, test: Any) -> None:  # noqa: N802
        self._say(test, "passed")

    def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        super().addFailure(test, err)
        self._say(test, "failed", self.failures[-1][1])

    def addError(self, test: Any, err: Any) -> None:  # noqa: N802
        super().addError(test, err)
        self._say(test, "failed", self.errors[-1][1])

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._say(test, "failed", [*self.failures, *self.errors][-1][1])

    def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802
        self._say(test, "skipped", reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:  # noqa: ARG002, N802
        self._say(test, "passed")

    def addUnexpectedSuccess(self, test: Any) -> None:  # noqa: N802
        self._say(test, "failed", "unexpected success")


def each_test(suite: Any) -> Iterator[Any]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from each_test(test)
        else:
            yield test


def child(loop: str, module: str, report: Path) -> None:
    if loop != "asyncio":
        put_in_place(loop_class(loop))
    # As regrtest has it: no network.
    vars(importlib.import_module("test.support"))["use_resources"] = []
    done = {name for name, _, _ in read(report)}
    with open(report, "a", encoding="utf-8") as file:
        try:
            suite = unittest.defaultTestLoader.loadTestsFromName(module)
        except unittest.SkipTest as reason:
            print(json.dumps([module, "skipped", str(reason)]), file=file)
            return
        tests = [test for test in each_test(suite) if test.id() not in done]
        unittest.TestSuite(tests).run(Result(file))


# --- in the process that kills --------------------------------------------------------------------


def read(report: Path) -> list[list[str]]:
    lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
    return [json.loads(line) for line in lines]


def run_process(command: list[str], report: Path, log: Path, timeout: float) -> int | None:
    """The exit status; None if no test ended for `timeout` seconds."""
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        size, since = -1, time.monotonic()
        status: int | None = None
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(0.5)
                break
            now = report.stat().st_size
            if now != size:
                size, since = now, time.monotonic()
            elif time.monotonic() - since > timeout:
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return status


def run_module(loop: str, module: str, timeout: float) -> dict[str, tuple[str, str]]:
    """What each of the module's tests came to, and what it had to say."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        report, log = Path(folder, "report"), Path(folder, "log")
        report.touch()
        command = [sys.executable, "-X", "faulthandler", str(HERE), "--loop", loop]
        command += ["--module", module, "--child", str(report)]
        found: dict[str, tuple[str, str]] = {}
        for _ in range(20):
            status = run_process(command, report, log, timeout)
            started = ""
            for name, outcome, detail in read(report):
                if outcome == "started":
                    started = name
                elif found.get(name, ("",))[0] not in BAD:
                    found[name] = (outcome, detail)
            if status == 0:
                break
            tail = log.read_text(errors="replace")[-3000:]
            name = started if started not in found else module
            found[name] = ("hung" if status is None else "crashed", tail)
            if name == module:
                break
        return found


def modules() -> list[str]:
    try:
        package = importlib.import_module(PACKAGE)
    except ImportError:
        sys.exit(f"conformance: {sys.executable} has no {PACKAGE} (Debian: libpython3-testsuite)")
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return [f"{PACKAGE}.{name}" for name in names if name.startswith("test_")]


def known() -> dict[str, str]:
    """Patterns of tests that look inside CPython's own loop, and the reasons."""
    entries = tomllib.loads(KNOWN.read_text(encoding="utf-8"))["known"]
    return {
        pattern: entry["reason"]
        for entry in entries
        if VERSION in entry["python"]
        for pattern in entry["tests"]
    }


def short(name: str) -> str:
    return name.removeprefix(f"{PACKAGE}.")


def judge(loop: str, results: dict[str, dict[str, tuple[str, str]]], timeout: float) -> list[str]:
    """What counts, in words; each known or shared failure gets the outcome "known" or "shared"."""
    reasons = known() if loop == "pyev" else {}
    counting = []
    for module, found in results.items():
        bad = [name for name, (outcome, _) in found.items() if outcome in BAD]
        listed = {n for n in found for pattern in reasons if fnmatch.fnmatch(short(n), pattern)}
        for name in listed:
            outcome, detail = found[name]
            if outcome == "failed":
                found[name] = ("known", detail)
            elif outcome == "passed":
                counting.append(f"passed, though listed as known to fail: {short(name)}")
        unknown = [name for name in bad if found[name][0] in BAD]
        if unknown and loop != "asyncio":
            standard = run_module("asyncio", module, timeout)
            for name in unknown:
                if standard.get(name, ("",))[0] in BAD:
                    found[name] = ("shared", found[name][1])
        counting += [
            f"{found[name][0]}: {short(name)}" for name in unknown if found[name][0] in BAD
        ]
    return counting


def print_table(results: dict[str, dict[str, tuple[str, str]]]) -> Counter[str]:
    columns = ("passed", "failed", "known", "shared", "skipped")
    print(f"{'':24}" + "".join(f"{column:>9}" for column in columns))
    total: Counter[str] = Counter()
    for module, found in results.items():
        outcomes = Counter("failed" if o in BAD else o for o, _ in found.values())
        print(f"{short(module):24}" + "".join(f"{outcomes[column]:9}" for column in columns))
        total += outcomes
    print(f"{'all':24}" + "".join(f"{total[column]:9}" for column in columns))
    return total


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loop", choices=("pyev", "asyncio", "uvloop"), default="pyev")
    parser.add_argument("--module", action="append", default=[], help="as test_events; or several")
    parser.add_argument("--json", type=Path, help="every test's outcome, into this file")
    parser.add_argument("--timeout", type=float, default=90.0, help="seconds for one test")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4))
    parser.add_argument("--verbose", action="store_true", help="show each failure's traceback")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options.loop, options.module[0], options.child)

    names = [f"{PACKAGE}.{short(name)}" for name in options.module] or modules()
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = pool.map(lambda name: run_module(options.loop, name, options.timeout), names)
        results = dict(zip(names, runs, strict=True))
    counting = judge(options.loop, results, options.timeout)
    print(f"{PACKAGE} of Python {sys.version.split()[0]} on {options.loop}\n")
    total = print_table(results)
    if options.json:
        data = {
            "python": sys.version.split()[0],
            "loop": options.loop,
            "total": total,
            "tests": {short(n): o for found in results.values() for n, (o, _) in found.items()},
        }
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    if options.verbose:
        for found in results.values():
            for name, (outcome, detail) in found.items():
                if outcome in BAD:
                    print(f"\n--- {outcome}: {short(name)}\n{detail}")
    if counting:
        print("\n" + "\n".join(counting))
    sys.exit(bool(counting))


if __name__ == "__main__":
    main()
