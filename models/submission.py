"""New jobs: what a client asked for, laid into rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import agents, audit, tenants
from models.base import rows_into
from models.counters import Deltas
from models.ids import new_id
from models.job_rows import Job, JobTag, Payload
from models.states import Priority, State
from models.tenants import Draining, Mode

_INSERT_JOB, _INSERT_PAYLOAD, _INSERT_TAG = map(rows_into, (Job, Payload, JobTag))


@dataclass(frozen=True, slots=True)
class NewJob:
    """One job to be stored; ``request`` is the JSON of a CompletionRequest."""

    tenant_id: str
    llm: str
    request: str
    estimated_tokens: int
    timeout_seconds: float
    max_attempts: int
    priority: Priority = Priority.STANDARD
    agent: str | None = None
    run_at: datetime | None = None
    expires_at: datetime | None = None
    retry_of: str | None = None
    bulk_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()


def submit(
    session: Session,
    new: Sequence[NewJob],
    offsets: Mapping[Priority, int],
    actor: str,
    now: datetime,
    *,
    staged: bool = False,
) -> list[Job]:
    """Store jobs of one tenant with payloads, tags, counters and audit rows.

    Staged jobs (of a bulk) are neither counted nor claimable until
    :func:`models.bulks.publish`. They are not returned; others are, detached,
    ``seq`` unset.

    Raises:
        models.tenants.Draining: a queue that a job is for takes none in; the caller rolls back.
    """
    tenant_id = new[0].tenant_id
    places = _places(session, tenant_id, new)
    rows = [_row(job, place, offsets, now, staged) for job, place in zip(new, places, strict=True)]
    if not staged:
        _order_agents(session, rows, now)
    connection = session.connection()  # cheaper than the session, which would look for entities
    connection.execute(_INSERT_JOB, rows)
    payloads = [
        {"job_id": row["id"], "tenant_id": tenant_id, "request": job.request}
        for row, job in zip(rows, new, strict=True)
    ]
    connection.execute(_INSERT_PAYLOAD, payloads)
    _tag(session, rows)
    if not staged:
        deltas = Deltas()
        for row in rows:
            deltas.move(row, None, State(row["state"]))
        deltas.write(session)
        acts = [audit.row(tenant_id, actor, "job.submit", row["id"], now) for row in rows]
        audit.record(session, acts)
    return [] if staged else [_job(row) for row in rows]


def _places(session: Session, tenant_id: str, new: Sequence[NewJob]) -> list[tuple[int, str]]:
    """Each job's tag in the queue of its LLM, and its lane.

    Queues come in order of names and classes, as for all who lock several.
    """
    queues: dict[tuple[str, Priority], list[int]] = {}
    for number, job in enumerate(new):
        queues.setdefault((job.llm, job.priority), []).append(number)
    places = [(0, "")] * len(new)
    for (llm, priority), numbers in sorted(queues.items()):
        costs = [new[n].estimated_tokens for n in numbers]
        taken = tenants.take_shares(session, tenant_id, llm, priority, costs)
        if taken.mode == Mode.DRAINING:
            raise Draining(llm)
        for number, start in zip(numbers, taken.starts, strict=True):
            places[number] = (start, taken.lane)
    return places


def _job(row: dict[str, Any]) -> Job:
    values = dict(row)
    return Job(extra=values.pop("metadata"), **values)


def again(session: Session, job: Job) -> NewJob:
    """A new job that asks the same as an ended one, to run at once."""
    return NewJob(
        tenant_id=job.tenant_id,
        llm=job.llm,
        request=session.get_one(Payload, job.id).request,
        estimated_tokens=job.estimated_tokens,
        timeout_seconds=job.timeout_seconds,
        max_attempts=job.max_attempts,
        priority=Priority(job.priority),
        agent=job.agent,
        retry_of=job.id,
        metadata=job.extra,
        tags=tuple(job.tags),
    )


def _row(
    job: NewJob, place: tuple[int, str], offsets: Mapping[Priority, int], now: datetime, staged: bool
) -> dict[str, Any]:
    share, lane = place
    scheduled = job.run_at is not None and job.run_at > now
    return {
        "id": new_id("job"),
        "tenant_id": job.tenant_id,
        "kind": "completion",
        "state": State.SCHEDULED.value if scheduled else State.QUEUED.value,
        "claimable": not scheduled and not staged,
        "staged": staged,
        "llm": job.llm,
        "lane": lane,
        "priority": int(job.priority),
        "share": share,
        "rank": share + offsets[job.priority],
        "estimated_tokens": job.estimated_tokens,
        "agent": job.agent,
        "bulk_id": job.bulk_id,
        "retry_of": job.retry_of,
        "created_at": now,
        "run_at": job.run_at,
        "expires_at": job.expires_at,
        "timeout_seconds": job.timeout_seconds,
        "max_attempts": job.max_attempts,
        "failures": 0,
        "fence": 0,
        "version": 1,
        "cancel_requested": False,
        "metadata": dict(job.metadata),
        "tags": list(job.tags),
    }


def _order_agents(session: Session, rows: list[dict[str, Any]], now: datetime) -> None:
    """An agent's job waits for the one before it, also for one before it in ``rows``."""
    busy: set[tuple[str, str]] = set()
    # In order of names, as everywhere: transactions that lock two agents never wait for each other.
    for tenant_id, name in sorted({(row["tenant_id"], row["agent"]) for row in rows if row["agent"]}):
        agents.touch(session, tenant_id, name, now)
        if agents.is_busy(session, tenant_id, name):
            busy.add((tenant_id, name))
    for row in rows:
        if row["agent"]:
            who = (row["tenant_id"], row["agent"])
            row["claimable"] = row["claimable"] and who not in busy
            busy.add(who)


def _tag(session: Session, rows: list[dict[str, Any]]) -> None:
    tagged = {row["id"]: row["tags"] for row in rows if row["tags"]}
    if not tagged:
        return
    found = session.execute(select(Job.id, Job.seq, Job.tenant_id).where(Job.id.in_(tagged)))
    values = [
        {"tenant_id": tenant_id, "tag": tag, "seq": seq}
        for job_id, seq, tenant_id in found
        for tag in dict.fromkeys(tagged[job_id])
    ]
    session.execute(_INSERT_TAG, values)
