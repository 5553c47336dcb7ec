#!/usr/bin/env python3
"""A small price service on one pyev loop, with clients of its own, shown live.

It uses every watcher there is, ends by itself, and says so if one saw less than it should have.
service_aio.py is the same service on asyncio's transports, with watchers beside them.
"""

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from quotes.command import BACKENDS, execute, title
from quotes.ledger import Ledger
from quotes.service import Service
from quotes.view import View

import pyev


def inner_loop(stack: ExitStack) -> pyev.Loop | None:
    """A loop that can be embedded in another, where there is one."""
    backends = pyev.embeddable_backends() & pyev.supported_backends()
    backends &= pyev.EVBACKEND_EPOLL | pyev.EVBACKEND_KQUEUE | pyev.EVBACKEND_PORT
    if not backends:
        return None
    return stack.enter_context(pyev.Loop(backends | pyev.EVFLAG_NOENV, debug=True))


def run(options: argparse.Namespace, view: View, ledger: Ledger) -> int | None:
    """Until its time is over, or until a signal: which one."""
    with ExitStack() as stack:
        # Undone last: the Cleanup watcher is called when the loop is closed.
        stack.callback(view.close)
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quotes-")))
        inner = inner_loop(stack)
        loop = stack.enter_context(pyev.Loop(BACKENDS[options.backend], debug=True))
        service = Service(loop, inner, ledger, stack, directory, options.seconds, view.refresh)
        view.open(ledger, title(loop, "every watcher"))
        loop.start()
    return service.caught


def summary(ledger: Ledger) -> str:
    kinds = len({row.kind for row in ledger.rows})
    return f"Watchers of {kinds} kinds saw {ledger.total():,} events"


def main() -> int:
    return execute(__doc__, run, summary)


if __name__ == "__main__":
    sys.exit(main())
