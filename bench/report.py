"""What the benchmarks found: kept, saved, and set out in tables."""

import json
import math
import pathlib
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import operations
from rich.console import Console
from rich.table import Table


class Row(NamedTuple):
    pairs: int
    active: int

    def __str__(self) -> str:
        return f"{self.pairs} pairs, {self.active} active"


ROWS = (Row(100, 1), Row(100, 100), Row(1000, 100), Row(8000, 100))
PROMISED = (Row(100, 1), Row(100, 100), Row(8000, 100))

CONTENDERS = {
    "pyev": "pyev",
    "c": "libev in C",
    "c-plain": "libev in C, no timeouts",
    "epoll": "epoll by hand, no timeouts",
    "epoll-callbacks": "epoll, callbacks, no timeouts",
    "pyev-plain": "pyev, no timeouts",
    "gevent": "gevent's libev core",
    "perl": "Perl's EV",
    "loop-pyev": "pyev's event loop",
    "loop-asyncio": "asyncio's event loop",
    "loop-uvloop": "uvloop",
    "loop-zuvloop": "zuvloop",
}


def label(name: str) -> str:
    base, _, peer = name.partition("@")
    return f"pyev ({peer})" if peer else CONTENDERS[base]


def described(machine: dict[str, str]) -> str:
    names = {"date": "", "python": "", "kernel": "", "processor": ""}
    found = (f"{names.get(key, key)} {value}" for key, value in machine.items() if key != "others")
    return ", ".join(one.strip() for one in found)


@dataclass
class Series:
    """Nanoseconds, the best of each process."""

    processes: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        return min(self.processes)

    @property
    def median(self) -> float:
        return statistics.median(self.processes)

    @property
    def noise(self) -> float:
        return self.median / self.best - 1


@dataclass
class Results:
    machine: dict[str, str] = field(default_factory=dict)
    rows: dict[Row, dict[str, Series]] = field(default_factory=dict)
    operations: dict[str, dict[str, Series]] = field(default_factory=dict)  # by peer; "" is ours
    missing: dict[str, str] = field(default_factory=dict)  # who could not run, and why

    def add(self, row: Row, name: str, found: list[float]) -> None:
        series = self.rows.setdefault(row, {}).setdefault(name, Series())
        series.processes.append(min(found))

    def add_operations(self, peer: str, found: dict[str, list[float]]) -> None:
        for name, samples in found.items():
            series = self.operations.setdefault(peer, {}).setdefault(name, Series())
            series.processes.append(min(samples))

    def units(self, peer: str, name: str) -> float:
        found = self.operations[peer]
        return found[name].best / found["unit"].best

    def noise(self) -> float:
        """How far the median process is from the best one, in the median series."""
        tables = [*self.rows.values(), *self.operations.values()]
        found = [series.noise for table in tables for series in table.values()]
        return statistics.median(found) if found else 0.0

    def save(self, path: pathlib.Path) -> pathlib.Path:
        document = {
            "machine": self.machine,
            "unit": "nanoseconds; the best of each process, round by round",
            "noise": self.noise(),
            "libev": [
                {
                    "pairs": row.pairs,
                    "active": row.active,
                    "contenders": {name: series.processes for name, series in found.items()},
                }
                for row, found in self.rows.items()
            ],
            "operations": {
                peer or "pyev": {name: series.processes for name, series in found.items()}
                for peer, found in self.operations.items()
            },
            "missing": self.missing,
        }
        path.write_text(json.dumps(document, indent=2) + "\n")
        return path

    @classmethod
    def load(cls, path: pathlib.Path) -> "Results":
        document: dict[str, Any] = json.loads(path.read_text())
        results = cls(document["machine"], missing=document["missing"])
        for one in document["libev"]:
            found = {name: Series(times) for name, times in one["contenders"].items()}
            results.rows[Row(one["pairs"], one["active"])] = found
        for peer, operations_of in document["operations"].items():
            found = {name: Series(times) for name, times in operations_of.items()}
            results.operations["" if peer == "pyev" else peer] = found
        return results


def paired(ours: Series, theirs: Series) -> float:
    """The median over the rounds of ours in units of theirs: blind to a machine that drifts."""
    return statistics.median(a / b for a, b in zip(ours.processes, theirs.processes, strict=False))


def events_table(results: Results) -> Table:
    table = Table(title="libev's benchmark: ns per event, best (median)", title_justify="left")
    table.add_column("", no_wrap=True)
    for row in results.rows:
        table.add_column(str(row).replace(", ", "\n"), justify="right")
        table.add_column("÷ C", justify="right", style="dim")
    names = dict.fromkeys(name for found in results.rows.values() for name in found)
    for name in names:
        cells = []
        for found in results.rows.values():
            series = found.get(name)
            floor = found.get("c")
            cells.append(f"{series.best:.0f} ({series.median:.0f})" if series else "")
            cells.append(f"{series.best / floor.best:.2f}" if series and floor else "")
        table.add_row(label(name), *cells, style="bold" if name == "pyev" else None)
    return table


