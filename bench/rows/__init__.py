"""What is measured of an asyncio loop: a row each, the same lines for every loop.

A row is a function that prepares, and returns what does the work a number of times: a coroutine
function on the running loop, or a plain one for work that needs no running loop. Either checks that
the work was done. Nothing has to be cleaned up, since each measurement is a process of its own that
ends without ceremony. A few rows measure something else than time: they return the figure.
"""

import asyncio
import functools
import importlib
import pathlib
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from loops import Factory

FAMILIES = (
    "scheduling",
    "descriptors",
    "sockets",
    "streams",
    "tls",
    "datagrams",
    "processes",
    "memory",
    "http",
    "connections",
    "timers",
    "threads",
)
SCALE = frozenset({"connections", "timers", "threads"})  # a suite of its own: how costs grow

Work = Callable[[int], Awaitable[None]]  # does that many turns
PlainWork = Callable[[int], None]


class Stage(NamedTuple):
    """Where a row plays."""

    loop: asyncio.AbstractEventLoop  # running, but for plain rows
    factory: Factory
    name: str  # of the kind of loop: to start a program with it, not to make a difference
    folder: pathlib.Path  # for files; has the certificate too


class Row(NamedTuple):
    name: str
    what: str
    family: str
    prepare: Callable[[Stage], Any]
    figure: bool  # it returns the figure, not the work to be timed
    unit: str
    batch: float  # units in a turn
    floor: tuple[str, ...]  # the same work in C: a program's name and first arguments
    curve: str  # in the suite `scale`: what is measured, and of how many things
    size: int


ROWS: dict[str, Row] = {}


def row(
    what: str,
    *,
    figure: bool = False,
    unit: str = "/s",
    batch: float = 1,
    floor: tuple[str, ...] = (),
    curve: str = "",
    size: int = 0,
) -> Callable[[Any], Any]:
    def add(prepare: Any) -> Any:
        family = prepare.__module__.rpartition(".")[2]
        name = f"{curve}_{size}" if curve else prepare.__name__
        assert name not in ROWS
        ROWS[name] = Row(name, what, family, prepare, figure, unit, batch, floor, curve, size)
        return prepare

    return add


def at_size(size: int, prepare: Any, *arguments: int) -> Any:
    """`prepare(stage, size, *arguments)` as the function of a row: a coroutine function."""

    @functools.wraps(prepare)
    async def row_of(stage: Stage) -> Any:
        return await prepare(stage, size, *arguments)

    return row_of


def load() -> dict[str, Row]:
    """All rows, in the order of the table."""
    for family in FAMILIES:
        importlib.import_module(f"rows.{family}")
    return ROWS
