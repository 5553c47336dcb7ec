"""The asyncio suite: each row on each loop in turns, round by round, beside the same work in C."""

import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import loops
import rows
from launch import Core, Failed

HERE = pathlib.Path(__file__).parent
OURS, STANDARD, FLOOR = "pyev", "asyncio", "C"
TLS_FLOORS = "floors_tls"
LIMIT = 60.0  # seconds for a process; the longest row takes 5 on the slowest loop


@dataclass
class Rates:
    """Units per second, the best of each process, by the clock and by processor time."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


@dataclass
class Results:
    machine: dict[str, str] = field(default_factory=dict)
    clock: str = "wall"
    versions: dict[str, str] = field(default_factory=dict)  # of the loops that take part
    missing: dict[str, str] = field(default_factory=dict)
    rates: dict[str, dict[str, Rates]] = field(default_factory=dict)  # by row and loop
    failed: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, row: str, name: str, found: dict[str, list[float]]) -> None:
        rates = self.rates.setdefault(row, {}).setdefault(name, Rates())
        best = max(range(len(found["wall"])), key=found[self.clock].__getitem__)
        rates.wall.append(max(found["wall"]))
        rates.cpu.append(found["cpu"][best] if self.clock == "cpu" else max(found["cpu"]))

    def processes(self, row: str, name: str) -> list[float]:
        rates = self.rates.get(row, {}).get(name)
        found: list[float] = getattr(rates, self.clock) if rates else []
        # A loop that failed in any round has no figure: it does not do this work reliably.
        return [] if name in self.failed.get(row, {}) else found

    def best(self, row: str, name: str) -> float | None:
        return max(self.processes(row, name), default=None)

    def peers(self) -> list[str]:
        """The loops that are not ours."""
        return [name for name in self.versions if name.partition("@")[0] != OURS]

    def best_peer(self, row: str) -> str | None:
        found = {name: self.best(row, name) for name in self.peers()}
        return max(
            (name for name in found if found[name]), key=lambda n: found[n] or 0, default=None
        )

    def ratio(self, row: str, name: str, other: str | None) -> float | None:
        ours, theirs = self.best(row, name), other and self.best(row, other)
        return ours / theirs if ours and theirs else None

    def mean(self, name: str, other: Callable[[str], str | None]) -> tuple[float, int] | None:
        """The geometric mean of `name`'s ratios to the loop that `other` tells, and of how many."""
        found = [self.ratio(row, name, other(row)) for row in self.rates]
        logarithms = [math.log(ratio) for ratio in found if ratio]
        if not logarithms:
            return None
        return math.exp(statistics.fmean(logarithms)), len(logarithms)

    def noise(self, *rows: str) -> float | None:
        """How far the best process is above the median one, in the median of all figures. Nothing
        is known of it after a single round."""
        chosen = rows or tuple(self.rates)
        series = [self.processes(row, name) for row in chosen for name in self.rates[row]]
        found = [max(one) / statistics.median(one) - 1 for one in series if len(one) > 1]
        return statistics.median(found) if found else None

    def save(self, path: pathlib.Path) -> pathlib.Path:
        known = rows.load()
        document = {
            "machine": self.machine,
            "clock": self.clock,
            "noise": self.noise(),
            "loops": self.versions,
            "missing": self.missing,
            "rows": {
                row: {
                    "what": known[row].what,
                    "unit": known[row].unit,
                    "rates": {name: vars(rates) for name, rates in found.items()},
                    "failed": self.failed.get(row, {}),
                }
                for row, found in self.rates.items()
            },
        }
        path.write_text(json.dumps(document, indent=1) + "\n")
        return path

    @classmethod
    def load(cls, path: pathlib.Path) -> "Results":
        document: dict[str, Any] = json.loads(path.read_text())
        results = cls(document["machine"], document["clock"], document["loops"])
        results.missing = document["missing"]
        known = rows.load()
        for row, found in document["rows"].items():
            if row not in known:
                continue  # measured by an earlier version
            results.rates[row] = {name: Rates(**rates) for name, rates in found["rates"].items()}
            results.failed[row] = found["failed"]
        return results


def present(names: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The versions of the loops that are installed, and why the others are left out."""
    versions, missing = {}, {}
    for name in names:
        version = loops.version(name) if name != OURS else ""
        if version is None:
            python = platform.python_version()
            missing[name] = f"{loops.LOOPS[name].package} is not installed (Python {python})"
        else:
            versions[name] = version
    return versions, missing


def build_floor(name: str, folder: pathlib.Path) -> str:
    """Compiles one of the programs that are the C column; returns why it cannot be."""
    command = [os.environ.get("CC", "cc"), "-O2", "-o", str(folder / name), str(HERE / f"{name}.c")]
    command += ["-lssl", "-lcrypto"] if name == TLS_FLOORS else []
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as error:
        return str(error)
    return next(filter(None, done.stderr.splitlines()), "") if done.returncode else ""


def make_certificate(folder: pathlib.Path) -> None:
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "certificate.pem"))


class Suite:
    def __init__(
        self, core: Core, chosen: list[str], names: list[str], quick: bool, clock: str
    ) -> None:
        self.core = core
        self.floors: set[str] = set()
        self.rows = [row for name, row in rows.load().items() if name in chosen]
        self.results = Results(clock=clock)
        self.results.versions, self.results.missing = present(names)
        others = [f"{OURS}@{name}" for name in core.folders]
        self.results.versions |= dict.fromkeys(others, "")
        self.sampling = [
            "--samples",
            "2" if quick else "5",
            "--seconds",
            "0.02" if quick else "0.05",
        ]

    def prepare(self, folder: pathlib.Path) -> None:
        self.folder = folder
        for name in sorted({row.floor[0] for row in self.rows if row.floor}):
            if why := build_floor(name, folder):
                self.results.missing[f"{FLOOR}, {name}.c"] = why
            else:
                self.floors.add(name)
        if any("tls" in row.name for row in self.rows):
            make_certificate(folder)

    def contenders(self, row: rows.Row) -> list[str]:
        found = []
        for name in self.results.versions:
            families = loops.LOOPS[name.partition("@")[0]].families
            if families is None or row.family in families:
                found.append(name)
        return [*found, FLOOR] if self.floors.intersection(row.floor[:1]) else found

    def steps(self) -> int:
        return sum(len(self.contenders(row)) for row in self.rows)

    def measure(self, row: rows.Row, name: str) -> dict[str, list[float]]:
        if name == FLOOR:
            program, *work = row.floor
            command = [str(self.folder / program), *work, str(self.folder), *self.sampling[1::2]]
        else:
            command = [sys.executable, str(HERE / "row.py"), name.partition("@")[0], row.name]
            command += ["--folder", str(self.folder), *self.sampling]
        others = json.dumps(self.core.others)
        said = self.core.output(command, name, LIMIT, PYEV_BENCH_OTHER_CPUS=others)
        found: dict[str, list[float]] = json.loads(said)
        return found

    def round(self, turn: int, report: Callable[[str], None]) -> None:
        """Each row once on each loop; another loop goes first each time."""
        for row in self.rows:
            contenders = self.contenders(row)
            failed = self.results.failed.setdefault(row.name, {})
            self.results.rates.setdefault(row.name, {})
            start = turn % len(contenders)
            for name in contenders[start:] + contenders[:start]:
                report(f"{name}, {row.name}")
                if name not in failed:
                    try:
                        self.results.add(row.name, name, self.measure(row, name))
                    except (Failed, ValueError) as error:
                        failed[name] = str(error)
