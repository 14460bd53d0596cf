"""What is to happen once a transaction has been committed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

__all__ = ["Session", "after_commit"]  # the session for rooms that do not import SQLAlchemy

_WAITING: Final = "penstock_after_commit"


def after_commit(session: Session, callback: Callable[[], None]) -> None:
    """Call ``callback`` once, right after the session's transaction has been committed.

    A rollback forgets it. It runs in the committing thread, must not use the
    session and must not raise. What is registered within a savepoint that is
    rolled back alone still runs: callbacks are hints, never the truth.
    """
    if _WAITING not in session.info:
        session.info[_WAITING] = []
        event.listen(session, "after_commit", _run)
        event.listen(session, "after_soft_rollback", _forget)
    session.info[_WAITING].append(callback)


def _run(session: Session) -> None:
    if session.in_nested_transaction():
        return  # a savepoint was released; nothing is committed yet
    waiting = session.info[_WAITING]
    session.info[_WAITING] = []
    for callback in waiting:
        callback()


def _forget(session: Session, ended: SessionTransaction) -> None:
    if not ended.nested:
        session.info[_WAITING] = []
