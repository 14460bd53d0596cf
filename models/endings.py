"""How jobs end: results, bills and events in one transaction, guarded by the fence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from config import telemetry
from models import agents, audit, costs, documents, events, suspicion
from models.counters import Deltas
from models.hooks import after_commit
from models.job_rows import Job, Payload, Result
from models.jobs import attempt_end, close_attempts, held, locked, pick, release, state_event
from models.states import WAITING, State


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a job and what they cost; amounts are zero where nobody pays."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    prompt_amount: Decimal = Decimal(0)
    cached_amount: Decimal = Decimal(0)
    completion_amount: Decimal = Decimal(0)

    @property
    def amount(self) -> Decimal:
        """The whole price."""
        return self.prompt_amount + self.cached_amount + self.completion_amount


@dataclass(frozen=True, slots=True)
class Ending:
    """What a worker has to say about one attempt that is over.

    ``state`` is one in which jobs end. ``text`` is kept as the result wherever
    there is one (a job stopped by a cancel, a timeout or its expiry keeps what it has).
    """

    job_id: str
    fence: int
    state: State
    usage: Usage
    currency: str
    billable: bool
    text: str | None = None
    json: Any = None
    finish_reason: str = "stop"
    error_type: str | None = None
    error_message: str | None = None
    first_step_at: datetime | None = None


@dataclass(slots=True)
class Ended:
    """What became of a number of endings."""

    jobs: list[Job] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)

    def add(self, other: Ended) -> None:
        """Take over what became of others."""
        self.jobs += other.jobs
        self.late += other.late
        self.released += other.released


def finish(session: Session, endings: Sequence[Ending], worker_id: str, now: datetime) -> Ended:
    """Running → succeeded | failed | cancelled | expired, with result, cost, audit and event.

    An ending whose fence is no longer held changes nothing: it is recorded as
    late in the audit trail and in ``Ended.late``.
    """
    ended, deltas = Ended(), Deltas()
    done: list[tuple[Job, Ending]] = []
    jobs = locked(session, [ending.job_id for ending in endings])
    for ending in endings:
        job = jobs.get(ending.job_id)
        if job is None or not job.is_held(ending.fence):
            ended.late.append(ending.job_id)
            continue
        deltas.move(job, State.RUNNING, ending.state)
        _end(job, ending.state, now, ending.error_type, ending.error_message)
        job.prompt_tokens = ending.usage.prompt_tokens
        job.cached_tokens = ending.usage.cached_tokens
        job.completion_tokens = ending.usage.completion_tokens
        done.append((job, ending))
    session.flush()
    _keep(session, done, worker_id, now)
    deltas.write(session)
    ended.jobs = [job for job, _ in done]
    documents.mark_stale(session, ended.jobs)
    _count(session, ended.jobs)
    ended.released = agents.release_behind(session, ended.jobs, now)
    _record_late(session, ended.late, worker_id, now)
    return ended


def _end(job: Job, state: State, now: datetime, error_type: str | None, message: str | None) -> None:
    job.state, job.claimable, job.finished_at = state, False, now
    job.error_type, job.error_message = error_type, message
    if state == State.FAILED and job.worker_id is not None:
        job.failures += 1
    job.version += 1


def _keep(session: Session, done: Sequence[tuple[Job, Ending]], worker_id: str, now: datetime) -> None:
    results = [
        {
            "job_id": job.id,
            "tenant_id": job.tenant_id,
            "text": end.text,
            "json": end.json,
            "finish_reason": end.finish_reason,
            "created_at": now,
        }
        for job, end in done
        if end.text is not None
    ]
    if results:
        session.execute(insert(Result), results)
    costs.record(session, [_cost(job, end, now) for job, end in done])
    events.record(session, [state_event(job, now) for job, _ in done])
    acts = [
        audit.row(job.tenant_id, worker_id, f"job.{job.state}", job.id, now, fence=end.fence)
        for job, end in done
    ]
    audit.record(session, acts)
    close_attempts(session, [_attempt_end(job, end, end.state.value, now) for job, end in done])


def _attempt_end(job: Job, end: Ending, outcome: str, now: datetime) -> dict[str, Any]:
    return attempt_end(
        job, outcome, now,
        error_type=end.error_type, error_message=end.error_message, first_step_at=end.first_step_at,
    )  # fmt: skip


def _cost(job: Job, end: Ending, now: datetime) -> dict[str, Any]:
    usage = end.usage
    return {
        "tenant_id": job.tenant_id,
        "job_id": job.id,
        "fence": end.fence,
        "billable": end.billable,
        "llm": job.llm,
        "agent": job.agent,
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "completion_tokens": usage.completion_tokens,
        "currency": end.currency,
        "prompt_amount": usage.prompt_amount if end.billable else Decimal(0),
        "cached_amount": usage.cached_amount if end.billable else Decimal(0),
        "completion_amount": usage.completion_amount if end.billable else Decimal(0),
        "amount": usage.amount if end.billable else Decimal(0),
        "created_at": now,
    }


def _record_late(session: Session, job_ids: Sequence[str], worker_id: str, now: datetime) -> None:
    if not job_ids:
        return
    query = select(Job.id, Job.tenant_id).where(Job.id.in_(job_ids))
    acts = [
        audit.row(tenant_id, worker_id, "job.late_result", job_id, now)
        for job_id, tenant_id in session.execute(query)
    ]
    audit.record(session, acts)


def fail_attempt(
    session: Session,
    ending: Ending,
    pause: Callable[[int], timedelta],
    worker_id: str,
    now: datetime,
    at_most: int,
) -> Ended:
    """Running → scheduled when another attempt is left, else failed; cancelled if that was asked for.

    ``pause`` gives the time to wait after the n-th failure. A job that has had ``at_most``
    failures is not tried again after this one, whatever its ``max_attempts``; 0: never.
    An attempt that is not the last is never billed.
    """
    job = held(session, ending.job_id, ending.fence)
    if job is None or job.failures >= min(at_most, job.max_attempts - 1):
        return finish(session, [ending], worker_id, now)
    if job.cancel_requested:
        return finish(session, [_cancelled(ending)], worker_id, now)
    ending = replace(ending, billable=False)
    deltas = Deltas()
    deltas.move(job, State.RUNNING, State.SCHEDULED)
    close_attempts(session, [_attempt_end(job, ending, "failed", now)])
    costs.record(session, [_cost(job, ending, now)])
    job.failures += 1
    job.state, job.worker_id, job.run_at = State.SCHEDULED, None, now + pause(job.failures)
    job.version += 1
    session.flush()
    session.execute(update(Payload).where(Payload.job_id == job.id).values(progress=None, spent_seconds=0))
    events.record(session, [state_event(job, now)])
    deltas.write(session)
    return Ended(jobs=[job])


def _cancelled(ending: Ending) -> Ending:
    """The ending of an attempt that went wrong after its job was to be cancelled anyway."""
    return replace(ending, state=State.CANCELLED, error_type=None, error_message=None)


def rescue(session: Session, worker_id: str, currency: str, now: datetime) -> Ended:
    """Running → queued for the jobs of a lost worker, which are suspects from now on.

    Failed when no attempt is left, cancelled when that was asked for.
    """
    mine = select(Job.id).where(Job.worker_id == worker_id, Job.state == State.RUNNING)
    # All of them, waited for: who came alone would count as the one that did it.
    found = locked(session, session.scalars(mine).all()).values()
    jobs = [job for job in found if job.worker_id == worker_id and job.state == State.RUNNING]
    charged = {job.id for job in suspicion.accuse(jobs)}
    over = []
    deltas = Deltas()
    for job in jobs:
        lost = Ending(
            job.id, job.fence, State.FAILED, Usage(), currency, billable=False,
            error_type="worker_lost", error_message="the worker stopped answering",
        )  # fmt: skip
        if job.cancel_requested:
            over.append(_cancelled(lost))
        elif job.id in charged and job.failures + 1 >= job.max_attempts:
            over.append(lost)
        else:
            job.failures += job.id in charged
            release(session, job, "worker_lost", now, deltas)
            costs.record(session, [_cost(job, lost, now)])
    deltas.write(session)
    ended = finish(session, over, audit.SYSTEM, now) if over else Ended()
    ended.released += [job.id for job in jobs if job.state == State.QUEUED]
    return ended


def cancel_waiting(session: Session, job: Job, actor: str, now: datetime) -> list[str]:
    """Queued | scheduled → cancelled; returns ids of agents' jobs that may now run.

    Raises:
        ValueError: the job runs (see :func:`models.jobs.request_cancel`) or has ended.
    """
    if job.state not in WAITING:
        raise ValueError(f"{job.id} does not wait, it is {job.state}")
    return _end_waiting(session, [job], State.CANCELLED, actor, now)


def cancel_all(session: Session, jobs: Sequence[Job], actor: str, now: datetime) -> list[str]:
    """The same for several waiting jobs; those that do not wait are left alone."""
    return _end_waiting(session, [job for job in jobs if job.state in WAITING], State.CANCELLED, actor, now)


def expire_due(session: Session, now: datetime, limit: int = 500) -> list[str]:
    """Queued | scheduled → expired for jobs past ``expires_at``; returns ids released by it."""
    late = select(Job).where(Job.expires_at <= now, Job.finished_at.is_(None), Job.staged.is_(False))
    jobs = pick(session, late.where(Job.state.in_(WAITING)).limit(limit))
    return _end_waiting(session, jobs, State.EXPIRED, audit.SYSTEM, now)


def _end_waiting(session: Session, jobs: Sequence[Job], state: State, actor: str, now: datetime) -> list[str]:
    deltas = Deltas()
    for job in jobs:
        deltas.move(job, State(job.state), state)
        job.worker_id = None
        _end(job, state, now, None, None)
    session.flush()
    deltas.write(session)
    events.record(session, [state_event(job, now) for job in jobs])
    acts = [audit.row(j.tenant_id, actor, f"job.{state.value}", j.id, now) for j in jobs]
    audit.record(session, acts)
    _count(session, jobs)
    return agents.release_behind(session, jobs, now)


def _count(session: Session, jobs: Sequence[Job]) -> None:
    """Tell the metrics of jobs that have ended, once that is committed."""
    ended = Counter((job.llm, str(job.state)) for job in jobs)

    def tell() -> None:
        for labels, count in ended.items():
            telemetry.jobs_ended.labels(*labels).inc(count)

    after_commit(session, tell)
