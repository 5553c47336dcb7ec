#!/usr/bin/env python3
"""The price service on asyncio and on watchers, both on one loop, shown live.

asyncio's streams, protocols and subprocesses serve clients over TCP, TLS, a unix socket and UDP;
pyev's watchers, on the same loop, do the rest. It ends by itself, and says so if anything saw less
than it should have. service.py is the same service on watchers alone.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from quotes.aio.service import Service
from quotes.command import BACKENDS, execute, title
from quotes.ledger import Ledger
from quotes.view import View

import pyev


def run(options: argparse.Namespace, view: View, ledger: Ledger) -> int | None:
    """Until its time is over, or until a signal: which one."""

    async def main() -> int | None:
        service = Service(ledger, Path(directory), options.seconds, view.refresh)
        async with service.open():
            view.open(ledger, title(service.ev, "coroutines and watchers on one loop"))
            return await service.run()

    def new_loop() -> pyev.EventLoop:
        return pyev.EventLoop(BACKENDS[options.backend])

    try:
        with (
            tempfile.TemporaryDirectory(prefix="quotes-") as directory,
            asyncio.Runner(loop_factory=new_loop) as runner,
        ):
            return runner.run(main())
    finally:
        # Not before the Cleanup watcher has been called: when the loop is closed.
        view.close()


def summary(ledger: Ledger) -> str:
    asyncios, watchers = ledger.total("asyncio"), ledger.total("watcher")
    return f"Coroutines saw {asyncios:,} events and watchers {watchers:,}, on one loop"


def main() -> int:
    return execute(__doc__, run, summary)


if __name__ == "__main__":
    sys.exit(main())
