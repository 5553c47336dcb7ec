"""pyev's benchmarks: libev's own, one operation at a time, asyncio's table of rows, and how costs
grow with connections and timers.

Contenders are interleaved: in every round each runs once, in a fresh process pinned to one core,
and what counts is the best of all rounds. The median of the rounds tells how much the machine
wavered meanwhile.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import loops
import report
import rows
import suite
import suite_report
from launch import Core, Failed
from progress import progress
from report import CONTENDERS, ROWS, Results, Row
from rich.console import Console

HERE = pathlib.Path(__file__).parent
EVENTS = 5000  # in a run, at least: short runs, so that some of them nobody disturbs
RUNS = 12
QUICK_RUNS = 5
ROUNDS = {"asyncio": 5, "scale": 2}
PRIVATE = ("operations",)  # for those who change them: no page shows this picture
PUBLISHED = {
    ".svg": HERE.parent / "docs" / "assets",
    ".md": HERE / "published",
    ".json": HERE / "published",
}
SUITES = ("libev", "operations", "asyncio", "scale")


def parse_row(text: str) -> Row:
    pairs, _, active = text.partition(":")
    row = Row(int(pairs), int(active or 1))
    if not 0 < row.active <= row.pairs:
        raise argparse.ArgumentTypeError(f"{text}: not PAIRS:ACTIVE")
    return row


def some_of(what: str, known: "list[str] | tuple[str, ...]") -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(
                    f"no {what} {name!r}; there are {', '.join(known)}"
                )
        return chosen

    return parse


def parse_rows(text: str) -> list[str]:
    """Rows and families of rows, in the order of the table."""
    known = rows.load()
    chosen = set(some_of("row or family", [*rows.FAMILIES, *known])(text))
    return [name for name, row in known.items() if {name, row.family} & chosen]


def parse_arguments() -> argparse.Namespace:
    families: dict[str, list[str]] = {family: [] for family in rows.FAMILIES}
    for row in rows.load().values():
        families[row.family].append(row.name)
    listing = "\n".join(f"  {family}: {', '.join(names)}" for family, names in families.items())
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"Rows of the suites asyncio and scale, by family:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="few short rounds: is all in place?")
    add("--rounds", type=int, help="how often each contender runs (8, asyncio 5, scale 2)")
    add(
        "--suite",
        type=some_of("suite", SUITES),
        metavar="NAME,...",
        help=f"of {','.join(SUITES)}; by default those of --rows, or all",
    )
    add(
        "--rows",
        type=parse_rows,
        metavar="NAME,...",
        help="rows or families of asyncio and scale, listed below; all of them by default",
    )
    add(
        "--loops",
        type=some_of("loop", list(loops.LOOPS)),
        default=list(loops.LOOPS),
        metavar="NAME,...",
        help=f"of {','.join(loops.LOOPS)}; by default those that are installed",
    )
    add(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="what asyncio and scale count: cpu, processor time, is for a machine in use, "
        "and blind to waiting (wall)",
    )
    add(
        "--pairs",
        type=lambda text: [parse_row(one) for one in text.split(",")],
        default=list(ROWS),
        metavar="PAIRS:ACTIVE,...",
        help=f"rows of libev's benchmark ({','.join(f'{r.pairs}:{r.active}' for r in ROWS)})",
    )
    add(
        "--contenders",
        type=some_of("contender", list(CONTENDERS)),
        default=list(CONTENDERS),
        metavar="NAME,...",
        help=f"of libev's benchmark, of {','.join(CONTENDERS)}; all of them by default",
    )
    add(
        "--peer",
        metavar="NAME=FOLDER",
        action="append",
        default=[],
        help="another build of pyev, importable from FOLDER, measured beside this one",
    )
    add("--cpu", type=int, help="the core to measure on (the last one allowed)")
    add("--output", type=pathlib.Path, default=HERE / "results", help="folder (bench/results)")
    add("--no-plot", action="store_true", help="no matplotlib")
    add(
        "--publish",
        action="store_true",
        help="put pictures, tables and JSON files where README and documentation have them",
    )
    add(
        "--redraw",
        type=pathlib.Path,
        metavar="FOLDER",
        help="measure nothing: tables and pictures of the JSON files there",
    )
    arguments = parser.parse_args()
    if arguments.suite is None:
        chosen = [rows.load()[name].family in rows.SCALE for name in arguments.rows or ()]
        own = [name for name, wanted in (("asyncio", False), ("scale", True)) if wanted in chosen]
        arguments.suite = own or list(SUITES)
    if arguments.publish and (arguments.quick or arguments.rows):
        parser.error("--publish is for whole tables of figures that mean something")
    arguments.rows = arguments.rows or list(rows.load())
    if any("=" not in peer for peer in arguments.peer):
        parser.error("--peer needs NAME=FOLDER")
    return arguments


class Bench:
    """libev's benchmark and the operations."""

    def __init__(self, arguments: argparse.Namespace, core: Core, folder: str) -> None:
        quick = arguments.quick
        self.rounds = arguments.rounds or (2 if quick else 8)
        self.runs = QUICK_RUNS if quick else RUNS
        self.core = core
        self.floor = pathlib.Path(folder, "libev_bench")
        self.results = Results()

    def build(self) -> None:
        compiler = os.environ.get("CC", "cc")
        source = HERE / "libev_bench.c"
        command = [compiler, "-O2", "-o", str(self.floor), str(source), "-lev"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stderr}\nlibev's headers: apt install libev-dev")

    def pass_tokens(self, name: str, row: Row) -> list[float]:
        """One contender's nanoseconds per event, run by run."""
        base = name.partition("@")[0]
        events = max(EVENTS, 2 * row.pairs)
        sizes = [str(row.pairs), str(row.active), str(events), str(self.runs)]
        match base:
            case "c" | "c-plain":
                command = [str(self.floor), *sizes, str(int(base == "c"))]
            case "perl":
                command = ["perl", str(HERE / "libev_bench.pl"), *sizes]
            case _:
                command = [sys.executable, str(HERE / "pairs.py"), base, *sizes]
        found: list[float] = json.loads(self.core.output(command, name))
        return found

    def operate(self, peer: str) -> dict[str, list[float]]:
        command = [sys.executable, str(HERE / "operations.py"), "--samples", str(self.runs)]
        found: dict[str, list[float]] = json.loads(self.core.output(command, f"pyev@{peer}"))
        return found

    def run(self, rows: list[Row], contenders: list[str], with_operations: bool) -> None:
        contenders = contenders + [f"pyev@{peer}" for peer in self.core.folders if rows]
        peers = ["", *self.core.folders] if with_operations else []
        total = self.rounds * (len(rows) * len(contenders) + len(peers))
        with progress() as bar:
            task = bar.add_task("", total=total)
            for turn in range(self.rounds):
                # Another one goes first each time.
                order = contenders[turn % len(contenders) :] + contenders[: turn % len(contenders)]
                for row in rows:
                    for name in order:
                        bar.update(task, description=f"{name}, {row}")
                        if name not in self.results.missing:
                            try:
                                self.results.add(row, name, self.pass_tokens(name, row))
                            except Failed as error:
                                self.results.missing[name] = str(error)
                        bar.advance(task)
                for peer in peers:
                    bar.update(task, description=f"operations {peer}")
                    try:
                        self.results.add_operations(peer, self.operate(peer))
                    except Failed as error:
                        self.results.missing[f"operations {peer}".strip()] = str(error)
                    bar.advance(task)


