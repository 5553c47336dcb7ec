"""CPython's own tests of asyncio, with another event loop in SelectorEventLoop's place.

    conformance.py [--loops pyev,asyncio,uvloop,zuvloop] [--module NAME]... [--json FILE]

Each module of test.test_asyncio runs in a process of its own for each loop, which is killed when a
test takes too long; the tests behind it then run in a new one. What failed is tried once more, so
that a busy machine is not taken for a wrong loop.

Of pyev's failures one counts unless conformance_known.toml lists it for this version of Python,
with a reason, or the standard loop fails the same test here. A listed test that passes counts too:
the list has to be true. The exit status is 1 if any counts.
"""

import argparse
import contextlib
import fnmatch
import importlib
import importlib.util
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
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from in_place.sitecustomize import put_in_place

HERE = Path(__file__).resolve()
KNOWN = HERE.with_name("conformance_known.toml")
PACKAGE = "test.test_asyncio"
PYTHON = sys.version.split()[0]
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
# Where each loop is.
LOOPS = {
    "pyev": ("pyev", "EventLoop"),
    "asyncio": ("asyncio", "SelectorEventLoop"),
    "uvloop": ("uvloop", "Loop"),
    "zuvloop": ("zuvloop", "EventLoop"),
}
OUTCOMES = ("passed", "failed", "hung", "crashed", "skipped")
# Of these, which mean that the loop did not do what the test asks.
BAD = OUTCOMES[1:4]
# What a module's tests came to, and what each had to say.
Found = dict[str, tuple[str, str]]


# --- in the process that is killed ---------------------------------------------------------------


def loop_class(name: str) -> Any:
    module, attribute = LOOPS[name]
    return getattr(importlib.import_module(module), attribute)


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

    def stopTest(self, test: Any) -> None:  # noqa: N802
        super().stopTest(test)
        self._say(test, "ended")

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


def child(loop: str, module: str, report: Path, only: list[str]) -> None:
    if loop != "asyncio":
        put_in_place(loop_class(loop))
    # A shell's background jobs ignore it, and the tests of Ctrl-C would hang.
    signal.signal(signal.SIGINT, signal.default_int_handler)
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
        tests = [test for test in tests if not only or test.id() in only]
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
            cwd=report.parent,  # a test that is killed leaves its files behind
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


class Runner:
    """Runs modules on loops, each in processes of its own."""

    def __init__(self, peers: str, timeout: float) -> None:
        self.peers = peers
        self.timeout = timeout

    def python(self, loop: str) -> str:
        return sys.executable if loop in ("pyev", "asyncio") else self.peers

    def version(self, loop: str) -> str:
        """The version of a loop; "" if it is not installed."""
        if loop == "asyncio":
            return PYTHON
        asked = f"import {loop}, importlib.metadata as m; "
        asked += f"print(getattr({loop}, '__version__', '') or m.version('{loop}'))"
        command = [self.python(loop), "-c", asked]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    def run(self, loop: str, module: str) -> Found:
        found = self.run_once(loop, module, [])
        failed = [name for name, (outcome, _) in found.items() if outcome == "failed"]
        if failed:
            again = self.run_once(loop, module, failed)
            found |= {name: outcome for name, outcome in again.items() if name in failed}
        return found

    def run_once(self, loop: str, module: str, only: list[str]) -> Found:
        with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
            report, log, names = (Path(folder, name) for name in ("report", "log", "only"))
            report.touch()
            names.write_text(json.dumps(only), encoding="utf-8")
            command = [self.python(loop), "-X", "faulthandler", str(HERE), "--child"]
            command += [loop, module, str(report), str(names)]
            found: Found = {}
            seen = 0
            for _ in range(20):
                status = run_process(command, report, log, self.timeout)
                running = ""
                lines = read(report)
                for name, outcome, detail in lines[seen:]:
                    if outcome in ("started", "ended"):
                        running = name if outcome == "started" else ""
                    elif found.get(name, ("",))[0] not in BAD:
                        found[name] = (outcome, detail)
                if status == 0:
                    break
                tail = log.read_text(errors="replace")[-3000:]
                seen = len(lines)
                name = running or module
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


def count(found: Found) -> Counter[str]:
    return Counter(outcome for outcome, _ in found.values())


class Verdict:
    """Which of our failures count, and why the others do not."""

    def __init__(self) -> None:
        self.patterns = known()
        self.listed: list[str] = []
        self.shared: list[str] = []
        self.counting: list[str] = []
        self.untrue: list[str] = []

    def is_listed(self, name: str) -> bool:
        return any(fnmatch.fnmatch(short(name), pattern) for pattern in self.patterns)

    def doubts(self, ours: Found) -> bool:
        """Whether it takes the standard loop's results to judge these."""
        return any(o in BAD and not self.is_listed(name) for name, (o, _) in ours.items())

    def judge(self, ours: Found, standard: Found) -> None:
        for name, (outcome, _) in ours.items():
            listed = self.is_listed(name)
            if outcome == "passed" and listed:
                self.untrue.append(name)
            elif outcome not in BAD:
                continue
            elif listed:
                self.listed.append(name)
            elif standard.get(name, ("",))[0] in BAD:
                self.shared.append(name)
            else:
                self.counting.append(name)

    def print(self) -> None:
        print(f"\npyev: {len(self.listed)} listed in {KNOWN.name}, {len(self.shared)} ", end="")
        print(f"fail on the standard loop too, {len(self.counting)} count")
        for name in self.untrue:
            print(f"passed, though listed as known to fail: {short(name)}")
        for name in self.counting:
            print(f"counts: {short(name)}")


