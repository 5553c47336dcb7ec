"""tls_fuzz.py [--conversations N] [--seed S] [--loop pyev|asyncio]: TLS with whoever may be there.

Conversations over socket pairs, many under way at once on one loop. The other end is Python's
ssl, by hand, and what it says is mutated on its way: bits, lengths, whole records, at one moment
or at several, in pieces of any size; or it says what was said in another conversation. Each is
drawn from a seed of its own, and a failure tells it: `tls_fuzz.py --seed S --conversations 1`.

What must hold of each: the protocol is connected and lost at most once each and in this order,
what it gets is what the other end meant to say, from the start and without a gap, nothing is
reported but errors of the connection, and when the other end has gone the transport goes within
some turns. Of all: no descriptor is left, and no memory grows.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import faulthandler
import gc
import os
import random
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tls_kit

sys.path.insert(0, str(Path(__file__).parents[1] / "leaks"))

from leak_probe import allocated, descriptors, resident

import pyev

LOOPS = {"pyev": pyev.new_event_loop, "asyncio": asyncio.SelectorEventLoop}
AT_ONCE = 25  # conversations
STEPS = 14  # of each, before the other end goes: a handshake takes 3, the rest is talk
PATIENCE = 200  # turns without a call, in which a transport whose peer has gone must go
TOLD = 10_000  # conversations, between two lines where there is no bar
STUCK = 60.0  # seconds for some steps, after which all stacks are shown
TEXT = random.Random(1).randbytes(1 << 17)
ROOM = 1 << 17
# Growth, over any number of conversations: a leak of a transport each is a hundred times as much.
BYTES, RESIDENT = 2 << 20, 24 << 20


def contexts() -> Iterator[tuple[ssl.SSLContext, ssl.SSLContext]]:
    """Pairs of what both roles may use, with this and that switched on."""
    for version in (tls_kit.TLS_1_2, tls_kit.TLS_1_3):
        for protocols in ([], ["h2", "http/1.1"]):
            client, server = tls_kit.client_context(version), tls_kit.server_context(version)
            if protocols:
                client.set_alpn_protocols(protocols)
                server.set_alpn_protocols(protocols[1:])
                server.sni_callback = lambda *arguments: None
            yield client, server
    client, server = tls_kit.client_context(), tls_kit.server_context()
    tls_kit.certificate("someone", "ours").configure_cert(client)
    tls_kit.authority("ours").configure_trust(server)
    server.verify_mode = ssl.CERT_OPTIONAL
    yield client, server


class Protocol(asyncio.Protocol):
    """Does this and that when it is called, and keeps the rules' account."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.calls: list[str] = []
        self.data = bytearray()
        self.transport: Any = None
        self.habit = draw.choice(["talk", "talk", "quiet", "echo", "close", "abort", "pause"])

    def connection_made(self, transport: Any) -> None:
        self.calls.append("made")
        self.transport = transport
        if self.habit == "talk":
            transport.write(TEXT[: self.draw.choice([1, 100, 20_000, 100_000])])

    def data_received(self, data: bytes) -> None:
        self.calls.append("data")
        self.data += data
        if self.habit == "echo":
            self.transport.write(data)
        elif self.habit in ("close", "abort"):
            getattr(self.transport, self.habit)()
        elif self.habit == "pause":
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self.transport.resume_reading)

    def eof_received(self) -> None:
        self.calls.append("eof")

    def connection_lost(self, error: Exception | None) -> None:
        self.calls.append("lost")
        self.error = error


class Buffered(Protocol, asyncio.BufferedProtocol):
    data_received = None  # type: ignore[assignment]

    def __init__(self, draw: random.Random) -> None:
        super().__init__(draw)
        self.buffer = memoryview(bytearray(draw.choice([1, 100, 5000, 100_000])))

    def get_buffer(self, hint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        Protocol.data_received(self, bytes(self.buffer[:count]))


# Mutations: bytes, and what is sent in their place.

Mutation = Callable[[random.Random, bytes, "Stage"], bytes]


def split(data: bytes) -> list[bytes]:
    """Into records, as far as these are any."""
    found = []
    while len(data) >= 5:
        size = 5 + int.from_bytes(data[3:5], "big")
        found.append(data[:size])
        data = data[size:]
    return [*found, data] if data else found


def flip(draw: random.Random, data: bytes, stage: Stage) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 8])):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def overwrite(draw: random.Random, data: bytes, stage: Stage) -> bytes:
    changed = bytearray(data)
    at = draw.randrange(min(len(changed), draw.choice([6, 60, len(changed)])))
    for number in range(draw.choice([1, 2, 3, 4])):
        if at + number < len(changed):
            changed[at + number] = draw.choice([0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)])
    return bytes(changed)


