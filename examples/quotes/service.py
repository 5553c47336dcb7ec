"""The service: which watchers there are, and what they mean together."""

import json
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from math import floor
from pathlib import Path

import pyev

from .auditor import Auditor
from .ledger import Ledger, Row
from .market import Market, Settings
from .process import Process
from .server import Server
from .worker import Indexer, Worker

REFRESH = 0.1
FIXING = 0.7
IDLE_AFTER = 1.5
# How long after its time the service waits for what is still under way.
PATIENCE = 15.0
# How a program ends that has done its work.
STATUSES = {"auditor": 0, "clients": 0, "feed": 3}


class Service:
    """Everything on `loop`, but the administration's clients on `inner`, a loop embedded in it.

    What has to be undone before the loops are closed goes onto `stack`.
    """

    def __init__(
        self,
        loop: pyev.Loop,
        inner: pyev.Loop | None,
        ledger: Ledger,
        stack: ExitStack,
        directory: Path,
        seconds: float,
        shown: Callable[[float], None],
    ) -> None:
        self.loop, self.ledger, self.stack = loop, ledger, stack
        self.directory, self.seconds, self.shown = directory, seconds, shown
        self.caught: int | None = None
        self.winding_up = False
        self.answered = self.answered_before = 0
        self.processes: set[Process] = set()
        # Forked before there is anything that the auditor should not inherit.
        self.fork = Row("Fork", "the auditor, forked off", tell=ledger.tell)
        self.child = Row("Child", "programs that end well", tell=ledger.tell)
        self.once = Row("Once", "its first word, or 5 s", tell=ledger.tell)
        self.auditor = Auditor(loop, self.auditor_told, self.auditor_ended)
        self.child.caused += 1
        stack.callback(self.auditor.abandon)
        loop.once(self.auditor.sock, pyev.EV_READ, 5.0, self.auditor_awaited)

        self.path = directory / "settings.toml"
        Settings().save(self.path)
        self.market = Market(Settings.load(self.path))
        self.server = Server(loop, loop, self.answer, self.idled, IDLE_AFTER)
        self.admin: Server | None = None
        if inner is not None:
            self.admin = Server(inner, loop, self.administer, self.idled, IDLE_AFTER)
        self.make_rows()
        self.make_watchers(inner)
        self.worker = Worker(loop, self.async_.saw)
        stack.callback(self.worker.close)
        self.indexer = Indexer(loop, self.idle.saw)
        stack.callback(self.indexer.idle.stop)
        self.idle.caused += self.indexer.add([symbol for symbol, _ in self.market.moves])
        stack.callback(self.abandon)
        self.feed = self.run_program("feed", seconds / 5)
        self.began = loop.now()
        # What happens by itself, when, in parts of the whole time.
        self.script = deque(
            [
                (0.0, self.run_clients),
                (0.2, self.edit_settings),
                (0.35, self.send_signal),
                (0.5, self.edit_settings),
                (0.65, self.send_signal),
                (0.8, self.edit_settings),
                (1.0, self.wind_up),
            ]
        )

    def make_rows(self) -> None:
        row = self.ledger.row
        self.io = row("Io", f"clients on port {self.server.port}", often=True)
        self.output = row("Io", "the feed's prices", often=True)
        self.timeout = row("Timer", "clients gone silent")
        self.refresh = row("Timer", f"this table, each {REFRESH} s", often=True)
        self.periodic = row("Periodic", "each full second")
        self.scheduler = row("Scheduler", f"each multiple of {FIXING} s")
        self.signal = row("Signal", "SIGUSR1: a snapshot")
        self.ledger.rows.append(self.child)
        self.stat = row("Stat", "settings.toml, edited")
        self.async_ = row("Async", "results of a thread")
        self.idle = row("Idle", "indexing in spare time", often=True)
        self.prepare = row("Prepare", "before waiting: sends", often=True)
        self.check = row("Check", "after waiting", often=True)
        if self.admin is not None:
            what = f"loop inside, port {self.admin.port}"
            self.embed = row("Embed", what, often=True)
        self.ledger.rows += [self.fork, self.once]
        self.cleanup = row("Cleanup", "at the end: tidy up")

    def make_watchers(self, inner: pyev.Loop | None) -> None:
        """Those that are there from the beginning to the end; the others come and go."""
        loop = self.loop
        self.clock = loop.periodic(0.0, 1.0, self.second_passed)
        self.fixer = loop.scheduler(self.next_fixing, self.fix)
        watchers: list[pyev.Watcher] = [
            loop.timer(REFRESH, REFRESH, self.refreshed),
            self.clock,
            self.fixer,
            loop.signal(signal.SIGUSR1, self.take_snapshot),
            loop.signal(signal.SIGINT, self.told_to_stop),
            loop.signal(signal.SIGTERM, self.told_to_stop),
            loop.stat(self.path, 0.2, self.settings_changed),
            loop.prepare(self.before_waiting),
            loop.check(self.after_waiting),
        ]
        if inner is not None:
            watchers.append(loop.embed(inner, self.inner_ready))
        for watcher in watchers:
            self.stack.enter_context(watcher)
        self.cleaner = loop.cleanup(self.tidy_up)
        self.cleaner.start()

    # Io, Timer, Embed: the clients.

    def answer(self, request: str) -> str:
        self.answered += 1
        server = self.server
        in_parts = server.split_reads + server.part_writes
        self.io.saw(f"{len(server.connections)} open, {in_parts} split")
        return self.market.answer(request)

    def idled(self) -> None:
        self.timeout.saw(f"silent for {IDLE_AFTER} s")

    def administer(self, request: str) -> str:
        return f"STATUS {self.answered} answers so far"

    def inner_ready(self, watcher: pyev.Embed, revents: int) -> None:
        watcher.sweep()
        self.embed.saw(f"swept, turn {watcher.other.iteration}")

    # Prepare, Check: around each wait.

    def before_waiting(self, watcher: pyev.Prepare, revents: int) -> None:
        answered = self.server.flush() + (self.admin.flush() if self.admin else 0)
        if answered:
            self.prepare.saw(f"{answered} answered at once")
        else:
            self.prepare.seen += 1
        self.waiting_since = time.monotonic()

    def after_waiting(self, watcher: pyev.Check, revents: int) -> None:
        waited = time.monotonic() - self.waiting_since
        self.check.saw(f"waited {waited * 1000:.1f} ms")

    # Periodic, Scheduler: the clock.

    def second_passed(self, watcher: pyev.Periodic, revents: int) -> None:
        rate, self.answered_before = self.answered - self.answered_before, self.answered
        clock = time.strftime("%H:%M:%S", time.localtime(self.loop.now()))
        self.periodic.saw(f"{clock}, {rate}/s")

    def next_fixing(self, watcher: pyev.Scheduler, now: float) -> float:
        """The user's own rule: any function of the time."""
        return (floor(now / FIXING) + 1) * FIXING

    def fix(self, watcher: pyev.Scheduler, revents: int) -> None:
        mid = self.market.mids["EUR"]
        self.scheduler.saw(f"EUR fixed {mid:.5f}")
        self.auditor.send(f"FIX EUR {mid:.5f}")
        newest = list(self.market.moves)[-2000:]
        self.async_.caused += 1
        self.worker.jobs.put([mid for symbol, mid in newest if symbol == "EUR"])
        self.idle.caused += self.indexer.add([symbol for symbol, _ in newest])

    # Signal.

    def send_signal(self) -> None:
        self.signal.caused += 1
        os.kill(os.getpid(), signal.SIGUSR1)

    def take_snapshot(self, watcher: pyev.Signal, revents: int) -> None:
        path = self.directory / f"snapshot-{self.signal.seen + 1}.json"
        path.write_text(json.dumps(self.market.mids))
        self.signal.saw(path.name)

    def told_to_stop(self, watcher: pyev.Signal, revents: int) -> None:
        self.caught = watcher.signum
        self.ledger.cut_off = True
        self.loop.stop(pyev.EVBREAK_ALL)

    # Stat.

    def edit_settings(self) -> None:
        self.stat.caused += 1
        old = Settings.load(self.path)
        replace(old, version=old.version + 1, spread=old.spread * 2).save(self.path)

    def settings_changed(self, watcher: pyev.Stat, revents: int) -> None:
        settings = Settings.load(self.path)
        if settings.version != self.market.settings.version:
            self.market.settings = settings
            self.stat.saw(f"version {settings.version}, {settings.spread:.1%}")

    # Child: the programs, and Fork, Once: the auditor.

    def run_program(self, program: str, *arguments: object) -> Process:
        self.child.caused += 1
        printed = {"feed": self.feed_printed, "clients": self.clients_printed}[program]
        texts = [str(argument) for argument in arguments]
        process = Process(self.loop, program, texts, printed, self.ended)
        self.processes.add(process)
        return process

    def run_clients(self) -> None:
        # A silent one is hung up on IDLE_AFTER later.
        seconds = max(0.4 * self.seconds, self.seconds - IDLE_AFTER - 0.5)
        self.run_program("clients", self.server.port, self.admin.port if self.admin else 0, seconds)

    def feed_printed(self, line: str) -> None:
        symbol, number = line.split()
        if symbol == "END":
            self.output.caused += int(number)
        else:
            self.market.move(symbol, float(number))
            self.output.saw(line)

    def clients_printed(self, line: str) -> None:
        answers, hang_ups, administered = map(int, line.split())
        self.io.caused = max(self.io.caused, answers)
        self.timeout.caused = max(self.timeout.caused, hang_ups)
        if self.admin is not None:
            self.embed.caused = max(self.embed.caused, administered)

    def ended(self, process: Process, status: int) -> None:
        self.processes.discard(process)
        self.program_ended(process.name, status)
        if process is self.feed and not self.winding_up:
            self.feed = self.run_program("feed", self.seconds / 5)

    def program_ended(self, name: str, status: int) -> None:
        how = f"status {status}" if status >= 0 else signal.Signals(-status).name
        terminated = status == -signal.SIGTERM and self.winding_up
        right = status == STATUSES[name] or (name == "feed" and terminated)
        self.child.saw(f"{name}: {how}" + ("" if right else ", wrong"), int(right))

    def auditor_told(self, line: str) -> None:
        word, number = line.split()
        if word == "FORKED":
            self.fork.saw(f"in process {number}")
        else:
            self.fork.last = f"{number} fixings audited"

    def auditor_awaited(self, watcher: pyev.Once, revents: int) -> None:
        if revents & pyev.EV_READ:
            self.once.saw("it spoke in time")
        else:
            self.once.saw("it was silent")

    def auditor_ended(self, status: int) -> None:
        self.program_ended("auditor", status)

    # Timer: the table, what happens by itself, and the end.

    def refreshed(self, watcher: pyev.Timer, revents: int) -> None:
        elapsed = self.loop.now() - self.began
        self.refresh.saw(f"{elapsed:.1f} s of {self.seconds:g}")
        self.shown(min(1.0, elapsed / self.seconds))
        while self.script and elapsed >= self.script[0][0] * self.seconds:
            self.script.popleft()[1]()
        if self.winding_up and (self.settled or elapsed > self.seconds + PATIENCE):
            watcher.stop()
            self.loop.stop(pyev.EVBREAK_ALL)
            return
        # Counted from here: where drawing takes longer than REFRESH, the timer would be due in
        # every turn, and no Idle be called.
        self.loop.update()
        watcher.reset()

    def wind_up(self) -> None:
        """No more of anything; what is under way comes to its end."""
        self.winding_up = True
        self.clock.stop()
        self.fixer.stop()
        self.feed.terminate()
        self.auditor.close()
        # Half of what a machine that never stalls would see, and time to draw the table.
        self.periodic.caused = int(self.seconds / 2)
        self.scheduler.caused = int(self.seconds / FIXING / 2)
        self.refresh.caused = int(self.seconds / REFRESH / 4)

    @property
    def settled(self) -> bool:
        busy = self.processes or self.auditor.child.active or self.indexer.idle.active
        return not busy and not self.async_.short

    def abandon(self) -> None:
        for process in self.processes:
            process.abandon()

    def tidy_up(self, watcher: pyev.Cleanup, revents: int) -> None:
        open_still = self.server.close() + (self.admin.close() if self.admin else 0)
        # Each turn has one of both, so they know how many there were.
        self.prepare.caused = self.check.caused = watcher.loop.iteration
        self.cleanup.saw(f"{open_still} clients were left")
