"""Random TLS: on our loop, protocols see, step by step, what they see on asyncio's own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from typing import Any

from alike_tls_kit import (
    SIZES,
    Far,
    TlsEnd,
    agreement,
    context,
    digest,
    far_step,
    side,
    step,
    told,
    words,
)
from hypothesis import assume, given
from hypothesis import strategies as st

import pyev
from alike_kit import Connection, connected_pair, examples


class Tls(Connection):
    """A conversation of which all that is seen is compared, until it breaks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        loop.slow_callback_duration = 100  # of debug mode; the contexts of a first one take a while

    def on_exception(self, loop: Any, context: dict[str, Any]) -> None:
        self.reports.append(told(context))

    @classmethod
    def alike(cls, *arguments: Any) -> None:
        theirs = cls.on(asyncio.SelectorEventLoop, *arguments)
        # What comes after close() is an error on asyncio's own, and dropped on ours; and early
        # versions of its TLS in TLS cannot fail.
        wrong = ("AFTER_CLOSE_NOTIFY", "SSLProtocol._abort() takes")
        assume(not any(words in repr(theirs.seen()) for words in wrong))
        cls.on(pyev.new_event_loop, *arguments).compare(theirs)


# A transport, and a peer who does TLS by hand.


class ByHand(Tls):
    near: TlsEnd
    far: Far

    def breaks(self) -> None:
        pass  # at whose end, the peer decides

    async def rest(self) -> None:
        await super().rest()
        while self.far.hear():
            await super().rest()
        self.near.pouring = False

    async def settle(self) -> None:
        await self.rest()
        near, far = self.near, self.far
        near.has()
        # asyncio's own says nothing to the peer of a failure.
        silent = near.failed or near.upgrading or not near.transport
        near.note("far", silent or far.end, far.eof, digest(far.data), digest(far.plain))

    def begin(self, plan: Any) -> TlsEnd:
        self.loop.set_debug(plan["debug"])
        self.server = plan["server"] or plan["how"] == "accepted"
        self.near = TlsEnd(self, 0, plan["side"])
        self.ends = [self.near]
        self.near.plain = plan["how"] == "upgraded"
        return self.near

    async def connect(self, plan: Any) -> asyncio.Task[Any] | None:
        """The transport, with TLS at once or in plain; the task, if somebody waits for it."""
        factory = functools.partial(self.near.protocol, plan["side"]["buffered"])
        how, own = plan["how"], context(plan["agreement"], self.server)
        if how == "accepted":
            listener = socket.socket(socket.AF_UNIX)
            listener.bind("")
            server = await self.loop.create_unix_server(
                factory, sock=listener, ssl=own, **plan.get("timeouts", {})
            )
            theirs = self.stack.enter_context(socket.socket(socket.AF_UNIX))
            theirs.connect(listener.getsockname())
        else:
            ours, theirs = connected_pair(plan["family"])
            self.stack.enter_context(theirs)
            for end in (ours, theirs) if plan["family"] == socket.AF_INET else ():
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.far = Far(theirs, self.near, self.rest)
        if how != "upgraded":
            self.far.wrap(context(plan["agreement"], not self.server), not self.server)
        if how == "accepted":
            await self.rest()
            server.close()
            return None
        ours.setblocking(False)
        options: dict[str, Any] = {}
        if how != "upgraded":
            options = {"ssl": own, **plan.get("timeouts", {})}
        if self.server:
            connected = self.loop.connect_accepted_socket(factory, ours, **options)
        else:
            options |= {"server_hostname": "localhost"} if options else {}
            connected = self.loop.create_connection(factory, sock=ours, **options)
        return self.loop.create_task(connected)

    async def upgrade(self, plan: Any) -> asyncio.Task[Any]:
        near, far = self.near, self.far
        for what, size in plan["before"]:
            match what:
                case "near":
                    near.do(("write", size))
                case "far":
                    far.send(bytes(size))
                case "rest":
                    await self.settle()
                case _:
                    near.do((what,))
        own, others = (
            context(plan["agreement"], server) for server in (self.server, not self.server)
        )
        far.wrap(others, not self.server)
        return self.loop.create_task(near.upgrade(own, self.server, **plan["options"]))

    async def shake(self, task: Any, plan: Any) -> None:
        near, far, breaks_off = self.near, self.far, plan["breaks off"]
        for count in range(6):
            await self.rest()
            if task is not None and task.done() and near.upgrading:
                break
            if not breaks_off or breaks_off[0] != count:
                far.flight()
            elif breaks_off[1] == "cancel":
                if task is not None:
                    task.cancel()
            elif breaks_off[1].startswith("near "):
                near.do((breaks_off[1].removeprefix("near "),))
            else:
                await far.do((breaks_off[1],))
        await self.settle()
        near.note("shaken", near.closed or far.shaken)
        if task is None:
            return
        near.note("connected", task.done())
        task.cancel()
        (found,) = await asyncio.gather(task, return_exceptions=True)
        near.note(words(found) if isinstance(found, BaseException) else bool(found))
        near.do(("known",))

    async def main(self, plan: Any, steps: Any) -> None:
        near = self.begin(plan)
        near.distrusted = plan["agreement"]["trouble"] == "no certificate"
        task = await self.connect(plan)
        if plan["how"] == "upgraded":
            await task
            task = await self.upgrade(plan)
        await self.shake(task, plan)
        if near.upgrading:
            near.transport.abort()
            await self.rest()
            return
        for by_hand, what, rests in steps:
            if by_hand:
                await self.far.do(what)
            else:
                with contextlib.suppress(ZeroDivisionError):
                    near.do(what)
            if rests:
                await self.settle()
        await self.settle()
        await self.finish()

    async def finish(self) -> None:
        near = self.near
        near.note("at rest", near.transport and near.transport.is_closing())
        for last in ("resume_reading", "close"):
            if not near.closed:
                near.do((last,))
                await self.settle()
        await self.far.do(("ends and shuts",))
        await self.settle()
        near.note("at the end", near.lost)
        near.do(("abort",))
        await self.settle()
        assert near.lost or not near.transport


