"""The record of what operations cost: how it is made, and what is beyond it."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def callgrind(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("callgrind")


@pytest.fixture
def instructions(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("instructions")


# --- what callgrind says -------------------------------------------------------------------------

PROFILE = """\
# callgrind format
positions: line
events: Ir sysCount sysTime
summary: 175 2 0

ob=(1) /lib/pyev/_core.so
fl=(1) ???
fn=(1) pyev::Loop::run(int)
0 10
0 5
cob=(2) /usr/lib/libc.so.6
cfi=(2) ???
cfn=(2) read
calls=3 0
0 90
cfn=(3) pyev::Loop::turn()
calls=2 0
0 60 1
+3 1

fn=(3)
0 40
cfn=(3)'2
calls=1 0
0 20

ob=(2)
fn=(2)
0 89 2 1
fn=(4) write
0 30
cob=(1)
cfi=(1)
cfn=(1)
calls=1 0
0 4
"""


def test_a_profile_has_each_functions_own_instructions_and_system_calls(callgrind: Any) -> None:
    costs = callgrind.parse(PROFILE)
    ours, libc = "/lib/pyev/_core.so", "/usr/lib/libc.so.6"
    assert {key: count for key, count in costs.instructions.items() if count} == {
        (ours, "pyev::Loop::run(int)"): 16,
        (ours, "pyev::Loop::turn()"): 40,
        (libc, "read"): 89,
        (libc, "write"): 30,
    }
    assert {key: count for key, count in costs.system.items() if count} == {(libc, "read"): 2}
    run, turn = (ours, "pyev::Loop::run(int)"), (ours, "pyev::Loop::turn()")
    assert costs.calls == {
        (run, (libc, "read")): 3,
        (run, turn): 2,  # in the caller's file: no other is named
        (turn, turn): 1,
        ((libc, "write"), run): 1,
    }


def test_an_operation_costs_what_the_long_part_has_more(callgrind: Any) -> None:
    function, other = ("file", "f"), ("file", "once in a part")
    short = callgrind.Costs({function: 110, other: 7}, {(other, function): 4}, {})
    long = callgrind.Costs({function: 310, other: 7}, {(other, function): 12}, {function: 8})
    costs = callgrind.between(short, long, 20)
    assert costs.instructions == {function: 10}
    assert costs.calls == {(other, function): 0.4}
    assert costs.system == {function: 0.4}


# --- what is made of it --------------------------------------------------------------------------

CORE = "/venv/pyev/_core.cpython-311.so"


@pytest.mark.parametrize(
    ("file", "name", "short"),
    [
        (CORE, "pyev::aio::LoopBase::push(pyev::aio::Runnable*, int)", "aio::LoopBase::push"),
        (CORE, "pyev::net::Transport::fd() const", "net::Transport::fd"),
        (CORE, "pyev::py::keep(int (*)(int)) [clone .part.0]", "py::keep"),
        (
            CORE,
            "pyev::py::fast<&pyev::A::f, (pyev::Guard)0>(char*)::{lambda(long)#1}::_FUN(long)",
            "py::fast<&A::f, 0>::{lambda#1}",
        ),
        ("/usr/lib/libev.so.4.0.0", "0x0000000000004a50", "libev"),
        ("/usr/lib/libc.so.6", "clock_gettime@@GLIBC_2.17", "clock_gettime"),
    ],
)
def test_functions_have_the_names_they_have_in_the_source(
    instructions: Any, file: str, name: str, short: str
) -> None:
    assert instructions.short_name(instructions.Function(file, name)) == short


def costs_of(instructions: Any, make: float = 60, allocations: float = 1, reads: float = 1) -> Any:
    function = instructions.Function
    made, called = function(CORE, "pyev::make()"), function(CORE, "pyev::call()")
    libev = function("/usr/lib/libev.so.4.0.0", "0x4a50")
    python, libc = "/usr/bin/python3.11", "/usr/lib/libc.so.6"
    allocate, entered = function(python, "PyObject_Malloc"), function(python, "PyContext_Enter")
    read, clock = function(libc, "read"), function(libc, "clock_gettime@@GLIBC_2.17")
    return instructions.Costs(
        {made: make, called: 40, libev: 100, allocate: 70 * allocations, read: 9},
        {(made, allocate): allocations, (called, entered): 1, (called, made): 5, (libev, read): 1},
        {read: reads, clock: 3},
    )


def test_figures_are_of_our_own_code_and_of_what_leaves_it(instructions: Any) -> None:
    row = instructions.row_of(costs_of(instructions))
    assert row.figures == {"ours": 200, "calls": 3, "system": 1, "interpreter": 70}
    assert row.system == {"read": 1}
    assert {name: (part.instructions, part.calls) for name, part in row.functions.items()} == {
        "make": (60, 1),
        "call": (40, 1),
        "libev": (100, 1),
    }


class Checked:
    """What a check says of a row that is recorded as `costs_of()` is without changes."""

    def __init__(self, instructions: Any, recorded: bool = True, build: str = "") -> None:
        self.instructions = instructions
        row = instructions.row_of(costs_of(instructions))
        record = instructions.updated({}, {"call_soon": row}, whole=True) if recorded else None
        if build:
            record["interpreter"] = build
        self.said: list[str] = []
        self.check = instructions.Check(record, self.said.append)

    def row(self, **changes: float) -> tuple[int, str]:
        row = self.instructions.row_of(costs_of(self.instructions, **changes))
        self.check.row("call_soon", row)
        return self.check.end(), "\n".join(self.said)


def test_what_is_as_recorded_passes(instructions: Any) -> None:
    assert Checked(instructions).row()[0] == 0
    status, said = Checked(instructions).row(make=60.9)  # of 200
    assert status == 0
    assert "As recorded" in said


def test_more_instructions_fail_and_their_function_is_named(instructions: Any) -> None:
    status, said = Checked(instructions).row(make=62)
    assert status == 1
    assert "call_soon is worse: ours 200 before, 202 now" in said
    assert "+2.0 make: 60 before, 62 now" in said
    assert "WORSE" in said


def test_a_call_more_fails_though_our_own_instructions_are_as_before(instructions: Any) -> None:
    status, said = Checked(instructions).row(allocations=2)
    assert status == 1
    assert "call_soon is worse: calls 3 before, 4 now, interpreter 70 before, 140 now" in said
    assert "make: 60 before, 60 now; calls out 1 before, now PyObject_Malloc 2" in said


def test_a_system_call_more_fails_and_is_named(instructions: Any) -> None:
    status, said = Checked(instructions).row(reads=2)
    assert status == 1
    assert "+1 read, a system call: 1 before, 2 now" in said


def test_what_was_too_small_for_the_record_has_not_grown(
    instructions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instructions, "PART", 0.34)  # of 200, and of 3: libev has more, make less
    status, said = Checked(instructions).row(reads=2)
    assert status == 1
    assert "+1 read" in said
    assert "make" not in said.partition("is worse")[2].partition("WORSE")[0]


def test_a_gain_asks_to_be_recorded(instructions: Any) -> None:
    status, said = Checked(instructions).row(make=50)
    assert status == 0
    assert "call_soon is better: ours 200 before, 190 now" in said
    assert "-10.0 make" in said
    assert "--record" in said


def test_a_gain_does_not_hide_a_loss(instructions: Any) -> None:
    status, said = Checked(instructions).row(make=50, reads=2)
    assert status == 1
    assert "is better: ours" in said
    assert "is worse: system" in said


def test_another_build_of_the_interpreter_is_not_compared(instructions: Any) -> None:
    check = Checked(instructions, build="3.11.2 (of somebody else)")
    row = instructions.row_of(costs_of(instructions))
    row.figures["interpreter"] = 1000
    check.check.row("call_soon", row)
    assert check.check.end() == 0
    assert any("another build" in line for line in check.said)


def test_without_a_record_nothing_is_said_to_be_well(instructions: Any) -> None:
    status, said = Checked(instructions, recorded=False).row()
    assert status == 2
    assert "NO RECORD for this build of call_soon" in said
    assert "As recorded" not in said


def test_a_part_of_the_record_is_renewed(instructions: Any) -> None:
    row = instructions.row_of(costs_of(instructions))
    record = instructions.updated({}, {"future": row, "call_soon": row}, whole=True)
    assert list(record["rows"]) == ["call_soon", "future"]
    record["interpreter"] = "another"
    renewed = instructions.updated(record, {"future": row}, whole=False)
    assert renewed["interpreter"] == instructions.interpreter()
    assert set(renewed["rows"]["future"]["figures"]) == set(instructions.FIGURES)
    assert "interpreter" not in renewed["rows"]["call_soon"]["figures"]
    # Rows that there are no more are recorded no more.
    assert list(instructions.updated(record, {"future": row}, whole=True)["rows"]) == ["future"]


def test_the_record_has_a_line_for_each_thing(instructions: Any) -> None:
    row = instructions.row_of(costs_of(instructions))
    record = {"gcc": instructions.updated({}, {"call_soon": row}, whole=True)}
    text = instructions.layout(record)
    assert json.loads(text) == record
    lines = [line.strip().rstrip(",") for line in text.splitlines()]
    assert '"system": {"read": 1.0}' in lines
    assert '"make": [60.0, 1.0]' in lines


def test_the_record_is_of_the_rows_that_are_counted(instructions: Any) -> None:
    records = json.loads(instructions.RECORD.read_text())
    assert records
    for record in records.values():
        assert list(record["rows"]) == sorted(instructions.NAMES)
    assert instructions.layout(records) + "\n" == instructions.RECORD.read_text()


# --- all of it -----------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
@pytest.mark.skipif(shutil.which("cc") is None, reason="compiles the marks")
@pytest.mark.skipif("PYEV_SANITIZED" in os.environ, reason="valgrind cannot run the sanitizers")
def test_a_regression_names_itself(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    names = ["timer_reset", "call_soon"]

    def run(*options: str) -> "subprocess.CompletedProcess[str]":
        program = str(BENCH / "instructions.py")
        return subprocess.run(
            [sys.executable, program, *names, "--file", str(file), *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=250,
        )

    done = run()
    assert done.returncode == 2, done.stdout + done.stderr
    assert "NO RECORD" in done.stdout
    assert run("--record").returncode == 0
    records = json.loads(file.read_text())
    ((build, record),) = records.items()
    assert list(record["rows"]) == sorted(names)
    assert record["rows"]["timer_reset"]["functions"]["libev"][0] > 0

    call_soon = record["rows"]["call_soon"]
    functions = call_soon["functions"]
    busiest = max(functions, key=lambda name: functions[name][0])
    call_soon["figures"]["ours"] -= 9
    functions[busiest][0] -= 9
    file.write_text(json.dumps(records))
    done = run()
    assert done.returncode == 1, done.stdout + done.stderr
    assert "call_soon is worse" in done.stdout
    assert f"+9.0 {busiest}" in done.stdout
    assert "timer_reset is" not in done.stdout
