"""The prices, and the settings they are quoted with."""

import os
import random
import tomllib
from collections import deque
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    version: int = 1
    spread: float = 0.002

    @classmethod
    def load(cls, path: Path) -> "Settings":
        return cls(**tomllib.loads(path.read_text()))

    def save(self, path: Path) -> None:
        """As editors do: a new file in the old one's place, so nobody reads half of it."""
        new = path.with_suffix(".new")
        new.write_text(f"version = {self.version}\nspread = {self.spread}\n")
        os.replace(new, path)


class Market:
    PAST = 20_000  # Moves known from before we started: what HISTORY can be asked for.

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.mids = {"EUR": 1.08, "GBP": 0.85, "JPY": 164.0, "CHF": 0.96}
        self.moves: deque[tuple[str, float]] = deque(maxlen=self.PAST)
        symbols = list(self.mids)
        for _ in range(self.PAST):
            symbol = random.choice(symbols)
            self.move(symbol, self.mids[symbol] * random.uniform(0.999, 1.001))

    def move(self, symbol: str, mid: float) -> None:
        self.mids[symbol] = mid
        self.moves.append((symbol, mid))

    def quote(self, symbol: str) -> str:
        half = self.settings.spread / 2
        mid = self.mids[symbol]
        return f"{symbol} {mid * (1 - half):.5f} {mid * (1 + half):.5f}"

    def history(self, count: int) -> list[str]:
        """The newest moves, newest last."""
        count = min(count, len(self.moves))
        newest = list(self.moves)[len(self.moves) - count :]
        return [f"{symbol} {mid:.5f}" for symbol, mid in newest]

    def answer(self, request: str) -> str:
        """One request, one answer; HISTORY's begins with how many lines follow it."""
        match request.split():
            case ["GET", symbol] if symbol in self.mids:
                return self.quote(symbol)
            case ["HISTORY", count] if count.isdecimal():
                lines = self.history(int(count))
                return "\n".join([f"MOVES {len(lines)}", *lines])
            case ["SETTINGS"]:
                return f"VERSION {self.settings.version}"
        return "ERROR what is that?"
