"""Event loops: ours, and the standard one, which says what asyncio's answer is."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pyev

FACTORIES: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "pyev": pyev.new_event_loop,
    "asyncio": asyncio.SelectorEventLoop,
}


def closing(factory: Callable[[], Any], debug: bool) -> Iterator[Any]:
    loop = factory()
    loop.set_debug(debug)
    loop.slow_callback_duration = 1e6  # a busy machine is no news
    yield loop
    loop.close()


@pytest.fixture(params=["pyev", "pyev-debug", "asyncio", "asyncio-debug"])
def aloop(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Each event loop, in and out of debug mode."""
    name, _, debug = request.param.partition("-")
    yield from closing(FACTORIES[name], bool(debug))


@pytest.fixture(params=["pyev", "pyev-debug"])
def ours(request: pytest.FixtureRequest) -> Iterator[Any]:
    """For what only our loop promises."""
    yield from closing(pyev.new_event_loop, request.param == "pyev-debug")


@pytest.fixture(params=list(FACTORIES))
def factory(request: pytest.FixtureRequest) -> Callable[[], Any]:
    return FACTORIES[request.param]


def spin(loop: Any) -> None:
    """One turn that does not wait."""
    loop.call_soon(loop.stop)
    loop.run_forever()


@pytest.fixture(name="spin")
def _spin() -> Callable[[Any], None]:
    return spin


@pytest.fixture
def errors(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """What the test's loop told its exception handler."""
    seen: list[dict[str, Any]] = []
    name = "aloop" if "aloop" in request.fixturenames else "ours"
    loop = request.getfixturevalue(name)
    loop.set_exception_handler(lambda loop, context: seen.append(context))
    return seen
