import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parent.parent / "faults"))  # for what answers system calls

from net_kit import Net
from tls_kit import TLS_1_2, TLS_1_3, Tls


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


@pytest.fixture
def tls(net: Net) -> Tls:
    """Connections with TLS on each event loop."""
    return Tls(net)


@pytest.fixture(params=["client", "server"])
def side(request: pytest.FixtureRequest) -> str:
    """Which one the transport is."""
    return request.param


@pytest.fixture(params=[TLS_1_2, TLS_1_3], ids=["1.2", "1.3"])
def version(request: pytest.FixtureRequest) -> Any:
    """Of TLS."""
    return request.param
