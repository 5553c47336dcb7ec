"""Child processes of asyncio's subprocesses: who waits for them, and what is reported."""

import asyncio
import contextlib
import contextvars
import logging
import os
import signal
import subprocess
import sys
import threading

import pytest

import pyev

SHELL = "/bin/sh"


def shell(script, **options):
    return asyncio.create_subprocess_exec(SHELL, "-c", script, **options)


async def code_of(script):
    process = await shell(script)
    return await process.wait()


@pytest.fixture(autouse=True)
def _threads_of_asyncio():
    """Where it waits by threads, they stay for a moment."""
    yield
    for thread in threading.enumerate():
        if "waitpid" in thread.name:
            thread.join()


@pytest.fixture
def warned(caplog):
    caplog.set_level(logging.WARNING, "asyncio")
    return lambda: [r.getMessage() for r in caplog.records if "255" in r.getMessage()]


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -9 $$", -9), ("kill -15 $$", -15)],
)
def test_exit_codes(aloop, warned, script, code):
    assert aloop.run_until_complete(code_of(script)) == code
    assert warned() == []


def test_output_and_input(aloop):
    async def main():
        process = await shell("cat; echo err >&2; exit 7", stdin=-1, stdout=-1, stderr=-1)
        assert await process.communicate(b"x" * 100_000) == (b"x" * 100_000, b"err\n")
        assert process.returncode == 7

    aloop.run_until_complete(main())


def test_protocol_is_told_once(aloop):
    told = []

    class Told(asyncio.SubprocessProtocol):
        def process_exited(self):
            told.append("exited")

        def connection_lost(self, exc):
            told.append(exc)
            done.set_result(None)

    async def main():
        transport, _ = await aloop.subprocess_exec(
            Told, SHELL, "-c", "exit 4", stdin=None, stdout=None, stderr=None
        )
        await done
        assert transport.get_returncode() == 4
        transport.close()

    done = aloop.create_future()
    aloop.run_until_complete(main())
    assert told == ["exited", None]


def test_many_at_once(aloop):
    async def main():
        processes = [await shell(f"exit {i % 50}") for i in range(100)]
        codes = await asyncio.gather(*(process.wait() for process in processes))
        assert codes == [i % 50 for i in range(100)]

    aloop.run_until_complete(main())


def test_ends_before_anybody_waits(aloop):
    async def main():
        process = await shell("exit 5")
        with contextlib.suppress(ChildProcessError):  # a thread of asyncio's was quicker
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert await process.wait() == 5

    aloop.run_until_complete(main())


def test_children_of_others_are_left_alone(aloop):
    async def main():
        with subprocess.Popen([SHELL, "-c", "exit 9"]) as other:
            os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
            assert await code_of("exit 2") == 2
            assert other.wait() == 9

    aloop.run_until_complete(main())


def test_no_signal_handler_and_no_thread(ours):
    before = signal.getsignal(signal.SIGCHLD)
    threads = threading.enumerate()

    async def main():
        process = await shell("read x", stdin=-1)
        assert threading.enumerate() == threads
        assert signal.getsignal(signal.SIGCHLD) is before
        process.stdin.close()
        await process.wait()

    ours.run_until_complete(main())


def test_in_another_thread(factory):
    codes = []

    def run():
        loop = factory()
        try:
            codes.append(loop.run_until_complete(code_of("exit 6")))
        finally:
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert codes == [6]


def test_two_loops_at_once(ours):
    def run():
        codes.append(pyev.run(code_of("exit 6")))

    async def main():
        process = await shell("read x; exit 8", stdin=-1)
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        process.stdin.close()
        assert await process.wait() == 8

    codes = []
    ours.run_until_complete(main())
    assert codes == [6]


def test_a_handler_of_sigchld(aloop):
    """Ours and the loop's do not know of each other."""
    seen = []
    previous = signal.signal(signal.SIGCHLD, lambda *_: seen.append(1))
    try:
        assert aloop.run_until_complete(code_of("exit 3")) == 3
    finally:
        signal.signal(signal.SIGCHLD, previous)
    assert seen


def test_sigchld_is_ignored(aloop, warned):
    """The kernel forgets the status."""
    previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert aloop.run_until_complete(code_of("exit 3")) == 255
    finally:
        signal.signal(signal.SIGCHLD, previous)
    assert len(warned()) == 1


