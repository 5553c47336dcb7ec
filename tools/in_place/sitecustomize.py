"""Puts another event loop in SelectorEventLoop's place, in a whole tree of processes.

With this folder on PYTHONPATH and LOOP_IN_PLACE=pyev:EventLoop, everything in asyncio that makes or
names a SelectorEventLoop makes and names that class. Nothing is imported before asyncio is.
"""

import importlib
import importlib.machinery
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

VARIABLE = "LOOP_IN_PLACE"


def put_in_place(base: Any) -> None:
    import asyncio.unix_events as unix

    class SelectorEventLoop(base):  # type: ignore[misc]
        def __init__(self, selector: Any = None) -> None:
            super().__init__()
            if selector is not None:
                selector.close()

    SelectorEventLoop.__module__ = "asyncio.unix_events"
    for module in (sys.modules["asyncio"], unix):
        for name in ("SelectorEventLoop", "_UnixSelectorEventLoop", "EventLoop"):
            if hasattr(module, name):
                setattr(module, name, SelectorEventLoop)
        for name in ("_UnixDefaultEventLoopPolicy", "_DefaultEventLoopPolicy"):
            if name in vars(module):
                vars(module)[name]._loop_factory = SelectorEventLoop


class AfterAsyncio:
    """Finds asyncio once, and changes it as soon as it has been imported."""

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "asyncio":
            return None
        sys.meta_path.remove(cls)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        loader: Any = spec and spec.loader
        load = loader.exec_module

        def load_and_change(module: ModuleType) -> None:
            load(module)
            source, _, attribute = os.environ[VARIABLE].partition(":")
            # Some tests make a virtual environment of their own, where there is no such loop.
            if importlib.util.find_spec(source) is None:
                return
            put_in_place(getattr(importlib.import_module(source), attribute))

        loader.exec_module = load_and_change
        return spec


if os.environ.get(VARIABLE):
    sys.meta_path.insert(0, AfterAsyncio)
