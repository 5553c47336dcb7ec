"""Machine instructions per operation, counted by callgrind, function by function.

Instructions do not depend on what else the machine is doing: two runs of the same build agree to
a fraction of one, so a change of a few shows. Each operation runs twice, with some and with four
times as many turns, and the difference is divided by the turns between: the interpreter's own
start and the operation's preparation cancel out. The kernel's share is not counted.

    python bench/instructions.py                         every operation
    python bench/instructions.py timer_reset --functions 12
"""

import argparse
import collections
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import operations

WORKER = pathlib.Path(__file__).with_name("operations.py")
MANY = 4  # the longer run's turns, in the shorter one's

NAME = re.compile(r"\((\d+)\)(?: (.*))?")


def self_costs(profile: str) -> dict[str, int]:
    """Each function's own instructions, from a profile in callgrind's format.

    The format says a name once and its number from then on; a cost line is a position and a count,
    and the one after `calls=` is the callee's, counted there already.
    """
    names: dict[str, str] = {}
    costs: dict[str, int] = collections.Counter()
    function = ""
    skip = False
    for line in profile.splitlines():
        if line.startswith(("fn=", "cfn=")):
            key, _, value = line.partition("=")
            match = NAME.match(value)
            if match is None:
                continue
            if match[2] is not None:
                names[match[1]] = match[2].partition("'")[0]  # "f'2": f within f
            if key == "fn":
                function = names[match[1]]
        elif line.startswith("calls="):
            skip = True
        elif line[:1].isdigit() or line[:1] in ("+", "-", "*"):
            if not skip and function:
                costs[function] += int(line.split()[1])
            skip = False
    return costs


def count(name: str, turns: int) -> dict[str, int]:
    """Each function's own instructions in a fresh process that takes that many turns."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder, "profile")
        command = [
            "valgrind",
            "--quiet",
            "--tool=callgrind",
            f"--callgrind-out-file={out}",
            "--compress-pos=no",
            "--dump-instr=no",
            sys.executable,
            str(WORKER),
            "--once",
            name,
            str(turns),
        ]
        environment = dict(os.environ, PYTHONHASHSEED="0", PYTHONDONTWRITEBYTECODE="1")
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{name}: exit {done.returncode}\n{done.stderr}")
        return self_costs(out.read_text())


def per_operation(name: str, instructions: int) -> dict[str, float]:
    """Each function's own instructions per operation; the turns are chosen for a total near
    `instructions`."""
    operation = operations.BY_NAME[name]
    # Not so few that the interpreter still adapts its bytecode in some of them.
    turns = max(32, instructions // (500 * operation.batch))
    few, many = count(name, turns), count(name, MANY * turns)
    operations_between = (MANY - 1) * turns * operation.batch
    return {
        function: (cost - few.get(function, 0)) / operations_between
        for function, cost in many.items()
        if cost != few.get(function, 0)
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(operations.BY_NAME))
    parser.add_argument("--functions", type=int, default=0, help="also the N costliest functions")
    parser.add_argument("--scale", type=int, default=500_000, help="size of the shorter run")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in operations.BY_NAME:
            parser.error(f"no operation {name!r}; there are {', '.join(operations.BY_NAME)}")
    for name in arguments.names or operations.BY_NAME:
        costs = per_operation(name, arguments.scale)
        print(f"{sum(costs.values()):10.1f}  {name}", flush=True)
        costliest = sorted(costs.items(), key=lambda item: -item[1])
        for function, cost in costliest[: arguments.functions]:
            print(f"{cost:20.1f}  {function[:90]}")


if __name__ == "__main__":
    main()
