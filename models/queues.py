"""Looking at queues: how deep they are, and how long their oldest job has waited."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from models import counters
from models.job_rows import Job
from models.states import State


def oldest_claimable(session: Session) -> dict[str, tuple[str, datetime]]:
    """For each LLM with claimable jobs: the id of the first in order, and when it came or became due."""
    found = {}
    for llm in session.scalars(select(Job.llm).where(Job.claimable).distinct()):
        query = select(Job.id, Job.created_at, Job.run_at).where(Job.llm == llm, Job.claimable)
        row = session.execute(query.order_by(Job.rank, Job.seq).limit(1)).first()
        if row is not None:
            found[llm] = (row.id, max(row.created_at, row.run_at or row.created_at))
    return found


@dataclass(slots=True)
class Depth:
    """Jobs of one LLM and priority that have not ended; ``oldest`` is when the first queued one came."""

    llm: str
    priority: int
    queued: int = 0
    scheduled: int = 0
    running: int = 0
    oldest: datetime | None = None


def depths(session: Session, tenant_id: str | None = None) -> list[Depth]:
    """The queues that are not empty, of one tenant or of all."""
    found: dict[tuple[str, int], Depth] = {}
    for (tenant, llm, priority, state), count in sorted(counters.states(session, tenant_id).items()):
        if state not in (State.QUEUED, State.SCHEDULED, State.RUNNING) or count <= 0:
            continue
        depth = found.setdefault((llm, priority), Depth(llm, priority))
        setattr(depth, state, getattr(depth, state) + count)
        if state == State.QUEUED:
            came = _oldest(session, tenant, llm, priority)
            depth.oldest = min(filter(None, (came, depth.oldest)), default=None)
    return [found[key] for key in sorted(found)]


def _oldest(session: Session, tenant_id: str, llm: str, priority: int) -> datetime | None:
    """Walks the index of a tenant's queued jobs in order of submission up to the first that fits."""
    query = (
        select(Job.created_at)
        .where(Job.tenant_id == tenant_id, Job.state == State.QUEUED, Job.staged.is_(False))
        .where(Job.llm == llm, Job.priority == priority)
    )
    return session.scalar(query.order_by(Job.seq).limit(1))


_JOBS = Job.__table__.c
_AHEAD_OF_NEW = select(func.count()).select_from(
    select(_JOBS.id)
    .where(_JOBS.llm == bindparam("queue"), _JOBS.claimable)
    .where(_JOBS.rank <= bindparam("own_rank"), _JOBS.id != bindparam("own_id"))
    .limit(bindparam("at_most"))
    .subquery()
)
"""Built once, for every submission asks it."""


def place_of_new(session: Session, job: Job, at_most: int = 200) -> int | None:
    """The place of a job that was just stored; None if it cannot be claimed or is further behind.

    Bounded closely, for this is asked while others wait to write: later looks go further.
    """
    if not job.claimable:
        return None
    values = {"queue": job.llm, "own_rank": job.rank, "own_id": job.id, "at_most": at_most}
    count = int(session.scalar(_AHEAD_OF_NEW, values) or 0)
    return count + 1 if count < at_most else None
