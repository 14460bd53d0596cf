"""Changes of many rows in steps so small that others can write in between."""

from __future__ import annotations

import time
from collections.abc import Callable

from models.database import Database, Session

SHARE = 0.4
"""Of the time that a step may hold the write lock, what it aims at; the rest is for the unforeseen."""

LEAST = 10
"""Rows of any step: below that it is the commit that takes its time, not the rows."""

REST = 3.0
"""How long everybody else may write after a step, in times of what it took."""


class Pace:
    """Finds out how many rows of one kind may be changed in one transaction.

    ``size`` at most doubles with each step, and shrinks at once when one takes longer
    than is aimed at. A step of ``least`` rows takes what it takes.
    """

    def __init__(
        self,
        database: Database,
        lock_seconds: float,
        first: int = 5 * LEAST,
        least: int = LEAST,
        clock: Callable[[], float] = time.monotonic,
        rest: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database = database
        self._goal = lock_seconds * SHARE
        self._least = least
        self._clock = clock
        self._rest = rest
        self.size = first

    def step(self, change: Callable[[Session], int], rows: int | None = None) -> int:
        """Run ``change`` in a transaction, learn from it, let others write; returns what it returns.

        That is how many rows it has changed, unless ``rows`` says how many it counts for.

        Raises:
            models.database.Unavailable: as any transaction.
        """
        with self._database.write() as session:
            session.connection()  # the lock is ours from here on: waiting for it holds up nobody
            began = self._clock()
            count = change(session)
        held = self._clock() - began
        self._learn(count if rows is None else rows, held)
        self._rest(held * REST)
        return count

    def _learn(self, rows: int, held: float) -> None:
        if rows and held > self._goal:
            self.size = max(self._least, int(rows * self._goal / held))
        elif rows >= self.size:
            fits = int(rows * self._goal / held) if held else 2 * self.size
            self.size = min(fits, 2 * self.size)
