"""`python -m pyev`, and the names that `import pyev` gives."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import pyev
from pyev import __main__ as main
from pyev import _core
from strict import STRICT


def run(*arguments: str, flags: int | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "LIBEV_FLAGS"}
    if flags is not None:
        environment["LIBEV_FLAGS"] = str(flags)
    return subprocess.run(
        [*STRICT, "-m", "pyev", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )


def found(*arguments: str, flags: int | None = None) -> Any:
    return json.loads(run("--json", *arguments, flags=flags).stdout)


# The command line.


def test_text_tells_versions_backends_and_kernel() -> None:
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(rf"^pyev +{re.escape(pyev.__version__)}$", done.stdout, re.M)
    assert re.search(r"^libev +4\.\d+$", done.stdout, re.M)
    assert len(re.findall("<- default", done.stdout)) == 1
    for name in (*main.BACKENDS, "eventfd", "signalfd", "timerfd", "inotify", "pidfd"):
        assert re.search(rf"^  {name} ", done.stdout, re.M)
    assert "LIBEV_FLAGS" not in done.stdout


def test_json_agrees_with_the_module() -> None:
    report = found()
    assert report["pyev"] == pyev.__version__
    assert report["libev"] == "{}.{}".format(*pyev.abi_version())
    for answer, bits in (
        ("supported", pyev.supported_backends()),
        ("recommended", pyev.recommended_backends()),
        ("embeddable", pyev.embeddable_backends() & pyev.supported_backends()),
    ):
        assert sum(b["flag"] for b in report["backends"] if b[answer]) == bits
    default = [b for b in report["backends"] if b["default"]]
    assert [b["name"] for b in default] == [report["default_backend"]]
    assert default[0]["works"]
    for backend in report["backends"]:
        assert backend["supported"] >= backend["works"]
        assert backend["embeddable"] >= backend["embeds"]
    if default[0]["embeddable"]:
        assert default[0]["embeds"]
    assert report["libev_flags"] is None


def test_every_backend_of_the_module_has_a_name() -> None:
    flags = {getattr(pyev, name) for name in dir(pyev) if name.startswith("EVBACKEND_")}
    assert set(main.BACKENDS.values()) == flags - {pyev.EVBACKEND_ALL, pyev.EVBACKEND_MASK}


def test_libev_flags_choose_the_default() -> None:
    report = found(flags=pyev.EVBACKEND_SELECT)
    assert report["default_backend"] == "select"
    assert report["libev_flags"] == str(pyev.EVBACKEND_SELECT)
    # What works is asked without them.
    assert report["backends"] == [
        {**backend, "default": backend["name"] == "select"} for backend in found()["backends"]
    ]
    assert " 1 (EVBACKEND_SELECT)\n" in run(flags=pyev.EVBACKEND_SELECT).stdout


def test_libev_flags_that_leave_no_backend() -> None:
    done = run(flags=pyev.EVBACKEND_DEVPOLL)
    assert (done.returncode, done.stderr) == (1, "")
    assert re.search(r"^default +none", done.stdout, re.M)


def test_version_and_help() -> None:
    assert run("--version").stdout == f"pyev {pyev.__version__}\n"
    assert "--json" in run("--help").stdout


def run_unread(*arguments: str, **environment: str) -> tuple[int, bytes]:
    """Status and complaints of a run that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "pyev", *arguments],
            stdout=output,
            stderr=subprocess.PIPE,
            timeout=60,
            env={**os.environ, **environment},
        )
    return done.returncode, done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [[], ["--json"], ["--help"], ["--version"]])
def test_reader_that_has_gone_is_no_error(arguments: list[str], unbuffered: str) -> None:
    assert run_unread(*arguments, PYTHONUNBUFFERED=unbuffered) == (0, b"")


def test_reader_that_has_gone_does_not_change_the_status() -> None:
    assert run_unread(LIBEV_FLAGS=str(pyev.EVBACKEND_DEVPOLL)) == (1, b"")


