"""What a person sees: line after line, or a live table where there is a terminal and rich."""

import os
import sys
import time
from typing import Protocol

from .ledger import Ledger, Row


class View(Protocol):
    def open(self, ledger: Ledger, title: str) -> None: ...
    def tell(self, row: Row) -> None:
        """Something rare has happened."""

    def refresh(self, done: float) -> None:
        """Part `done` of the whole is over."""

    def close(self) -> None:
        """Show how it ended, if it ever began."""


class PlainView:
    """A line for each rare thing, one a second for the frequent ones, the table at the end."""

    ledger: Ledger | None = None
    unread = False

    def open(self, ledger: Ledger, title: str) -> None:
        self.ledger = ledger
        self.began = self.told = time.monotonic()
        print(title, flush=True)

    def line(self, kind: str, text: str) -> None:
        if self.unread:
            return
        try:
            print(f"{time.monotonic() - self.began:6.2f} s  {kind:<9}  {text}", flush=True)
        except BrokenPipeError:  # Said once, to whoever runs the loop.
            self.unread = True
            raise

    def tell(self, row: Row) -> None:
        self.line(row.kind, f"{row.what}: {row.last}")

    def refresh(self, done: float) -> None:
        if self.ledger and time.monotonic() - self.told >= 1.0:
            self.told = time.monotonic()
            often = (f"{row.kind} {row.seen}" for row in self.ledger.rows if row.tell is None)
            self.line("so far", ", ".join(often))

    def close(self) -> None:
        if self.ledger is None or self.unread:
            return
        for index, row in enumerate(self.ledger.rows):
            if self.ledger.begins(index):
                print(f"\n{row.side:<9}  {'waits for':<24}  {'seen':>8}  {'at least':>8}")
            mark = "ok" if not row.short else "" if self.ledger.cut_off else "short"
            print(f"{row.kind:<9}  {row.what:<24}  {row.seen:>8}  {row.least:>8}  {mark}".rstrip())


def can_draw() -> bool:
    """A terminal that moves its cursor and knows our bars."""
    utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
    return sys.stdout.isatty() and utf8 and os.environ.get("TERM", "dumb") != "dumb"


def choose(plain: bool) -> View:
    if not plain and can_draw():
        try:
            from .live import LiveView
        except ModuleNotFoundError:  # rich is a nicety.
            pass
        else:
            return LiveView()
    return PlainView()
