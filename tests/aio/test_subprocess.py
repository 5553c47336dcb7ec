"""Child processes of asyncio's subprocesses: who waits for them, and what is reported."""

import asyncio
import contextlib
import contextvars
import errno
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
from subprocess import PIPE

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


@pytest.mark.asyncio_fails(
    "its pidfd watcher lets the exception out", when=sys.version_info >= (3, 12), strict=False
)
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
    make = pyev._eventloop._SubprocessTransport

    def make_and_wait(*args, **options):
        transport = make(*args, **options)
        with pytest.raises(ChildProcessError):
            os.waitpid(transport.get_pid(), 0)
        return transport

    monkeypatch.setattr(pyev._eventloop, "_SubprocessTransport", make_and_wait)
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


@pytest.mark.parametrize("method", ["send_signal", "terminate", "kill"])
@pytest.mark.parametrize("by", ["popen", "number"])
def test_never_signals_a_stranger(ours, monkeypatch, by, method):
    """Once the status is taken, the number may be another process's."""
    transports = asyncio.base_subprocess.BaseSubprocessTransport

    def send_by_number(self, signum):
        self._check_proc()
        os.kill(self._proc.pid, signum)

    if by == "number":  # as newer Pythons do
        monkeypatch.setattr(transports, "send_signal", send_by_number)
        monkeypatch.setattr(transports, "terminate", lambda self: self.send_signal(15))
        monkeypatch.setattr(transports, "kill", lambda self: self.send_signal(9))
    signalled = []

    async def main():
        # A process of its own has the pipes for longer, so asyncio is not done with it.
        process = await shell("{ cat <&3 & } 3<&0; exit 3", stdin=PIPE, stdout=PIPE)
        while process.returncode is None:
            await asyncio.sleep(0.001)
        with monkeypatch.context() as patch:
            patch.setattr(os, "kill", lambda *args: signalled.append(args))
            getattr(process, method)(*(signal.SIGTERM,) * (method == "send_signal"))
        await process.communicate(b"")

    ours.run_until_complete(main())
    assert signalled == []


def test_kill_and_terminate(aloop):
    async def main():
        for name, code in (("kill", -9), ("terminate", -15)):
            process = await shell("read x", stdin=-1)
            getattr(process, name)()
            assert await process.wait() == code

    aloop.run_until_complete(main())


# Spawns that fail


SPAWNS = int(os.environ.get("PYEV_TEST_SPAWNS", "50"))


