"""Whether the queue still takes jobs."""

from __future__ import annotations

import threading
import time

from api.problems import Kind, Problem
from models import counters
from models.database import Database

SECONDS = 0.25
"""How long a count serves, while it is far from the limit."""

RETRY_AFTER = 10


class Depth:
    """The number of waiting jobs: a count of a moment ago, and what came through this door since."""

    def __init__(self, database: Database, most: int) -> None:
        self._database = database
        self._most = most
        self._guard = threading.Lock()
        self._read_at = -SECONDS
        self._waiting = 0

    def check(self, more: int) -> None:
        """Do nothing if ``more`` jobs find room.

        Raises:
            Problem: 429; the count behind it is fresh.
        """
        if self._room(more, SECONDS) or self._room(more, 0):
            return
        raise Problem(
            Kind.QUEUE_FULL,
            f"{self._waiting} jobs wait and {self._most} may (queue.max_depth): send {more} more later",
            headers={"Retry-After": str(RETRY_AFTER)},
        )

    def add(self, more: int) -> None:
        """Note that jobs were stored."""
        with self._guard:
            self._waiting += more

    def _room(self, more: int, age: float) -> bool:
        with self._guard:
            if time.monotonic() - self._read_at >= age:
                with self._database.read() as session:
                    self._waiting = counters.waiting(session)
                self._read_at = time.monotonic()
            return self._waiting + more <= self._most