def raise_limit(rows: list[Row]) -> None:
    """Room for two descriptors a pair."""
    needed = 2 * max(row.pairs for row in rows) + 64
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        sys.exit(f"{needed} file descriptors are needed, {hard} allowed: choose smaller --pairs")
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def processor() -> str:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def congestion_control() -> str:
    """The kernel's for new connections. What is sent between two ends of one machine passes it too,
    and bbr makes some processes wait where cubic never does."""
    file = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control")
    return f", TCP {file.read_text().strip()}" if file.exists() else ""


def describe(core: Core) -> dict[str, str]:
    facts = "import pyev; print(pyev.__version__, '%d.%d' % pyev.abi_version())"
    try:
        ours, libev = core.output([sys.executable, "-c", facts]).split()
    except Failed as error:
        sys.exit(f"pyev: {error}")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "pyev": ours,
        "libev": libev,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": f"{platform.system()} {platform.release()}{congestion_control()}",
        "processor": processor(),
    }


def run_engine(
    arguments: argparse.Namespace, core: Core, machine: dict[str, str], folder: str
) -> Results:
    rows = arguments.pairs if "libev" in arguments.suite else []
    if rows:
        raise_limit(rows)
    bench = Bench(arguments, core, folder)
    bench.results.machine = machine
    if rows and {"c", "c-plain"} & set(arguments.contenders):
        bench.build()
    bench.run(rows, arguments.contenders, "operations" in arguments.suite)
    return bench.results


