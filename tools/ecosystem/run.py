"""The own tests of what is built on asyncio, on our event loop and on asyncio's.

    run.py [--suites anyio,uvicorn] [--loops pyev,asyncio] [-k EXPRESSION] [--json FILE]

Each suite comes from its source distribution, pinned in suites.toml by hash, and is installed from
it. Another loop is put in the place of asyncio's SelectorEventLoop, in the processes that the tests
start too. A process in which no test ends for long is killed, and the tests behind that one run in
a new one. What fails on pyev alone is tried once more, alone, on both loops, so that a busy machine
is not taken for a wrong loop; the exit status is 1 if it fails on pyev alone again, or if a suite
did not come to its end.
"""

import argparse
import contextlib
import glob
import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import tomllib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
WORK = HERE.parent.parent / "build" / "ecosystem"
REQUIREMENTS = HERE / "requirements.txt"
LOOPS = {"pyev": "pyev:EventLoop", "asyncio": "", "uvloop": "uvloop:Loop"}
OUTCOMES = ("passed", "failed", "error", "hung", "crashed", "skipped")
# Of these, which mean that the loop did not do what the test asks.
BAD = OUTCOMES[1:5]
# In how many processes one suite may be run on.
PROCESSES = 20


def say(text: str) -> None:
    print(f"ecosystem: {text}", flush=True)


# --- getting a suite -----------------------------------------------------------------------------


def call(*command: str, cwd: Path | None = None) -> None:
    """Shows what the command says only if it fails."""
    result = subprocess.run(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=1200,
    )
    if result.returncode:
        raise OSError(f"{result.stdout}\nfailed: {' '.join(command)}")


def pip(*arguments: str) -> None:
    call(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments)


def debian_mirror() -> str:
    """Where this system gets Debian's packages from."""
    lists = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    text = "\n".join(file.read_text() for file in lists if file.is_file())
    found = re.search(
        r"^(?:URIs:|deb\b).*?(https?://\S+/debian/?)(?=\s)", text + "\n", re.MULTILINE
    )
    if found is None:
        raise OSError("no mirror of Debian in /etc/apt/sources.list")
    return found[1]


def download_from_debian(folder: Path, package: str, version: str, release: str) -> None:
    """By apt, as any user, with lists of its own: nothing of the system's is touched."""
    if not shutil.which("apt-get"):
        raise OSError(f"{package} comes from Debian's source archive, and there is no apt-get here")
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    sources = folder / "sources.list"
    # Trusted because the archive's hash is looked at afterwards.
    sources.write_text(f"deb-src [trusted=yes] {debian_mirror()} {release} main\n")
    options = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "",
    }
    apt = ["apt-get", "-q", *(f"-o{key}={value}" for key, value in options.items())]
    call(*apt, "update")
    call(*apt, "source", "--tar-only", "--download-only", f"{package}={version}", cwd=folder)


def download(suite: dict[str, Any]) -> Path:
    """The unpacked source distribution; what is there already is not downloaded again."""
    folder = WORK / f"{suite['name']}-{suite['sha256'][:12]}"
    if folder.is_dir():
        return folder
    say(f"downloading {suite['name']}")
    fresh = WORK / f"{suite['name']}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    if "debian" in suite:
        download_from_debian(fresh, **suite["debian"])
    else:
        wanted = fresh / "requirements.txt"
        wanted.write_text(f"{suite['requirement']} --hash=sha256:{suite['sha256']}\n")
        project = suite["requirement"].partition("==")[0]
        pip("download", "--no-deps", f"--no-binary={project}", f"-r{wanted}", f"-d{fresh}")
    (archive,) = fresh.glob("*.tar.*")
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != suite["sha256"]:
        raise OSError(f"{archive.name} has the hash {found}, not the pinned one")
    with tarfile.open(archive) as tar:
        tar.extractall(fresh / "source", filter="data")
    (source,) = (fresh / "source").iterdir()
    source.rename(folder)
    shutil.rmtree(fresh)
    return folder


def programs(suite: dict[str, Any]) -> list[str]:
    """The folders of the programs that the tests start."""
    if "programs" not in suite:
        return []
    found = sorted(glob.glob(suite["programs"]))
    if not found:
        raise OSError(
            f"its tests start programs of {suite['programs']}, and there is no such folder"
        )
    return found


def install(name: str, what: str, *arguments: str) -> None:
    """Once for each `what`, which is noted in the environment."""
    installed = Path(sys.prefix, f"ecosystem-{name}")
    if installed.exists() and installed.read_text() == what:
        return
    say(f"installing {name}")
    pip("install", *arguments)
    installed.write_text(what)


# --- running it ----------------------------------------------------------------------------------

HOSTS = Path("/etc/hosts")


