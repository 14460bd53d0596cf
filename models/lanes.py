"""Lanes of a queue: one for all tenants, and one for each that may run only so many jobs at once.

What lanes and LLMs have claimable jobs is found by one step into the claim
index for each of them ("loose index scan"), however many jobs wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Select, String, bindparam, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from models import agents
from models.job_rows import Job
from models.states import State

SHARED = ""
"""The lane of all tenants that have none of their own."""

AT_ONCE = 500
"""Jobs that one transaction moves, so that it holds the write lock for a moment only."""

UNFINISHED = (State.SCHEDULED, State.QUEUED, State.RUNNING)
"""In the order of a job's life: who looks through them in turn misses few that move on meanwhile."""


def _steps(column: InstrumentedAttribute[str], *where: ColumnElement[bool]) -> Select[str]:
    """The distinct values of a column of the claim index, each found from the one before it."""
    first = select(column).where(*where, Job.claimable).order_by(column).limit(1)
    found = select(first.scalar_subquery().label("value")).cte("found", recursive=True)
    following = first.where(column > found.c.value).scalar_subquery()
    found = found.union_all(select(following).where(found.c.value.is_not(None)))
    return select(found.c.value).where(found.c.value.is_not(None))


_LANES = _steps(Job.lane, Job.llm == bindparam("queue", type_=String))
_LLMS = _steps(Job.llm)
"""Built once, for every claim asks for the lanes."""

_FIRST = (
    select(Job.id)
    .where(Job.llm == bindparam("queue", type_=String), Job.lane == bindparam("own", type_=String))
    .where(Job.claimable)
    .order_by(Job.rank, Job.seq)
    .limit(1)
)


def lanes(session: Session, llm: str) -> list[str]:
    """The lanes of a queue that hold claimable jobs, in order."""
    return list(session.scalars(_LANES, {"queue": llm}))


def llms(session: Session) -> list[str]:
    """The LLMs whose queues hold claimable jobs, in order."""
    return list(session.scalars(_LLMS))


def freed(session: Session, jobs: Iterable[Job]) -> list[str]:
    """Ids of jobs that may run elsewhere because some run no more: the first of their lane in each other LLM.

    A tenant's limit counts its jobs of all LLMs, and whoever ran a job looks only into its own queue.
    """
    over = {(job.llm, job.lane) for job in jobs if job.lane != SHARED}
    if not over:
        return []
    looks = (
        {"queue": llm, "own": lane}
        for llm in llms(session)
        for lane in sorted({lane for other, lane in over if other != llm})
    )
    return [job_id for look in looks for job_id in session.scalars(_FIRST, look)]


def astray(
    session: Session, tenant_id: str, lane: str, state: State, after: int = 0, limit: int = AT_ONCE
) -> list[tuple[int, str]]:
    """(seq, id) of a tenant's next jobs in a state, staged ones too, that are not in ``lane``.

    They come in order of ``seq``, those behind ``after``, so that a walk over many reads each row once.
    """
    mine = (Job.tenant_id == tenant_id, Job.state == state, Job.seq > after, Job.lane != lane)
    query = select(Job.seq, Job.id).where(*mine).order_by(Job.seq).limit(limit)
    return [(seq, job_id) for seq, job_id in session.execute(query)]


def move(session: Session, job_ids: Sequence[str], lane: str) -> int:
    """Put jobs into a lane, unless they have ended; returns how many are moved.

    A job is in one lane or the other at any moment, and claims find both.
    """
    agents.lock(session, job_ids)
    ordered = select(Job.seq).where(Job.id.in_(job_ids), Job.finished_at.is_(None)).order_by(Job.seq)
    seqs = session.scalars(ordered.with_for_update(key_share=True)).all()
    session.execute(
        update(Job).where(Job.seq.in_(seqs)).values(lane=lane).execution_options(synchronize_session=False)
    )
    return len(seqs)
