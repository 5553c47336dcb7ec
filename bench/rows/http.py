"""HTTP servers that say hello under wrk: processor time of the server for each request.

The server is a process of its own, on the core that is measured on; wrk is on another, if there is
one. Two servers that share a port share all cores with wrk.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

from rows import Stage, row

SERVER = pathlib.Path(__file__).parents[1] / "http_server.py"
SECONDS = 1
CONNECTIONS = 32
MANY = 128
TRIES = 5
ENOUGH = 2000


def other_cores() -> list[int]:
    found: list[int] = json.loads(os.environ.get("PYEV_BENCH_OTHER_CPUS", "[]"))
    return found


def processor_time(pid: int) -> float:
    """Seconds, all threads of the process: Linux makes a clock's number of a pid so."""
    return time.clock_gettime((~pid << 3) | 2)


def load(port: int, seconds: int, connections: int = CONNECTIONS) -> tuple[int, float]:
    """Lets wrk ask for so long; returns how many answers it had, and in how many seconds."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise NotImplementedError("wrk is not installed")
    options = ["-t1", f"-c{connections}", f"-d{seconds}s"]
    done = subprocess.run(
        [wrk, *options, f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True
    )
    # Late answers are the machine's affair; lost and wrong ones are the server's.
    for trouble in re.findall(r"Non-2xx.*|(?:connect|read|write) [1-9]\d*", done.stdout):
        raise AssertionError(trouble)
    found = re.search(r"(\d+) requests in ([\d.]+)s", done.stdout)
    assert found, done.stdout
    return int(found[1]), float(found[2])


def start(*arguments: str) -> "tuple[subprocess.Popen[str], int]":
    """The process, and its port."""
    command = [sys.executable, str(SERVER), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline() or "0")


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def per_request(stage: Stage, server: str) -> float:
    """Requests for each second of the server's processor time."""
    process, port = start(server, stage.name)
    try:
        assert port, f"{server} did not start"
        if elsewhere := other_cores():
            os.sched_setaffinity(0, elsewhere)
        load(port, SECONDS)  # a warm-up
        before = processor_time(process.pid)
        requests = 0
        for _ in range(TRIES):  # a machine in use gives wrk little time
            requests += load(port, SECONDS)[0]
            if requests > ENOUGH:
                break
        assert requests, f"{server} answered nothing"
        return requests / (processor_time(process.pid) - before)
    finally:
        end(process)


def per_second(stage: Stage, server: str) -> float:
    """Requests in a second to two processes on one port, all cores being theirs and wrk's."""
    cores = other_cores()
    if not cores:
        raise NotImplementedError("two processes take two cores")
    os.sched_setaffinity(0, {*os.sched_getaffinity(0), *cores})
    one, port = start(server, stage.name, "0")
    other = one
    try:
        assert port, f"{server} did not start"
        other, same = start(server, stage.name, str(port))
        assert same == port
        # The kernel deals connections out by their addresses: many, so that neither has few.
        load(port, SECONDS, MANY)
        requests, seconds = load(port, SECONDS, MANY)
        assert requests, f"{server} answered nothing"
        return requests / seconds
    finally:
        end(one)
        end(other)


@row("uvicorn hello, server CPU per request", figure=True, unit="us")
def uvicorn(stage: Stage) -> float:
    return per_request(stage, "uvicorn")


@row("aiohttp hello, server CPU per request", figure=True, unit="us")
def aiohttp(stage: Stage) -> float:
    return per_request(stage, "aiohttp")


@row("uvicorn hello, two processes on a port", figure=True)
def uvicorn_two(stage: Stage) -> float:
    return per_second(stage, "uvicorn")
