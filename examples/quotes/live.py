"""The live table, by rich."""

import time
from collections import deque

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .ledger import Ledger, Row

SPARKS = "▁▂▃▄▅▆▇█"
# One bar for this many refreshes, and so many bars.
REFRESHES, BARS = 4, 10


class Activity:
    """How busy a row was lately, as bars of its own scale."""

    def __init__(self) -> None:
        self.counts = deque([0] * BARS, maxlen=BARS)
        self.seen = 0

    def sample(self, seen: int) -> None:
        self.counts.append(seen - self.seen)
        self.seen = seen

    def text(self) -> Text:
        most = max(self.counts) or 1
        bars = (
            SPARKS[count * (len(SPARKS) - 1) // most] if count else " " for count in self.counts
        )
        return Text("".join(bars), style="blue")


class LiveView:
    live: Live | None = None

    def open(self, ledger: Ledger, title: str) -> None:
        self.ledger, self.title = ledger, title
        self.console = Console(highlight=False)
        self.activities = [Activity() for _ in ledger.rows]
        self.refreshes = 0
        self.done = self.not_before = 0.0
        # Refreshed by the service's Timer: no thread of rich's beside the loop.
        self.live = Live(self.whole(), console=self.console, auto_refresh=False)
        self.live.start()

    def tell(self, row: Row) -> None:
        """It is in the table soon enough."""

    def refresh(self, done: float) -> None:
        self.done = done
        self.refreshes += 1
        if self.refreshes % REFRESHES == 0:
            for row, activity in zip(self.ledger.rows, self.activities, strict=True):
                activity.sample(row.seen)
        began = time.monotonic()
        if self.live is not None and began >= self.not_before:
            self.live.update(self.whole(), refresh=True)
            # On a busy machine, drawing must leave as much time for everything else.
            self.not_before = 2 * time.monotonic() - began

    def close(self) -> None:
        if self.live is not None:
            self.live.update(self.table(final=True), refresh=True)
            self.live.stop()

    def whole(self) -> Group:
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column(ratio=1)
        bar.add_column(style="dim")
        bar.add_row(
            ProgressBar(1.0, self.done, complete_style="cyan", finished_style="cyan"),
            "Ctrl-C ends it",
        )
        return Group(self.table(), bar)

    def table(self, final: bool = False) -> Table:
        table = Table(
            title=self.title,
            title_style="bold",
            box=SIMPLE_HEAD,
            show_edge=False,  # A terminal of 24 lines has room for all.
            expand=True,
            pad_edge=False,
            padding=(0, 1, 0, 0),
            header_style="dim",
        )
        table.add_column(self.ledger.rows[0].side, style="bold cyan", no_wrap=True)
        table.add_column("waits for", no_wrap=True)
        table.add_column("seen", justify="right", no_wrap=True, min_width=6)
        table.add_column("", no_wrap=True, width=1)
        table.add_column("lately", no_wrap=True, width=BARS)
        table.add_column("last", style="dim", no_wrap=True, ratio=1)
        for index, (row, activity) in enumerate(
            zip(self.ledger.rows, self.activities, strict=True)
        ):
            if index and self.ledger.begins(index):
                table.add_section()
                table.add_row(Text(row.side, style="not bold dim default"))
            table.add_row(
                row.kind,
                row.what,
                str(row.seen),
                mark(row, final and not self.ledger.cut_off),
                activity.text(),
                row.last,
            )
        return table


def mark(row: Row, judged: bool) -> Text:
    if not row.short:
        return Text("✓", style="green")
    return Text("✗", style="bold red") if judged else Text("…", style="yellow")
