"""The suite `scale` as a picture: what a thing costs, by how many others there are."""

import rows
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from plot import BLUE, GRID, INK, QUIET, source
from suite import FLOOR, OURS, Results
from suite_plot import MARKERS
from suite_report import LESS

CURVES = {
    "turn": "An echo, one connection active",
    "few": "… 1 % of the connections active",
    "all": "… all connections active",
    "idle": "Memory of a connection at rest",
    "add": "Adding a timer",
    "cancel": "Cancelling one",
    "fire": "Firing one",
    "threads": "An echo, a loop in each thread",
}


def thousands(size: int) -> str:
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if size >= unit:
            return f"{size / unit:g}{name}"
    return str(size)


def panel(axes: Axes, results: Results, curve: str, names: list[str]) -> None:
    found = [
        row for row in rows.load().values() if row.curve == curve and row.name in results.rates
    ]
    unit = found[0].unit
    ours: list[float] = []
    others: list[float] = []
    for name in names:
        points = [(row.size, results.best(row.name, name)) for row in found]
        line = [(size, LESS[unit] / rate) for size, rate in points if rate]
        if not line:
            continue
        marker, colour = MARKERS.get(name, ("o", BLUE))
        style = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.1}
        if name == OURS:
            style |= {"markersize": 5.5, "linewidth": 2.4, "zorder": 5}
        elif name == FLOOR:
            style |= {"marker": "", "linestyle": ":", "linewidth": 1.4}
        axes.plot(*zip(*line, strict=True), **style)
        (ours if name == OURS else others).extend(cost for _, cost in line)
    # What is far above all of ours would make a line on the floor of them.
    axes.set_ylim(0, min(1.08 * max(ours + others), 5 * max(ours or others)))
    axes.set_xscale("log")
    sizes = [row.size for row in found]
    axes.set_xticks(sizes, [thousands(size) for size in sizes])
    axes.minorticks_off()
    axes.grid(color=GRID)
    axes.set_axisbelow(True)
    where = "pending" if curve in ("add", "cancel", "fire") else "connections"
    where = "threads" if curve == "threads" else where
    axes.set_title(f"{CURVES[curve]}, {unit}", color=INK)
    axes.set_xlabel(where, fontsize=8, loc="right", labelpad=1)
    axes.tick_params(length=0, labelsize=8)


def scale_figure(results: Results) -> Figure:
    known = rows.load()
    drawn = {known[name].curve for name in results.rates}
    curves = [curve for curve in CURVES if curve in drawn]
    across = min(4, len(curves))
    down = -(-(len(curves) + 1) // across)
    figure, grid = pyplot.subplots(down, across, figsize=(3.1 * across, 2.7 * down), squeeze=False)
    names = [name for name in [*MARKERS, OURS] if name in results.versions or name == FLOOR]
    places = list(grid.flat)
    for axes, curve in zip(places, curves, strict=False):
        panel(axes, results, curve, names)
    for axes in places[len(curves) :]:
        axes.set_axis_off()
    styles = {name: MARKERS.get(name, ("o", BLUE)) for name in [OURS, *names[:-1]]}
    handles = [
        Line2D(
            [],
            [],
            color=colour,
            marker="" if name == FLOOR else marker,
            linestyle=":" if name == FLOOR else "-",
            linewidth=2.4 if name == OURS else 1.1,
            label="the same in C" if name == FLOOR else name,
        )
        for name, (marker, colour) in styles.items()
    ]
    places[-1].legend(handles=handles, loc="center left", frameon=False)
    figure.suptitle(
        "How costs grow: a flat line is none, lower is better", x=0.01, ha="left", fontweight="bold"
    )
    figure.supxlabel(source(results.machine), fontsize=8, color=QUIET)
    figure.tight_layout()
    return figure


def figures(results: Results) -> dict[str, Figure]:
    known = rows.load()
    shown = any(results.best(name, OURS) for name in results.rates if known[name].curve)
    return {"scale": scale_figure(results)} if shown else {}