def with_localhost() -> list[str]:
    """The words in front of a command that make `localhost` an IPv6 address for it too.

    anyio's tests expect that. Only the mount namespace of the command has another file there.
    """
    named = {
        line.split()[0] for line in HOSTS.read_text().splitlines() if "localhost" in line.split()
    }
    if "::1" in named:
        return []
    hosts = WORK / "hosts"
    hosts.write_text(HOSTS.read_text() + "::1 localhost\n")
    script = f'mount --bind "$0" {HOSTS} && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", script, str(hosts)]
    try:
        call(*words, "true")
    except OSError:
        say(f"{HOSTS} has no line '::1 localhost', and another takes root: some tests will fail")
        return []
    return words


def unprivileged() -> list[str]:
    """The words in front of a command that root runs as another user, who may read root's files."""
    if os.geteuid():
        return []
    words = ["unshare", "--user", "--map-user=65534", "--map-group=65534"]
    try:
        call(*words, "true")
    except OSError:
        say("there are no user namespaces here, and some tests fail for root")
        return []
    return words


@dataclass
class Run:
    """One suite on one loop."""

    suite: dict[str, Any]
    source: Path
    loop: str
    options: argparse.Namespace
    name: str = ""
    only: list[str] | None = None
    ended: bool = False
    seconds: float = 0.0
    collected: int = 0
    found: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        stem = f"{self.suite['name']}-{self.loop}{self.name}"
        self.report = WORK / f"{stem}.report"
        self.log = WORK / f"{stem}.log"
        for file in (self.report, self.log):
            file.write_text("")

    def start(self) -> "subprocess.Popen[bytes]":
        path: list[str | Path] = [HERE.parent / "in_place", HERE]
        if "add" in self.suite and self.loop != self.suite["name"]:
            path.append(self.source)
        path.append(os.environ.get("PYTHONPATH", ""))
        environment = os.environ | {
            "PATH": os.pathsep.join([*programs(self.suite), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join(str(part) for part in path if part),
            "LOOP_IN_PLACE": LOOPS[self.loop],
            "ECOSYSTEM_REPORT": str(self.report),
            "ECOSYSTEM_QUIET": ",".join(self.suite.get("quiet", [])),
        }
        if self.only is not None:
            only = self.report.with_suffix(".only")
            only.write_text(json.dumps(self.only))
            environment["ECOSYSTEM_ONLY"] = str(only)
        # -P: what was installed is tested, and not the sources without what was compiled.
        command = [*self.options.prefix]
        if self.suite.get("unprivileged"):
            command += self.options.unprivileged
        command += [sys.executable, "-P", "-X", "faulthandler", "-m", "pytest"]
        command += [
            "-pecosystem_plugin",
            "-pno:cacheprovider",
            "-q",
            "--tb=short",
            f"--timeout={self.options.timeout}",
        ]
        if not self.suite.get("pytest_asyncio"):
            command.append("-pno:asyncio")
        command += self.suite["pytest"]
        if self.options.k:
            command += ["-k", self.options.k]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.source,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self, process: "subprocess.Popen[bytes]", deadline: float) -> int | None:
        """The exit status; None when no test ended for long, or the suite takes too long."""
        size, since = -1, time.monotonic()
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(0.5)
            now = time.monotonic()
            if self.report.stat().st_size != size:
                size, since = self.report.stat().st_size, now
                self.read()
            elif now - since > 2 * self.options.timeout:
                return None
            if now > deadline:
                return None

    def read(self) -> str:
        """Takes over what the report says, and returns the test that is being run."""
        running = ""
        for line in self.report.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):  # the last one may be half written
                name, outcome, detail = json.loads(line)
                if outcome == "collected":
                    self.collected = self.collected or int(detail)
                elif outcome == "started":
                    running = name
                else:
                    self.found[name] = (outcome, detail)
                    running = "" if name == running else running
        return running

    def __call__(self) -> "Run":
        began = time.monotonic()
        deadline = began + self.options.suite_timeout
        for _ in range(PROCESSES):
            process = self.start()
            status = self.wait(process, deadline)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            running = self.read()
            # pytest: 0 all passed, 1 some failed, 2 errors of collection, 5 nothing to run.
            self.ended = status in (0, 1, 5)
            if status is None and self.loop != "pyev" and not running:
                # A failed test of asyncio may have left a thread, and the process waits for it.
                self.ended = len(self.found) >= self.collected
            if self.ended or not running or time.monotonic() > deadline:
                break
            outcome = "hung" if status is None else "crashed"
            with self.report.open("a") as file:
                file.write(json.dumps([running, outcome, self.tail()]) + "\n")
            self.read()
        self.seconds = time.monotonic() - began
        return self

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def bad(self) -> set[str]:
        found = list(self.found.items())  # another thread may be reading the report
        return {name for name, (outcome, _) in found if outcome in BAD}

    def progress(self) -> str:
        bad = len(self.bad())
        return f"{self.loop} {len(self.found)}/{self.collected or '?'}" + (
            f", {bad} bad" * bool(bad)
        )