def relength(draw: random.Random, data: bytes, stage: Stage) -> bytes:
    records = split(data)
    number = draw.randrange(len(records))
    record = bytearray(records[number])
    if len(record) >= 5:
        size = int.from_bytes(record[3:5], "big") + draw.choice([-2, -1, 1, 2, 1000, -1000])
        record[3:5] = (size & 0xFFFF).to_bytes(2, "big")
    records[number] = bytes(record)
    return b"".join(records)


def cut(draw: random.Random, data: bytes, stage: Stage) -> bytes:
    return data[: draw.randrange(len(data))]


def drop(draw: random.Random, data: bytes, stage: Stage) -> bytes:
    start = draw.randrange(len(data))
    return data[:start] + data[start + draw.choice([1, 2, 50, 1000]) :]


def insert(draw: random.Random, data: bytes, stage: Stage) -> bytes:
    at = draw.randrange(len(data) + 1)
    return data[:at] + draw.randbytes(draw.choice([1, 2, 5, 100, 20_000])) + data[at:]


def shuffle(draw: random.Random, data: bytes, stage: Stage) -> bytes:
    records = split(data)
    draw.shuffle(records)
    return b"".join(records)


def repeat(draw: random.Random, data: bytes, stage: Stage) -> bytes:
    records = split(data)
    number = draw.randrange(len(records))
    return b"".join(records[: number + 1] + records[number:] * draw.choice([1, 1, 2, 40]))


def intersperse(draw: random.Random, data: bytes, stage: Stage) -> bytes:
    """A record that has no business there: an alert, a hello, a change of cipher, an empty one."""
    body = draw.choice([b"\1", b"\2\50", b"\1\0", b"", draw.randbytes(4), b"\0\0\0\0", bytes(9999)])
    kind = draw.choice([20, 21, 22, 23, 24, draw.randrange(256)])
    version = draw.choice([b"\3\3", b"\3\1", b"\3\4", b"\0\0", b"\2\0"])
    record = bytes([kind]) + version + len(body).to_bytes(2, "big") + body
    records = split(data)
    records.insert(draw.randrange(len(records) + 1), record * draw.choice([1, 1, 1, 33, 500]))
    return b"".join(records)


def speak_plainly(draw: random.Random, data: bytes, stage: Stage) -> bytes:
    return (
        draw.choice([b"GET / HTTP/1.1\r\n\r\n", b"\x80\x2e\x01\x03\x01" + bytes(41), b"\0"]) + data
    )


def say_otherwise(draw: random.Random, data: bytes, stage: Stage) -> bytes:
    """What was said in another conversation."""
    return draw.choice(stage.said)


def refragment(draw: random.Random, data: bytes, stage: Stage) -> bytes:
    """The handshake's messages in other records: legal, where they are plain."""
    records = split(data)
    record = records[0]
    if len(record) > 7 and record[0] == 22:
        at = draw.randrange(6, len(record))
        head = record[:3]
        parts = record[5:at], record[at:]
        records[0] = b"".join(head + len(part).to_bytes(2, "big") + part for part in parts)
    return b"".join(records)


MUTATIONS: list[Mutation] = [
    flip, flip, overwrite, overwrite, relength, cut, drop, insert, shuffle, repeat, intersperse,
    speak_plainly, say_otherwise, refragment,
]  # fmt: skip


