"""The event loops that are measured, and how each is made."""

import importlib
import importlib.metadata
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import NamedTuple

Factory = Callable[[], AbstractEventLoop]


class Loop(NamedTuple):
    factory: str  # module:function
    package: str  # that has a version
    called: bool = False  # the function returns the factory
    families: frozenset[str] | None = None  # of rows that it has a part in; None: all


NETWORK = frozenset({"sockets", "streams", "tls", "datagrams", "memory", "http", "connections"})

LOOPS = {
    "pyev": Loop("pyev:new_event_loop", "pyev"),
    "asyncio": Loop("asyncio:SelectorEventLoop", ""),
    "uvloop": Loop("uvloop:new_event_loop", "uvloop"),
    "zuvloop": Loop("zuvloop:new_event_loop", "zuvloop"),
    "rsloop": Loop("rsloop:new_event_loop", "rsloop"),
    "rloop": Loop("rloop:new_event_loop", "rloop"),
    # Transports for a loop of somebody else's: here the standard one, its default.
    "aiofastnet": Loop("aiofastnet:loop_factory", "aiofastnet", True, NETWORK),
}


def factory(name: str) -> Factory:
    loop = LOOPS[name.partition("@")[0]]
    module, _, function = loop.factory.partition(":")
    found = getattr(importlib.import_module(module), function)
    made: Factory = found() if loop.called else found
    return made


def version(name: str) -> str | None:
    """What is installed; None if it is not."""
    package = LOOPS[name].package
    if not package:
        return ""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
