"""Random use of servers, of watched descriptors, of signal handlers, and of the loop from outside:
ours does, step by step, what asyncio's own does."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import tempfile
import warnings
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import pyev
from alike_kit import Steps, examples

SLOTS = st.integers(0, 1)


class Said(Steps):
    """Calls too, and what they said."""

    def noting(self, what: Any, function: Any, *arguments: Any) -> Any:
        try:
            result = function(*arguments)
        except Exception as error:
            self.note(what, type(error))
            return None
        self.note(what, result if isinstance(result, int | str | None) else type(result))
        return result


# Servers: one of TCP, one of unix sockets. What connects to them is no transport.

of_server = st.one_of(
    st.tuples(st.just("create"), SLOTS, st.booleans()),
    st.tuples(
        st.sampled_from(
            [
                *("start_serving", "serve_forever", "cancel serve_forever", "close", "sockets"),
                *("wait_closed", "is_serving", "get_loop", "__aenter__", "__aexit__"),
                *("close_clients", "abort_clients"),
            ]
        ),
        SLOTS,
    ),
    st.tuples(st.just("connect"), SLOTS, st.integers(1, 3)),
    st.tuples(
        st.sampled_from(["send", "shut down", "leave", "transport.close", "transport.abort"]),
        st.integers(0, 3),
    ),
)
of_servers = st.lists(st.tuples(of_server, st.booleans()), max_size=12)
welcomes = st.sampled_from([None, None, None, "raise", "close", "close server", "abort", "factory"])


class Guest(asyncio.Protocol):
    """A connection that has come in."""

    transport: Any = None

    def __init__(self, run: Servers, slot: int) -> None:
        self.run, self.slot, self.number = run, slot, len(run.guests)
        self.trace: list[Any] = []
        run.guests.append(self)
        if run.welcome == "factory":
            raise ZeroDivisionError("of the factory")

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.trace.append("made")
        match self.run.welcome:
            case "raise":
                raise ZeroDivisionError("of the protocol")
            case "close":
                transport.close()
            case "abort":
                transport.abort()
            case "close server":
                self.run.servers[self.slot].close()

    def data_received(self, data: bytes) -> None:
        self.trace.append(data)
        self.transport.write(data)

    def eof_received(self) -> bool:
        self.trace.append("eof")
        return self.number % 2 == 1

    def connection_lost(self, exc: Any) -> None:
        self.trace.append(("lost", type(exc)))


class Servers(Said):
    def state(self) -> Any:
        return [len(self.trace), *(len(guest.trace) for guest in self.guests)]

    async def main(self, welcome: str | None, steps: list[Any]) -> None:
        self.welcome = welcome
        self.servers: dict[int, Any] = {}
        self.addresses: dict[int, Any] = {}
        self.guests: list[Guest] = []
        self.clients: list[socket.socket] = []
        self.tasks: list[tuple[str, int, asyncio.Task[Any]]] = []
        with tempfile.TemporaryDirectory() as folder:
            self.folder = Path(folder)
            for step, rests in steps:
                await self.step(*step)
                if rests:
                    await self.rest()
                    self.look()
            await self.rest()
            self.look()
            for slot in self.servers:
                await self.step("close", slot)
            await self.rest()
            self.look()
            for guest in self.guests:
                if guest.transport:
                    guest.transport.abort()
            await self.rest()
            self.look()
            for _, _, task in self.tasks:
                task.cancel()
            await asyncio.gather(*(task for _, _, task in self.tasks), return_exceptions=True)

    def look(self) -> None:
        """What has become of all that is under way."""
        for name, slot, task in self.tasks:
            done = task.done() and not task.cancelled()
            self.note(name, slot, task.done(), type(task.exception()) if done else None)
        for guest in self.guests:
            self.note(guest.slot, guest.number, list(guest.trace))
        for client in self.clients:
            try:
                self.note("has got", client.recv(1000))
            except OSError as error:
                self.note("has got", type(error))

    async def step(self, what: str, slot: int, *arguments: Any) -> None:
        server = self.servers.get(slot)
        task: Any = None
        match what:
            case "create":
                if server and server.sockets:
                    return
                await self.rest()
                factory = lambda: Guest(self, slot)  # noqa: E731
                if slot:
                    path = str(self.folder / "socket")
                    made = self.loop.create_unix_server(factory, path, start_serving=arguments[0])
                else:
                    made = self.loop.create_server(
                        factory, "127.0.0.1", 0, start_serving=arguments[0]
                    )
                self.servers[slot] = await made
                self.addresses[slot] = self.servers[slot].sockets[0].getsockname()
            case "connect" if slot in self.addresses:
                for _ in range(arguments[0]):
                    self.connect(slot)
            case "send" | "shut down" | "leave" if slot < len(self.clients):
                client = self.clients[slot]
                match what:
                    case "send":
                        self.noting(what, client.send, b"hello")
                    case "shut down":
                        self.noting(what, client.shutdown, socket.SHUT_WR)
                    case "leave":
                        client.close()
            case "transport.close" | "transport.abort" if slot < len(self.guests):
                if transport := self.guests[slot].transport:
                    getattr(transport, what.partition(".")[2])()
            case _ if server is None or what in ("connect", "send", "shut down", "leave"):
                return
            case "start_serving" | "__aenter__" | "__aexit__":
                await self.rest()
                try:
                    found = await getattr(server, what)(*[None] * (what == "__aexit__" and 3))
                    self.note(what, found is server)
                except Exception as error:
                    self.note(what, type(error))
            case "serve_forever" | "wait_closed":
                task = self.loop.create_task(getattr(server, what)())
                self.tasks.append((what, slot, task))
                await self.rest()
            case "cancel serve_forever":
                for name, of, task in self.tasks:
                    if name == "serve_forever" and of == slot:
                        self.note(what, task.cancel())
            case "sockets":
                self.note(what, [type(one).__name__ for one in server.sockets])
            case "get_loop":
                self.note(what, server.get_loop() is self.loop)
            case "is_serving" | "close" | "close_clients" | "abort_clients":
                if hasattr(server, what):
                    self.noting(what, getattr(server, what))

    def connect(self, slot: int) -> None:
        client = self.stack.enter_context(
            socket.socket(socket.AF_UNIX if slot else socket.AF_INET, socket.SOCK_STREAM)
        )
        client.setblocking(False)
        try:
            client.connect(self.addresses[slot])
        except BlockingIOError:
            pass
        except OSError as error:
            self.note("connect", type(error))
        self.clients.append(client)


@examples(60)
@given(welcomes, of_servers)
def test_servers(welcome: str | None, steps: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # if the factory fails, of the socket
        theirs = Servers.on(asyncio.SelectorEventLoop, welcome, steps)
    ours = Servers.on(pyev.new_event_loop, welcome, steps)
    assert ours.seen() == theirs.seen()


# Descriptors: the ends of two pairs of sockets. A reader's callback reads, a writer's removes it.

ENDS = st.integers(0, 3)
HOW = st.sampled_from(["number", "socket"])
WRONG_FILES = [-1, 1000, 1 << 40, "3", None, 2.5, object(), b"x"]

own = st.deferred(lambda: st.lists(of_own, max_size=2))
of_own = st.one_of(
    st.tuples(st.sampled_from(["add_reader", "add_writer"]), HOW, own),
    st.tuples(st.sampled_from(["remove_reader", "remove_writer"]), HOW),
    st.tuples(st.sampled_from(["send", "raise"])),
)
of_descriptor = st.one_of(
    of_own, st.tuples(st.sampled_from(["close", "open", "detach and close", "receive"]))
)
of_wrong = st.tuples(
    st.sampled_from(["add_reader", "add_writer", "remove_reader", "remove_writer"]),
    st.integers(0, len(WRONG_FILES) - 1),
)
of_descriptors = st.lists(
    st.one_of(st.tuples(ENDS, of_descriptor, st.booleans()), of_wrong), max_size=12
)


class Descriptors(Said):
    def open(self) -> None:
        self.ends = [*socket.socketpair(), *socket.socketpair()]
        for end in self.ends:
            end.setblocking(False)

    def state(self) -> Any:
        return [len(trace) for trace in self.traces]

    async def main(self, steps: list[Any]) -> None:
        self.traces: list[list[Any]] = [[], [], [], [], self.trace]
        self.handles: dict[int, Any] = {}
        self.open()
        for step in steps:
            if len(step) == 2:
                name, index = step
                more = [lambda: None] if name.startswith("add") else []
                self.noting((name, index), getattr(self.loop, name), WRONG_FILES[index], *more)
                continue
            number, what, rests = step
            with contextlib.suppress(ZeroDivisionError):
                self.do(number, what)
            if rests:
                await self.rest()
        await self.rest()
        for end in self.ends:
            self.end(end)

    def end(self, end: socket.socket) -> None:
        if end.fileno() >= 0:
            self.note(self.loop.remove_reader(end), self.loop.remove_writer(end))
        end.close()

    def do(self, number: int, step: Any) -> None:
        what, arguments = step[0], step[1:]
        end = self.ends[number]
        note = self.traces[number].append
        match what:
            case "raise":
                raise ZeroDivisionError("of a callback")
            case "close" | "detach and close":
                self.end(end)
                return
            case "open":
                if all(end.fileno() < 0 for end in self.ends):
                    self.open()
                return
        try:
            match what:
                case "send":
                    result: Any = end.send(b"x")
                case "receive":
                    result = end.recv(1)
                case _:
                    file = end if arguments[0] == "socket" else end.fileno()
                    more = []
                    if what.startswith("add"):
                        more = [self.called, number, what, arguments[1]]
                    result = getattr(self.loop, what)(file, *more)
        except Exception as error:
            result = type(error)
        note((what, *arguments, result))

    def called(self, number: int, what: str, steps: list[Any]) -> None:
        end = self.ends[number]
        self.traces[number].append(("called", what, steps))
        if what == "add_writer":
            self.loop.remove_writer(end)
        else:
            try:
                data = end.recv(1000)
            except OSError as error:
                data = b""
                self.traces[number].append(type(error))
            if not data:
                self.loop.remove_reader(end)
        for step in steps:
            self.do(number, step)

    def seen(self) -> Any:
        return self.traces, sorted(map(repr, self.reports))


@examples(100)
@given(of_descriptors)
def test_descriptors(steps: Any) -> None:
    theirs = Descriptors.on(asyncio.SelectorEventLoop, steps)
    ours = Descriptors.on(pyev.new_event_loop, steps)
    assert ours.seen() == theirs.seen()


# Signals.

SIGNALS = [signal.SIGUSR1, signal.SIGUSR2]
WRONG_SIGNALS = [0, -1, 1000, signal.SIGKILL, signal.SIGSTOP, "SIGUSR1", None, 2.5, True, 32]

signalled = st.deferred(lambda: st.lists(of_signal, max_size=2))
of_signal = st.one_of(
    st.tuples(st.just("add"), SLOTS, signalled),
    st.tuples(st.just("remove"), SLOTS),
    st.tuples(st.just("kill"), SLOTS),
    st.tuples(st.just("raise"), SLOTS),
    st.tuples(st.just("wrong"), st.integers(0, len(WRONG_SIGNALS) - 1)),
    st.tuples(st.just("coroutine"), SLOTS),
)


class Signals(Said):
    async def main(self, steps: list[Any]) -> None:
        self.added: set[int] = set()
        for step, rests in steps:
            with contextlib.suppress(ZeroDivisionError):
                self.do(step)
            # Of several signals at once, the order is nobody's promise.
            if rests or step[0] == "kill":
                await self.rest()
        await self.rest()
        for slot in (0, 1):
            self.do(("remove", slot))

    def do(self, step: Any) -> None:
        what, slot, *steps = step
        loop = self.loop
        match what:
            case "add":
                once = list(steps[0])
                self.noting(what, loop.add_signal_handler, SIGNALS[slot], self.called, slot, once)
                self.added.add(slot)
            case "remove":
                self.noting(what, loop.remove_signal_handler, SIGNALS[slot])
                self.added.discard(slot)
                self.note(signal.getsignal(SIGNALS[slot]))
            case "kill":
                if slot in self.added:
                    os.kill(os.getpid(), SIGNALS[slot])
            case "raise":
                raise ZeroDivisionError("of a callback")
            case "wrong":
                number = WRONG_SIGNALS[slot]
                self.noting(("add", number), loop.add_signal_handler, number, self.called, 0, [])
                self.noting(("remove", number), loop.remove_signal_handler, number)
            case "coroutine":
                self.noting(what, loop.add_signal_handler, SIGNALS[slot], self.rest)

    def called(self, slot: int, steps: list[Any]) -> None:
        self.note("called", slot, len(steps))
        doing = list(steps)
        steps.clear()
        for step in doing:
            self.do(step)


@examples(100)
@given(st.lists(st.tuples(of_signal, st.booleans()), max_size=10))
def test_signals(steps: Any) -> None:
    theirs = Signals.on(asyncio.SelectorEventLoop, steps)
    ours = Signals.on(pyev.new_event_loop, steps)
    assert ours.seen() == theirs.seen()


# The loop from outside, and what it says to being used where it cannot be.

of_life = st.one_of(
    st.tuples(
        st.sampled_from(
            [
                *("run_forever", "stop", "close", "is_closed", "is_running", "get_debug"),
                *("shutdown_default_executor", "shutdown_asyncgens", "time", "create_future"),
                *("run_until_complete", "run other", "call_soon", "call_soon_threadsafe"),
                *("call_later", "call_at", "create_task", "run_in_executor", "getaddrinfo"),
                *("add_reader", "add_writer", "remove_reader", "remove_writer"),
                *("sock_recv", "sock_sendall", "sock_accept", "sock_connect", "create_server"),
                *("create_connection", "add_signal_handler", "raise", "exit"),
                *("remove_signal_handler", "subprocess_exec", "slow_callback_duration"),
                *("set_exception_handler", "set_task_factory", "set_default_executor"),
                *("call_exception_handler", "get_task_factory", "get_exception_handler"),
            ]
        )
    ),
    st.tuples(st.just("set_debug"), st.booleans()),
)
inside = st.lists(of_life, max_size=3)
of_lives = st.lists(st.tuples(of_life, inside), max_size=8)


class Life:
    """The use of a loop that nobody else runs."""

    def __init__(self, loop: Any, factory: Any) -> None:
        self.loop, self.factory = loop, factory
        self.trace: list[Any] = []
        self.reports: list[Any] = []
        loop.set_exception_handler(self.on_exception)
        self.ends = socket.socketpair()
        for end in self.ends:
            end.setblocking(False)
        self.ends[1].send(b"x" * 100)

    def on_exception(self, loop: Any, context: dict[str, Any]) -> None:
        if "destroyed" not in context["message"]:  # it depends on who still refers to a task
            self.reports.append((type(context.get("exception")), sorted(context)))

    def later(self, steps: list[Any]) -> None:
        for step in steps:
            self.do(step[0], step[1:], [])

    async def task(self, steps: list[Any]) -> str:
        self.later(steps)
        await asyncio.sleep(0)
        return "done"

    def do(self, what: str, arguments: Any, steps: list[Any]) -> None:
        """A step, and what is done inside of it if it runs the loop."""
        try:
            result = self.attempt(what, arguments, steps)
        except (Exception, SystemExit) as error:
            self.trace.append((what, type(error), str(error)[:20]))
            if what in ("raise", "exit"):
                raise
            return
        self.trace.append((what, result if isinstance(result, bool | str | None) else None))

    def attempt(self, what: str, arguments: Any, steps: list[Any]) -> Any:
        loop = self.loop
        match what:
            case "raise":
                raise ZeroDivisionError("of a callback")
            case "exit":
                raise SystemExit(3)
            case "run_forever":
                if not loop.is_closed() and not loop.is_running():
                    loop.call_soon(self.later, steps)
                    loop.call_soon(loop.stop)
                return loop.run_forever()
            case "run_until_complete" | "run other":
                if what == "run other":
                    other = self.factory()
                    with contextlib.closing(other):
                        return self.complete(other, other.shutdown_asyncgens())
                return self.complete(loop, self.task(steps))
            case "create_task" | "shutdown_default_executor" | "shutdown_asyncgens":
                coroutine = self.task(steps) if what == "create_task" else getattr(loop, what)()
                return self.complete(loop, coroutine)
            case "call_soon" | "call_soon_threadsafe":
                getattr(loop, what)(self.later, steps)
            case "call_later" | "call_at":
                getattr(loop, what)(-1, self.later, steps)
            case "add_reader" | "add_writer":
                return getattr(loop, what)(self.ends[0], loop.stop)
            case "remove_reader" | "remove_writer":
                return getattr(loop, what)(self.ends[0])
            case "add_signal_handler":
                return loop.add_signal_handler(signal.SIGUSR1, print)
            case "remove_signal_handler":
                return loop.remove_signal_handler(signal.SIGUSR1)
            case "run_in_executor":
                if not loop.is_running() and not loop.is_closed():
                    return None  # it would make a thread
                return loop.run_in_executor(None, print) if loop.is_closed() else None
            case "slow_callback_duration":
                return str(loop.slow_callback_duration)
            case "set_exception_handler" | "set_task_factory" | "set_default_executor":
                return getattr(loop, what)(7)
            case "call_exception_handler":
                return loop.call_exception_handler({"message": "from outside"})
            case "get_task_factory" | "get_exception_handler":
                return getattr(loop, what)() is None
            case "sock_recv" | "sock_accept":
                return self.complete(
                    loop, getattr(loop, what)(self.ends[0], *([1] * (what == "sock_recv")))
                )
            case "sock_sendall" | "sock_connect":
                more = b"" if what == "sock_sendall" else "/missing"
                return self.complete(loop, getattr(loop, what)(self.ends[0], more))
            case "getaddrinfo":  # on ours it takes no time, and a loop that stops is not too early
                if not loop.is_closed():
                    return None
                return self.complete(loop, loop.getaddrinfo("127.0.0.1", 80))
            case "create_server" | "create_connection":
                return self.complete(loop, getattr(loop, what)(asyncio.Protocol, "127.0.0.1", -1))
            case "subprocess_exec":
                return self.complete(
                    loop, loop.subprocess_exec(asyncio.SubprocessProtocol, "/missing")
                )
            case "set_debug":
                return loop.set_debug(*arguments)
            case _:
                return getattr(loop, what)()

    def complete(self, loop: Any, coroutine: Any) -> Any:
        return loop.run_until_complete(coroutine)


def live(factory: Any, steps: list[Any]) -> Any:
    life = Life(factory(), factory)
    try:
        for (what, *arguments), inner in steps:
            with contextlib.suppress(ZeroDivisionError, SystemExit):
                life.do(what, arguments, inner)
        return life.trace, life.reports
    finally:
        life.loop.close()
        for end in life.ends:
            end.close()


@examples(100)
@given(of_lives)
def test_life(steps: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of coroutines that were never awaited
        theirs = live(asyncio.SelectorEventLoop, steps)
        ours = live(pyev.new_event_loop, steps)
        gc.collect()
    assert ours == theirs