class Silence(ByHand):
    """A peer that does not go on, until the transport has waited long enough."""

    async def main(self, plan: Any, silent: Any) -> None:
        near = self.begin(plan)
        task = await self.connect(plan)
        if plan["how"] == "upgraded":
            await task
            task = await self.upgrade({**plan, "before": [], "options": plan["timeouts"]})
        await (self.in_handshake if silent is None else self.in_shutdown)(task, silent)
        with contextlib.suppress(ConnectionError):
            while await self.loop.sock_recv(self.far.sock, 1 << 18):
                pass
        await super(ByHand, self).rest()
        near.note("at the end", near.upgrading or near.lost)

    async def in_handshake(self, task: Any, silent: Any) -> None:
        # All that a server says would be enough for a client, and there is no telling when its
        # time has begun.
        if self.server:
            self.far.flight()
        if task is not None:
            (found,) = await asyncio.gather(task, return_exceptions=True)
            self.near.note(words(found))

    async def in_shutdown(self, task: Any, steps: Any) -> None:
        for _ in range(4):
            await self.rest()
            self.far.flight()
        await self.rest()
        if task is not None:
            await task
        for by_hand, what in steps:
            if by_hand:
                await self.far.do(what)
                await self.rest()
            elif what[0] not in ("abort", "raise", "below abort", "below close"):
                self.near.do(what)
        self.near.do(("close",))
        self.far.tls = None


@examples(25)
@given(
    plan=st.fixed_dictionaries(
        {
            "how": st.sampled_from(["direct", "accepted", "upgraded"]),
            "server": st.booleans(),
            "family": st.sampled_from([socket.AF_UNIX, socket.AF_INET]),
            "debug": st.booleans(),
            "agreement": agreement.map(lambda found: {**found, "trouble": None}),
            "side": st.just({"reactions": {}, "keeps open": False, "buffered": False}),
        }
    ),
    silent=st.none()
    | st.lists(
        st.one_of(
            st.tuples(st.just(False), step),
            st.tuples(st.just(True), st.tuples(st.just("says"), SIZES)),
        ),
        max_size=3,
    ),
)
def test_silence(plan: Any, silent: Any) -> None:
    timeout = f"ssl_{'handshake' if silent is None else 'shutdown'}_timeout"
    Silence.alike({**plan, "timeouts": {timeout: 0.01}}, silent)


# Two transports, whose connection gets TLS, and TLS through that.


