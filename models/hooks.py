"""What is to happen once a transaction has been committed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final

from sqlalchemy.orm import Session

__all__ = ["Session", "after_commit", "run", "take"]  # the session for rooms that do not import SQLAlchemy

_WAITING: Final = "penstock_after_commit"

log = logging.getLogger(__name__)


def after_commit(session: Session, callback: Callable[[], None]) -> None:
    """Call ``callback`` once, after the session's transaction has been committed and its locks are free.

    A rollback forgets it. It runs in the committing thread and must not use the
    session. What is registered within a savepoint that is rolled back alone
    still runs: callbacks are hints, never the truth.
    """
    session.info.setdefault(_WAITING, []).append(callback)


def take(session: Session) -> list[Callable[[], None]]:
    """What waits for the commit of a session, for whoever commits it to :func:`run` then."""
    waiting: list[Callable[[], None]] = session.info.pop(_WAITING, [])
    return waiting


def run(callbacks: Iterable[Callable[[], None]]) -> None:
    """Call them; what is committed must not look as if it had failed, so errors are only logged."""
    for callback in callbacks:
        try:
            callback()
        except Exception:
            log.exception("What was to follow a commit failed")