Results = dict[str, dict[str, Found]]  # of each loop, of each module


def run_all(runner: Runner, loops: list[str], names: list[str], jobs: int) -> Results:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[last]}"),
    )
    results: Results = {loop: {} for loop in loops}
    with (
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
        ThreadPoolExecutor(jobs) as pool,
    ):
        task = progress.add_task("", total=len(loops) * len(names), last="")
        runs = {
            pool.submit(runner.run, loop, name): (loop, name) for name in names for loop in loops
        }
        for done in as_completed(runs):
            loop, name = runs[done]
            results[loop][name] = done.result()
            progress.update(task, advance=1, last=f"{short(name)} on {loop}")
    return {loop: {name: found[name] for name in names} for loop, found in results.items()}


def print_tables(results: Results, versions: dict[str, str]) -> None:
    print(f"{PACKAGE} of Python {PYTHON}\n")
    print(f"{'':28}" + "".join(f"{outcome:>9}" for outcome in OUTCOMES))
    for loop, found in results.items():
        total = sum(map(count, found.values()), Counter())
        row = "".join(f"{total[outcome]:9}" for outcome in OUTCOMES)
        print(f"{f'{loop} {versions[loop]}':28}{row}")
    head = f"\n{'failed, hung or crashed':28}" + "".join(f"{loop:>9}" for loop in results) + "\n"
    for name in next(iter(results.values())):
        counts = [count(found[name]) for found in results.values()]
        bad = [sum(outcomes[outcome] for outcome in BAD) for outcomes in counts]
        if any(bad):
            print(f"{head}{short(name):28}" + "".join(f"{number or '':>9}" for number in bad))
            head = ""


def print_tracebacks(loop: str, found: dict[str, Found], only: list[str] | None) -> None:
    for tests in found.values():
        for name, (outcome, detail) in tests.items():
            if outcome in BAD and (only is None or (loop == "pyev" and name in only)):
                print(f"\n--- {outcome} on {loop}: {short(name)}\n{detail}")


def save(file: Path, results: Results, versions: dict[str, str]) -> None:
    data = {
        "python": PYTHON,
        "loops": {
            loop: {
                "version": versions[loop],
                "total": sum(map(count, found.values()), Counter()),
                "tests": {short(n): o for tests in found.values() for n, (o, _) in tests.items()},
            }
            for loop, found in results.items()
        },
    }
    file.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loops", help=f"of {', '.join(LOOPS)} (those that are installed)")
    parser.add_argument("--module", action="append", default=[], help="as test_events; or several")
    parser.add_argument("--json", type=Path, help="every test's outcome, into this file")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one test (60)")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4))
    parser.add_argument("--verbose", action="store_true", help="show every failure's traceback")
    parser.add_argument(
        "--peers",
        type=os.path.abspath,
        default=sys.executable,
        help="the Python that has the peers",
    )
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        loop, module, report, only = options.child
        return child(loop, module, Path(report), json.loads(Path(only).read_text("utf-8")))

    runner = Runner(options.peers, options.timeout)
    loops = options.loops.split(",") if options.loops else list(LOOPS)
    if unknown := set(loops) - set(LOOPS):
        parser.error(f"no such loop: {', '.join(sorted(unknown))}")
    versions = {loop: runner.version(loop) for loop in loops}
    if options.loops and not all(versions.values()):
        missing = ", ".join(loop for loop, version in versions.items() if not version)
        sys.exit(f"conformance: not installed for Python {PYTHON}: {missing}")
    loops = [loop for loop in loops if versions[loop]]
    names = [f"{PACKAGE}.{short(name)}" for name in options.module] or modules()

    results = run_all(runner, loops, names, options.jobs)
    print_tables(results, versions)
    if options.json:
        save(options.json, results, versions)
    verdict = Verdict()
    standard = results.get("asyncio", {})
    for module, ours in results.get("pyev", {}).items():
        if module not in standard and verdict.doubts(ours):
            standard[module] = runner.run("asyncio", module)
        verdict.judge(ours, standard.get(module, {}))
    if "pyev" in loops:
        verdict.print()
    for loop, found in results.items():
        print_tracebacks(loop, found, verdict.counting if not options.verbose else None)
    sys.exit(bool(verdict.counting or verdict.untrue))


if __name__ == "__main__":
    main()