def run_rows(
    name: str, arguments: argparse.Namespace, core: Core, machine: dict[str, str], folder: str
) -> suite.Results:
    """The suite asyncio or scale."""
    known = rows.load()
    chosen = [
        row for row in arguments.rows if (known[row].family in rows.SCALE) == (name == "scale")
    ]
    measured = suite.Suite(core, chosen, arguments.loops, arguments.quick, arguments.clock)
    measured.results.machine = machine
    measured.prepare(pathlib.Path(folder))
    rounds = arguments.rounds or (1 if arguments.quick else ROUNDS[name])
    with progress() as bar:
        task = bar.add_task("", total=rounds * measured.steps())

        def tell(what: str) -> None:
            bar.update(task, description=what, advance=1)
            measured.results.save(arguments.output / f"{name}.json")  # for a run that is killed

        try:
            for turn in range(rounds):
                measured.round(turn, tell)
        except KeyboardInterrupt:
            pass  # what there is by then is shown
    return measured.results


class Output:
    """Shows and keeps what was found: tables, JSON files, pictures."""

    def __init__(self, arguments: argparse.Namespace, console: Console) -> None:
        self.folder: pathlib.Path = arguments.output
        self.plots = not arguments.no_plot
        self.publishing = arguments.publish
        self.console = console
        self.written: list[pathlib.Path] = []

    def engine(self, results: Results) -> None:
        report.show(results, self.console)
        self.written.append(results.save(self.folder / "libev.json"))
        if results.rows:
            text = self.folder / "libev.md"
            text.write_text(report.markdown(results))
            self.written.append(text)
        if self.plots:
            import engine_plot

            self.draw(engine_plot.figures(results))

    def rows(self, name: str, results: suite.Results) -> None:
        suite_report.show(results, self.console)
        self.written += suite_report.save(results, self.folder, name)
        if self.plots:
            import scale_plot
            import suite_plot

            self.draw((scale_plot if name == "scale" else suite_plot).figures(results))

    def draw(self, figures: dict[str, Any]) -> None:
        import plot

        self.written += plot.write(figures, self.folder)

    def publish(self) -> None:
        for path in list(self.written):
            folder = PUBLISHED.get(path.suffix)
            if folder and path.stem not in PRIVATE:
                folder.mkdir(exist_ok=True)
                self.written.append(pathlib.Path(shutil.copy(path, folder)))

    def close(self) -> None:
        if self.publishing:
            self.publish()
        paths = (os.path.relpath(path) for path in self.written)
        self.console.print("Written:", *paths, sep="\n  ")


def redraw(folder: pathlib.Path, chosen: list[str], output: Output) -> None:
    for name in dict.fromkeys("libev" if name == "operations" else name for name in chosen):
        path = folder / f"{name}.json"
        if not path.exists():
            output.console.print(f"[yellow]{path} is not there")
        elif name == "libev":
            output.engine(Results.load(path))
        else:
            output.rows(name, suite.Results.load(path))


def measure(arguments: argparse.Namespace, output: Output) -> None:
    core = Core(arguments.cpu, dict(peer.split("=", 1) for peer in arguments.peer))
    machine = describe(core)
    busy = os.getloadavg()[0]
    if busy > 0.5 * len(os.sched_getaffinity(0)):
        output.console.print(f"[yellow]The machine is busy (load {busy:.1f}): expect noise.")
    with tempfile.TemporaryDirectory() as folder:
        if {"libev", "operations"} & set(arguments.suite):
            results = run_engine(arguments, core, dict(machine), folder)
            results.machine["others"] = f"{core.disturbed():.0%}"
            output.engine(results)
        for name in ("asyncio", "scale"):
            if name in arguments.suite:
                core.elapsed = core.taken = 0.0
                found = run_rows(name, arguments, core, dict(machine), folder)
                found.machine["others"] = f"{core.disturbed():.0%}"
                output.rows(name, found)


def main() -> None:
    arguments = parse_arguments()
    console = Console()
    if not console.is_terminal:
        console = Console(width=220)  # a log has no edge to wrap at
    arguments.output.mkdir(parents=True, exist_ok=True)
    output = Output(arguments, console)
    if arguments.redraw:
        redraw(arguments.redraw, arguments.suite, output)
    else:
        measure(arguments, output)
    output.close()


if __name__ == "__main__":
    main()
