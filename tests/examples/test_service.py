"""examples/service.py, the program of `make run`: it ends well, in time, and tells the truth."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pyev

EXAMPLES = Path(__file__).parents[2] / "examples"
SERVICE = [sys.executable, "-W", "error", str(EXAMPLES / "service.py")]
KINDS = [kind.__name__ for kind in pyev.Watcher.__subclasses__()]
MISSING = ~pyev.supported_backends() & (pyev.EVBACKEND_KQUEUE | pyev.EVBACKEND_PORT)


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*SERVICE, *arguments], capture_output=True, text=True, timeout=90)


@contextmanager
def running(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A service that has said its first line."""
    with subprocess.Popen(
        [*SERVICE, "--plain", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("pyev ")
            yield process
        finally:
            process.kill()


@pytest.mark.every_backend
def test_every_watcher_sees_what_it_should(backend: int) -> None:
    names = {
        pyev.EVBACKEND_SELECT: "select",
        pyev.EVBACKEND_POLL: "poll",
        pyev.EVBACKEND_EPOLL: "epoll",
        pyev.EVBACKEND_LINUXAIO: "linuxaio",
        pyev.EVBACKEND_IOURING: "io_uring",
    }
    if backend not in names:
        pytest.skip("the service has no name for this backend")
    done = run("--plain", "--seconds", "3", "--backend", names[backend])
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f", {names[backend]}" in done.stdout.splitlines()[0]
    assert done.stdout.splitlines()[-1].startswith("Every watcher saw what it should have")
    table = [line.split() for line in done.stdout.splitlines() if line.endswith(" ok")]
    assert {words[0] for words in table} >= set(KINDS) - {"Embed"}


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_cleanly(signum: signal.Signals, status: int) -> None:
    with running("--seconds", "60") as process:
        process.send_signal(signum)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (status, "")
    assert "tidied up" in out.splitlines()[-1]


def test_it_says_which_watcher_saw_too_little() -> None:
    """Its settings are not edited although it believes so: Stat, and only Stat, is named."""
    sabotage = f"""if True:
        import sys
        sys.path.insert(0, {str(EXAMPLES)!r})
        sys.argv[1:] = ["--plain", "--seconds", "2"]
        import service
        def edit(self):
            self.stat.caused += 1
        service.Service.edit_settings = edit
        sys.exit(service.main())
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", sabotage], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 1, done.stdout
    assert done.stderr == ("service: Stat (settings.toml, edited) saw 0, should have seen 3\n")


def test_live_table_on_a_terminal() -> None:
    pytest.importorskip("rich")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    process = subprocess.Popen(
        [*SERVICE, "--seconds", "2"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError:  # Linux's way to say that nobody has the other end any more.
        pass
    finally:
        os.close(ours)
    assert process.wait(timeout=60) == 0, shown.decode()
    text = shown.decode()
    assert all(kind in text for kind in KINDS)
    assert "Every watcher saw what it should have" in text
    assert text.count("\x1b[?25h") == text.count("\x1b[?25l"), "the cursor is shown again"


def test_reader_that_has_gone_ends_it() -> None:
    with running("--seconds", "60") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 1
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_help_tells_the_exit_statuses() -> None:
    done = run("--help")
    assert done.returncode == 0
    for text in ("--seconds", "--backend", "--plain", "130", "143"):
        assert text in done.stdout


@pytest.mark.parametrize("seconds", ["1", "-5", "nan", "soon"])
def test_nonsense_is_refused(seconds: str) -> None:
    done = run(f"--seconds={seconds}")
    assert done.returncode == 2
    assert "--seconds" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not MISSING, reason="every backend is there")
def test_missing_backend_is_named() -> None:
    name = "kqueue" if MISSING & pyev.EVBACKEND_KQUEUE else "port"
    done = run("--backend", name)
    assert done.returncode == 2
    assert done.stderr.startswith("service: ")
    assert "Traceback" not in done.stderr
