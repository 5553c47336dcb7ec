"""What each watcher has seen, and what it should have."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Row:
    """One watcher's line. Whoever causes an event adds to `caused`, the watcher adds to `seen`."""

    kind: str
    what: str
    side: str = "watcher"
    caused: int = 0
    seen: int = 0
    last: str = ""
    tell: Callable[["Row"], None] | None = field(default=None, repr=False)

    def saw(self, last: str, count: int = 1) -> None:
        self.seen += count
        self.last = last
        if self.tell is not None:
            self.tell(self)

    @property
    def least(self) -> int:
        return max(1, self.caused)

    @property
    def short(self) -> bool:
        return self.seen < self.least


class Ledger:
    """The rows. Those of one `side`, watchers' or asyncio's, are next to each other."""

    def __init__(self, tell: Callable[[Row], None]) -> None:
        self.rows: list[Row] = []
        self.tell = tell
        # Told to stop before its time: nobody can say what should have been seen.
        self.cut_off = False

    def row(self, kind: str, what: str, *, often: bool = False, side: str = "watcher") -> Row:
        """A new line. What happens `often` is counted, the rest is told one by one as well."""
        row = Row(kind, what, side, tell=None if often else self.tell)
        self.rows.append(row)
        return row

    def short(self) -> list[Row]:
        return [row for row in self.rows if row.short and not self.cut_off]

    def total(self, side: str = "watcher") -> int:
        return sum(row.seen for row in self.rows if row.side == side)

    def begins(self, index: int) -> bool:
        """Whether this row is the first of its side."""
        return index == 0 or self.rows[index].side != self.rows[index - 1].side
