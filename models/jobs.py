"""The changes of state of a job that has not ended: one function a transition.

Claims stand in :mod:`models.claims`, endings in :mod:`models.endings`, new jobs
in :mod:`models.submission`.
Every function works inside the caller's transaction and tells time by the
``now`` it is given.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, select, update
from sqlalchemy.orm import Session

from models import agents, audit, events
from models.counters import Deltas
from models.job_rows import Attempt, Job, Payload
from models.states import State


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


def hand_back(
    session: Session,
    kept: Sequence[tuple[str, int, Sequence[int] | None]],
    outcome: str,
    now: datetime,
    seconds: Mapping[str, float] | None = None,
) -> list[str]:
    """Running → queued for (job id, fence, tokens so far): parked or given back at shutdown.

    None for the tokens leaves those of an earlier attempt. Uses no attempt up; ``seconds`` are
    what each has taken of its ``timeout_seconds`` since it was claimed.
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
            taken = (seconds or {}).get(job_id, 0.0)
            values = {"progress": list(tokens) or None, "spent_seconds": Payload.spent_seconds + taken}
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
    close_attempts(session, [attempt_end(job, outcome, now)])
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
    query = select(Job).where(Job.id.in_(job_ids)).order_by(Job.seq).with_for_update(key_share=True)
    return {job.id: job for job in session.scalars(query.execution_options(populate_existing=True))}


def pick(session: Session, query: Select[Job]) -> Sequence[Job]:
    """The jobs that a query finds, locked; those that another holds are passed by."""
    if session.get_bind().dialect.name == "postgresql":
        found = session.scalars(query.with_only_columns(Job.id)).all()
        agents.lock(session, found)
        query = query.where(Job.id.in_(found))
    return session.scalars(query.with_for_update(skip_locked=True, key_share=True)).all()


def close_attempts(session: Session, ends: Sequence[Mapping[str, Any]]) -> None:
    """Write down how attempts ended, in one statement; each is made by :func:`attempt_end`."""
    if ends:
        session.execute(update(Attempt), ends)


def attempt_end(
    job: Job,
    outcome: str,
    now: datetime,
    *,
    error_type: str | None = None,
    error_message: str | None = None,
    first_step_at: datetime | None = None,
) -> dict[str, Any]:
    """How the attempt under the job's fence ended, as columns of Attempt."""
    return {
        "job_id": job.id,
        "fence": job.fence,
        "ended_at": now,
        "outcome": outcome,
        "error_type": error_type,
        "error_message": error_message,
        "first_step_at": first_step_at,
    }


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
        query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    return session.scalar(query)


def by_llm(session: Session, job_ids: Sequence[str]) -> dict[str, list[str]]:
    """The ids grouped by the queue they wait in."""
    grouped: dict[str, list[str]] = {}
    if job_ids:
        for job_id, llm in session.execute(select(Job.id, Job.llm).where(Job.id.in_(job_ids))):
            grouped.setdefault(llm, []).append(job_id)
    return grouped


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


def places(session: Session, jobs: Iterable[Job], at_most: int = 1000) -> dict[str, int]:
    """The places of claimable jobs in their lanes, from 1; others, and those further behind, are missing.

    One look at the front of each lane, however many jobs are asked for.
    """
    lanes = {(job.llm, job.lane) for job in jobs if job.claimable}
    found: dict[str, int] = {}
    for llm, lane in lanes:
        front = select(Job.id).where(Job.llm == llm, Job.lane == lane, Job.claimable)
        ids = session.scalars(front.order_by(Job.rank, Job.seq).limit(at_most))
        found |= {job_id: place for place, job_id in enumerate(ids, 1)}
    return found


def state_event(job: Job, now: datetime) -> dict[str, object]:
    """The event that tells of a job's present state."""
    data = {"state": str(job.state), "attempt": job.attempt, "fence": job.fence}
    return events.row(job.tenant_id, job.id, "state", data, now)
