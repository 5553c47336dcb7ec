"""The programs of `make run`, the same service on watchers and on asyncio beside watchers.

They end well, in time, and tell the truth.
"""

import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pyev
from strict import STRICT

EXAMPLES = Path(__file__).parents[2] / "examples"
KINDS = [kind.__name__ for kind in pyev.Watcher.__subclasses__()]
AIO_KINDS = ["Streams", "Protocol", "Datagram", "Queue", "timeout", "Process", "Task"]
AIO_KINDS += ["Io", "Timer", "Periodic", "Scheduler", "Signal", "Child", "Stat", "Async", "Cleanup"]
MISSING = ~pyev.supported_backends() & (pyev.EVBACKEND_KQUEUE | pyev.EVBACKEND_PORT)


@pytest.fixture(params=["service", "service_aio"])
def program(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def command(program: str, *arguments: str) -> list[str]:
    return [*STRICT, str(EXAMPLES / f"{program}.py"), *arguments]


def run(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command(program, *arguments), capture_output=True, text=True, timeout=90)


@contextmanager
def running(program: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A service that has said its first line."""
    with subprocess.Popen(
        command(program, "--plain", *arguments),
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
def test_everything_sees_what_it_should(backend: int, program: str) -> None:
    names = {
        pyev.EVBACKEND_SELECT: "select",
        pyev.EVBACKEND_POLL: "poll",
        pyev.EVBACKEND_EPOLL: "epoll",
        pyev.EVBACKEND_LINUXAIO: "linuxaio",
        pyev.EVBACKEND_IOURING: "io_uring",
    }
    if backend not in names:
        pytest.skip("the service has no name for this backend")
    if program == "service_aio" and backend == pyev.EVBACKEND_IOURING:
        pytest.skip("clients come and go at once, and libev's io_uring may end the process")
    done = run(program, "--plain", "--seconds", "3", "--backend", names[backend])
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f", {names[backend]}: " in done.stdout.splitlines()[0]
    assert ", all that they should have, in " in done.stdout.splitlines()[-1]
    table = [line.split() for line in done.stdout.splitlines() if line.endswith(" ok")]
    kinds = {"service": KINDS, "service_aio": AIO_KINDS}[program]
    assert {words[0] for words in table} >= set(kinds) - {"Embed"}


def test_tls_is_served() -> None:
    pytest.importorskip("trustme")
    done = run("service_aio", "--plain", "--seconds", "2")
    assert "clients over TLS" in done.stdout


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_cleanly(program: str, signum: signal.Signals, status: int) -> None:
    with running(program, "--seconds", "60") as process:
        process.send_signal(signum)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (status, "")
    assert "tidied up" in out.splitlines()[-1]


def test_it_says_what_saw_too_little(program: str) -> None:
    """Its settings are not edited although it believes so: Stat, and only Stat, is named."""
    sabotage = f"""if True:
        import sys
        sys.path.insert(0, {str(EXAMPLES)!r})
        sys.argv[1:] = ["--plain", "--seconds", "2"]
        import {program} as program
        def edit(self):
            self.stat.caused += 1
        program.Service.edit_settings = edit
        sys.exit(program.main())
    """
    done = subprocess.run([*STRICT, "-c", sabotage], capture_output=True, text=True, timeout=90)
    assert done.returncode == 1, done.stdout
    assert done.stderr == ("service: Stat (settings.toml, edited) saw 0, should have seen 3\n")


def test_a_client_that_complains_is_told_of() -> None:
    """One of the coroutines believes that it has had a wrong answer."""
    sabotage = f"""if True:
        import sys
        sys.path.insert(0, {str(EXAMPLES)!r})
        sys.argv[1:] = ["--plain", "--seconds", "2"]
        import service_aio
        from quotes.aio import clients
        async def piper(self):
            raise clients.Wrong("not what I asked for")
        clients.Clients.piper = piper
        sys.exit(service_aio.main())
    """
    done = subprocess.run([*STRICT, "-c", sabotage], capture_output=True, text=True, timeout=90)
    assert done.returncode == 1, done.stdout
    assert "piper: Wrong('not what I asked for')" in done.stderr
    assert "service: Task (clients on this loop) saw " in done.stderr


def test_an_exception_in_a_callback_ends_it() -> None:
    sabotage = f"""if True:
        import sys
        sys.path.insert(0, {str(EXAMPLES)!r})
        sys.argv[1:] = ["--plain", "--seconds", "60"]
        import service_aio
        def second_passed(self, watcher, revents):
            raise ZeroDivisionError("in a watcher")
        service_aio.Service.second_passed = second_passed
        sys.exit(service_aio.main())
    """
    done = subprocess.run([*STRICT, "-c", sabotage], capture_output=True, text=True, timeout=90)
    assert done.returncode == 1, done.stdout
    assert done.stderr.rstrip().endswith("ZeroDivisionError: in a watcher")


def test_a_slow_terminal_leaves_time_for_the_rest(program: str) -> None:
    """Drawing takes longer than until the next time, so its timer is due in every turn."""
    sabotage = f"""if True:
        import sys, time
        sys.path.insert(0, {str(EXAMPLES)!r})
        sys.argv[1:] = ["--plain", "--seconds", "2"]
        import {program} as program
        quick = program.Service.refreshed
        def slow(self, watcher, revents):
            time.sleep(0.11)
            quick(self, watcher, revents)
        program.Service.refreshed = slow
        sys.exit(program.main())
    """
    done = subprocess.run([*STRICT, "-c", sabotage], capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_live_table_on_a_terminal(program: str) -> None:
    pytest.importorskip("rich")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "24"}
    process = subprocess.Popen(
        command(program, "--seconds", "2"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
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
    kinds = {"service": KINDS, "service_aio": AIO_KINDS}[program]
    assert all(kind in text for kind in kinds)
    assert "all that they should have" in text
    assert "..." not in text, "it does not fit on the terminal"
    assert text.count("\x1b[?25h") == text.count("\x1b[?25l"), "the cursor is shown again"


def test_reader_that_has_gone_ends_it(program: str) -> None:
    with running(program, "--seconds", "60") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 1
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_help_tells_the_exit_statuses(program: str) -> None:
    done = run(program, "--help")
    assert done.returncode == 0
    for text in ("--seconds", "--backend", "--plain", "130", "143"):
        assert text in done.stdout


@pytest.mark.parametrize("seconds", ["1", "-5", "nan", "soon"])
def test_nonsense_is_refused(program: str, seconds: str) -> None:
    done = run(program, f"--seconds={seconds}")
    assert done.returncode == 2
    assert "--seconds" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not MISSING, reason="every backend is there")
def test_missing_backend_is_named(program: str) -> None:
    name = "kqueue" if MISSING & pyev.EVBACKEND_KQUEUE else "port"
    done = run(program, "--backend", name)
    assert done.returncode == 2
    assert done.stderr.startswith("service: ")
    assert "Traceback" not in done.stderr
