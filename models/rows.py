"""Rows that nobody reads before the commit: gathered, and written together at the end of the transaction.

Several submissions share a transaction (:mod:`models.together`); what each of
them adds to the same table is then one statement instead of many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Insert
from sqlalchemy.orm import Session

_WAITING: Final = "penstock_later"


def later(session: Session, insert: Insert, rows: Sequence[dict[str, Any]]) -> None:
    """Insert ``rows`` when the session's transaction is about to be committed; a rollback forgets them."""
    if rows:
        session.info.setdefault(_WAITING, {}).setdefault(insert, []).extend(rows)


def write(session: Session) -> None:
    """Insert what has been gathered, in the order in which the tables came."""
    waiting = session.info.pop(_WAITING, None)
    if waiting:
        connection = session.connection()  # cheaper than the session, which would look for entities
        for insert, rows in waiting.items():
            connection.execute(insert, rows)
