"""libev's benchmark and the operations, as pictures."""

import operations
from matplotlib import pyplot
from matplotlib.figure import Figure
from plot import BLACK, BLUE, GREY, GRID, INK, ORANGE, SKY, WHITE, source
from report import Results, label

COLOURS = {"pyev": BLUE, "pyev-plain": SKY, "loop-pyev": SKY, "c": GREY, "c-plain": GREY}


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
                color=WHITE if name == "pyev" else BLACK,
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
        f"Bar: best process; line: up to the median one; dotted: pyev. {source(results.machine)}",
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
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    axes.set_yticks(range(len(shown)), [operation.what for operation in shown])
    axes.invert_yaxis()
    axes.tick_params(left=False)
    axes.spines["left"].set_visible(False)
    axes.scatter([], [], s=70, marker="o", color=BLUE, label="pyev")
    axes.scatter([], [], s=55, marker="D", color=ORANGE, label="pyev 0.9.0, where it was measured")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    axes.set_xlabel(
        "Times an empty Python callback called from a loop; less is better\n"
        + source(results.machine),
        fontsize=8,
    )
    figure.tight_layout()
    return figure


def figures(results: Results) -> dict[str, Figure]:
    found = {}
    if results.rows:
        found["libev"] = events_figure(results)
    if "" in results.operations:
        found["operations"] = operations_figure(results)
    return found
