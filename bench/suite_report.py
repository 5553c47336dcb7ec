"""What the asyncio suite found, in tables: for a terminal, and in Markdown."""

import pathlib
from collections.abc import Iterable

import rows
from rich.console import Console
from rich.table import Table
from suite import FLOOR, OURS, STANDARD, Results

Cells = list[str]


def figure(rate: float, unit: str) -> str:
    if unit == "us":
        return f"{1e6 / rate:.1f} us"
    if rate >= 1e6:
        text = f"{rate / 1e6:.2f}M" if rate < 1e8 else f"{rate / 1e6:.0f}M"
    elif rate >= 1e4:
        text = f"{rate / 1e3:.1f}k"
    else:
        text = f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"
    return text if unit == "/s" else f"{text} {unit}"


def ratio(value: float | None) -> str:
    return f"{value:.2f}" if value else ""


def contenders(results: Results) -> list[str]:
    found = dict.fromkeys(name for row in results.rates.values() for name in row)
    return [name for name in [*results.versions, FLOOR] if name in found]


def cell(results: Results, row: rows.Row, name: str, best: str | None) -> str:
    rate = results.best(row.name, name)
    if rate:
        text = figure(rate, row.unit)
        return f"**{text}**" if name == best else text
    why = results.failed.get(row.name, {}).get(name, "")
    return ("none" if why.startswith("NotImplementedError") else "failed") if why else ""


def rows_table(results: Results) -> tuple[Cells, list[Cells]]:
    names = contenders(results)
    known = rows.load()
    peer = {name: results.best_peer(name) for name in results.rates}
    head = ["", *names, f"÷ {STANDARD}", "÷ uvloop", "÷ best", f"÷ {FLOOR}", "noise"]
    body = []
    for name in results.rates:
        row = known[name]
        cells = [row.what, *(cell(results, row, loop, peer[name]) for loop in names)]
        for other in (STANDARD, "uvloop", peer[name], FLOOR):
            cells.append(ratio(results.ratio(name, OURS, other)))
        cells.append(f"{results.noise(name):.0%}")
        body.append(cells)
    return head, body


def loops_table(results: Results) -> tuple[Cells, list[Cells]]:
    """Each loop against the standard one, uvloop, and the best of the peers, row by row."""
    head = ["geometric means", "version", f"÷ {STANDARD}", "÷ uvloop", "÷ best peer"]
    head += ["rows", "failed", "ahead of all peers"]
    body = []
    for name, version in results.versions.items():
        cells = [name, version]
        for other in (lambda row: STANDARD, lambda row: "uvloop", results.best_peer):
            found = results.mean(name, other)
            cells.append(f"{found[0]:.2f} ({found[1]})" if found else "")
        done = [row for row in results.rates if results.best(row, name)]
        failed = sum(name in results.failed.get(row, {}) for row in results.rates)
        ahead = sum((results.ratio(row, name, results.best_peer(row)) or 0) >= 1.0 for row in done)
        body.append([*cells, str(len(done)), str(failed), str(ahead)])
    return head, body


def explain(results: Results) -> Iterable[str]:
    clock = "processor time" if results.clock == "cpu" else "the clock"
    yield (
        f"Best of all processes by {clock}; in bold the best peer of the row. "
        f"Noise: the best process is {results.noise():.0%} above the median one, in the median."
    )
    for name, why in results.missing.items():
        yield f"Left out: {name}: {why}"
    for row, found in results.failed.items():
        for name, why in found.items():
            yield f"Failed: {row} on {name}: {why}"


def show(results: Results, console: Console) -> None:
    console.print(", ".join(f"{key} {value}" for key, value in results.machine.items()))
    for title, (head, body) in (
        ("asyncio's rows", rows_table(results)),
        ("Each loop", loops_table(results)),
    ):
        table = Table(title=title, title_justify="left")
        for column in head:
            table.add_column(column, justify="right" if column else "left")
        for cells in body:
            marked = [f"[bold]{text[2:-2]}[/]" if text[:2] == "**" else text for text in cells]
            table.add_row(*marked)
        console.print(table)
    for line in explain(results):
        console.print(line, highlight=False, style="yellow" if ":" in line[:9] else None)


def markdown(results: Results) -> str:
    parts = [", ".join(f"{key} {value}" for key, value in results.machine.items())]
    for head, body in (rows_table(results), loops_table(results)):
        lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in lines))
    parts.append("\n".join(f"- {line}" for line in explain(results)))
    return "\n\n".join(parts) + "\n"


def save(results: Results, folder: pathlib.Path) -> list[pathlib.Path]:
    text = folder / "asyncio.md"
    text.write_text(markdown(results))
    return [results.save(folder / "asyncio.json"), text]
