"""Machine instructions per operation, counted by callgrind and compared with a record.

Instructions do not depend on what else the machine is doing, so a change of one in a hundred shows.
Four figures of each row are compared:

    ours         instructions in pyev and libev
    calls        calls from there into the interpreter and other libraries, whatever those take
    system       system calls, but for reading the clock, which is none outside valgrind
    interpreter  instructions in CPython; only with the very build of it that the record is of

The first three are the same for every build of a version of Python, so a record is of pyev's
compiler and that version. Other libraries choose their code by the processor: not compared.

    python bench/instructions.py                         every row; exit 1 if one is worse
    python bench/instructions.py call_soon --functions 12    and where its instructions go
    python bench/instructions.py --record                to be compared with from now on
"""

import argparse
import collections
import json
import os
import pathlib
import re
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import callgrind
import operations
import rows
import suite
from callgrind import Costs, Function
from launch import Failed
from progress import progress

HERE = pathlib.Path(__file__).parent
RECORD = HERE / "instructions.json"
SLACK = 0.01  # of an instruction or call: what happens in one operation of a hundred
PART = 0.005  # of a row's figure: functions with less are neither recorded nor named
NAMED = 6  # functions that are said to have changed
CALL = 10  # instructions that a call is worth, when functions are ordered by how they have changed
WRITE = "make instructions ARGS=--record"
CLOCKS = ("clock_gettime", "gettimeofday", "time")


class Figure(NamedTuple):
    decimals: int
    tolerance: float


# Two runs differ by less than 0.05 %, even with five times the load a machine is for; two builds of
# a version of the interpreter (3.11.2, 3.11.7) by as little in the first three. The rest is for the
# compiler's patches. What the interpreter does depends a little on where things are: by up to 0.9 %
# when pyev was in another folder, and by 2 % in new_loop.
FIGURES = {
    "ours": Figure(1, 0.005),
    "calls": Figure(2, 0.005),
    "system": Figure(2, 0.005),
    "interpreter": Figure(0, 0.05),
}
# How many turns give some ten million instructions. Left out are rows that time, threads or other
# processes have a part in, and those that are mostly of other libraries.
TURNS = {
    "call_soon": 5,
    "call_soon_arguments": 5,
    "call_soon_chain": 2000,
    "call_soon_threadsafe": 5,
    "call_later_cancel": 5,
    "timers_fire": 1,
    "sleep_0": 1000,
    "gather": 20,
    "future": 1000,
    "queue": 1000,
    "timeout": 300,
    "new_loop": 50,
    "getaddrinfo": 1000,
    "reader_token": 1000,
    "reader_ready": 50,
    "reader_add_remove": 30,
    "sock_ping_pong": 300,
    "tcp_echo_64": 100,
    "tcp_echo_16k": 100,
    "tcp_echo_buffered": 50,
    "unix_echo_64": 100,
    "many_writes": 100,
    "connect_abort": 100,
    "streams_echo": 50,
    "streams_readline": 5,
    "tls_echo_64": 50,
    "udp_echo": 100,
    "udp_bursts": 50,
}
OPERATIONS = [name for name in operations.BY_NAME if name != "unit"]
NAMES = [*OPERATIONS, *TURNS]

Record = dict[str, Any]


# --- what is counted -----------------------------------------------------------------------------


def is_pyev(function: Function) -> bool:
    path = pathlib.PurePath(function.file)
    return path.name.startswith("_core.") and path.parent.name == "pyev"


def is_libev(function: Function) -> bool:
    return pathlib.PurePath(function.file).name.startswith("libev.")


def is_ours(function: Function) -> bool:
    return is_pyev(function) or is_libev(function)


def is_interpreter(function: Function) -> bool:
    path = pathlib.PurePath(function.file)
    return path.name.startswith(("python3", "libpython3")) or path.parent.name == "lib-dynload"


