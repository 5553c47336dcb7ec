"""HTTP servers that say hello under wrk: processor time of the server for each request.

The server is a process of its own, on the core that is measured on; wrk is on another, if there is
one.
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
TRIES = 5
ENOUGH = 2000


def processor_time(pid: int) -> float:
    """Seconds, all threads of the process: Linux makes a clock's number of a pid so."""
    return time.clock_gettime((~pid << 3) | 2)


def load(port: int, seconds: int) -> int:
    """Lets wrk ask for so long; returns how many answers it had."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise NotImplementedError("wrk is not installed")
    options = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
    done = subprocess.run(
        [wrk, *options, f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True
    )
    # Late answers are the machine's affair; lost and wrong ones are the server's.
    for trouble in re.findall(r"Non-2xx.*|(?:connect|read|write) [1-9]\d*", done.stdout):
        raise AssertionError(trouble)
    found = re.search(r"(\d+) requests in", done.stdout)
    assert found, done.stdout
    return int(found[1])


def per_request(stage: Stage, server: str) -> float:
    """Requests for each second of the server's processor time."""
    command = [sys.executable, str(SERVER), server, stage.name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline() or "0")
            assert port, f"{server} did not start"
            elsewhere = json.loads(os.environ.get("PYEV_BENCH_OTHER_CPUS", "[]"))
            if elsewhere:
                os.sched_setaffinity(0, elsewhere)
            load(port, SECONDS)  # a warm-up
            before = processor_time(process.pid)
            requests = 0
            for _ in range(TRIES):  # a machine in use gives wrk little time
                requests += load(port, SECONDS)
                if requests > ENOUGH:
                    break
            assert requests, f"{server} answered nothing"
            return requests / (processor_time(process.pid) - before)
        finally:
            process.kill()


@row("uvicorn hello, server CPU per request", figure=True, unit="us")
def uvicorn(stage: Stage) -> float:
    return per_request(stage, "uvicorn")


@row("aiohttp hello, server CPU per request", figure=True, unit="us")
def aiohttp(stage: Stage) -> float:
    return per_request(stage, "aiohttp")
