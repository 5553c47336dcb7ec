"""``python -m pyev``: which libev is linked, and what it and the kernel can do here."""

import argparse
import ctypes
import errno
import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypedDict

import pyev
from pyev import _core

BACKENDS = {
    "select": pyev.EVBACKEND_SELECT,
    "poll": pyev.EVBACKEND_POLL,
    "epoll": pyev.EVBACKEND_EPOLL,
    "kqueue": pyev.EVBACKEND_KQUEUE,
    "devpoll": pyev.EVBACKEND_DEVPOLL,
    "port": pyev.EVBACKEND_PORT,
    "linuxaio": pyev.EVBACKEND_LINUXAIO,
    "io_uring": pyev.EVBACKEND_IOURING,
}


class Backend(TypedDict):
    name: str
    flag: int
    supported: bool
    recommended: bool
    embeddable: bool
    works: bool
    embeds: bool
    default: bool


class Facility(TypedDict):
    name: str
    available: bool
    error: str | None
    use: str


class Report(TypedDict):
    pyev: str
    libev: str
    python: str
    platform: str
    tls: str
    tls_fallback: str | None
    libev_flags: str | None
    default_backend: str | None
    backends: list[Backend]
    kernel: list[Facility]


# Backends.


def backend_of(flags: int) -> int | None:
    """The backend a new loop gets, or None where libev cannot make such a loop."""
    try:
        with pyev.Loop(flags) as loop:
            return loop.backend
    except (pyev.Error, OSError):
        return None


def embeds(backend: int) -> bool:
    """Whether a loop of it really can be embedded: libev says so of io_uring, and then cannot."""
    try:
        with (
            pyev.Loop(backend | pyev.EVFLAG_NOENV) as inner,
            pyev.Loop(pyev.EVFLAG_NOENV) as outer,
            outer.embed(inner),
        ):
            return True
    except (pyev.Error, OSError):
        return False


def name_of(backend: int | None) -> str | None:
    if backend is None:
        return None
    return next((name for name, flag in BACKENDS.items() if flag == backend), hex(backend))


def describe(name: str, flag: int, default: int | None) -> Backend:
    supported = bool(pyev.supported_backends() & flag)
    # libev answers for every backend it knows, compiled in or not.
    embeddable = supported and bool(pyev.embeddable_backends() & flag)
    return Backend(
        name=name,
        flag=flag,
        supported=supported,
        recommended=bool(pyev.recommended_backends() & flag),
        embeddable=embeddable,
        works=supported and backend_of(flag | pyev.EVFLAG_NOENV) == flag,
        embeds=embeddable and embeds(flag),
        default=flag == default,
    )


# The kernel. libev does not tell what it found, so each facility is asked for once.


class Probe(NamedTuple):
    """A function of the C library that returns a descriptor, and its arguments."""

    name: str
    use: str
    function: str
    arguments: tuple[object, ...]


# The flags of all of them are O_CLOEXEC by another name.
PROBES = (
    Probe("eventfd", "Async, waking the loop", "eventfd", (0, os.O_CLOEXEC)),
    Probe(
        "signalfd",
        "Signal, with EVFLAG_SIGNALFD",
        "signalfd",
        # 128 bytes of zeros: an empty sigset_t, which is nowhere larger on Linux.
        (-1, ctypes.create_string_buffer(128), os.O_CLOEXEC),
    ),
    Probe(
        "timerfd",
        "Periodic, hearing of clock changes",
        "timerfd_create",
        (0, os.O_CLOEXEC),  # 0: CLOCK_REALTIME
    ),
    Probe("inotify", "Stat, without polling", "inotify_init1", (os.O_CLOEXEC,)),
    # By number, the same on nearly every architecture: glibc has the name since 2.36 only.
    Probe("pidfd", "Child, without SIGCHLD", "syscall", (434, os.getpid(), 0)),
)