def short_name(function: Function) -> str:
    """As it is called here; libev's have names only where it has symbols, so they are one."""
    if not is_pyev(function):
        return "libev" if is_libev(function) else function.name.partition("@")[0]
    name, before = re.sub(r" \[clone .*?\]", "", function.name), ""
    while name != before:
        name, before = re.sub(r"\([^()]*\)", "", name), name
    return name.replace("pyev::", "").removesuffix(" const").removesuffix("::_FUN")


@dataclass
class Part:
    """What a function has in an operation: its own instructions, and its calls to others' code."""

    instructions: float = 0.0
    callees: dict[str, float] = field(default_factory=collections.Counter)

    @property
    def calls(self) -> float:
        return sum(self.callees.values())


class Row(NamedTuple):
    """An operation's figures, and what they are made of."""

    figures: dict[str, float]
    system: dict[str, float]  # calls by name
    functions: dict[str, Part]  # of ours


def row_of(costs: Costs) -> Row:
    functions: dict[str, Part] = collections.defaultdict(Part)
    interpreter = 0.0
    for function, count in costs.instructions.items():
        if is_ours(function):
            functions[short_name(function)].instructions += count
        elif is_interpreter(function):
            interpreter += count
    for (caller, callee), count in costs.calls.items():
        if is_ours(caller) and not is_ours(callee):
            functions[short_name(caller)].callees[short_name(callee)] += count
    system: dict[str, float] = collections.Counter()
    for function, count in costs.system.items():
        name = short_name(function)
        if not any(clock in name for clock in CLOCKS):
            system[name] += count
    sums = (
        sum(part.instructions for part in functions.values()),
        sum(part.calls for part in functions.values()),
        sum(system.values()),
        interpreter,
    )
    # The shorter part may have one more of what happens now and then.
    figures = {name: max(0.0, value) for name, value in zip(FIGURES, sums, strict=True)}
    return Row(figures, dict(system), dict(functions))


