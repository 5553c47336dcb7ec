"""The programs of examples/aio: each shows what it is to show, serves, and ends when told to."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from strict import STRICT

PROGRAMS = Path(__file__).parents[2] / "examples" / "aio"

# A regular expression for each line of output.
OUTPUT = {
    "chat": [
        "blue reads red: hello",
        r"blue reads \* that line is too long",
        r"red reads \* blue has left",
        "20 clients read 19000 lines",
    ],
    "pipes": [
        "1000000000039: 1000000000039",
        "1099511627775: 3 5 5 11 17 31 41 61681",
        "90: 2 3 3 5",
        "and 8 more from 3 workers",
        "ninety: a worker died of it: ValueError: .*",
        "2305843009213693951: a worker died of it: SIGKILL",
        "3 workers are there again",
        "all have ended: True",
    ],
    "shutdown": [
        "done, with settings 0",
        "the service says SIGHUP: settings 1",
        "done, with settings 1",
        r"the service says SIGUSR1: 1\d clients, 2 answered",
        "the service says SIGTERM: finishing 10 requests",
        "10 slow requests were answered",
        "new ones are refused",
        "the service says answered 12, gave up 0",
    ],
    "threads": [
        "1000 answers, 0 wrong",
        "both have counted them: 1000",
    ],
    "udp": [
        "10 clients were told the time 200 times",
        "asked again what was lost: True",
        "our own clock is right: True",
        "nobody is there any more",
    ],
    "unix": [
        "OK",
        "another process is told hot",
        "and it is known: True",
        r"ERROR what is that\?",
        "10000 answers to 10 clients",
        "the socket is gone: True",
    ],
    "watchers": [
        "SIGUSR1: 5 clients",
        "5 clients read 500 lines",
        "the clock struck meanwhile: True",
        "the writer ended with status 3",
    ],
}

# Under the sanitizers an interpreter takes a second of the processor's time to start, which was
# more than five by the clock where others had most of it.
ARGUMENTS = {"pipes": ["--patience", "30"]} if "PYEV_SANITIZED" in os.environ else {}


def command(name: str, *arguments: object) -> list[str | Path]:
    # What is not closed or not awaited is then said on standard error, which has to be empty.
    return [*STRICT, PROGRAMS / f"{name}.py", *map(str, arguments)]


def run(name: str, *arguments: object, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(name, *arguments), input=stdin, capture_output=True, text=True, timeout=120
    )


class Service:
    """A program that serves, and what it said when it began to."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.said = self.line()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip()

    @property
    def port(self) -> int:
        match = re.search(r"(?:port |:)(\d+)", self.said)
        assert match, self.said
        return int(match[1])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 60)

    def end(self, signum: signal.Signals) -> int:
        """The exit status; nobody complained."""
        self.process.send_signal(signum)
        _, errors = self.process.communicate(timeout=60)
        assert errors == ""
        return self.process.returncode


