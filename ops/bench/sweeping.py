"""What a pass of the sweeper costs the database when a great many jobs wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from models.database import Database, Session
from ops.bench.cycles import AT_ONCE
from ops.bench.figure import Effort, Figure
from ops.bench.hands import Hands
from ops.bench.statistics import median
from ops.bench.stock import Stock
from workers.broker import make_broker, make_live_log
from workers.sweeper import RARELY_SECONDS, Sweeper

TARGET = 0.200


class Timed(Database):
    """A database that adds up the time of its transactions: statements, commits, what stands between."""

    seconds = 0.0

    @contextmanager
    def write(self) -> Iterator[Session]:
        """As in any database."""
        begun = time.perf_counter()
        with super().write() as session:
            yield session
        self.seconds += time.perf_counter() - begun

    @contextmanager
    def read(self) -> Iterator[Session]:
        """As in any database."""
        begun = time.perf_counter()
        with super().read() as session:
            yield session
        self.seconds += time.perf_counter() - begun


class Clock:
    """The monotonic clock, set ahead when it is time to tidy."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return time.monotonic() + self.ahead


def measure(store: str, stock: Stock, effort: Effort) -> Iterator[Figure]:
    """Medians of passes with some work between them, the first of each kind left out."""
    timed = Timed(stock.database.engine)
    hands, clock = Hands(stock.database, stock.settings), Clock()
    with (
        closing(make_broker(stock.settings, timed)) as broker,
        closing(make_live_log(stock.settings, timed)) as live,
    ):
        sweeper = Sweeper(timed, broker, live, stock.settings, clock)
        for name, ahead in (("a sweeper pass", 0.0), ("a pass that tidies", RARELY_SECONDS)):
            taken = []
            for _ in range(effort.rounds + 1):
                hands.finish(hands.claim(AT_ONCE))
                timed.seconds = 0.0
                clock.ahead += ahead
                sweeper.sweep()
                taken.append(timed.seconds * 1000)
            yield Figure(
                f"{store}: {name}, {stock.waiting:,} wait", median(taken[1:]), "ms", "at most", TARGET * 1000,
                {"milliseconds": taken[1:], "first_milliseconds": taken[0]},
            )  # fmt: skip
    hands.leave()
