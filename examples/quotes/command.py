"""What both programs have in common: their command line, and how they end."""

import argparse
import os
import sys
import time
from collections.abc import Callable

import pyev

from .ledger import Ledger
from .view import View, choose

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


def parse(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0; 1 if anything saw less than it should have; 2 if the backend is\n"
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
    return parser.parse_args()


def title(loop: pyev.Loop, what: str) -> str:
    backend = {flag: name for name, flag in BACKENDS.items()}[loop.backend]
    libev = ".".join(map(str, pyev.abi_version()))
    return f"pyev {pyev.__version__}, libev {libev}, {backend}: {what}"


def execute(
    description: str | None,
    run: Callable[[argparse.Namespace, View, Ledger], int | None],
    summary: Callable[[Ledger], str],
) -> int:
    """The exit status of `run`, which returns the signal that stopped it before its time."""
    options = parse(description)
    view = choose(options.plain)
    ledger = Ledger(view.tell)
    began = time.monotonic()
    try:
        caught = run(options, view, ledger)
    except pyev.Error as error:
        print(f"service: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # Before anything took care of it.
        return 130
    except BrokenPipeError:  # Nobody reads us any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    elapsed = f"{time.monotonic() - began:.1f} s"
    if caught is not None:
        print(f"Interrupted after {elapsed}, and tidied up.")
        return 128 + caught
    for row in ledger.short():
        print(
            f"service: {row.kind} ({row.what}) saw {row.seen}, should have seen {row.least}",
            file=sys.stderr,
        )
    if ledger.short():
        return 1
    print(f"{summary(ledger)}, all that they should have, in {elapsed}.")
    return 0