@contextmanager
def serving(name: str, *arguments: object, stdin: int | None = None) -> Iterator[Service]:
    with subprocess.Popen(
        command(name, "--serve", *arguments),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Service(process)
        finally:
            process.kill()


@pytest.mark.parametrize("name", OUTPUT)
def test_demonstration(name: str) -> None:
    done = run(name, *ARGUMENTS.get(name, []))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    lines = done.stdout.splitlines()
    assert len(lines) == len(OUTPUT[name]), done.stdout
    for line, pattern in zip(lines, OUTPUT[name], strict=True):
        assert re.fullmatch(pattern, line), done.stdout


def test_every_program_is_run_here() -> None:
    assert {path.stem for path in PROGRAMS.glob("*.py")} == set(OUTPUT)


@pytest.mark.parametrize("name", OUTPUT)
def test_help(name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0
    assert f"{name}.py --serve" in done.stdout


# As services, with clients that know nothing of asyncio.


def test_chat() -> None:
    with serving("chat", 0) as service:
        with service.connect() as here, service.connect() as there:
            hears = there.makefile("rb")
            there.sendall(b"there\n")
            assert hears.readline() == b"* with you: nobody\n"
            here.sendall(b"here\nhello\n")
            assert hears.readline() == b"* here has come\n"
            assert hears.readline() == b"here: hello\n"
            here.close()
            assert hears.readline() == b"* here has left\n"
            hears.close()
        # With a client that stays, whom Ctrl-C does not wait for.
        with service.connect() as here:
            here.sendall(b"here\n")
            assert here.recv(100)
            assert service.end(signal.SIGINT) == 130
            assert here.recv(100) == b""


def test_unix(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with serving("unix", path) as service:
        assert service.said == f"storing at {path}"
        with socket.socket(socket.AF_UNIX) as client, client.makefile("rb") as answers:
            client.connect(str(path))
            client.sendall(b"SET tea very hot\nGET t")
            assert answers.readline() == b"OK\n"
            client.sendall(b"ea\nWHO\n")
            assert answers.readline() == b"very hot\n"
            if hasattr(socket, "SO_PEERCRED"):
                assert answers.readline() == b"YOU %d\n" % os.getpid()
            assert run("unix", "--ask", path, "GET", "tea").stdout == "very hot\n"
            assert service.end(signal.SIGINT) == 130
        assert not path.exists()
    done = run("unix", "--ask", path, "GET", "tea")
    assert done.returncode == 1
    assert done.stderr.startswith("unix: ")


def test_unix_reads_nothing_from_who_does_not_read(tmp_path: Path) -> None:
    """Its answers fill the socket, then its own buffer; then requests are not taken any more."""
    path = tmp_path / "store"
    with serving("unix", path) as service:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"SET a " + b"x" * 900 + b"\n")
            client.settimeout(1.0)
            request = b"GET a\n" * 1000
            with suppress(TimeoutError):
                for _ in range(10_000):
                    client.sendall(request)
                pytest.fail("it took everything")
        assert service.end(signal.SIGINT) == 130


def test_udp() -> None:
    with serving("udp", 0) as service:
        done = run("udp", "--ask", "127.0.0.1", service.port)
        assert re.fullmatch(r"[+-]\d+\.\d{3} ms\n", done.stdout), done.stderr
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.settimeout(60)
            client.connect(("127.0.0.1", service.port))
            for nonsense in (b"", b"x", b"told" + bytes(8)):
                client.send(nonsense)
            client.send(b"ask?" + bytes(7) + b"\x05")
            answer = client.recv(100)
            assert answer[:12] == b"told" + bytes(7) + b"\x05"
        assert service.end(signal.SIGINT) == 130
        assert run("udp", "--ask", "127.0.0.1", service.port).returncode == 1


def test_pipes() -> None:
    done = run("pipes", "--serve", 2, stdin="4\n6\nsix\n7\n")
    assert (done.returncode, done.stderr) == (0, "")
    answers = dict(line.split(":", 1) for line in done.stdout.splitlines())
    assert answers.keys() == {"4", "6", "six", "7"}
    assert (answers["4"], answers["6"], answers["7"]) == (" 2 2", " 2 3", " 7")
    assert answers["six"].startswith(" a worker died of it: ValueError")


def test_pipes_interrupted() -> None:
    theirs, ours = os.pipe()
    os.write(ours, b"10\n")
    with serving("pipes", 1, stdin=theirs) as service:
        os.close(theirs)
        assert service.said == "10: 2 5"
        assert service.end(signal.SIGINT) == 130
    os.close(ours)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_shutdown(signum: signal.Signals) -> None:
    with (
        serving("shutdown", 0) as service,
        service.connect() as client,
        client.makefile("rb") as answers,
    ):
        client.sendall(b"0\n0.5\n")
        assert answers.readline() == b"done, with settings 0\n"
        assert service.end(signum) == 0
        assert answers.read() == b"done, with settings 0\n"


def test_shutdown_in_a_hurry() -> None:
    with (
        serving("shutdown", 0) as service,
        service.connect() as client,
        client.makefile("rb") as answers,
    ):
        client.sendall(b"0\n600\n")
        assert answers.readline() == b"done, with settings 0\n"
        service.process.send_signal(signal.SIGTERM)
        assert service.line() == "SIGTERM: finishing 1 requests"
        assert service.end(signal.SIGTERM) == 1
        assert answers.read() == b"given up\n"


def test_watchers(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    with (
        serving("watchers", 0, path) as service,
        service.connect() as client,
        client.makefile("rb") as lines,
    ):
        assert re.fullmatch(rb"-- \d\d:\d\d:\d\d --\n", lines.readline())
        with path.open("a") as file:
            file.write("more\n")
        assert next(line for line in lines if not line.startswith(b"--")) == b"more\n"
        path.write_text("anew\n")
        assert next(line for line in lines if not line.startswith(b"--")) == b"anew\n"
        service.process.send_signal(signal.SIGUSR1)
        assert service.line() == "SIGUSR1: 1 clients"
        assert service.end(signal.SIGINT) == 130
    done = run("watchers", "--serve", 0, tmp_path / "missing")
    assert done.returncode == 1
    assert "missing" in done.stderr
    assert "Traceback" not in done.stderr
