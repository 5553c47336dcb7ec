"""The asyncio suite as pictures: at a glance, and row by row."""

import math
from typing import Any

import rows
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from plot import BLUE, GREY, GRID, INK, ORANGE, QUIET, source
from suite import FLOOR, OURS, STANDARD, Results

MARKERS = {
    STANDARD: ("X", GREY),
    "uvloop": ("s", ORANGE),
    "zuvloop": ("^", "#009E73"),
    "rsloop": ("v", "#CC79A7"),
    "rloop": ("D", "#D55E00"),
    "aiofastnet": ("P", "#8B6F2A"),
    FLOOR: ("|", INK),
}
LEFT, RIGHT = 0.25, 3.0  # the dots' range, in units of the best peer; others lie at the edge


def factor(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.0f}"


def bars(axes: Axes, found: dict[str, tuple[float, str]]) -> None:
    """A bar for each loop, with what is written behind it; ours stands out."""
    places = range(len(found))
    for place, (name, (value, text)) in zip(places, found.items(), strict=True):
        ours = name == OURS
        axes.barh(place, value, color=BLUE if ours else GREY, height=0.7)
        axes.annotate(
            text,
            (value, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=BLUE if ours else INK,
            fontweight="bold" if ours else "normal",
        )
    axes.set_yticks(places, list(found))
    axes.get_yticklabels()[list(found).index(OURS)].set_fontweight("bold")
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * max(value for value, _ in found.values()))
    axes.set_xticks([])
    axes.tick_params(left=False)
    axes.spines["bottom"].set_visible(False)


def means(results: Results) -> dict[str, tuple[float, str]]:
    """Geometric means over uvloop, the best first; of fewer rows where a loop lacks some."""
    found = {}
    for name in results.versions:
        if name == OURS or name in results.peers():
            mean = results.mean(name, lambda row: "uvloop")
            if mean:
                lacking = sum(results.best(row, name) is None for row in results.rates)
                note = f"  ({mean[1]} rows)" if lacking > 1 else ""
                found[name] = (mean[0], f"{mean[0]:.2f}{note}")
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))


def leads(results: Results, names: list[str]) -> dict[str, tuple[float, str]]:
    """How many rows each loop is the fastest on."""
    found = dict.fromkeys(names, 0)
    for row in results.rates:
        rates = {name: results.best(row, name) or 0.0 for name in names}
        if any(rates.values()):
            found[max(rates, key=rates.__getitem__)] += 1
    return {name: (count, str(count)) for name, count in found.items()}


def note(axes: Axes, x: float, place: float, text: str, **style: Any) -> None:
    where = ("axes fraction", "data")
    axes.annotate(text, (x, place), xycoords=where, va="center", fontsize=8, **style)


def within(ratio: float) -> float:
    return min(max(ratio, LEFT), RIGHT)


def dots(axes: Axes, results: Results, shown: list[str]) -> None:
    """Each row in units of its best peer: every loop a dot, ours the large one."""
    small, large = [], []
    for place, row in enumerate(shown):
        best = results.best_peer(row)
        ours = results.ratio(row, OURS, best)
        assert best and ours
        ratios = [results.ratio(row, name, best) for name in results.peers()]
        small += [(within(ratio), place) for ratio in ratios if ratio]
        if floor := results.ratio(row, FLOOR, best):
            ends = [place - 0.33, place + 0.33]
            axes.plot([within(floor)] * 2, ends, color=INK, linewidth=1.2)
        colour = BLUE if ours >= 1 else ORANGE
        large.append((within(ours), place, colour))
        axes.plot([1, within(ours)], [place, place], color=colour, linewidth=2.2, zorder=3)
        note(axes, 1.02, place, factor(ours), color=colour, fontweight="bold")
        note(axes, 1.15, place, best, color=QUIET)
    # One call each: matplotlib's SVG has the shape of a dot once for a call.
    axes.scatter(*zip(*small, strict=True), s=14, color=GREY, zorder=2)
    x, y, colours = zip(*large, strict=True)
    axes.scatter(x, y, s=48, c=colours, zorder=4)
    note(axes, 1.02, -1.1, OURS, color=INK)
    note(axes, 1.15, -1.1, "best other", color=QUIET)
    dress(axes, [rows.load()[row].what for row in shown])


