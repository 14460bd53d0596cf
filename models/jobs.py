"""The changes of state of a job that has not ended: one function a transition.

Endings stand in :mod:`models.endings`, new jobs in :mod:`models.submission`.
Every function works inside the caller's transaction and tells time by the
``now`` it is given.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, delete, func, insert, select, update
from sqlalchemy.orm import Session

from models import agents, audit, events, tenants
from models.counters import Deltas
from models.job_rows import Attempt, Job, Payload
from models.states import State


@dataclass(frozen=True, slots=True)
class Claim:
    """A job taken by a worker under a fence, with all that the engine needs."""

    job_id: str
    tenant_id: str
    fence: int
    attempt: int
    llm: str
    agent: str | None
    created_at: datetime
    started_at: datetime
    timeout_seconds: float
    first: bool
    request: str
    progress: tuple[int, ...]
    run_at: datetime | None = None
    bulk_id: str | None = None

    @property
    def ready_at(self) -> datetime | None:
        """Since when the job could be claimed; None where it may have waited for something that is not known.

        That is so for later attempts, for an agent's turns, and for jobs of a bulk.
        """
        if not self.first or self.agent is not None or self.bulk_id is not None:
            return None
        return max(self.created_at, self.run_at or self.created_at)


def promote_due(session: Session, now: datetime, limit: int = 500) -> list[str]:
    """Scheduled → queued for jobs whose time has come; returns those that can be claimed."""
    waiting = select(Job).where(Job.state == State.SCHEDULED, Job.run_at <= now, Job.staged.is_(False))
    due = pick(session, waiting.order_by(Job.run_at).limit(limit))
    deltas = Deltas()
    for job in due:
        job.state, job.claimable = State.QUEUED, job.agent is None
        job.version += 1
        deltas.move(job, State.SCHEDULED, State.QUEUED)
    session.flush()
    deltas.write(session)
    events.record(session, [state_event(job, now) for job in due])
    ready = [job.id for job in due if job.claimable]
    return ready + agents.release_behind(session, due, now)


def claim(session: Session, worker_id: str, llm: str, limit: int, now: datetime) -> list[Claim]:
    """Queued → running for the best rows of one queue, under a raised fence."""
    best = session.scalars(
        select(Job)
        .where(Job.llm == llm, Job.claimable)
        .where(Job.expires_at.is_(None) | (Job.expires_at > now))
        .order_by(Job.rank, Job.seq)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    if not best:
        return []
    deltas = Deltas()
    firsts = {job.id: job.started_at is None for job in best}
    for job in best:
        job.state, job.claimable, job.worker_id = State.RUNNING, False, worker_id
        job.fence += 1
        job.version += 1
        job.started_at = job.started_at or now
        deltas.move(job, State.QUEUED, State.RUNNING)
    session.flush()
    deltas.write(session)
    session.execute(insert(Attempt), [_attempt(job, worker_id, now) for job in best])
    events.record(session, [state_event(job, now) for job in best])
    tenants.advance(session, llm, max(job.share for job in best))
    return _claims(session, best, firsts, now)


def _attempt(job: Job, worker_id: str, now: datetime) -> dict[str, object]:
    return {
        "job_id": job.id,
        "tenant_id": job.tenant_id,
        "fence": job.fence,
        "worker_id": worker_id,
        "started_at": now,
    }


def _claims(session: Session, jobs: Sequence[Job], firsts: dict[str, bool], now: datetime) -> list[Claim]:
    query = select(Payload).where(Payload.job_id.in_([job.id for job in jobs]))
    payloads = {payload.job_id: payload for payload in session.scalars(query)}
    return [
        Claim(
            job_id=job.id,
            tenant_id=job.tenant_id,
            fence=job.fence,
            attempt=job.attempt,
            llm=job.llm,
            agent=job.agent,
            created_at=job.created_at,
            started_at=now,
            timeout_seconds=job.timeout_seconds,
            first=firsts[job.id],
            request=payloads[job.id].request,
            progress=tuple(payloads[job.id].progress or ()),
            run_at=job.run_at,
            bulk_id=job.bulk_id,
        )
        for job in jobs
    ]


def hand_back(
    session: Session, kept: Sequence[tuple[str, int, Sequence[int] | None]], outcome: str, now: datetime
) -> list[str]:
    """Running → queued for (job id, fence, tokens so far): parked or given back at shutdown.

    None for the tokens leaves those of an earlier attempt. Uses no attempt up.
    Returns the ids that were still held under that fence.
    """
    deltas = Deltas()
    given: list[str] = []
    jobs = locked(session, [job_id for job_id, _, _ in kept])
    for job_id, fence, tokens in kept:
        job = jobs.get(job_id)
        if job is None or not job.is_held(fence):
            continue
        release(session, job, outcome, now, deltas)
        if tokens is not None:
            values = {"progress": list(tokens) or None}
            session.execute(update(Payload).where(Payload.job_id == job_id).values(values))
        given.append(job_id)
    deltas.write(session)
    return given


def release(session: Session, job: Job, outcome: str, now: datetime, deltas: Deltas) -> None:
    """Running → queued for a job that the caller holds; its attempt ends with ``outcome``."""
    deltas.move(job, State.RUNNING, State.QUEUED)
    job.state, job.claimable, job.worker_id = State.QUEUED, True, None
    job.version += 1
    session.flush()
    close_attempt(session, job, outcome, now)
    events.record(session, [state_event(job, now)])


def held(session: Session, job_id: str, fence: int) -> Job | None:
    """The job, locked, if it still runs under this fence; None when the caller is too late."""
    job = locked(session, [job_id]).get(job_id)
    return job if job is not None and job.is_held(fence) else None


def locked(session: Session, job_ids: Collection[str]) -> dict[str, Job]:
    """Some jobs by id, locked and read anew; agents first, jobs in order, so that none deadlock."""
    if not job_ids:
        return {}
    agents.lock(session, job_ids)
    query = select(Job).where(Job.id.in_(job_ids)).order_by(Job.seq).with_for_update()
    return {job.id: job for job in session.scalars(query.execution_options(populate_existing=True))}


def pick(session: Session, query: Select[Job]) -> Sequence[Job]:
    """The jobs that a query finds, locked; those that another holds are passed by."""
    if session.get_bind().dialect.name == "postgresql":
        found = session.scalars(query.with_only_columns(Job.id)).all()
        agents.lock(session, found)
        query = query.where(Job.id.in_(found))
    return session.scalars(query.with_for_update(skip_locked=True)).all()


def close_attempt(
    session: Session, job: Job, outcome: str, now: datetime, **more: str | datetime | None
) -> None:
    """Write down how the attempt under the job's fence ended; ``more`` are columns of Attempt."""
    session.execute(
        update(Attempt)
        .where(Attempt.job_id == job.id, Attempt.fence == job.fence)
        .values(ended_at=now, outcome=outcome, **more)
    )


