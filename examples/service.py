#!/usr/bin/env python3
"""A small price service on one pyev loop, with clients of its own, shown live.

It uses every watcher there is, ends by itself, and says so if one saw less than it should have.
"""

import argparse
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from quotes.ledger import Ledger
from quotes.service import Service
from quotes.view import View, choose

import pyev

BACKENDS = {
    "auto": pyev.EVFLAG_AUTO,
    "select": pyev.EVBACKEND_SELECT,
    "poll": pyev.EVBACKEND_POLL,
    "epoll": pyev.EVBACKEND_EPOLL,
    "linuxaio": pyev.EVBACKEND_LINUXAIO,
    "io_uring": pyev.EVBACKEND_IOURING,
    "kqueue": pyev.EVBACKEND_KQUEUE,
    "port": pyev.EVBACKEND_PORT,
}


def seconds(text: str) -> float:
    value = float(text)
    if not 2.0 <= value <= 3600.0:
        raise ValueError
    return value


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0; 1 if a watcher saw less than it should have; 2 if the backend is\n"
        "missing; 130 after Ctrl-C, 143 after SIGTERM.",
    )
    parser.add_argument(
        "--seconds",
        type=seconds,
        default=10.0,
        metavar="N",
        help="how long to run, 2 or more (default: 10)",
    )
    parser.add_argument(
        "--backend", choices=BACKENDS, default="auto", help="libev's backend (default: auto)"
    )
    parser.add_argument("--plain", action="store_true", help="lines, also on a terminal")
    return parser.parse_args(arguments)


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
        names = {flag: name for name, flag in BACKENDS.items()}
        version = ".".join(map(str, pyev.abi_version()))
        view.open(ledger, f"pyev {pyev.__version__}, libev {version}, {names[loop.backend]}")
        loop.start()
    return service.caught


def main() -> int:
    options = parse()
    view = choose(options.plain)
    ledger = Ledger(view.tell)
    began = time.monotonic()
    try:
        caught = run(options, view, ledger)
    except pyev.Error as error:
        print(f"service: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # Before its Signal watcher was there.
        return 130
    except BrokenPipeError:  # Nobody reads us any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if caught is not None:
        print(f"Interrupted after {time.monotonic() - began:.1f} s, and tidied up.")
        return 128 + caught
    for row in ledger.short():
        print(
            f"service: {row.kind} ({row.what}) saw {row.seen}, should have seen {row.least}",
            file=sys.stderr,
        )
    if ledger.short():
        return 1
    print(f"Every watcher saw what it should have, in {time.monotonic() - began:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
