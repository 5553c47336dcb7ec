"""The service: what asyncio does and what watchers do, on one loop."""

import asyncio
import json
import os
import signal
import ssl
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from math import floor
from pathlib import Path
from typing import Any

import pyev

from ..ledger import Ledger, Row
from ..market import Market, Settings
from ..process import HERE, Process
from ..worker import Worker
from .clients import Clients, Wrong
from .server import IDLE_AFTER, Prices, Streams, listen_udp, listen_unix

REFRESH = 0.1
FIXING = 0.7
# How long after its time the service waits for what is still under way.
PATIENCE = 15.0


def certificates() -> tuple[ssl.SSLContext, ssl.SSLContext] | None:
    """For the service and for its clients, made for this moment; None where trustme is missing."""
    try:
        import trustme
    except ModuleNotFoundError:
        return None
    authority = trustme.CA()
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(ours)
    theirs = ssl.create_default_context()
    authority.configure_trust(theirs)
    return ours, theirs


class Service:
    def __init__(
        self, ledger: Ledger, directory: Path, seconds: float, shown: Callable[[float], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, pyev.EventLoop)
        self.loop, self.ev = loop, loop.ev
        self.ledger, self.directory, self.seconds, self.shown = ledger, directory, seconds, shown
        self.caught: int | None = None
        self.error: BaseException | None = None
        self.winding_up = False
        self.settled = asyncio.Event()
        self.settings_path = directory / "settings.toml"
        Settings().save(self.settings_path)
        self.market = Market(Settings.load(self.settings_path))

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await self.listen(stack)
            self.watch(stack)
            task = asyncio.current_task()
            assert task is not None
            for signum in (signal.SIGINT, signal.SIGTERM):
                self.loop.add_signal_handler(signum, self.told_to_stop, signum, task)
            self.loop.set_exception_handler(lambda loop, context: self.failed(context, task))
            yield

    async def listen(self, stack: AsyncExitStack) -> None:
        self.tcp = self.asyncio_row("Streams", "clients over TCP", often=True)
        self.tls = self.asyncio_row("Streams", "clients over TLS", often=True)
        self.unix = self.asyncio_row("Protocol", "clients, a unix socket", often=True)
        self.udp = self.asyncio_row("Datagram", "clients over UDP", often=True)
        self.queue = self.asyncio_row("Queue", "prices, for followers", often=True)
        self.timeout = self.asyncio_row("timeout", "clients gone silent")
        self.subprocess = self.asyncio_row("Process", "clients that end well")
        self.task = self.asyncio_row("Task", "clients on this loop")
        self.prices = Prices(self.queue.saw)
        self.path = self.directory / "quotes.sock"
        contexts = certificates()
        streams = Streams(self.answer(self.tcp), self.prices, self.idled)
        self.port = await stack.enter_async_context(streams.listen())
        if contexts:
            streams = Streams(self.answer(self.tls), self.prices, self.idled)
            self.tls_port = await stack.enter_async_context(streams.listen(contexts[0]))
        else:
            self.ledger.rows.remove(self.tls)
            self.tls_port = 0
        await stack.enter_async_context(listen_unix(self.answer(self.unix), self.path))
        self.udp_port = await stack.enter_async_context(listen_udp(self.answer(self.udp)))
        self.clients = Clients(
            self.port,
            self.tls_port,
            contexts[1] if contexts else None,
            self.path,
            self.udp_port,
            self.seconds * 0.9,
            self.got,
        )

    def watch(self, stack: AsyncExitStack) -> None:
        """Those that are there from the beginning to the end; the feed's come and go with it."""
        row, ev = self.ledger.row, self.ev
        self.io = row("Io", "the feed's prices", often=True)
        self.timer = row("Timer", f"this table, each {REFRESH} s", often=True)
        self.periodic = row("Periodic", "each full second")
        self.scheduler = row("Scheduler", f"each multiple of {FIXING} s")
        self.signal = row("Signal", "SIGUSR1: a snapshot")
        self.child = row("Child", "feeds that end well")
        self.stat = row("Stat", "settings.toml, edited")
        self.async_ = row("Async", "results of a thread")
        self.cleanup = row("Cleanup", "at the end")
        self.clock = ev.periodic(0.0, 1.0, self.second_passed)
        self.fixer = ev.scheduler(self.next_fixing, self.fix)
        watchers: list[pyev.Watcher] = [
            ev.timer(REFRESH, REFRESH, self.refreshed),
            self.clock,
            self.fixer,
            ev.signal(signal.SIGUSR1, self.take_snapshot),
            ev.stat(str(self.settings_path), 0.2, self.settings_changed),
        ]
        for watcher in watchers:
            stack.enter_context(watcher)
        self.cleaner = ev.cleanup(self.closed)
        self.cleaner.start()
        self.worker = Worker(ev, self.computed)
        stack.callback(self.worker.close)
        self.feeds: set[Process] = set()
        stack.callback(self.abandon)
        self.began = self.loop.time()

    def asyncio_row(self, kind: str, what: str, *, often: bool = False) -> Row:
        return self.ledger.row(kind, what, often=often, side="asyncio")

    # Coroutines.

    async def run(self) -> int | None:
        """Until all is done, or a signal says so: which one."""
        try:
            self.start_feed()
            async with asyncio.TaskGroup() as group:
                group.create_task(self.run_clients())
                group.create_task(self.script())
                for client in self.clients.all():
                    group.create_task(self.run_client(client))
            await self.wind_up()
        except asyncio.CancelledError:
            if self.error is not None:
                raise self.error from None
            if self.caught is None:
                raise
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return self.caught

    async def script(self) -> None:
        """What happens by itself, when, in parts of the whole time."""
        for pause, what in (
            (0.2, self.edit_settings),
            (0.15, self.send_signal),
            (0.15, self.edit_settings),
            (0.15, self.send_signal),
            (0.15, self.edit_settings),
        ):
            await asyncio.sleep(pause * self.seconds)
            what()
        await asyncio.sleep(0.2 * self.seconds)

    async def run_client(self, client: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.task.caused += 1
        try:
            await client()
        except (OSError, EOFError, Wrong) as error:
            print(f"{client.__name__}: {error!r}", file=sys.stderr)
        else:
            self.task.saw(f"the {client.__name__} is content")

    async def run_clients(self) -> None:
        """In a process of their own, knowing nothing of asyncio; they tell how it goes."""
        self.subprocess.caused += 1
        seconds = max(0.4 * self.seconds, self.seconds - IDLE_AFTER - 0.5)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            HERE / "clients.py",
            *map(str, (self.port, 0, seconds)),
            stdout=PIPE,
            process_group=0,  # Ctrl-C is for us, and we tell the others.
        )
        assert process.stdout is not None
        try:
            told = 0
            async for line in process.stdout:
                answers, self.timeout.caused, _ = map(int, line.split())
                self.got("tcp", answers - told)
                told = answers
                self.subprocess.last = f"{answers} answers"
            if await process.wait() == 0:
                self.subprocess.saw(self.subprocess.last)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def wind_up(self) -> None:
        """No more of anything; what is under way comes to its end."""
        self.winding_up = True
        self.clock.stop()
        self.fixer.stop()
        for feed in self.feeds:
            feed.terminate()
        # Half of what a machine that never stalls would see.
        self.periodic.caused = int(self.seconds / 2)
        self.scheduler.caused = int(self.seconds / FIXING / 2)
        self.timer.caused = int(self.seconds / REFRESH / 2)
        try:
            async with asyncio.timeout(PATIENCE):
                await self.settled.wait()
        except TimeoutError:  # Their rows will tell.
            pass

    # What asyncio calls.

    def answer(self, row: Row) -> Callable[[str], str]:
        def answer(request: str) -> str:
            row.saw(request)
            return self.market.answer(request)

        return answer

    def got(self, what: str, count: int) -> None:
        rows = {"tcp": self.tcp, "tls": self.tls, "unix": self.unix, "udp": self.udp}
        (rows | {"moves": self.queue})[what].caused += count

    def idled(self) -> None:
        self.timeout.saw(f"silent for {IDLE_AFTER} s")

    def told_to_stop(self, signum: int, task: "asyncio.Task[Any]") -> None:
        self.caught = signum
        self.ledger.cut_off = True
        task.cancel()

    def failed(self, context: dict[str, Any], task: "asyncio.Task[Any]") -> None:
        """An exception in a callback, of asyncio's or a watcher's, is the end here."""
        if self.error is None:
            self.error = context.get("exception") or RuntimeError(context["message"])
            task.cancel()

    # What watchers call.

    def refreshed(self, watcher: pyev.Timer, revents: int) -> None:
        elapsed = self.loop.time() - self.began
        self.timer.saw(f"{elapsed:.1f} s of {self.seconds:g}")
        self.shown(min(1.0, elapsed / self.seconds))
        if self.winding_up and not self.feeds and not self.async_.short:
            self.settled.set()

    def second_passed(self, watcher: pyev.Periodic, revents: int) -> None:
        self.periodic.saw(time.strftime("%H:%M:%S", time.localtime(self.ev.now())))

    def next_fixing(self, watcher: pyev.Scheduler, now: float) -> float:
        """The user's own rule: any function of the time."""
        return (floor(now / FIXING) + 1) * FIXING

    def fix(self, watcher: pyev.Scheduler, revents: int) -> None:
        self.scheduler.saw(f"EUR fixed {self.market.mids['EUR']:.5f}")
        newest = list(self.market.moves)[-2000:]
        self.async_.caused += 1
        self.worker.jobs.put([mid for symbol, mid in newest if symbol == "EUR"])

    def computed(self, result: str) -> None:
        self.async_.saw(result)

    def send_signal(self) -> None:
        self.signal.caused += 1
        os.kill(os.getpid(), signal.SIGUSR1)

    def take_snapshot(self, watcher: pyev.Signal, revents: int) -> None:
        path = self.directory / f"snapshot-{self.signal.seen + 1}.json"
        path.write_text(json.dumps(self.market.mids))
        self.signal.saw(path.name)

    def edit_settings(self) -> None:
        self.stat.caused += 1
        old = Settings.load(self.settings_path)
        replace(old, version=old.version + 1, spread=old.spread * 2).save(self.settings_path)

    def settings_changed(self, watcher: pyev.Stat, revents: int) -> None:
        settings = Settings.load(self.settings_path)
        if settings.version != self.market.settings.version:
            self.market.settings = settings
            self.stat.saw(f"version {settings.version}, {settings.spread:.1%}")

    def start_feed(self) -> None:
        """By an Io and a Child: what runs on a pyev.Loop runs on this one as well."""
        self.child.caused += 1
        self.feeds.add(
            Process(self.ev, "feed", [str(self.seconds / 5)], self.printed, self.feed_ended)
        )

    def printed(self, line: str) -> None:
        symbol, number = line.split()
        if symbol == "END":
            self.io.caused += int(number)
        else:
            self.market.move(symbol, float(number))
            self.io.saw(line)
            self.prices.moved(line)

    def feed_ended(self, feed: Process, status: int) -> None:
        self.feeds.discard(feed)
        right = status == 3 or (self.winding_up and status == -signal.SIGTERM)
        how = f"status {status}" if status >= 0 else signal.Signals(-status).name
        self.child.saw(how if right else f"{how}, wrong", int(right))
        if not self.winding_up:
            self.start_feed()

    def abandon(self) -> None:
        for feed in self.feeds:
            feed.abandon()

    def closed(self, watcher: pyev.Cleanup, revents: int) -> None:
        self.cleanup.saw("the loop is closed")