def run_all(runs: list[Run], jobs: int) -> None:
    done = threading.Event()

    def tell() -> None:
        terminal = sys.stderr.isatty()
        while not done.wait(1 if terminal else 30):
            line = f"{runs[0].suite['name']}: " + "; ".join(run.progress() for run in runs)
            print(
                f"\r\x1b[K{line}" if terminal else line,
                end="" if terminal else "\n",
                file=sys.stderr,
                flush=True,
            )
        if terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    teller = threading.Thread(target=tell)
    teller.start()
    try:
        with ThreadPoolExecutor(jobs) as pool:
            for _ in pool.map(lambda run: run(), runs):
                pass
    finally:
        done.set()
        teller.join()


def only_ours(runs: dict[str, Run]) -> tuple[list[str], list[str]]:
    """What fails on pyev alone, twice; and what did so once."""
    ours, standard = runs.get("pyev"), runs.get("asyncio")
    if ours is None or standard is None:
        return [], []
    suspects = sorted(ours.bad() - standard.bad())
    if not suspects:
        return [], []
    say(f"{ours.suite['name']}: {len(suspects)} failed on pyev alone; once more on both")
    again = [
        Run(r.suite, r.source, r.loop, r.options, "-again", suspects) for r in (ours, standard)
    ]
    run_all(again, 1)
    bad, as_bad = ({n for n in suspects if r.found.get(n, ("hung",))[0] in BAD} for r in again)
    still = sorted(bad - as_bad)
    return still, sorted(set(suspects) - set(still))


def main() -> None:
    suites = {s["name"]: s for s in tomllib.loads((HERE / "suites.toml").read_text())["suite"]}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suites", default=",".join(suites), help="some of %(default)s")
    parser.add_argument("--loops", default="pyev,asyncio", help="of pyev, asyncio, uvloop")
    parser.add_argument("-k", default="", help="as pytest's")
    parser.add_argument("--json", type=Path, help="every test's outcome, into this file")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one test")
    parser.add_argument(
        "--suite-timeout", type=float, default=6 * 3600.0, help="seconds for one suite"
    )
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4))
    parser.add_argument("--verbose", action="store_true", help="why tests failed on pyev alone")
    options = parser.parse_args()
    loops = options.loops.split(",")
    wanted = options.suites.split(",")
    for name, known in [(n, suites) for n in wanted] + [(n, LOOPS) for n in loops]:
        if name not in known:
            parser.error(f"{name!r} is none of {', '.join(known)}")
    for loop in loops:
        if LOOPS[loop]:
            importlib.import_module(LOOPS[loop].partition(":")[0])

    WORK.mkdir(parents=True, exist_ok=True)
    options.prefix = with_localhost()
    options.unprivileged = unprivileged()
    rows: list[str] = []
    counting: list[str] = []
    unsteady: list[str] = []
    outcomes: dict[str, dict[str, dict[str, str]]] = {}
    install("requirements", REQUIREMENTS.read_text(), "-r", str(REQUIREMENTS))
    sources: dict[str, Path] = {}
    for name, suite in suites.items():  # all of them: they use each other
        try:
            if name in wanted:
                programs(suite)
            sources[name] = download(suite)
            for file, text in suite.get("add", {}).items():
                (sources[name] / file).write_text(text)
            if "add" not in suite:
                what = suite["requirement"] if suite.get("wheel") else str(sources[name])
                install(name, suite["sha256"], "--no-deps", "--force-reinstall", what)
        except (OSError, subprocess.TimeoutExpired, ValueError) as error:
            counting.append(f"{name} cannot be had: {error}")
    for name in wanted:
        if name not in sources:
            continue
        suite, source = suites[name], sources[name]
        runs = {loop: Run(suite, source, loop, options) for loop in loops}
        run_all(list(runs.values()), options.jobs)
        for loop, run in runs.items():
            count = Counter(outcome for outcome, _ in run.found.values())
            rows.append(
                f"{name:12}{loop:10}"
                + "".join(f"{count[outcome]:9}" for outcome in OUTCOMES)
                + f"{run.seconds:8.0f}s"
            )
            if not run.ended:
                counting.append(f"{name} on {loop} did not come to its end:\n{run.tail()}")
            outcomes.setdefault(name, {})[loop] = {n: o for n, (o, _) in run.found.items()}
        bad, once = only_ours(runs)
        counting += [f"{name}: {test}" for test in bad]
        unsteady += [f"{name}: {test}" for test in once]
        if options.verbose:
            for test in bad:
                print(f"\n--- {name}: {test}\n{runs['pyev'].found[test][1]}")

    print(f"\n{'':22}" + "".join(f"{outcome:>9}" for outcome in OUTCOMES))
    print("\n".join(rows))
    if options.json:
        data = {"python": sys.version.split()[0], "outcomes": outcomes}
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    if unsteady:
        print("\nfailed on pyev alone, but not again:\n" + "\n".join(unsteady))
    if counting:
        print("\nfailed on pyev alone, or not run:\n" + "\n".join(counting))
    sys.exit(bool(counting))


if __name__ == "__main__":
    main()
