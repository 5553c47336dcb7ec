"""What callgrind counts of a piece of work: instructions, calls and system calls, by function."""

import collections
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from launch import Failed
from marks import MANY

HERE = pathlib.Path(__file__).parent
LIMIT = 300.0  # seconds for a process; the longest row takes 15 on a busy machine
SHORT, LONG = 2, 3  # the parts of marks.py, among those that callgrind writes
NAME = re.compile(r"\((\d+)\)(?: (.*))?")


class Function(NamedTuple):
    file: str  # the program or shared object that it is in
    name: str


class Call(NamedTuple):
    caller: Function
    callee: Function


@dataclass
class Costs:
    """By function, of its own code: as callgrind counts, or in an operation."""

    instructions: Mapping[Function, float] = field(default_factory=collections.Counter)
    calls: Mapping[Call, float] = field(default_factory=collections.Counter)
    system: Mapping[Function, float] = field(default_factory=collections.Counter)


def parse(profile: str) -> Costs:
    """A profile in callgrind's format.

    It says a name once, and its number from then on. A line of costs is a position, and a number
    for each event but for zeros at the end; the one after `calls=` is what the callees cost, which
    is counted there already. Callees are in the caller's file unless another is named.
    """
    instructions: dict[Function, float] = collections.Counter()
    calls: dict[Call, float] = collections.Counter()
    system: dict[Function, float] = collections.Counter()
    names: dict[tuple[str, str], str] = {}
    file = function = callee_file = callee = ""
    events: list[str] = []
    skip = False

    def named(kind: str, value: str) -> str:
        match = NAME.match(value)
        if match is None:
            return value
        if match[2] is not None:
            names[kind, match[1]] = match[2]
        return names[kind, match[1]].partition("'")[0]  # "f'2": f within f

    for line in profile.splitlines():
        key, _, value = line.partition("=")
        if line[:1].isdigit() or line[:1] in ("+", "-", "*"):
            if not skip:
                spent = dict(zip(events, map(int, line.split()[1:]), strict=False))
                instructions[Function(file, function)] += spent.get("Ir", 0)
                system[Function(file, function)] += spent.get("sysCount", 0)
            skip = False
        elif line.startswith("events:"):
            events = line.split()[1:]
        elif key == "ob":
            file = callee_file = named("file", value)
        elif key == "fn":
            function, callee_file = named("function", value), file
        elif key == "cob":
            callee_file = named("file", value)
        elif key == "cfn":
            callee = named("function", value)
        elif key == "calls":
            call = Call(Function(file, function), Function(callee_file, callee))
            calls[call] += int(value.split()[0])
            callee_file = file
            skip = True
    return Costs(instructions, calls, system)


def between(short: Costs, long: Costs, operations: float) -> Costs:
    """What an operation costs when the long part had so many more of them than the short one."""

    def share(few: Mapping[Any, float], many: Mapping[Any, float]) -> dict[Any, float]:
        more = {key: many.get(key, 0) - few.get(key, 0) for key in {**few, **many}}
        return {key: count / operations for key, count in more.items() if count}

    return Costs(
        share(short.instructions, long.instructions),
        share(short.calls, long.calls),
        share(short.system, long.system),
    )


def compile_marks(folder: pathlib.Path) -> pathlib.Path:
    library = folder / "marks.so"
    source = str(HERE / "marks.c")
    command = [os.environ.get("CC", "cc"), "-O2", "-shared", "-fPIC", "-o", str(library), source]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise Failed(str(error)) from error
    if done.returncode or not shutil.which("valgrind"):
        raise Failed(f"valgrind, or its headers, are missing (apt install valgrind)\n{done.stderr}")
    return library


def environment() -> dict[str, str]:
    """What a program counts on is the same whoever starts it."""
    free = ("PYTHON", "PYEV_", "LIBEV_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(free)}
    kept |= {key: os.environ[key] for key in ("PYTHONPATH", "PYTHONHOME") if key in os.environ}
    return kept | {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


def count(command: list[str], turns: int, batch: float, marks: pathlib.Path) -> Costs:
    """What an operation costs in a fresh process, which takes turns of `batch` of them."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder, "profile")
        options = ["--instr-atstart=no", "--collect-systime=yes", "--compress-pos=no"]
        valgrind = ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}"]
        try:
            done = subprocess.run(
                [*valgrind, *options, *command, "--marks", str(marks)],
                env=environment() | {"LD_PRELOAD": str(marks)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=LIMIT,
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"not done in {LIMIT:g} s") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [""])[-1]
            raise Failed(f"exit {done.returncode}: {last}")
        short, long = (parse(out.with_suffix(f".{part}").read_text()) for part in (SHORT, LONG))
    return between(short, long, (MANY - 1) * turns * batch)