def request_cancel(session: Session, job: Job, actor: str, now: datetime) -> None:
    """Raise the flag that the worker of a running job looks for.

    Raises:
        ValueError: the job does not run.
    """
    if job.state != State.RUNNING:
        raise ValueError(f"{job.id} does not run, it is {job.state}")
    if not job.cancel_requested:
        job.cancel_requested = True
        job.version += 1
        session.flush()
        act = audit.row(job.tenant_id, actor, "job.cancel_requested", job.id, now)
        audit.record(session, [act])


def cancels_for(session: Session, worker_id: str) -> list[tuple[str, int]]:
    """(job id, fence) of a worker's running jobs whose flag is up."""
    query = select(Job.id, Job.fence).where(
        Job.worker_id == worker_id, Job.state == State.RUNNING, Job.cancel_requested
    )
    return [(job_id, fence) for job_id, fence in session.execute(query)]


def find(session: Session, tenant_id: str, job_id: str, *, lock: bool = False) -> Job | None:
    """One job of a tenant, locked for a change (and read anew) if asked."""
    query = select(Job).where(Job.id == job_id, Job.tenant_id == tenant_id, Job.staged.is_(False))
    if lock:
        agents.lock(session, [job_id])
        query = query.with_for_update().execution_options(populate_existing=True)
    return session.scalar(query)


def by_llm(session: Session, job_ids: Sequence[str]) -> dict[str, list[str]]:
    """The ids grouped by the queue they wait in."""
    grouped: dict[str, list[str]] = {}
    if job_ids:
        for job_id, llm in session.execute(select(Job.id, Job.llm).where(Job.id.in_(job_ids))):
            grouped.setdefault(llm, []).append(job_id)
    return grouped


def any_claimable(session: Session, llm: str) -> bool:
    """Whether a job of one queue may be claimed."""
    query = select(Job.seq).where(Job.llm == llm, Job.claimable)
    return session.scalar(query.limit(1)) is not None


def any_due(session: Session, now: datetime) -> bool:
    """Whether a scheduled job's time has come or a waiting job's has run out."""
    known = select(Job.seq).where(Job.staged.is_(False)).limit(1)
    scheduled = known.where(Job.state == State.SCHEDULED, Job.run_at <= now)
    expired = known.where(Job.expires_at <= now, Job.finished_at.is_(None), Job.state != State.RUNNING)
    return session.scalar(scheduled) is not None or session.scalar(expired) is not None


def remove(session: Session, job: Job, actor: str, now: datetime) -> None:
    """Delete an ended job with payload, result, attempts and events; bill and audit trail stay.

    Raises:
        ValueError: the job has not ended.
    """
    if not job.is_terminal:
        raise ValueError(f"{job.id} has not ended")
    deltas = Deltas()
    deltas.move(job, State(job.state), None)
    deltas.write(session)
    session.execute(delete(Job).where(Job.seq == job.seq))
    audit.record(session, [audit.row(job.tenant_id, actor, "job.delete", job.id, now)])


def running_under(session: Session, worker_id: str, before: datetime) -> list[tuple[str, int]]:
    """(job id, fence) of what a worker holds since before a time."""
    query = select(Job.id, Job.fence).where(Job.worker_id == worker_id, Job.state == State.RUNNING)
    attempt = (Attempt.job_id == Job.id) & (Attempt.fence == Job.fence)
    query = query.join(Attempt, attempt).where(Attempt.started_at < before)
    return [(job_id, fence) for job_id, fence in session.execute(query)]


def position(session: Session, job: Job, at_most: int = 1000) -> int | None:
    """The place of a claimable job in its queue, from 1; None for any other, or one further behind.

    Bounded, for a list asks it of each of its jobs.
    """
    if not job.claimable:
        return None
    ahead = (Job.rank < job.rank) | ((Job.rank == job.rank) & (Job.seq < job.seq))
    before = select(Job.seq).where(Job.llm == job.llm, Job.claimable, ahead).limit(at_most).subquery()
    count = int(session.scalar(select(func.count()).select_from(before)) or 0)
    return count + 1 if count < at_most else None


def state_event(job: Job, now: datetime) -> dict[str, object]:
    """The event that tells of a job's present state."""
    data = {"state": str(job.state), "attempt": job.attempt, "fence": job.fence}
    return events.row(job.tenant_id, job.id, "state", data, now)