class Promise(NamedTuple):
    what: str
    limit: float
    ratio: float
    in_pairs: float  # the same from paired rounds


def promises(results: Results) -> list[Promise]:
    """What pyev means to keep, and what this run says of it."""
    kept = []
    found = [results.rows[row] for row in PROMISED if row in results.rows]
    if len(found) == len(PROMISED) and all({"pyev", "c"} <= set(one) for one in found):
        kept.append(
            Promise(
                f"libev in C, geometric mean of {len(found)}",
                1.25,
                math.prod(one["pyev"].best / one["c"].best for one in found) ** (1 / len(found)),
                math.prod(paired(one["pyev"], one["c"]) for one in found) ** (1 / len(found)),
            )
        )
    for other, limit in (("epoll", 1.05), ("gevent", 1.0), ("perl", 1.0)):
        for row in PROMISED:
            one = results.rows.get(row, {})
            if "pyev" in one and other in one:
                ours, theirs = one["pyev"], one[other]
                kept.append(
                    Promise(
                        f"{label(other)}: {row}",
                        limit,
                        ours.best / theirs.best,
                        paired(ours, theirs),
                    )
                )
    return kept


def promises_table(results: Results) -> Table:
    table = Table(title="pyev in units of …", title_justify="left")
    for column in ("", "at most", "best of all", "median of rounds", ""):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for promise in promises(results):
        verdict = "[green]yes" if promise.ratio <= promise.limit else "[red]no"
        table.add_row(
            promise.what,
            f"{promise.limit:.2f}",
            f"{promise.ratio:.3f}",
            f"{promise.in_pairs:.3f}",
            verdict,
        )
    return table


def operations_table(results: Results) -> Table:
    peers = [peer for peer in results.operations if peer]
    table = Table(
        title="One operation at a time, in units of an empty Python callback", title_justify="left"
    )
    table.add_column("", no_wrap=True)
    for column in ("ns", "median", "units", "0.9.0:\nns", "\nunits", "ours ÷\n0.9.0", "at most"):
        table.add_column(column, justify="right")
    table.add_column("")
    for peer in peers:
        table.add_column(f"{peer}:\nns", justify="right")
        table.add_column("\nunits", justify="right")
        table.add_column(f"ours ÷\n{peer}", justify="right")
    for operation in operations.OPERATIONS:
        series = results.operations[""][operation.name]
        units = results.units("", operation.name)
        genuine = operation.genuine / operations.GENUINE_UNIT
        limit = 1.0 if operation.system_call else 0.9
        cells = [f"{series.best:.1f}", f"{series.median:.1f}", f"{units:.2f}"]
        cells += [f"{operation.genuine:.0f}", f"{genuine:.2f}"]
        if operation.name == "unit":
            cells += ["", "", ""]
        else:
            ahead = units / genuine <= limit if limit < 1 else units < genuine
            verdict = "[green]yes" if ahead else "[red]no"
            cells += [f"{units / genuine:.2f}", f"{limit:.1f}", verdict]
        for peer in peers:
            theirs = results.operations[peer][operation.name]
            cells += [f"{theirs.best:.1f}", f"{results.units(peer, operation.name):.2f}"]
            cells.append(f"{units / results.units(peer, operation.name):.2f}")
        table.add_row(operation.what, *cells)
    return table


def show(results: Results, console: Console) -> None:
    console.print(described(results.machine))
    if results.rows:
        console.print(events_table(results))
        if promises(results):
            console.print(promises_table(results))
    if "" in results.operations:
        console.print(operations_table(results))
    for line in explain(results):
        console.print(line, highlight=False, style="yellow" if ":" in line[:9] else None)


def explain(results: Results) -> Iterator[str]:
    others = results.machine.get("others", "")
    said = f"Other programs had {others} of the core meanwhile. " if others else ""
    yield f"{said}Noise: the median process is {results.noise():.0%} above the best."
    for name, why in results.missing.items():
        yield f"Left out: {name}: {why}"


def markdown(results: Results) -> str:
    """The table of events."""
    table = events_table(results)
    columns = [[str(column.header).replace("\n", ", "), *column.cells] for column in table.columns]
    first, *lines = [[str(cell) for cell in row] for row in zip(*columns, strict=True)]
    lines = [first, ["---", *["---:"] * (len(first) - 1)], *lines]
    parts = [described(results.machine), "\n".join(f"| {' | '.join(one)} |" for one in lines)]
    parts.append("\n".join(f"- {line}" for line in explain(results)))
    return "\n\n".join(parts) + "\n"