def test_gone_before_it_can_be_watched(ours, warned, monkeypatch):
    """SIGCHLD is ignored, and the process has ended before the loop knows of it."""
    make = asyncio.unix_events._UnixSubprocessTransport

    def make_and_wait(*args, **options):
        transport = make(*args, **options)
        with pytest.raises(ChildProcessError):
            os.waitpid(transport.get_pid(), 0)
        return transport

    monkeypatch.setattr(asyncio.unix_events, "_UnixSubprocessTransport", make_and_wait)
    previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert ours.run_until_complete(code_of("exit 3")) == 255
    finally:
        signal.signal(signal.SIGCHLD, previous)
    assert len(warned()) == 1


def test_somebody_else_has_taken_the_status(ours, warned):
    async def main():
        process = await shell("exit 3")
        os.waitpid(process.pid, 0)
        assert await process.wait() == 255

    ours.run_until_complete(main())
    assert len(warned()) == 1


def test_popen_has_taken_the_status(ours, warned):
    """send_signal() and close() let Popen look first, and it knows what it saw."""

    async def main():
        process = await shell("exit 3")
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        popen = process._transport.get_extra_info("subprocess")
        assert popen.poll() == 3
        process.kill()
        assert await process.wait() == 3

    ours.run_until_complete(main())
    assert warned() == []


def test_never_signals_a_stranger(ours, monkeypatch):
    """Once the status is taken, the number may be another process's."""
    signalled = []

    async def main():
        process = await shell("exit 3")
        popen = process._transport.get_extra_info("subprocess")
        while popen.returncode is None:
            await asyncio.sleep(0.001)
        monkeypatch.setattr(os, "kill", lambda *args: signalled.append(args))
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()

    ours.run_until_complete(main())
    assert signalled == []


def test_kill_and_terminate(aloop):
    async def main():
        for name, code in (("kill", -9), ("terminate", -15)):
            process = await shell("read x", stdin=-1)
            getattr(process, name)()
            assert await process.wait() == code

    aloop.run_until_complete(main())


@pytest.mark.parametrize(
    ("args", "options", "error"),
    [
        (["/nowhere/at/all"], {}, FileNotFoundError),
        ([SHELL, "a\0b"], {}, ValueError),
        ([SHELL], {"cwd": "/nowhere/at/all"}, FileNotFoundError),
    ],
    ids=["program", "nul", "cwd"],
)
def test_failing_spawns_leave_nothing(aloop, args, options, error):
    async def main():
        for _ in range(50):
            with pytest.raises(error):
                await asyncio.create_subprocess_exec(*args, stdin=-1, stdout=-1, **options)

    aloop.run_until_complete(main())


def test_an_empty_environment(aloop):
    async def main():
        process = await asyncio.create_subprocess_exec("/usr/bin/env", env={}, stdout=-1)
        assert (await process.communicate())[0] == b""

    aloop.run_until_complete(main())


def test_cancelled_while_it_is_made(aloop):
    """The process is killed, and waited for."""

    async def main():
        task = aloop.create_task(shell("read x", stdin=-1))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    aloop.run_until_complete(main())


def test_context_of_the_exit(aloop):
    """process_exited() sees the context variables of whoever started the process."""
    variable = contextvars.ContextVar("variable", default="none")
    seen = []

    class Told(asyncio.SubprocessProtocol):
        def process_exited(self):
            seen.append(variable.get())
            done.set_result(None)

    async def main():
        variable.set("ours")
        transport, _ = await aloop.subprocess_exec(
            Told, SHELL, "-c", "exit 4", stdin=None, stdout=None, stderr=None
        )
        await done
        await asyncio.sleep(0)
        transport.close()

    done = aloop.create_future()
    aloop.run_until_complete(aloop.create_task(main()))
    if sys.version_info >= (3, 12) or isinstance(aloop, pyev.EventLoop):
        assert seen == ["ours"]


class WithoutPidfds(pyev.EventLoop):
    """A loop on a kernel that has none, or in a process that has no descriptor to spare."""

    refusal: Exception = pyev.Error("no pidfd")

    @property
    def ev(self):
        return self

    def child(self, *args):
        return self

    def start(self):
        raise self.refusal


@pytest.mark.parametrize("refusal", [pyev.Error("no pidfd"), OSError(24, "none")])
def test_without_pidfds(refusal):
    loop = WithoutPidfds()
    loop.refusal = refusal
    try:
        assert loop.run_until_complete(code_of("exit 3")) == 3
    finally:
        loop.close()


def test_the_loop_is_closed_while_one_runs(ours):
    async def main():
        return await shell("read x", stdin=-1)

    process = ours.run_until_complete(main())
    popen = process._transport.get_extra_info("subprocess")
    process._transport.close()
    ours.run_until_complete(asyncio.sleep(0))
    ours.close()
    popen.wait()
