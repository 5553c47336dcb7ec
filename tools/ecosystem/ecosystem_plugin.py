"""A plugin of pytest that writes each outcome down at once, and leaves out what was done before.

The process may crash, or be killed, at any test.
"""

import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest

REPORT = Path(os.environ["ECOSYSTEM_REPORT"])
# A list of tests, if only these are to run.
ONLY = os.environ.get("ECOSYSTEM_ONLY")
# Loggers whose notes the library's own runner of its tests keeps back.
for _name in filter(None, os.environ["ECOSYSTEM_QUIET"].split(",")):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

# A shell's background jobs ignore it, and the tests of Ctrl-C would hang.
signal.signal(signal.SIGINT, signal.default_int_handler)

_outcomes: dict[str, str] = {}


def _say(name: str, outcome: str, detail: str = "") -> None:
    with REPORT.open("a", encoding="utf-8") as file:
        file.write(json.dumps([name, outcome, detail]) + "\n")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    done = {json.loads(line)[0] for line in REPORT.read_text(encoding="utf-8").splitlines()}
    only = set(json.loads(Path(ONLY).read_text(encoding="utf-8"))) if ONLY else None
    left = [i for i in items if i.nodeid not in done and (only is None or i.nodeid in only)]
    kept = set(map(id, left))
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept])
    items[:] = left
    _say("", "collected", str(len(left)))


def pytest_collectreport(report: Any) -> None:
    if report.failed:
        _say(report.nodeid, "error", str(report.longrepr))


def pytest_runtest_logstart(nodeid: str) -> None:
    _outcomes[nodeid] = "passed"
    _say(nodeid, "started")


def pytest_runtest_logreport(report: Any) -> None:
    if report.failed:
        outcome = "failed" if report.when == "call" else "error"
    elif report.skipped and not hasattr(report, "wasxfail"):
        outcome = "skipped"
    else:
        return
    # A test that failed may also fail to clean up; the first is what it came to.
    if _outcomes.get(report.nodeid) in ("passed", "skipped"):
        _outcomes[report.nodeid] = outcome
        _say(report.nodeid, outcome, str(report.longrepr))


def pytest_runtest_logfinish(nodeid: str) -> None:
    if _outcomes.pop(nodeid, "") == "passed":
        _say(nodeid, "passed")