def test_unknown_argument_is_refused() -> None:
    done = run("--yaml")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def run_bare(program: str) -> "subprocess.CompletedProcess[str]":
    """Runs `program` without site-packages, but for the package's own directory."""
    home = os.path.dirname(os.path.dirname(_core.__file__))
    return subprocess.run(
        [sys.executable, "-S", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": home},
    )


def test_needs_the_standard_library_alone() -> None:
    program = (
        "import runpy, sys\n"
        "try: runpy.run_module('pyev', run_name='__main__', alter_sys=True)\n"
        "except SystemExit: pass\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, sep='\\n', file=sys.stderr)\n"
    )
    done = run_bare(program)
    assert done.returncode == 0
    foreign = set(done.stderr.split()) - set(sys.stdlib_module_names) - {"pyev", "__main__"}
    assert foreign == set()


# The kernel's facilities.


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
@pytest.mark.parametrize(
    ("probe", "error"),
    [
        (main.Probe("no such system call", "", "syscall", (99_999,)), "not in the kernel"),
        (main.Probe("a refusal", "", "dup", (-1,)), os.strerror(errno.EBADF)),
        (main.Probe("no such function", "", "no_such_function", ()), "not in the C library"),
    ],
)
def test_missing_facility_says_why(probe: main.Probe, error: str) -> None:
    facility = main.facility(probe)
    assert not facility["available"]
    assert facility["error"] == error


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_facilities_that_python_has_too() -> None:
    """Where Python itself can ask the kernel, both get the same answer; no descriptor is left."""
    answers = {probe.name: main.facility(probe)["available"] for probe in main.PROBES}
    for name, ask in (
        ("eventfd", lambda: os.eventfd(0)),
        ("pidfd", lambda: os.pidfd_open(os.getpid())),
    ):
        try:
            os.close(ask())
        except OSError:
            assert not answers[name]
        else:
            assert answers[name]


def test_not_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main.sys, "platform", "freebsd15")
    assert {main.facility(probe)["error"] for probe in main.PROBES} == {"not Linux"}


# The package's names.


# The native half of EventLoop, and what its Python half asks for.
INTERNAL = {
    name
    for name in dir(_core)
    if name.startswith(("LoopBase", "accept_", "connect_", "make_", "stream_", "tls_"))
}
ASYNCIO = {"EventLoop", "EventLoopPolicy", "install", "new_event_loop", "run"} | {
    "StreamReader",
    "StreamWriter",
    "open_connection",
    "open_unix_connection",
    "start_server",
    "start_unix_server",
}


def test_package_exports_the_core_and_asyncio_and_nothing_else() -> None:
    core = {name for name in dir(_core) if not name.startswith("_")} | {"__version__"}
    core -= INTERNAL
    assert set(pyev.__all__) == core | ASYNCIO
    assert len(pyev.__all__) == len(core | ASYNCIO)
    for name in core:
        assert getattr(pyev, name) is getattr(_core, name)
    for name in ASYNCIO:
        assert getattr(pyev, name).__name__ == name
    assert set(pyev.__all__) <= set(dir(pyev))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = pyev.nonsense  # type: ignore[attr-defined]


def test_asyncio_is_imported_only_when_asked_for(script: Callable[..., str]) -> None:
    program = """
    import sys, pyev
    print("asyncio" in sys.modules)
    pyev.Loop().close()
    dir(pyev)
    print("asyncio" in sys.modules)
    pyev.new_event_loop().close()
    print("asyncio" in sys.modules)
    """
    assert script(program).split() == ["False", "False", "True"]


def test_import_takes_few_modules() -> None:
    program = (
        "import sys; before = set(sys.modules); import pyev; print(*set(sys.modules) - before)"
    )
    done = run_bare(program)
    assert done.returncode == 0
    assert not {"typing", "re", "contextlib", "importlib", "asyncio"} & set(done.stdout.split())


def test_package_tells_where_to_start() -> None:
    assert pyev.__doc__ is not None
    for name in re.findall(r"`(\w+)(?:\(\))?`", pyev.__doc__):
        assert hasattr(pyev, name) or hasattr(pyev.EventLoop, name)
