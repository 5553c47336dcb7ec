"""The benchmarks as pictures, PNG and SVG. Colours: Okabe and Ito's, told apart by everyone."""

import pathlib

import matplotlib
import operations
import rows
import suite
from report import Results, label

matplotlib.use("agg")
from matplotlib import pyplot
from matplotlib.figure import Figure

BLUE, SKY, GREY, ORANGE, INK = "#0072B2", "#56B4E9", "#B5B5B5", "#E69F00", "#222222"
COLOURS = {"pyev": BLUE, "pyev-plain": SKY, "loop-pyev": SKY, "c": GREY, "c-plain": GREY}

pyplot.rcParams.update(
    {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "svg.hashsalt": "pyev",
        "svg.fonttype": "none",
    }
)


def source(results: "Results | suite.Results") -> str:
    machine = results.machine
    return ", ".join(
        f"{name}{machine.get(key, '')}"
        for name, key in (
            ("pyev ", "pyev"),
            ("libev ", "libev"),
            ("", "python"),
            ("", "kernel"),
            ("", "processor"),
        )
    )


def events_figure(results: Results) -> Figure:
    names = list(dict.fromkeys(name for found in results.rows.values() for name in found))
    height = 1.5 + 0.34 * len(names)
    width = 3.2 + 2.35 * len(results.rows)
    figure, all_axes = pyplot.subplots(
        1, len(results.rows), figsize=(width, height), sharey=True, squeeze=False
    )
    places = list(range(len(names)))
    for axes, (row, found) in zip(all_axes[0], results.rows.items(), strict=True):
        widest = max(series.median for series in found.values())
        for place, name in zip(places, names, strict=True):
            if name not in found:
                continue
            series = found[name]
            axes.barh(place, series.best, color=COLOURS.get(name, ORANGE), height=0.72)
            axes.plot([series.best, series.median], [place, place], color=INK, linewidth=1)
            axes.text(
                widest * 0.02,
                place,
                f"{series.best:.0f}",
                va="center",
                color="white" if name == "pyev" else INK,
                fontweight="bold" if name == "pyev" else "normal",
            )
        if "pyev" in found:
            axes.axvline(found["pyev"].best, color=BLUE, linewidth=0.8, linestyle=":")
        axes.set_title(str(row))
        axes.set_xlim(0, widest * 1.05)
        axes.tick_params(left=False)
    first = all_axes[0][0]
    first.set_yticks(places, [label(name) for name in names])
    first.invert_yaxis()
    for tick, name in zip(first.get_yticklabels(), names, strict=True):
        tick.set_fontweight("bold" if name == "pyev" else "normal")
    figure.suptitle(
        "libev's benchmark: ns per event, less is better", x=0.01, ha="left", fontweight="bold"
    )
    figure.supxlabel(
        f"Bar: best process; line: up to the median one; dotted: pyev. {source(results)}",
        fontsize=8,
    )
    figure.tight_layout()
    return figure


def operations_figure(results: Results) -> Figure:
    shown = [operation for operation in operations.OPERATIONS if operation.name != "unit"]
    figure, axes = pyplot.subplots(figsize=(8.6, 1.6 + 0.36 * len(shown)))
    for place, operation in enumerate(shown):
        genuine = operation.genuine / operations.GENUINE_UNIT
        ours = results.units("", operation.name)
        axes.plot([ours, genuine], [place, place], color=GREY, linewidth=2, zorder=1)
        axes.scatter(genuine, place, s=55, marker="D", color=ORANGE, zorder=2)
        axes.scatter(ours, place, s=70, marker="o", color=BLUE, zorder=3)
        on_the_left = ours <= genuine
        axes.annotate(
            f"{ours:.1f}",
            (ours, place),
            xytext=(-9 if on_the_left else 9, 0),
            textcoords="offset points",
            ha="right" if on_the_left else "left",
            va="center",
            color=BLUE,
            fontweight="bold",
        )
        axes.annotate(
            f"{genuine:.1f}",
            (genuine, place),
            xytext=(9 if on_the_left else -9, 0),
            textcoords="offset points",
            ha="left" if on_the_left else "right",
            va="center",
        )
    axes.set_xscale("log")
    most = max(
        max(results.units("", one.name), one.genuine / operations.GENUINE_UNIT) for one in shown
    )
    axes.set_xlim(0.25, 1.8 * most)
    ticks = [tick for tick in (0.5, 1, 2, 5, 10, 20, 50, 100, 200) if tick < 1.8 * most]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="x", color="#E5E5E5")
    axes.set_axisbelow(True)
    axes.set_yticks(range(len(shown)), [operation.what for operation in shown])
    axes.invert_yaxis()
    axes.tick_params(left=False)
    axes.spines["left"].set_visible(False)
    axes.scatter([], [], s=70, marker="o", color=BLUE, label="pyev")
    axes.scatter([], [], s=55, marker="D", color=ORANGE, label="pyev 0.9.0, where it was measured")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    axes.set_xlabel(
        "Times an empty Python callback called from a loop; less is better\n" + source(results),
        fontsize=8,
    )
    figure.tight_layout()
    return figure


