"""Random use of child processes: on our loop it shows, step by step, what it shows on asyncio's
own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyev
from alike_kit import Steps, examples

# A program either waits for its standard input, or its end is waited for before the next step: so
# nothing depends on who is quicker. What one that is killed had written does, and is left out.

SHELL = "/bin/sh", "-c"
SILENT: dict[str, tuple[str, ...]] = {
    "true": ("true",),
    "false": ("false",),
    "exits": (*SHELL, "exit 3"),
    "kills itself": (*SHELL, "kill -9 $$"),
    "missing": ("/missing/program",),
    "no program": ("/dev/null",),
    "folder": ("/",),
}
READING: dict[str, tuple[str, ...]] = {
    "cat": ("cat",),
    "head": ("head", "-c", "10"),
    "two lines": (*SHELL, "read x; echo $x; exec 1>&-; read y"),
    "both": (*SHELL, "echo out; echo err >&2; exec cat"),
}
PROGRAMS = SILENT | READING

SIGNALS = [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1, 0, 1000, "SIGTERM"]
INPUTS = st.sampled_from([None, b"", b"a\n", b"a\nb\n", b"line\n" * 1000])
MORE = b"a line\n" * 40_000  # than a pipe has room for

child = st.fixed_dictionaries(
    {
        "program": st.sampled_from(list(PROGRAMS)),
        "stdin": st.sampled_from(["PIPE", "PIPE", "PIPE", "DEVNULL", "file"]),
        "stdout": st.sampled_from(["PIPE", "PIPE", "DEVNULL", "file", "number"]),
        "stderr": st.sampled_from(["PIPE", "STDOUT", "DEVNULL", "file", "number"]),
    }
)
of_transport = st.one_of(
    st.tuples(st.just("send_signal"), st.sampled_from(SIGNALS)),
    st.tuples(st.just("get_pipe_transport"), st.integers(0, 3)),
    st.tuples(
        st.sampled_from(
            ["terminate", "kill", "close", "is_closing", "get_returncode", "get_pid", "_wait"]
        )
    ),
)
of_stdin = st.one_of(
    st.tuples(st.just("write"), INPUTS),
    st.tuples(st.just("writelines"), st.lists(INPUTS, max_size=2)),
    st.tuples(st.sampled_from(["write_eof", "close stdin", "can_write_eof", "abort stdin"])),
)
of_process = st.one_of(
    st.tuples(st.just("communicate"), INPUTS | st.just(MORE)),
    st.tuples(st.sampled_from(["wait", "cancel wait", "drain", "wait_closed", "returncode"])),
    st.tuples(st.just("read"), st.integers(0, 20)),
)
reaction = st.one_of(of_transport, of_stdin, st.tuples(st.just("raise")))
reactions = st.dictionaries(
    st.sampled_from(["made", "exited", "lost"]), st.lists(reaction, max_size=2)
)


class Use(Steps):
    """The use of a child process on a loop."""

    process: Any = None  # asyncio.subprocess.Process, if it is one
    transport: Any = None

    child: dict[str, str]

    def __init__(self, loop: Any) -> None:
        super().__init__(loop)
        self.tasks: list[tuple[str, asyncio.Task[Any]]] = []
        self.input = b""
        self.read = 0
        self.killed = self.fed = self.over = False
        self.file = self.stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self.null = self.stack.enter_context(open(os.devnull, "rb"))  # noqa: SIM115

    def options(self) -> dict[str, Any]:
        files = {"file": self.file, "number": self.file.fileno()}
        return {
            name: getattr(subprocess, self.child[name], None)
            or (self.null if name == "stdin" else files[self.child[name]])
            for name in ("stdin", "stdout", "stderr")
        }

    def stdin(self) -> Any:
        return self.transport.get_pipe_transport(0)

    def blocked(self) -> bool:
        """Whether the program is alive until something is done to it."""
        program = self.child["program"]
        if program not in READING or self.child["stdin"] != "PIPE" or self.killed or self.over:
            return False
        if self.fed or self.stdin().is_closing():
            return False
        lines = self.input.count(b"\n")
        return not (program == "head" and len(self.input) >= 10) and not (
            program == "two lines" and lines >= 2
        )

    async def settle(self) -> None:
        for _ in range(8):
            await asyncio.sleep(0)
        if not self.over and not self.blocked():
            code = await self.transport._wait()
            while self.transport._loop is not None:  # connection_lost() is yet to come
                await asyncio.sleep(0)
            self.note("ends", code)
            for _ in range(8):
                await asyncio.sleep(0)
            self.over = True

    def do(self, step: Any, sure: bool = True) -> None:
        """What needs no waiting."""
        what, arguments = step[0], step[1:]
        transport = self.transport
        deadly = what in ("terminate", "kill", "close") or (
            what == "send_signal" and arguments[0] != 0
        )
        if not sure and not self.blocked() and what not in ALWAYS_SURE:
            return
        if what == "_wait":
            self.tasks.append((what, self.loop.create_task(transport._wait())))
            return
        if arguments == ("SIGTERM",) and transport.get_returncode() is not None:
            return  # not each version of asyncio looks at it when the child is gone
        target = transport
        if what in ("write", "writelines", "write_eof", "can_write_eof") or "stdin" in what:
            target = self.process.stdin if self.process else self.stdin()
            if target is None:
                return
            what = what.removesuffix(" stdin")
            if what == "abort":
                target = self.stdin()
                if target.is_closing():  # asyncio's own has called connection_lost() twice
                    return
        alive = self.blocked()
        try:
            match what:
                case "raise":
                    self.note("raises")
                    raise ZeroDivisionError("of the protocol")
                case "get_pid":
                    result = transport.get_pid() == os.getpid() or transport.get_pid() > 0
                case "get_pipe_transport":
                    found = transport.get_pipe_transport(*arguments)
                    result = [isinstance(found, one) for one in KINDS]
                case "terminate" | "kill" | "send_signal" if self.process:
                    result = getattr(self.process, what)(*arguments)
                case _:
                    result = getattr(target, what)(*arguments)
        except ZeroDivisionError:
            raise
        except AssertionError:
            result = TypeError  # it is one on ours
        except Exception as error:
            result = type(error)
        else:
            if what == "write" and alive:
                self.input += arguments[0]
            if what == "writelines" and alive:
                self.input += b"".join(arguments[0])
            if deadly and alive:
                self.killed = True
        self.note(what, *arguments, result)

    async def step(self, step: Any) -> None:
        what, arguments = step[0], step[1:]
        process = self.process
        match what:
            case "communicate":
                if self.pending("communicate"):
                    return
                self.fed = bool(process.stdin and arguments[0] is not None)
                self.tasks.append((what, self.loop.create_task(process.communicate(*arguments))))
            case "wait":
                self.tasks.append((what, self.loop.create_task(process.wait())))
            case "cancel wait":
                task = self.loop.create_task(process.wait())
                await asyncio.sleep(0)
                self.note(what, task.cancel())
                self.note(type((await asyncio.gather(task, return_exceptions=True))[0]))
            case "drain" if process.stdin:
                await self.noting(what, process.stdin.drain())
            case "wait_closed" if process.stdin and self.over:
                await self.noting(what, process.stdin.wait_closed())
            case "returncode":
                self.note(what, process.returncode)
            case "read" if process.stdout and not self.pending("communicate"):
                size = arguments[0]
                if self.over or (
                    self.child["program"] == "cat"
                    and not self.killed
                    and self.read + size <= len(self.input)
                ):
                    await self.noting(what, process.stdout.readexactly(size))
                    self.read += size
            case _:
                self.do(step)

    def pending(self, what: str) -> bool:
        return any(name == what and not task.done() for name, task in self.tasks)

    async def noting(self, what: str, coroutine: Any) -> None:
        try:
            result = await coroutine
        except Exception as error:
            result = type(error)
        self.note(what, None if self.killed and what == "read" else result)

    async def start(self, arguments: Any, options: Any) -> None:
        raise NotImplementedError

    async def main(self, child: dict[str, str], steps: list[Any]) -> None:
        self.child = child
        try:
            await self.start(PROGRAMS[child["program"]], self.options())
        except Exception as error:
            self.note("refused", type(error))
            return
        await self.settle()
        for step in steps:
            await self.step(step)
            await self.settle()
        await self.end()
        self.transport.close()
        self.file.seek(0)
        self.note("file", None if self.killed else self.file.read())

    async def end(self) -> None:
        if not self.over:
            self.note("at the end")
            self.stdin().close()
            await self.settle()
        found = await asyncio.gather(*[task for _, task in self.tasks], return_exceptions=True)
        for (what, _), result in zip(self.tasks, found, strict=True):
            if isinstance(result, BaseException):
                result = type(result)
            self.note("result", what, None if self.killed and what == "communicate" else result)


# What does not depend on whether it has ended yet.
ALWAYS_SURE = {"get_pid", "get_pipe_transport", "is_closing", "raise", "_wait"}

KINDS = [asyncio.ReadTransport, asyncio.WriteTransport, type(None)]


class Streams(Use):
    async def start(self, arguments: Any, options: Any) -> None:
        self.process = await asyncio.create_subprocess_exec(*arguments, **options)
        self.transport = self.process._transport
        for name, fd in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
            self.note(name, type(getattr(self.process, name)) is not type(None), fd)


class Protocol(asyncio.SubprocessProtocol):
    def __init__(self, use: Calls) -> None:
        self.use = use

    def connection_made(self, transport: Any) -> None:
        self.use.transport = transport
        self.use.saw("made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        assert type(data) is bytes
        assert fd not in self.use.losses
        self.use.data[fd] = self.use.data.get(fd, b"") + data

    def pipe_connection_lost(self, fd: int, exc: Any) -> None:
        assert fd not in self.use.losses
        self.use.losses[fd] = type(exc)

    def process_exited(self) -> None:
        self.use.saw("exited")

    def connection_lost(self, exc: Any) -> None:
        self.use.saw("lost", type(exc))


class Calls(Use):
    def __init__(self, loop: Any) -> None:
        super().__init__(loop)
        self.calls: list[Any] = []
        self.data: dict[int, bytes] = {}
        self.losses: dict[int, Any] = {}

    async def main(self, child: Any, steps: list[Any], reactions: Any = ()) -> None:
        self.reactions = dict(reactions)
        await super().main(child, steps)

    def saw(self, event: str, *what: Any) -> None:
        self.calls.append(event)
        self.note(event, event == "made" or self.transport.get_returncode(), *what)
        if event == "lost":
            assert len(self.losses) == list(self.child.values()).count("PIPE")
        for step in self.reactions.pop(event, ()):
            self.do(step, sure=event != "made")

    async def start(self, arguments: Any, options: Any) -> None:
        transport, protocol = await self.loop.subprocess_exec(
            lambda: Protocol(self), *arguments, **options
        )
        assert transport is self.transport
        assert protocol.use is self

    async def end(self) -> None:
        await super().end()
        assert self.calls == ["made", "exited", "lost"]
        if self.killed:
            self.data.clear()
            self.losses = dict.fromkeys(self.losses)
        self.note(sorted(self.data.items()), sorted(self.losses.items()))


@pytest.fixture(autouse=True)
def _threads_of_asyncio() -> Iterator[None]:
    """Where it waits by threads, they stay for a moment."""
    yield
    for thread in threading.enumerate():
        if "waitpid" in thread.name:
            thread.join()


@examples(50)
@given(child, st.lists(st.one_of(of_process, of_stdin, of_transport), max_size=6))
def test_streams(child: Any, steps: Any) -> None:
    theirs = Streams.on(asyncio.SelectorEventLoop, child, steps).seen()
    ours = Streams.on(pyev.new_event_loop, child, steps).seen()
    assert ours == theirs


@examples(50)
@given(child, reactions, st.lists(st.one_of(of_stdin, of_transport), max_size=6))
def test_calls(child: Any, reactions: Any, steps: Any) -> None:
    theirs = Calls.on(asyncio.SelectorEventLoop, child, steps, reactions).seen()
    ours = Calls.on(pyev.new_event_loop, child, steps, reactions).seen()
    assert ours == theirs


WRONG = {
    "program": [7, None, b"true", "", "tr\0ue", ["true"], ("true", "x")],
    "arguments": [[7], ["a\0b"], [b"x"], [None]],
    "stdin": ["text", -7, 1000, subprocess.STDOUT, 2.5],
    "stdout": ["text", -7, 1000, subprocess.STDOUT, 2.5],
    "stderr": ["text", -7, 1000, 2.5],
    "limit": [0, -1, "x"],
    "universal_newlines": [True, 0],
    "text": [True, False],
    "shell": [True, 0],
    "bufsize": [1, -1, None],
    "encoding": ["utf-8", None],
    "errors": ["strict", None],
    "cwd": ["/missing", b"/", 7],
    "env": [{}, {"a": "b"}, {"a": 1}, {"a=": "b"}, 7],
    "executable": ["/missing", "true"],
    "preexec_fn": [7, lambda: 1 / 0],
    "close_fds": [False, None],
    "pass_fds": [(1000,), (-1,), ("x",), 7],
    "start_new_session": [True, "x"],
    "process_group": [0, -2, "x"],
    "user": [-5, "nobody there", 2.5],
    "group": [-5, "nobody there", 2.5],
    "extra_groups": [7, ["nobody there"], [-5]],
    "umask": [-1, 0o22, "x"],
    "pipesize": [-1, 4096, "x"],
    "restore_signals": [False],
    "creationflags": [0, 7],
    "unknown": [1],
}
wrong = st.dictionaries(st.sampled_from(list(WRONG)), st.integers(0, 6), max_size=2).map(
    lambda found: {name: WRONG[name][index % len(WRONG[name])] for name, index in found.items()}
)


class Refused(Steps):
    async def main(self, given: dict[str, Any], shell: bool) -> None:
        arguments = {"stdin": -3, "stdout": -3, "stderr": -3} | given
        program = arguments.pop("program", "true")
        more = arguments.pop("arguments", [])
        try:
            if shell:
                process = await asyncio.create_subprocess_shell(program, **arguments)
            else:
                process = await asyncio.create_subprocess_exec(program, *more, **arguments)
            self.note(await process.wait())
            process._transport.close()
        except Exception as error:
            self.note(type(error), str(error))


@examples(60)
@given(wrong, st.booleans())
def test_arguments(arguments: Any, shell: bool) -> None:
    theirs = Refused.on(asyncio.SelectorEventLoop, arguments, shell).seen()
    ours = Refused.on(pyev.new_event_loop, arguments, shell).seen()
    assert ours == theirs