def dress(axes: Axes, labels: list[str]) -> None:
    axes.axvline(1.0, color=QUIET, linewidth=0.8, zorder=1)
    axes.set_xscale("log")
    axes.set_xlim(LEFT * 0.93, RIGHT * 1.07)
    ticks = (0.25, 0.5, 1, 2, 3)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(left=False)
    axes.spines["left"].set_visible(False)


def glance(results: Results) -> Figure:
    """For who has a moment: the means, who leads how often, and each row beside its best peer."""
    shown = [row for row in results.rates if results.ratio(row, OURS, results.best_peer(row))]
    half = math.ceil(len(shown) / 2)
    figure = pyplot.figure(figsize=(12.8, 3.3 + 0.205 * half))
    top, bottom = figure.subfigures(2, 1, height_ratios=(2.1, 1.0 + 0.205 * half))
    left, right = top.subplots(1, 2)
    found = means(results)
    bars(left, found)
    left.set_title("Times uvloop, geometric mean of all rows", color=INK)
    bars(right, leads(results, list(found)))
    right.set_title(f"Fastest on how many of {len(shown)} rows", color=INK)
    top.subplots_adjust(left=0.08, right=0.97, top=0.76, bottom=0.04, wspace=0.22)
    top.suptitle(
        "Event loops for asyncio: more is better", x=0.012, y=0.98, ha="left", fontweight="bold"
    )
    one, two = bottom.subplots(1, 2)
    dots(one, results, shown[:half])
    dots(two, results, shown[half:] or shown)
    bottom.suptitle(
        "Each row in units of the best of the other loops",
        x=0.08,
        y=0.995,
        ha="left",
        fontsize=10,
    )
    legend = "large: pyev; small: the others; line: the same work in C"
    bottom.text(0.97, 0.995, legend, ha="right", va="top", fontsize=8, color=QUIET)
    bottom.subplots_adjust(left=0.2, right=0.92, top=0.915, bottom=0.09, wspace=1.36)
    bottom.supxlabel(source(results.machine), fontsize=8, color=QUIET)
    return figure


def by_row(results: Results) -> Figure:
    """Each row in units of the standard loop: a dot for every loop, ours in blue on top."""
    known = rows.load()
    shown = [row for row in results.rates if results.best(row, STANDARD)]
    figure, axes = pyplot.subplots(figsize=(9.6, 1.8 + 0.27 * len(shown)))
    names = [name for name in MARKERS if name in results.versions or name == FLOOR]
    names.remove(STANDARD)
    for place, row in enumerate(shown):
        found = {name: results.ratio(row, name, STANDARD) for name in [OURS, *names]}
        ratios = [ratio for ratio in found.values() if ratio] + [1.0]
        axes.plot([min(ratios), max(ratios)], [place, place], color=GRID, zorder=1)
        for name in names:
            if ratio := found[name]:
                marker, colour = MARKERS[name]
                size = 110 if marker == "|" else 30
                axes.scatter(ratio, place, s=size, marker=marker, color=colour, zorder=2)
        if ours := found[OURS]:
            axes.scatter(ours, place, s=75, marker="o", color=BLUE, zorder=3)
            axes.annotate(
                factor(ours),
                (1.01, place),
                xycoords=("axes fraction", "data"),
                va="center",
                color=BLUE,
                fontsize=8,
            )
    axes.axvline(1.0, color=GREY, linewidth=0.8)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low < tick < high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(shown)), [known[row].what for row in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.tick_params(left=False)
    axes.spines["left"].set_visible(False)
    axes.scatter([], [], s=75, marker="o", color=BLUE, label=OURS)
    for name in names:
        marker, colour = MARKERS[name]
        axes.scatter([], [], s=30, marker=marker, color=colour, label=name)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.3, 1), ncols=8, frameon=False)
    axes.set_xlabel(
        f"Times asyncio's standard loop, more is better; the figure is {OURS}'s\n"
        + source(results.machine),
        fontsize=8,
    )
    figure.tight_layout()
    return figure


def figures(results: Results) -> dict[str, Figure]:
    found = {}
    if any(results.ratio(row, OURS, results.best_peer(row)) for row in results.rates):
        found["asyncio"] = glance(results)
    if any(results.best(row, STANDARD) for row in results.rates):
        found["asyncio-rows"] = by_row(results)
    return found