class Pair(Tls):
    async def connect(self, plans: Any, first: Any) -> None:
        self.ends = [TlsEnd(self, number, plan) for number, plan in enumerate(plans)]
        tasks = []
        for end, sock in zip(self.ends, connected_pair(socket.AF_UNIX), strict=True):
            sock.setblocking(False)
            end.peer = ""
            end.plain = not first
            options = {"ssl": context(first, end.number == 1)} if first else {}
            factory = functools.partial(end.protocol, end.plan["buffered"])
            if end.number == 1:
                connected = self.loop.connect_accepted_socket(factory, sock, **options)
            else:
                options |= {"server_hostname": "localhost"} if first else {}
                connected = self.loop.create_connection(factory, sock=sock, **options)
            tasks.append(self.loop.create_task(connected))
        await self.outcomes(tasks)

    async def outcomes(self, tasks: Any) -> bool:
        """Of tasks of both ends; whether both ends have succeeded."""
        await self.rest()
        done = [task.done() for task in tasks]
        for task in tasks:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        for end, ended, result in zip(self.ends, done, found, strict=True):
            good = words(result) if isinstance(result, BaseException) else bool(result)
            # Of a failure asyncio's own does not tell its peer.
            silent = isinstance(result, ConnectionResetError) or "_ALERT_" in repr(good)
            end.note("connected", ended, silent or good)
        await self.rest()
        return all(result and not isinstance(result, BaseException) for result in found)

    async def upgrade(self, level: Any) -> bool:
        """start_tls() at both ends."""
        server, client = self.ends[:: -1 if level["server"] else 1]
        for end, size in zip((client, server), level["writes"], strict=True):
            end.do(("write", size))
            if end is client or level["order"] == "client":
                await self.rest()
        tasks: dict[int, Any] = {}
        if level["order"] == "client":
            server.do(("pause_reading",))
        for end in (client, server) if level["order"] == "client" else (server, client):
            if level["swaps"][end.number]:
                end.transport.set_protocol(end.protocol(not end.buffered))
            own = context(level["agreement"], end is server)
            tasks[end.number] = self.loop.create_task(end.upgrade(own, end is server))
            if level["order"] != "together":
                await self.rest()
        for _ in range(level["turns"]):
            await self.poll()
        match level["breaks off"]:
            case (number, "cancel"):
                tasks[number].cancel()
            case (number, what):
                self.ends[number].do((what,))
        return await self.outcomes([tasks[0], tasks[1]])

    async def talk(self, steps: Any) -> None:
        for number, what, rests in steps:
            end, other = self.ends[number], self.ends[1 - number]
            if other.closed and what[0].startswith(("write", "close", "below")):
                continue  # that is an error on asyncio's own
            if what[0] == "close":
                await self.rest()
            with contextlib.suppress(ZeroDivisionError):
                end.do(what)
            if rests:
                await self.settle()

    async def settle(self) -> None:
        await self.rest()
        for end in self.ends:
            end.has()

    async def main(self, plans: Any, first: Any, steps: Any, levels: Any) -> None:
        await self.connect(plans, first)
        if all(end.transport for end in self.ends):
            await self.talk(steps)
            await self.settle()
            for level in levels:
                if any(end.closed or end.lost or end.paused for end in self.ends):
                    break
                if not await self.upgrade(level):
                    break
                for end in self.ends:
                    end.do(("known",))
                await self.talk(level["steps"])
                await self.settle()
        if not any(end.upgrading for end in self.ends):
            for end in self.ends:
                end.note("at rest", end.transport and end.transport.is_closing())
                if end.transport and not end.lost and not end.closed:
                    end.transport.resume_reading()
            await self.settle()
            for end in self.ends:
                end.do(("close",))
                await self.settle()
        for end in self.ends:
            if end.transport and not end.lost:
                end.transport.abort()
        await self.rest()


steps = st.lists(st.tuples(st.integers(0, 1), step, st.booleans()), max_size=4)


@examples(60)
@given(
    plans=st.tuples(side, side),
    first=st.none() | agreement,
    steps=steps,
    levels=st.lists(
        st.fixed_dictionaries(
            {
                "agreement": agreement,
                "server": st.integers(0, 1),
                "writes": st.tuples(SIZES, SIZES),
                # Who calls start_tls() first: the server, or the client while the server has
                # paused.
                "order": st.sampled_from(["server", "client", "together"]),
                "swaps": st.tuples(st.booleans(), st.booleans()),
                "turns": st.integers(1, 4),
                "breaks off": st.none()
                | st.none()
                | st.tuples(st.integers(0, 1), st.sampled_from(["cancel", "close", "abort"])),
                "steps": steps,
            }
        ),
        max_size=2,
    ),
)
def test_pairs(plans: Any, first: Any, steps: Any, levels: Any) -> None:
    Pair.alike(plans, first, steps, levels)


@examples(60)
@given(
    plan=st.fixed_dictionaries(
        {
            "how": st.sampled_from(["direct", "accepted", "upgraded", "upgraded"]),
            "server": st.booleans(),
            "agreement": agreement,
            "family": st.sampled_from([socket.AF_UNIX, socket.AF_INET]),
            "side": side,
            "debug": st.booleans(),
            # Before start_tls() and after it, as far as it comes.
            "before": st.lists(
                st.tuples(
                    st.sampled_from(["near", "far", "pause_reading", "set_protocol", "rest"]), SIZES
                ),
                max_size=3,
            ),
            "options": st.sampled_from(
                [{}] * 5 + [{"ssl_handshake_timeout": 0}, {"ssl_shutdown_timeout": -1}]
            ),
            # What is done instead of the peer's flight with this number.
            "breaks off": st.none()
            | st.tuples(
                st.integers(0, 2),
                st.sampled_from(
                    [
                        "shuts",
                        "closes",
                        "resets",
                        "says garbage",
                        "cancel",
                        "near close",
                        "near abort",
                        "near resume_reading",
                    ]
                ),
            ),
        }
    ),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just(False), step, st.booleans()),
            st.tuples(st.just(True), far_step, st.booleans()),
        ),
        max_size=6,
    ),
)
def test_by_hand(plan: Any, steps: Any) -> None:
    ByHand.alike(plan, steps)
