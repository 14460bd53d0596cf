"""What is thrown away when it is old enough: found without a lock, deleted a few at a time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from models.counters import Deltas
from models.job_rows import Job
from models.states import State
from models.tenants import Tenant

PAGE = 500
"""Rows that one look goes through."""

TOKENS = 10_000
"""Estimated tokens of a job, some 40 kB of text, that cost about as much to delete as a small job does."""


@dataclass(frozen=True, slots=True)
class Old:
    """An ended job that may go; ``weight`` is what its deletion costs, in small jobs."""

    seq: int
    weight: int


@dataclass(frozen=True, slots=True)
class Page:
    """The old among the rows that were looked at, and the last of these; 0 if nothing comes behind it."""

    old: list[Old]
    last: int


def tenants(session: Session) -> list[str]:
    """The ids of all tenants."""
    return list(session.scalars(select(Tenant.id).order_by(Tenant.id)))


def look(session: Session, tenant_id: str, state: State, before: datetime, after: int = 0) -> Page:
    """A tenant's jobs that ended in a state before a time, among the next rows behind ``after``.

    The rows come in the order in which they were submitted, out of an index,
    so what it costs depends neither on how many jobs there are nor on how long
    those in other states are kept.
    """
    query = select(Job.seq, Job.finished_at, Job.estimated_tokens).where(
        Job.tenant_id == tenant_id, Job.state == state.value, Job.seq > after
    )
    rows = session.execute(query.order_by(Job.seq).limit(PAGE)).all()
    old = [Old(seq, 1 + tokens // TOKENS) for seq, ended, tokens in rows if ended and ended < before]
    return Page(old, rows[-1].seq if len(rows) == PAGE else 0)


def drop(session: Session, seqs: Collection[int]) -> int:
    """Delete those jobs of ``seqs`` that are still there, and count them out; returns how many.

    They have ended, so nothing about them changes any more but that somebody
    else may delete them: what another holds is passed by.
    """
    mine = select(Job.seq).where(Job.seq.in_(seqs)).order_by(Job.seq).with_for_update(skip_locked=True)
    columns = (Job.tenant_id, Job.llm, Job.priority, Job.state)
    dead = delete(Job).where(Job.seq.in_(mine), Job.finished_at.is_not(None)).returning(*columns)
    gone = session.execute(dead).all()
    deltas = Deltas()
    for tenant_id, llm, priority, state in gone:
        deltas.add((tenant_id, llm, priority, state), -1)
    deltas.write(session)
    return len(gone)