@contextlib.contextmanager
def few_descriptors(spare):
    """So many can be opened, and no more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = []
    try:
        highest = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + spare + 1, limits[1]))
        with contextlib.suppress(OSError):
            while True:
                opened.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(spare):
            os.close(opened.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in opened:
            os.close(fd)


@pytest.mark.parametrize(
    ("args", "options", "error"),
    [
        (["/nowhere/at/all"], {}, FileNotFoundError),
        (["/"], {}, PermissionError),
        ([SHELL, "a\0b"], {}, ValueError),
        ([SHELL], {"cwd": "/nowhere/at/all"}, FileNotFoundError),
        ([SHELL], {"env": {"a=b": "c"}}, ValueError),
        ([SHELL], {"pass_fds": [-1]}, ValueError),
    ],
    ids=["program", "folder", "nul", "cwd", "environment", "descriptor"],
)
def test_failing_spawns_leave_nothing(aloop, args, options, error):
    async def main():
        for _ in range(SPAWNS):
            with pytest.raises(error):
                await asyncio.create_subprocess_exec(*args, stdin=-1, stdout=-1, **options)
            # No process either: `tidy` would see that only now, and one may have ended by then.
            with pytest.raises(ChildProcessError):
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)

    aloop.run_until_complete(main())


@pytest.mark.skipif(
    sys.version_info < (3, 11, 7), reason="subprocess leaves pipes open itself, in early 3.11"
)
def test_spawns_without_descriptors_leave_nothing(aloop):
    """Pipe by pipe: OSError, until there are enough."""

    async def main(spare):
        with few_descriptors(spare):
            try:
                process = await shell("cat", stdin=-1, stdout=-1, stderr=-1)
            except OSError as error:
                assert error.errno == errno.EMFILE
                return False
        assert await process.communicate(b"x") == (b"x", b"")
        for _ in range(3):  # its pipes are closed a turn after their end was read
            await asyncio.sleep(0)
        return True

    def open_now():
        return sorted(os.listdir("/proc/self/fd"))

    aloop.run_until_complete(asyncio.sleep(0.01))  # what the loop needs for waiting, it has now
    assert aloop.run_until_complete(main(64))
    before = open_now()
    for _ in range(max(1, SPAWNS // 50)):
        worked = []
        for spare in range(16):
            worked.append(aloop.run_until_complete(main(spare)))
            assert open_now() == before
        # Three pipes, and in some Pythons one by which the child says why it cannot start.
        enough = worked.index(True)
        assert enough in (6, 8)
        assert worked == [False] * enough + [True] * (16 - enough)


# What a child gets


# Which descriptors are open, without opening one to see.
OPEN_DESCRIPTORS = (
    "n=0; while [ $n -lt 300 ]; do [ -e /proc/$$/fd/$n ] && echo $n; n=$((n+1)); done"
)


def test_standard_streams_and_passed_descriptors_only(aloop):
    async def main(*passed):
        process = await shell(OPEN_DESCRIPTORS, stdin=-1, stdout=-1, stderr=-1, pass_fds=passed)
        out, err = await process.communicate()
        assert err == b""
        assert [int(number) for number in out.split()] == sorted([0, 1, 2, *passed])

    ends = os.pipe() + os.pipe()
    for end in ends:
        os.set_inheritable(end, True)
    try:
        aloop.run_until_complete(main())
        aloop.run_until_complete(main(ends[0], ends[3]))
    finally:
        for end in ends:
            os.close(end)


def test_a_passed_descriptor_is_of_use(aloop):
    async def main():
        process = await shell(f"echo word > /proc/self/fd/{w}", pass_fds=(w,))
        assert await process.wait() == 0
        assert os.get_inheritable(w) is False

    r, w = os.pipe()
    try:
        aloop.run_until_complete(main())
        assert os.read(r, 10) == b"word\n"
    finally:
        os.close(r)
        os.close(w)


def test_signals_are_as_in_any_other_process(aloop):
    """None is blocked, and of those that Python ignores none is: SIGPIPE ends it."""

    async def main():
        for number in (signal.SIGUSR1, signal.SIGINT):
            aloop.add_signal_handler(number, pytest.fail)
        process = await asyncio.create_subprocess_exec("/bin/cat", "/proc/self/status", stdout=-1)
        out, _ = await process.communicate()
        lines = dict(line.split(b":\t", 1) for line in out.splitlines())
        assert int(lines[b"SigBlk"], 16) == 0
        ignored = int(lines[b"SigIgn"], 16)
        assert not ignored & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1))
        for number in (signal.SIGUSR1, signal.SIGINT):
            aloop.remove_signal_handler(number)

    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
    aloop.run_until_complete(main())


@pytest.mark.parametrize("loop", ["pyev.EventLoop", "asyncio.SelectorEventLoop"])
def test_no_hook_of_a_fork_runs(script, loop):
    """They may take locks that another thread has."""
    program = f"""
    import asyncio, os, pyev
    seen = []
    for when in ("before", "after_in_child", "after_in_parent"):
        os.register_at_fork(**{{when: lambda when=when: seen.append(when)}})
    async def main():
        process = await asyncio.create_subprocess_exec("/bin/true")
        assert await process.wait() == 0
        process = await asyncio.create_subprocess_shell("exit 3", stdin=-1, stdout=-1)
        await process.communicate()
        assert process.returncode == 3
    with asyncio.Runner(loop_factory={loop}) as runner:
        runner.run(main())
    print(len(seen))
    """
    assert script(program) == "0\n"


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


def pidfds():
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if "pidfd" in os.readlink(f"/proc/self/fd/{name}"):
                yield int(name)


@pytest.mark.skipif(sys.platform != "linux", reason="pidfds are Linux's")
@pytest.mark.parametrize("by", ["nothing", "what is ready", "another's pidfd"])
def test_a_pidfd_that_the_program_closes(ours, pair, by):
    """Its number may be another file's then."""

    async def main():
        process = await shell("read x; exit 7", stdin=PIPE)
        other = await shell("read x; exit 8", stdin=PIPE)
        first, second = sorted(pidfds())
        if by == "nothing":
            os.close(first)
        elif by == "what is ready":
            pair[1].send(b"x")
            os.dup2(pair[0].fileno(), first)
        else:
            os.dup2(second, first)
        ours.ev.reset()  # who has it now is looked at
        other.stdin.close()
        assert await other.wait() == 8
        for _ in range(3):
            await asyncio.sleep(0.001)
        assert process.returncode is None
        process.stdin.close()
        assert await process.wait() == 7
        if by != "nothing":
            os.fstat(first)  # it is not ours to close
            os.close(first)

    ours.run_until_complete(asyncio.wait_for(main(), 20))
