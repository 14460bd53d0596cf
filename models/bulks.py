"""Bulks: many jobs sent in one request, stored in chunks and published at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Integer, String, delete, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from models import agents, audit, queues
from models.base import Base, UtcDateTime
from models.counters import Deltas
from models.job_rows import Job
from models.jobs import locked
from models.states import State


class Bulk(Base):
    """A handle on jobs that came together; ``published_at`` is empty while they are stored."""

    __tablename__ = "bulks"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(64))
    total: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    published_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    cancelled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


def publish(session: Session, bulk: Bulk, actor: str, now: datetime) -> list[str]:
    """Let all stored jobs of a bulk be seen and claimed; returns the LLMs that have work.

    One transaction: a client sees all of a bulk or nothing of it.

    Raises:
        Draining: a queue that some of the jobs are for takes none in.
    """
    mine = (Job.bulk_id == bulk.id, Job.staged)
    names = session.scalars(select(Job.agent).where(*mine, Job.agent.is_not(None)).distinct()).all()
    columns = (Job.llm, Job.priority, Job.state)
    groups = session.execute(select(*columns, func.count()).where(*mine).group_by(*columns)).all()
    queues.check_open(session, {llm for llm, *_ in groups})
    owners = sorted(name for name in names if name)
    if session.get_bind().dialect.name != "sqlite":  # which has one writer
        _lock(session, bulk, owners, now)
    session.execute(
        update(Job)
        .where(*mine)
        .values(staged=False, claimable=(Job.state == State.QUEUED) & Job.agent.is_(None))
        .execution_options(synchronize_session=False)
    )
    agents.release_many(session, bulk.tenant_id, owners, now)
    deltas = Deltas()
    for llm, priority, state, count in groups:
        deltas.add((bulk.tenant_id, llm, priority, state), count)
    deltas.write(session)
    bulk.published_at = now
    session.add(bulk)
    act = audit.row(bulk.tenant_id, actor, "bulk.submit", bulk.id, now, jobs=bulk.total)
    audit.record(session, [act])
    return sorted({llm for llm, _, state, _ in groups if state == State.QUEUED})


def _lock(session: Session, bulk: Bulk, owners: Sequence[str], now: datetime) -> None:
    """Agents before jobs and both in order, as everywhere: jobs may be moved to another lane meanwhile."""
    for name in owners:
        agents.touch(session, bulk.tenant_id, name, now)
    rows = select(Job.seq).where(Job.bulk_id == bulk.id, Job.staged).order_by(Job.seq)
    # Counted, for a bulk may be large: nobody reads which they are.
    session.scalar(select(func.count()).select_from(rows.with_for_update(key_share=True).subquery()))


def add(session: Session, bulk_id: str, tenant_id: str, total: int, now: datetime) -> None:
    """A bulk whose jobs are about to be stored; nobody sees it before it is published."""
    session.add(Bulk(id=bulk_id, tenant_id=tenant_id, total=total, created_at=now))
    session.flush()


def some_claimable(session: Session, bulk_id: str, llm: str, limit: int = 100) -> list[str]:
    """Ids of a few jobs of a bulk that may be claimed now, for a hint."""
    query = select(Job.id).where(Job.bulk_id == bulk_id, Job.llm == llm, Job.claimable)
    return list(session.scalars(query.limit(limit)))


def due_times(session: Session, bulk_id: str, limit: int = 100) -> list[tuple[str, datetime, str]]:
    """(LLM, time, id of one job) for the first times at which scheduled jobs of a bulk become due."""
    query = (
        select(Job.llm, Job.run_at, func.min(Job.id))
        .where(Job.bulk_id == bulk_id, Job.state == State.SCHEDULED, Job.run_at.is_not(None))
        .group_by(Job.llm, Job.run_at)
        .order_by(Job.run_at)
        .limit(limit)
    )
    return [(llm, due, job_id) for llm, due, job_id in session.execute(query) if due is not None]


def is_over(session: Session, bulk_id: str) -> bool:
    """Whether every job of a bulk has ended or is gone."""
    going = (State.SCHEDULED, State.QUEUED, State.RUNNING)
    query = select(Job.seq).where(Job.bulk_id == bulk_id, Job.state.in_(going))
    return session.scalar(query.limit(1)) is None


def find(session: Session, tenant_id: str, bulk_id: str) -> Bulk | None:
    """A published bulk of a tenant."""
    query = select(Bulk).where(Bulk.id == bulk_id, Bulk.tenant_id == tenant_id)
    return session.scalar(query.where(Bulk.published_at.is_not(None)))


def counts(session: Session, bulk_id: str) -> dict[str, int]:
    """Jobs of a bulk in each state; deleted ones are missing."""
    query = select(Job.state, func.count()).where(Job.bulk_id == bulk_id).group_by(Job.state)
    return {state: int(count) for state, count in session.execute(query)}


def unfinished(session: Session, bulk_id: str, limit: int) -> list[Job]:
    """Jobs of a bulk that have not ended and are not being cancelled, locked.

    One that was handed back with its flag up waits again, and is among them.
    """
    query = select(Job).where(
        Job.bulk_id == bulk_id,
        Job.finished_at.is_(None),
        Job.cancel_requested.is_(False) | (Job.state != State.RUNNING),
    )
    some = session.scalars(query.with_only_columns(Job.id).order_by(Job.seq).limit(limit)).all()
    return [job for job in locked(session, some).values() if not job.is_terminal]


def drop_abandoned(session: Session, before: datetime, limit: int = 1000) -> int:
    """Delete staged jobs of bulks that were never published (the client got no 202)."""
    query = select(Bulk.id).where(Bulk.published_at.is_(None), Bulk.created_at < before)
    bulk_id = session.scalar(query.limit(1))
    return 0 if bulk_id is None else drop(session, bulk_id, limit)


def drop(session: Session, bulk_id: str, limit: int = 1000) -> int:
    """Delete up to ``limit`` staged jobs of a bulk, and the bulk with the last; 0 when nothing is left."""
    old = select(Job.seq).where(Job.bulk_id == bulk_id, Job.staged).limit(limit)
    gone = session.execute(delete(Job).where(Job.seq.in_(old)))
    count = int(gone.rowcount)  # type: ignore[attr-defined]  # delete gives a CursorResult
    if count < limit:
        session.execute(delete(Bulk).where(Bulk.id == bulk_id, Bulk.published_at.is_(None)))
    return count
