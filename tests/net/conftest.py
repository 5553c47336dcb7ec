import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from net_kit import Net


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test may be a coroutine function: it is run on its loop."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    pyfuncitem.funcargs["net"].run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture
def net(aloop: Any, request: pytest.FixtureRequest) -> Iterator[Net]:
    """Each event loop, and what tests of transports do with it."""
    net = Net(aloop)
    yield net
    net.end()


@pytest.fixture(params=["tcp", "unix"])
def connect(request: pytest.FixtureRequest, net: Net) -> Callable[..., Any]:
    """Connects a transport of each kind; see Net.connect."""
    return functools.partial(net.connect, request.param)
