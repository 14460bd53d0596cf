"""Live events of jobs: every change of state, and (embedded) the tokens as they come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import ForeignKey, Index, String, Text, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base, Serial, UtcDateTime, rows_into


class Event(Base):
    """One thing that happened to a job; ``data`` is JSON text."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_job_id_id", "job_id", "id"),)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    type: Mapped[str] = mapped_column(String(32))
    data: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


_INSERT = rows_into(Event)


def row(tenant_id: str, job_id: str, kind: str, data: dict[str, Any], now: datetime) -> dict[str, Any]:
    """The values of one event."""
    return {
        "tenant_id": tenant_id,
        "job_id": job_id,
        "type": kind,
        "data": orjson.dumps(data).decode(),
        "created_at": now,
    }


def record(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Store events made by :func:`row`."""
    if rows:
        session.execute(_INSERT, rows)


def after(session: Session, job_id: str, event_id: int, limit: int = 1000) -> list[Event]:
    """Events of one job that are newer than ``event_id``, oldest first."""
    query = select(Event).where(Event.job_id == job_id, Event.id > event_id)
    return list(session.scalars(query.order_by(Event.id).limit(limit)))


def newest(session: Session, job_ids: Sequence[str]) -> dict[str, int]:
    """The newest event of each of some jobs; those without events are missing."""
    query = select(Event.job_id, func.max(Event.id)).where(Event.job_id.in_(job_ids))
    return {job_id: int(newest) for job_id, newest in session.execute(query.group_by(Event.job_id))}


def prune(session: Session, kinds: Iterable[str], before: datetime, limit: int = 5000) -> int:
    """Delete old events of some kinds; says how many went."""
    old = select(Event.id).where(Event.type.in_(tuple(kinds)), Event.created_at < before).limit(limit)
    result = session.execute(delete(Event).where(Event.id.in_(old)))
    return int(result.rowcount)  # type: ignore[attr-defined]  # delete gives a CursorResult