PEERS = {
    "uvloop": ("s", "#E69F00"),
    "zuvloop": ("^", "#009E73"),
    "rsloop": ("v", "#CC79A7"),
    "rloop": ("D", "#D55E00"),
    "aiofastnet": ("P", "#F0E442"),
    suite.FLOOR: ("|", INK),
}


def asyncio_figure(results: suite.Results) -> Figure:
    """Each row in units of the standard loop: a dot for every loop, ours in blue on top."""
    known = rows.load()
    shown = [row for row in results.rates if results.best(row, suite.STANDARD)]
    figure, axes = pyplot.subplots(figsize=(9.6, 1.8 + 0.27 * len(shown)))
    names = [name for name in PEERS if name in results.versions or name == suite.FLOOR]
    for place, row in enumerate(shown):
        found = {name: results.ratio(row, name, suite.STANDARD) for name in [suite.OURS, *names]}
        ratios = [ratio for ratio in found.values() if ratio] + [1.0]
        axes.plot([min(ratios), max(ratios)], [place, place], color="#E5E5E5", zorder=1)
        for name in names:
            if ratio := found[name]:
                marker, colour = PEERS[name]
                size = 110 if marker == "|" else 30
                axes.scatter(ratio, place, s=size, marker=marker, color=colour, zorder=2)
        if ours := found[suite.OURS]:
            axes.scatter(ours, place, s=75, marker="o", color=BLUE, zorder=3)
            axes.annotate(
                f"{ours:.2f}" if ours < 10 else f"{ours:.1f}",
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
    axes.scatter([], [], s=75, marker="o", color=BLUE, label=suite.OURS)
    for name in names:
        marker, colour = PEERS[name]
        axes.scatter([], [], s=30, marker=marker, color=colour, label=name)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.3, 1), ncols=8, frameon=False)
    axes.set_xlabel(
        "Times asyncio's standard loop, more is better; the figure is pyev's\n" + source(results),
        fontsize=8,
    )
    figure.tight_layout()
    return figure


def save(results: Results, folder: pathlib.Path) -> list[pathlib.Path]:
    figures = {}
    if results.rows:
        figures["libev"] = events_figure(results)
    if "" in results.operations:
        figures["operations"] = operations_figure(results)
    return write(figures, folder)


def save_asyncio(results: suite.Results, folder: pathlib.Path) -> list[pathlib.Path]:
    shown = any(results.best(row, suite.STANDARD) for row in results.rates)
    return write({"asyncio": asyncio_figure(results)} if shown else {}, folder)


def write(figures: dict[str, Figure], folder: pathlib.Path) -> list[pathlib.Path]:
    written = []
    for name, figure in figures.items():
        for ending in ("png", "svg"):
            path = folder / f"{name}.{ending}"
            metadata = {"Date": None} if ending == "svg" else {}
            figure.savefig(path, dpi=150, metadata=metadata)
            written.append(path)
        pyplot.close(figure)
    return written
