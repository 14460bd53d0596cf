"""Tokens among the events of a job, for whoever watches it being written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Index, delete, select, text
from sqlalchemy.orm import Session

from models import events
from models.base import utcnow
from models.events import Event
from models.job_rows import Job

TOKENS = "tokens"
"""The type of events that show generated text."""

PRUNE_ROWS = 5000
"""Events that one transaction deletes at most."""

_IS_TOKENS = text("events.type = 'tokens'")  # spelled out, for a partial index is not found by a parameter

Index(
    "ix_events_tokens", Event.created_at,
    sqlite_where=text("type = 'tokens'"), postgresql_where=text("type = 'tokens'"),
)  # fmt: skip


@dataclass(frozen=True)
class TokenDelta:
    """Text that an attempt at a job generated since its last delta, and of how many tokens it is."""

    tenant_id: str
    job_id: str
    attempt: int
    text: str
    tokens: int

    @property
    def data(self) -> dict[str, Any]:
        """What watchers are shown."""
        return {"text": self.text, "tokens": self.tokens, "attempt": self.attempt}


class Shown(NamedTuple):
    """What an event tells: type, data, time."""

    type: str
    data: dict[str, Any]
    at: datetime


class Seen(NamedTuple):
    """An event and its row."""

    row: int
    shown: Shown


def append(session: Session, deltas: Sequence[TokenDelta]) -> None:
    """Store deltas as events, those of deleted jobs left out."""
    ids = {delta.job_id for delta in deltas}
    # The share lock keeps a job from being deleted between this look and the insert.
    jobs = select(Job.id).where(Job.id.in_(ids)).with_for_update(read=True, key_share=True)
    there = set(session.scalars(jobs))
    now = utcnow()
    rows = [
        events.row(delta.tenant_id, delta.job_id, TOKENS, delta.data, now)
        for delta in deltas
        if delta.job_id in there
    ]
    events.record(session, rows)


def after(session: Session, job_id: str, row: int, limit: int) -> list[Seen]:
    """Events of one job after a row, oldest first."""
    found = events.after(session, job_id, row, limit)
    return [Seen(event.id, Shown(event.type, orjson.loads(event.data), event.created_at)) for event in found]


def prune(session: Session, before: datetime) -> int:
    """Delete up to ``PRUNE_ROWS`` tokens of jobs that ended before that time; says how many went."""
    old = (
        select(Event.id)
        .join(Job, Job.id == Event.job_id)
        .where(_IS_TOKENS, Event.created_at < before, Job.finished_at < before)
        .limit(PRUNE_ROWS)
    )
    result = session.execute(delete(Event).where(Event.id.in_(old)))
    return int(result.rowcount)  # type: ignore[attr-defined]  # delete gives a CursorResult
