"""What the asyncio suite found, in tables: for a terminal, and in Markdown."""

import pathlib
from collections.abc import Iterable

import rows
from report import described
from rich.console import Console
from rich.table import Table
from suite import FLOOR, OURS, STANDARD, Results

Cells = list[str]
NOISY = 0.1
LESS = {"us": 1e6, "ns": 1e9, "B": 1 << 20}  # units that a rate is turned over for; B: per MiB


def figure(rate: float, unit: str) -> str:
    if unit in LESS:
        value = LESS[unit] / rate
        return f"{value:.1f} {unit}" if value < 100 else f"{value:,.0f} {unit}"
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
        noise = results.noise(name)
        cells.append("" if noise is None else f"{noise:.0%}")
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


def growth_table(results: Results) -> tuple[Cells, list[Cells]]:
    """Of each curve: what a thing costs among the most, in units of its cost among the fewest."""
    names = contenders(results)
    known = rows.load()
    curves: dict[str, list[str]] = {}
    for name in results.rates:
        if known[name].curve:
            curves.setdefault(known[name].curve, []).append(name)
    body = []
    for found in curves.values():
        first, last = known[found[0]], known[found[-1]]
        cells = [f"{last.what}, ÷ {first.size:,}"]
        for name in names:
            costs = [results.best(row.name, name) for row in (first, last)]
            cells.append(ratio(costs[0] / costs[1]) if costs[0] and costs[1] else "")
        body.append(cells)
    return ["growth", *names], body


def tables(results: Results) -> list[tuple[str, Cells, list[Cells]]]:
    """With a title each."""
    found = [("Row by row", *rows_table(results))]
    if (growth := growth_table(results))[1]:
        found.append(("How costs grow: 1 is not at all", *growth))
    else:
        found.append(("Each loop", *loops_table(results)))
    return found


def noise(results: Results) -> str:
    others = results.machine.get("others", "")
    said = f"Other programs had {others} of the core meanwhile. " if others else ""
    found = results.noise()
    if found is None:
        return f"{said}Noise: one round tells nothing of it."
    said += f"Noise: the best process is {found:.0%} above the median one, in the median."
    if found > NOISY:
        said += f" That is much: differences below {found:.0%} mean little."
    return said


def explain(results: Results) -> Iterable[str]:
    clock = "processor time" if results.clock == "cpu" else "the clock"
    yield f"Best of all processes by {clock}; in bold the best peer of the row."
    yield noise(results)
    for name, why in results.missing.items():
        yield f"Left out: {name}: {why}"
    for row, found in results.failed.items():
        for name, why in found.items():
            yield f"Failed: {row} on {name}: {why}"


def show(results: Results, console: Console) -> None:
    console.print(described(results.machine))
    for title, head, body in tables(results):
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
    parts = [described(results.machine)]
    for _, head, body in tables(results):
        lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in lines))
    parts.append("\n".join(f"- {line}" for line in explain(results)))
    return "\n\n".join(parts) + "\n"


def save(results: Results, folder: pathlib.Path, name: str) -> list[pathlib.Path]:
    text = folder / f"{name}.md"
    text.write_text(markdown(results))
    return [results.save(folder / f"{name}.json"), text]
