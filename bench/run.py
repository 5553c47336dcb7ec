"""pyev's benchmarks: libev's own, and one operation at a time.

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
import subprocess
import sys
import tempfile

import report
from report import CONTENDERS, ROWS, Results, Row
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

HERE = pathlib.Path(__file__).parent
EVENTS = 5000  # in a run, at least: short runs, so that some of them nobody disturbs
RUNS = 12
QUICK_RUNS = 5


def parse_row(text: str) -> Row:
    pairs, _, active = text.partition(":")
    row = Row(int(pairs), int(active or 1))
    if not 0 < row.active <= row.pairs:
        raise argparse.ArgumentTypeError(f"{text}: not PAIRS:ACTIVE")
    return row


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="two short rounds: is all in place?")
    add("--rounds", type=int, help="how often each contender runs (8; quick: 2)")
    add(
        "--pairs",
        type=lambda text: [parse_row(one) for one in text.split(",")],
        default=list(ROWS),
        metavar="PAIRS:ACTIVE,...",
        help=f"rows of libev's benchmark ({','.join(f'{r.pairs}:{r.active}' for r in ROWS)})",
    )
    add(
        "--contenders",
        type=lambda text: text.split(","),
        default=list(CONTENDERS),
        metavar="NAME,...",
        help=f"of {','.join(CONTENDERS)}; all of them by default",
    )
    add("--only", choices=["libev", "operations"], help="one of the two benchmarks")
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
    arguments = parser.parse_args()
    for name in arguments.contenders:
        if name not in CONTENDERS:
            parser.error(f"no contender {name!r}; there are {', '.join(CONTENDERS)}")
    if any("=" not in peer for peer in arguments.peer):
        parser.error("--peer needs NAME=FOLDER")
    return arguments


class Failed(Exception):
    """A contender that cannot run here; the message is the last line it said."""


class Bench:
    def __init__(self, arguments: argparse.Namespace, folder: str) -> None:
        quick = arguments.quick
        self.rounds = arguments.rounds or (2 if quick else 8)
        self.runs = QUICK_RUNS if quick else RUNS
        self.cpu = max(os.sched_getaffinity(0)) if arguments.cpu is None else arguments.cpu
        self.floor = pathlib.Path(folder, "libev_bench")
        self.folders = dict(peer.split("=", 1) for peer in arguments.peer)
        self.results = Results()

    def build(self) -> None:
        compiler = os.environ.get("CC", "cc")
        source = HERE / "libev_bench.c"
        command = [compiler, "-O2", "-o", str(self.floor), str(source), "-lev"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stderr}\nlibev's headers: apt install libev-dev")

    def output(self, command: list[str], folder: str | None = None) -> str:
        """What a program prints, run on the measuring core with libev's defaults."""
        environment = {key: value for key, value in os.environ.items() if key != "LIBEV_FLAGS"}
        if folder:
            environment["PYTHONPATH"] = folder
        elsewhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self.cpu})  # inherited: the contender never runs anywhere else
        try:
            process = subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        except FileNotFoundError as error:
            raise Failed(str(error)) from error
        finally:
            os.sched_setaffinity(0, elsewhere)
        output, errors = process.communicate()
        if process.returncode:
            raise Failed((errors.strip().splitlines() or [f"exit {process.returncode}"])[-1])
        return output

    def pass_tokens(self, name: str, row: Row) -> list[float]:
        """One contender's nanoseconds per event, run by run."""
        base = name.partition("@")[0]
        peer = name.partition("@")[2]
        events = max(EVENTS, 2 * row.pairs)
        sizes = [str(row.pairs), str(row.active), str(events), str(self.runs)]
        match base:
            case "c" | "c-plain":
                command = [str(self.floor), *sizes, str(int(base == "c"))]
            case "perl":
                command = ["perl", str(HERE / "libev_bench.pl"), *sizes]
            case _:
                command = [sys.executable, str(HERE / "pairs.py"), base, *sizes]
        found: list[float] = json.loads(self.output(command, self.folders.get(peer)))
        return found

    def operate(self, peer: str) -> dict[str, list[float]]:
        command = [sys.executable, str(HERE / "operations.py"), "--samples", str(self.runs)]
        found: dict[str, list[float]] = json.loads(self.output(command, self.folders.get(peer)))
        return found

    def run(self, rows: list[Row], contenders: list[str], with_operations: bool) -> None:
        contenders = contenders + [f"pyev@{peer}" for peer in self.folders if rows]
        peers = ["", *self.folders] if with_operations else []
        total = self.rounds * (len(rows) * len(contenders) + len(peers))
        columns = (
            TextColumn("{task.description:<32}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, transient=True) as progress:
            task = progress.add_task("", total=total)
            for turn in range(self.rounds):
                # Another one goes first each time.
                order = contenders[turn % len(contenders) :] + contenders[: turn % len(contenders)]
                for row in rows:
                    for name in order:
                        progress.update(task, description=f"{name}, {row}")
                        if name not in self.results.missing:
                            try:
                                self.results.add(row, name, self.pass_tokens(name, row))
                            except Failed as error:
                                self.results.missing[name] = str(error)
                        progress.advance(task)
                for peer in peers:
                    progress.update(task, description=f"operations {peer}")
                    try:
                        self.results.add_operations(peer, self.operate(peer))
                    except Failed as error:
                        self.results.missing[f"operations {peer}".strip()] = str(error)
                    progress.advance(task)


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


def describe(bench: Bench) -> dict[str, str]:
    facts = "import pyev; print(pyev.__version__, '%d.%d' % pyev.abi_version())"
    try:
        ours, libev = bench.output([sys.executable, "-c", facts]).split()
    except Failed as error:
        sys.exit(f"pyev: {error}")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "pyev": ours,
        "libev": libev,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": f"{platform.system()} {platform.release()}",
        "processor": processor(),
    }


def main() -> None:
    arguments = parse_arguments()
    console = Console()
    if not console.is_terminal:
        console = Console(width=170)  # a log has no edge to wrap at
    rows = [] if arguments.only == "operations" else arguments.pairs
    if rows:
        raise_limit(rows)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments, folder)
        bench.results.machine = describe(bench)
        if rows and {"c", "c-plain"} & set(arguments.contenders):
            bench.build()
        busy = os.getloadavg()[0]
        if busy > 0.5 * len(os.sched_getaffinity(0)):
            console.print(f"[yellow]The machine is busy (load {busy:.1f}): expect noise.")
        bench.run(rows, arguments.contenders, arguments.only != "libev")
    results = bench.results
    report.show(results, console)
    arguments.output.mkdir(parents=True, exist_ok=True)
    written = [results.save(arguments.output / "results.json")]
    if not arguments.no_plot:
        import plot

        written += plot.save(results, arguments.output)
    console.print("Written:", *(os.path.relpath(path) for path in written), sep="\n  ")


if __name__ == "__main__":
    main()