class Stage:
    """What conversations share."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.contexts = list(contexts())
        self.said: list[bytes] = []  # in handshakes that went well, by both sides
        self.sessions = [self.listen(*pair) for pair in self.contexts]
        self.reports: list[dict[str, Any]] = []
        self.outcomes: collections.Counter[str] = collections.Counter()
        loop.set_exception_handler(lambda loop, context: self.reports.append(context))

    def listen(self, client: ssl.SSLContext, server: ssl.SSLContext) -> ssl.SSLSession | None:
        """A handshake by hand: notes what is said, and returns the client's session."""
        heard = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = (
            client.wrap_bio(heard[0], heard[1], server_hostname="localhost"),
            server.wrap_bio(*(said := (ssl.MemoryBIO(), ssl.MemoryBIO())), server_side=True),
        )
        for turn in range(6):
            end = ends[turn % 2]
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
                end.read(1)
            words = (heard[1], said[1])[turn % 2].read()
            if words:
                self.said.append(words)
                (said[0], heard[0])[turn % 2].write(words)
        assert ends[0].session is not None
        return ends[0].session

    def turn(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()


class Conversation:
    def __init__(self, seed: int, stage: Stage) -> None:
        self.seed, self.stage = seed, stage
        self.draw = draw = random.Random(seed)
        self.server_side = draw.random() < 0.6
        number = draw.randrange(len(stage.contexts))
        client, server = stage.contexts[number]
        ours, theirs = (server, client) if self.server_side else (client, server)
        self.protocol = (Protocol if draw.random() < 0.7 else Buffered)(draw)
        self.sock, self.other = socket.socketpair()
        for sock in (self.sock, self.other):
            sock.setblocking(False)
        self.sent = bytearray()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = theirs.wrap_bio(
            self.incoming,
            self.outgoing,
            not self.server_side,
            "localhost" if self.server_side else None,
        )
        if self.server_side and draw.random() < 0.7:
            self.tls.session = stage.sessions[number]
        self.flight = 0
        self.steps = 0
        self.shaken = self.failed = False
        self.gone = False
        self.patience, self.called = PATIENCE, 0
        self.hasty = draw.random() < 0.4  # goes after its first words, changed or not
        self.mutated_at = {draw.randrange(5) for _ in range(draw.choice([1, 1, 2]))}
        self.rate = draw.choice([1 << 17, 1 << 17, 1 << 17, 1000, 50, 1])
        self.pending = b""
        hostname = None if self.server_side else "localhost"
        stage.loop._make_ssl_transport(
            self.sock,
            self.protocol,
            ours,
            server_side=self.server_side,
            server_hostname=hostname,
            ssl_handshake_timeout=30.0,
            ssl_shutdown_timeout=30.0,
        )

    def __repr__(self) -> str:
        side = "server" if self.server_side else "client"
        calls = dict(collections.Counter(self.protocol.calls))
        return f"{side}, {self.protocol.habit}, {calls}, shaken: {self.shaken}"

    def step(self) -> bool:
        """Some words of the other end's; whether it is over."""
        if self.gone:
            return self.over()
        self.steps += 1
        try:
            while data := self.other.recv(ROOM):
                self.incoming.write(data)
            self.leave()
            return False
        except BlockingIOError:
            pass
        except ConnectionError:
            self.leave()
            return False
        if not self.failed and not self.pending:
            self.speak()
            if self.outgoing.pending:
                self.say(self.outgoing.read())
        self.send()
        # Whoever is slow is given the time for a hello, not for more.
        enough = self.steps > STEPS or self.failed or (self.hasty and self.flight)
        if (enough and not self.pending) or self.steps > 400:
            self.leave()
        return False

    def speak(self) -> None:
        draw = self.draw
        try:
            if not self.shaken:
                self.tls.do_handshake()
                self.shaken = True
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                while self.tls.read(ROOM):
                    pass
            if draw.random() < 0.6:
                text = TEXT[len(self.sent) :][: draw.choice([1, 10, 1000, 16_384, 40_000])]
                if text:
                    self.tls.write(text)
                    self.sent += text
            elif draw.random() < 0.2:
                self.failed = True
                self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.failed = True

    def say(self, data: bytes) -> None:
        if self.flight in self.mutated_at:
            data = self.draw.choice(MUTATIONS)(self.draw, data, self.stage)
        self.flight += 1
        self.pending += data

    def send(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while self.pending:
                count = self.other.send(self.pending[: self.rate])
                self.pending = self.pending[count:]
                if self.rate < 1000 and self.draw.random() < 0.5:
                    break

    def leave(self) -> None:
        self.gone = True
        self.other.close()

    def over(self) -> bool:
        calls = self.protocol.calls
        if self.sock.fileno() != -1 or ("made" in calls) != ("lost" in calls):
            self.patience = PATIENCE if len(calls) > self.called else self.patience - 1
            self.called = len(calls)
            assert self.patience, f"the transport stays when its peer has gone: {self}"
            return False
        self.check()
        return True

    def check(self) -> None:
        protocol = self.protocol
        calls = protocol.calls
        assert calls.count("made") == calls.count("lost") <= 1, self
        assert not calls or (calls[0], calls[-1]) == ("made", "lost"), self
        assert (
            calls.count("eof") <= 1 and "data" not in calls[calls.index("eof") :]
            if "eof" in calls
            else True
        ), calls
        assert self.sent.startswith(protocol.data), "the protocol got what was not said"
        outcome = "lost" if calls else "no handshake"
        if calls and protocol.error is not None:
            assert isinstance(protocol.error, OSError), protocol.error
            outcome = type(protocol.error).__name__
        self.stage.outcomes[outcome] += 1
        protocol.transport = None


def report_wrong(stage: Stage) -> str:
    found = [report for report in stage.reports if not isinstance(report.get("exception"), OSError)]
    stage.reports.clear()
    return f"reported: {found}" if found else ""


def run(stage: Stage, seeds: Iterator[int], advance: Callable[[int], None]) -> None:
    """All of them, some at a time."""
    under_way: list[Conversation] = []
    while True:
        faulthandler.dump_traceback_later(STUCK, exit=True)
        while len(under_way) < AT_ONCE:
            seed = next(seeds, None)
            if seed is None:
                break
            under_way.append(Conversation(seed, stage))
        if not under_way:
            break
        stage.turn()
        left = []
        for one in under_way:
            try:
                if not one.step():
                    left.append(one)
            except BaseException as error:
                sys.exit(f"seed {one.seed}: {type(error).__name__}: {error}")
        if wrong := report_wrong(stage):
            sys.exit(f"seeds {[one.seed for one in under_way]}: {wrong}")
        advance(len(under_way) - len(left))
        under_way = left
    stage.turn()
    faulthandler.cancel_dump_traceback_later()


def measure() -> dict[str, int]:
    gc.collect()
    return {"bytes": allocated(), "resident": resident(), "descriptors": descriptors()}


def progress(total: int) -> Callable[[int], None]:
    if not sys.stderr.isatty():
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if done // TOLD > (done - count) // TOLD:
                print(f"{done} of {total}", file=sys.stderr, flush=True)

        return advance
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True)
    bar.start()
    task = bar.add_task("conversations", total=total)
    return lambda count: bar.advance(task, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--conversations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1, help="of the first conversation")
    parser.add_argument("--loop", choices=LOOPS, default="pyev")
    arguments = parser.parse_args()
    first, count = arguments.seed, arguments.conversations
    loop = LOOPS[arguments.loop]()
    stage = Stage(loop)
    warm = min(count // 4, 20_000)
    advance = progress(count)
    gc.freeze()
    run(stage, iter(range(first, first + warm)), advance)
    before, began = measure(), time.perf_counter()
    run(stage, iter(range(first + warm, first + count)), advance)
    spent, after = time.perf_counter() - began, measure()
    grown = {what: after[what] - before[what] for what in before}
    way = os.environ.get("PYEV_TLS", "") if arguments.loop == "pyev" else ""
    print(
        f"{count} conversations with {arguments.loop} {way}: "
        f"{(count - warm) / max(spent, 1e-9):.0f} a second; grown by {grown} after {warm} of them; "
        f"{dict(stage.outcomes.most_common())}"
    )
    loop.close()
    assert stage.outcomes.total() == count
    if grown["descriptors"] or grown["bytes"] > BYTES or grown["resident"] > RESIDENT:
        sys.exit("it grows")
    print("ok", flush=True)


if __name__ == "__main__":
    main()