def facility(probe: Probe) -> Facility:
    """Ask the kernel for one descriptor of a kind, and give it back."""
    error: str | None = None
    if not sys.platform.startswith("linux"):
        error = "not Linux"
    else:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            fd: int = getattr(libc, probe.function)(*probe.arguments)
        except AttributeError:
            error = "not in the C library"
        else:
            if fd < 0:
                code = ctypes.get_errno()
                error = "not in the kernel" if code == errno.ENOSYS else os.strerror(code)
            else:
                os.close(fd)
    return Facility(name=probe.name, available=error is None, error=error, use=probe.use)


# TLS.


def tls_library() -> str:
    try:
        import ssl
    except ImportError:  # a Python that was built without it
        return "none"
    return ssl.OPENSSL_VERSION


def tls_fallback() -> str | None:
    """Why the event loop does not call OpenSSL itself; None when it does."""
    try:
        return _core.tls_fallback()
    except ImportError as error:
        return str(error)


# The report, and its two forms.


def report() -> Report:
    default = backend_of(pyev.EVFLAG_AUTO)
    return Report(
        pyev=pyev.__version__,
        libev=".".join(map(str, pyev.abi_version())),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        tls=tls_library(),
        tls_fallback=tls_fallback(),
        libev_flags=os.environ.get("LIBEV_FLAGS"),
        default_backend=name_of(default),
        backends=[describe(name, flag, default) for name, flag in BACKENDS.items()],
        kernel=[facility(probe) for probe in PROBES],
    )


def bits(flags: str) -> str:
    """LIBEV_FLAGS with the names of its bits."""
    names = [
        name
        for name in pyev.__all__
        if name.startswith(("EVFLAG_", "EVBACKEND_"))
        and flags.isdecimal()
        and (bit := getattr(pyev, name)) & int(flags)
        and bit.bit_count() == 1
    ]
    return f"{flags} ({' | '.join(names)})" if names else flags


def columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows as lines, each column as wide as its widest cell."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  "
        + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def yes(said: bool, found: bool = True) -> str:
    """What libev says, and whether it turned out to be so."""
    return "-" if not said else "yes" if found else "yes, but fails"


def backend_row(backend: Backend) -> tuple[str, ...]:
    return (
        backend["name"],
        yes(backend["supported"], backend["works"]),
        yes(backend["recommended"]),
        yes(backend["embeddable"], backend["embeds"]),
        "<- default" if backend["default"] else "",
    )


def text(found: Report) -> str:
    flags = found["libev_flags"]
    head = ("backend", "in libev", "recommended", "embeddable", "")
    facts = [
        ("pyev", found["pyev"]),
        ("libev", found["libev"]),
        ("python", found["python"]),
        ("platform", found["platform"]),
        (
            "default",
            found["default_backend"] or "none: no loop can be made with LIBEV_FLAGS as set",
        ),
    ]
    way = f"by Python's ssl: {why}" if (why := found["tls_fallback"]) else "called directly"
    facts.append(("TLS", f"{found['tls']}, {way}"))
    if flags is not None:
        facts.append(("LIBEV_FLAGS", bits(flags)))
    lines = [
        *(line[2:] for line in columns(facts)),
        "",
        "backends",
        *columns([head, *map(backend_row, found["backends"])]),
        "",
        "kernel",
        *columns((k["name"], k["error"] or "yes", k["use"]) for k in found["kernel"]),
    ]
    return "\n".join(lines)


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Whoever asked may have read enough, as `head` has: that is no error."""
    try:
        try:
            yield
        finally:
            print(end="", flush=True)
    except BrokenPipeError:
        # What could not be written stays in the buffer, which the interpreter flushes as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pyev",
        description="Tell which libev pyev is linked with, and what it and the kernel can do here.",
        epilog="Exit status: 0, or 1 if no loop can be made with LIBEV_FLAGS as it is set.",
    )
    parser.add_argument("--json", action="store_true", help="the same for programs")
    parser.add_argument("--version", action="version", version=f"pyev {pyev.__version__}")
    options = parser.parse_args(arguments)
    found = report()
    with reader_may_leave():
        print(json.dumps(found, indent=2) if options.json else text(found))
    return 0 if found["default_backend"] else 1


if __name__ == "__main__":
    with reader_may_leave():  # as argparse answers --help
        sys.exit(main())
