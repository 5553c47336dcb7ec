"""A program: clients of all kinds, which check every answer they get.

Prints, as it goes, how many answers it has had; exit status 0 if all of them were right.
"""

import os
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

SYMBOLS = ("EUR", "GBP", "JPY", "CHF")


class Wrong(Exception):
    """An answer that should have been another."""


class Clients:
    def __init__(self, port: int, admin_port: int, seconds: float) -> None:
        self.port, self.admin_port = port, admin_port
        self.until = time.monotonic() + seconds
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.lock = threading.Lock()

    def got(self, what: str, count: int = 1) -> None:
        with self.lock:
            self.counts[what] += count

    @property
    def going(self) -> bool:
        return time.monotonic() < self.until

    @contextmanager
    def connected(self, port: int, buffer: int = 0) -> Iterator[tuple[socket.socket, BinaryIO]]:
        with socket.socket() as sock:
            if buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            sock.settimeout(10.0)
            sock.connect(("127.0.0.1", port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with sock.makefile("rb") as answers:
                yield sock, answers

    def expect(self, answer: bytes, start: str) -> None:
        if not answer.startswith(start.encode()) or not answer.endswith(b"\n"):
            raise Wrong(f"{answer[:60]!r} does not begin with {start!r}")

    # The clients.

    def trader(self) -> None:
        """Asks, reads, thinks a little, asks again; says good-bye."""
        with self.connected(self.port) as (sock, answers):
            while self.going:
                symbol = random.choice(SYMBOLS)
                sock.sendall(f"GET {symbol}\n".encode())
                self.expect(answers.readline(), symbol)
                self.got("answers")
                time.sleep(random.uniform(0.001, 0.005))
            sock.sendall(b"QUIT\n")
            self.expect(answers.read(), "BYE")

    def piper(self) -> None:
        """Asks a hundred things in one go, then reads all the answers."""
        with self.connected(self.port) as (sock, answers):
            while self.going:
                asked = random.choices(SYMBOLS, k=100)
                sock.sendall("".join(f"GET {symbol}\n" for symbol in asked).encode())
                for symbol in asked:
                    self.expect(answers.readline(), symbol)
                self.got("answers", len(asked))
                time.sleep(0.1)

    def dribbler(self) -> None:
        """Sends a request byte by byte."""
        with self.connected(self.port) as (sock, answers):
            while self.going:
                for byte in b"GET EUR\n":
                    sock.sendall(bytes([byte]))
                    time.sleep(0.005)
                self.expect(answers.readline(), "EUR")
                self.got("answers")

    def historian(self) -> None:
        """Asks for a lot and reads it slowly through a small buffer."""
        while self.going:
            with self.connected(self.port, buffer=8192) as (sock, answers):
                sock.sendall(b"HISTORY 20000\n")
                self.expect(answers.readline(), "MOVES 20000")
                for _ in range(20_000):
                    self.expect(answers.readline(), "")
                self.got("answers")
            time.sleep(0.2)

    def sleeper(self) -> None:
        """Asks once and falls silent: the service hangs up."""
        while self.going:
            with self.connected(self.port) as (sock, answers):
                sock.sendall(b"GET JPY\n")
                self.expect(answers.readline(), "JPY")
                self.got("answers")
                if answers.readline():
                    raise Wrong("an answer nobody asked for")
                self.got("hang-ups")

    def babbler(self) -> None:
        """Sends one line that never ends: the service says so and hangs up."""
        with self.connected(self.port) as (sock, answers):
            sock.sendall(b"x" * 2000)
            self.expect(answers.read(), "ERROR")

    def admin(self) -> None:
        """Asks on the other port, which is served by the loop inside."""
        with self.connected(self.admin_port) as (sock, answers):
            while self.going:
                sock.sendall(b"STATUS\n")
                self.expect(answers.readline(), "STATUS")
                self.got("admin")
                time.sleep(0.05)

    # All of them.

    def run(self, client: Callable[[], None]) -> None:
        try:
            client()
        except (OSError, Wrong) as error:
            self.wrong.append(f"{client.__name__}: {error!r}")

    def report(self) -> None:
        with self.lock:
            counts = [self.counts[what] for what in ("answers", "hang-ups", "admin")]
        print(*counts, flush=True)

    def main(self) -> int:
        kinds = [self.trader] * 4
        kinds += [self.piper, self.dribbler, self.historian, self.sleeper, self.babbler]
        if self.admin_port:
            kinds.append(self.admin)
        threads = [threading.Thread(target=self.run, args=(kind,), daemon=True) for kind in kinds]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.1)
                self.report()
        self.report()
        for wrong in self.wrong:
            print(wrong, file=sys.stderr)
        return 1 if self.wrong else 0


if __name__ == "__main__":
    try:
        status = Clients(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])).main()
    except BrokenPipeError:  # The service has gone.
        os._exit(1)
    sys.exit(status)