def command(name: str, folder: pathlib.Path) -> tuple[list[str], int, float]:
    """What takes the turns, how many of them, and of how many operations each."""
    if operation := operations.BY_NAME.get(name):
        turns = max(32, 2000 // operation.batch)
        worker = [str(HERE / "operations.py"), "--once", name, str(turns)]
        return [sys.executable, *worker], turns, operation.batch
    turns = TURNS[name]
    worker = [str(HERE / "row.py"), suite.OURS, name, "--once", str(turns)]
    return [sys.executable, *worker, "--folder", str(folder)], turns, rows.load()[name].batch


def count(name: str, folder: pathlib.Path, marks: pathlib.Path) -> Costs:
    work, turns, batch = command(name, folder)
    try:
        return callgrind.count(work, turns, batch, marks)
    except Failed as error:
        raise Failed(f"{name}: {error}") from error


def count_all(names: list[str]) -> Iterator[tuple[str, Costs]]:
    """As many at once as there are cores; in order."""
    with tempfile.TemporaryDirectory() as where, progress() as bar:
        folder = pathlib.Path(where)
        suite.make_certificate(folder)
        marks = callgrind.compile_marks(folder)
        task = bar.add_task("callgrind", total=len(names))
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            found = [pool.submit(count, name, folder, marks) for name in names]
            try:
                for name, future in zip(names, found, strict=True):
                    bar.update(task, description=name)
                    yield name, future.result()
                    bar.advance(task)
            finally:
                pool.shutdown(cancel_futures=True)


# --- the record ----------------------------------------------------------------------------------


def build() -> str:
    """What the instructions depend on: the interpreter's headers, and the compiler."""
    import pyev._core

    binary = pathlib.Path(pyev._core.__file__).read_bytes()
    if b"\0.symtab\0" not in binary:
        raise Failed(f"{pyev._core.__file__} has no symbols: make instructions builds one that has")
    for name, pattern in (("clang", rb"clang version (\d+)"), ("gcc", rb"GCC: \([^)]*\) (\d+)")):
        if match := re.search(pattern, binary):
            return f"{sysconfig.get_config_var('SOABI')}, {name} {match[1].decode()}"
    raise Failed(f"{pyev._core.__file__} does not say what compiled it")


def interpreter() -> str:
    return " ".join(sys.version.split())


def rounded(value: float) -> float:
    return max(0.0, float(f"{value:.4g}"))


def large(row: Row) -> dict[str, Part]:
    """The functions that have a part of the row worth naming."""
    ours, calls = PART * row.figures["ours"], PART * row.figures["calls"]
    found = sorted(row.functions.items())
    return {name: part for name, part in found if part.instructions > ours or part.calls > calls}


def entry(row: Row) -> Record:
    """What is recorded of a row."""
    functions = {
        name: [rounded(part.instructions), rounded(part.calls)] for name, part in large(row).items()
    }
    system = {name: rounded(value) for name, value in sorted(row.system.items()) if value >= SLACK}
    figures = {name: rounded(value) for name, value in row.figures.items()}
    return {"figures": figures, "system": system, "functions": functions}


def updated(record: Record, found: Mapping[str, Row], whole: bool) -> Record:
    """The record of a build with these rows in it, and no others if that is all of them."""
    kept: dict[str, Any] = {} if whole else dict(record.get("rows", {}))
    if record.get("interpreter") != interpreter():
        for one in kept.values():
            one["figures"].pop("interpreter", None)  # another's
    kept |= {name: entry(row) for name, row in found.items()}
    return {"interpreter": interpreter(), "rows": dict(sorted(kept.items()))}


def layout(value: Any, indent: str = "") -> str:
    """JSON in which a row's figures are a line, and so is each of its functions."""
    if not isinstance(value, dict) or not any(isinstance(v, dict | list) for v in value.values()):
        return json.dumps(value)
    inner = indent + " "
    lines = [f"{inner}{json.dumps(key)}: {layout(one, inner)}" for key, one in value.items()]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


# --- now and then --------------------------------------------------------------------------------


def beyond(now: float, then: float, figure: str = "ours") -> int:
    """-1 if there is less than recorded, 1 if there is more, 0 if neither."""
    allowed = FIGURES[figure].tolerance * then + SLACK
    return (now > then + allowed) - (now < then - allowed)


def change(now: float, then: float) -> str:
    if abs(now - then) < 0.0005 * then + SLACK / 2:
        return "="
    return f"{100 * (now / then - 1):+.1f}%" if then else "new"


def compare(row: Row, then: Record, same: bool) -> dict[str, int]:
    """The figures that are beyond the tolerance. The interpreter's are, in the same one."""
    recorded: dict[str, float] = then["figures"]
    found = {
        name: beyond(row.figures[name], value, name)
        for name, value in recorded.items()
        if same or name != "interpreter"
    }
    return {name: sign for name, sign in found.items() if sign}


def reasons(row: Row, then: Record, sign: int) -> Iterator[str]:
    """The functions and system calls that have changed most in that direction."""
    changes = []
    for name in {*large(row), *then["functions"]}:
        part = row.functions.get(name, Part())
        instructions, calls = then["functions"].get(name, (0.0, 0.0))
        more, called = part.instructions - instructions, part.calls - calls
        size = sign * (more + CALL * called)
        if size > PART * row.figures["ours"]:
            text = f"{more:+8.1f} {name}: {instructions:g} before, {part.instructions:.4g} now"
            if beyond(part.calls, calls) == sign:
                callees = (f"{name} {count:.4g}" for name, count in part.callees.items())
                text += f"; calls out {calls:g} before, now {', '.join(callees) or 'none'}"
            changes.append((size, text))
    yield from (text for _, text in sorted(changes, reverse=True)[:NAMED])
    for name in sorted({*row.system, *then["system"]}):
        now, before = row.system.get(name, 0.0), then["system"].get(name, 0.0)
        if beyond(now, before) == sign:
            yield f"{now - before:+8.4g} {name}, a system call: {before:g} before, {now:.4g} now"


class Check:
    """Says row by row how it compares, and at the end what that means."""

    def __init__(self, record: Record | None, write: Callable[[str], None]) -> None:
        self.record = record or {"interpreter": "", "rows": {}}
        self.same = self.record["interpreter"] == interpreter()
        self.write = write
        self.unknown: list[str] = []
        self.beyond: dict[int, list[str]] = {1: [], -1: []}

    def head(self) -> None:
        self.write(f"{'':<19}" + "".join(f"{name:>9}{'':<7}" for name in FIGURES).rstrip())

    def row(self, name: str, row: Row) -> None:
        then = self.record["rows"].get(name)
        recorded = then["figures"] if then else {}
        text = f"{name:<19}"
        for figure, (decimals, _) in FIGURES.items():
            now = row.figures[figure]
            known = figure in recorded and (self.same or figure != "interpreter")
            text += f"{now:9.{decimals}f}{change(now, recorded[figure]) if known else '':>7}"
        self.write(text.rstrip())
        if then is None:
            self.unknown.append(name)
            return
        changed = compare(row, then, self.same)
        for sign in set(changed.values()):
            figures = [figure for figure, found in changed.items() if found == sign]
            what = {1: "worse", -1: "better"}[sign]
            said = [
                f"{name} is {what}: "
                + ", ".join(
                    f"{figure} {recorded[figure]:g} before, {row.figures[figure]:.4g} now"
                    for figure in figures
                )
            ]
            said += [f"    {reason}" for reason in reasons(row, then, sign)]
            self.beyond[sign].append("\n".join(said))

    def end(self) -> int:
        """The exit status: 1 for a row that is worse, 2 for one that nothing is known of."""
        worse, better = self.beyond[1], self.beyond[-1]
        for text in better + worse:
            self.write(text)
        if not self.same and self.record["rows"]:
            self.write(
                "The interpreter's figures are of another build than the record's: not compared"
            )
        if self.unknown:
            self.write(f"NO RECORD for this build of {', '.join(self.unknown)}: {WRITE}")
        if better:
            self.write(f"{len(better)} better than recorded. That they stay so: {WRITE}")
        if worse:
            self.write(
                f"{len(worse)} WORSE than recorded. If it is the price of something: {WRITE}"
            )
        if not (worse or better or self.unknown):
            self.write("As recorded")
        return 1 if worse else 2 if self.unknown else 0


def show_functions(costs: Costs, many: int) -> Iterator[str]:
    costliest = sorted(costs.instructions.items(), key=lambda item: -item[1])
    for function, cost in costliest[:many]:
        yield f"{cost:21.1f}  {short_name(function)}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"Rows: {', '.join(NAMES)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="ROW", help="of those below; all by default")
    parser.add_argument("--record", action="store_true", help="write the record anew")
    parser.add_argument("--functions", type=int, default=0, help="also the N costliest functions")
    parser.add_argument("--file", type=pathlib.Path, default=RECORD, help="another record")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in NAMES:
            parser.error(f"no row {name!r}; there are {', '.join(NAMES)}")
    names = [name for name in NAMES if name in arguments.names] or NAMES
    records: Record = json.loads(arguments.file.read_text()) if arguments.file.exists() else {}
    try:
        key = build()
        check = Check(records.get(key), print)
        print(f"Instructions per operation; {key}")
        check.head()
        found = {}
        for name, costs in count_all(names):
            found[name] = row_of(costs)
            check.row(name, found[name])
            for line in show_functions(costs, arguments.functions):
                print(line)
    except Failed as error:
        sys.exit(str(error))
    if not arguments.record:
        return check.end()
    records[key] = updated(records.get(key, {}), found, whole=names == NAMES)
    arguments.file.write_text(layout(dict(sorted(records.items()))) + "\n")
    print(f"Recorded in {arguments.file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
