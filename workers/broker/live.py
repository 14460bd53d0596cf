"""Live events of jobs: what clients that watch are shown, as it happens.

A log may lose tokens (the result of a job never depends on it), but it never
shows an event twice to a reader that says which one it saw last.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from models import live
from models.database import Database
from models.live import TokenDelta

__all__ = ["LiveEvent", "LiveLog", "SqlLiveLog", "TokenDelta", "split_cursor"]

_CURSOR = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,18}-[0-9]{1,18}))?")


@dataclass(frozen=True)
class LiveEvent:
    """One event of a job. ``id`` is opaque to clients and says how far they have read."""

    id: str
    type: str
    data: dict[str, Any]
    at: datetime


class LiveLog(Protocol):
    """Where tokens are shown while they come, together with the changes of state.

    Changes of state (type ``state``) are stored by the transactions that make
    them; this adds the tokens (type ``tokens``, data ``text``, ``tokens``,
    ``attempt``) and reads both in order.
    """

    def append(self, deltas: Sequence[TokenDelta]) -> None:
        """Show new tokens; of jobs that are gone nothing is kept."""

    def read(self, job_id: str, after: str | None, limit: int = 1000) -> list[LiveEvent]:
        """Up to ``limit`` events that followed the one with id ``after``, oldest first.

        Raises:
            ValueError: ``after`` is not the id of an event.
        """

    def prune(self, before: datetime) -> int:
        """Forget the tokens of jobs that ended before that time; says how many events went."""

    def close(self) -> None:
        """Close what the log itself has opened."""


class SqlLiveLog:
    """Tokens as rows of the same table as the changes of state."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, deltas: Sequence[TokenDelta]) -> None:
        """Store tokens in one transaction."""
        if deltas:
            with self._database.write() as session:
                live.append(session, deltas)

    def read(self, job_id: str, after: str | None, limit: int = 1000) -> list[LiveEvent]:
        """Events of one job after a cursor, in the order of their rows."""
        row, _ = split_cursor(after)
        with self._database.read() as session:
            return [LiveEvent(str(seen.row), *seen.shown) for seen in live.after(session, job_id, row, limit)]

    def prune(self, before: datetime) -> int:
        """Delete the tokens of jobs that ended before that time, in small transactions."""
        gone = 0
        while True:
            with self._database.write() as session:
                count = live.prune(session, before)
            gone += count
            if count < live.PRUNE_ROWS:
                return gone

    def close(self) -> None:
        """Nothing of its own is open."""


def split_cursor(after: str | None) -> tuple[int, str]:
    """The last row and the last stream entry that a reader has seen.

    Raises:
        ValueError: ``after`` is not the id of an event.
    """
    match = _CURSOR.fullmatch(after or "0")
    if match is None:
        raise ValueError(f"not the id of an event: {after!r}")
    return int(match[1]), match[2] or "0-0"
