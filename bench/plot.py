"""How the benchmarks' pictures look. Each is saved as SVG, for light and dark, and as PNG.

Colours: Okabe and Ito's, told apart by everyone.
"""

import pathlib
import re

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot
from matplotlib.figure import Figure

BLUE, SKY, GREY, ORANGE = "#0072B2", "#56B4E9", "#B5B5B5", "#E69F00"
INK, QUIET, GRID, PAPER = "#222222", "#767676", "#E5E5E5", "#FFFFFF"
WHITE, BLACK = "#FEFEFE", "#111111"  # on what stays as it is in the dark

# What stands on the paper, when that is dark; written in lower case, as matplotlib writes colours.
DARK = {
    INK: "#E6EDF3",
    QUIET: "#9AA4AF",
    GRID: "#30363D",
    GREY: "#6E7681",
    PAPER: "#0D1117",
    BLUE: "#3A9BDC",
}

pyplot.rcParams.update(
    {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.edgecolor": QUIET,
        "axes.labelcolor": QUIET,
        "axes.facecolor": "none",
        "figure.facecolor": PAPER,
        "text.color": INK,
        "xtick.color": QUIET,
        "xtick.labelcolor": QUIET,
        "ytick.color": QUIET,
        "ytick.labelcolor": INK,
        "svg.hashsalt": "pyev",
        "svg.fonttype": "none",
    }
)


def source(machine: dict[str, str]) -> str:
    """What was measured, and where: below each picture."""
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


def both_ways(svg: str) -> str:
    """Adds what readers in the dark see: the picture keeps its own paper, so that it can be read
    wherever the page and the system disagree.

    matplotlib writes every colour into a style attribute, so a rule for each is enough.
    """
    rules = []
    for light, dark in DARK.items():
        for what in ("fill", "stroke"):
            rules.append(f'[style*="{what}: {light.lower()}"] {{{what}: {dark} !important}}')
    dark = f"@media (prefers-color-scheme: dark) {{{' '.join(rules)}}}"
    svg = re.sub(r" <metadata>.*?</metadata>\n", "", svg, count=1, flags=re.DOTALL)
    return svg.replace("</style>", f"\n{dark}</style>", 1)


def write(figures: dict[str, Figure], folder: pathlib.Path) -> list[pathlib.Path]:
    written = []
    for name, figure in figures.items():
        picture = folder / f"{name}.svg"
        figure.savefig(picture, metadata={"Date": None})
        picture.write_text(both_ways(picture.read_text()))
        figure.savefig(folder / f"{name}.png", dpi=150)
        written += [picture, folder / f"{name}.png"]
        pyplot.close(figure)
    return written
