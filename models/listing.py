"""Looking at jobs: filters, pages by keyset, and all that a job's page shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, String, cast, or_, select
from sqlalchemy.orm import Session

from models import costs
from models.costs import Cost
from models.job_rows import Job, JobTag, Payload, Result
from models.jobs import position
from models.states import Priority, State
from models.workers import Llm

SCAN = 5_000
"""Jobs through whose texts one request looks at most."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which jobs of a tenant; what is None or empty does not narrow."""

    states: tuple[State, ...] = ()
    agent: str | None = None
    llm: str | None = None
    tag: str | None = None
    priority: Priority | None = None
    bulk_id: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Details:
    """A job and what belongs to it."""

    job: Job
    result: Result | None
    cost: Cost | None
    position: int | None
    eta_seconds: float | None


@dataclass(frozen=True, slots=True)
class Page:
    """Jobs, newest first, and the ``seq`` of the last one that was looked at; None when all were."""

    jobs: list[Job]
    last: int | None


def page(session: Session, tenant_id: str, filters: Filters, before: int | None, limit: int) -> Page:
    """Jobs of a tenant, newest first, submitted before the one with ``seq`` = ``before``.

    With a text to find, a page may be short, or empty, although others follow.
    """
    query = select(Job).where(Job.tenant_id == tenant_id, Job.staged.is_(False))
    if before is not None:
        query = query.where(Job.seq < before)
    query = _narrow(query, tenant_id, filters).order_by(Job.seq.desc())
    floor = None
    if filters.text is not None:
        floor = session.scalar(query.with_only_columns(Job.seq).offset(SCAN - 1).limit(1))
        query = _containing(query, filters.text).where(Job.seq >= (floor or 0))
    found = list(session.scalars(query.limit(limit + 1)))
    return Page(found, floor) if len(found) <= limit else Page(found[:limit], found[limit - 1].seq)


def _narrow(query: Select[Job], tenant_id: str, filters: Filters) -> Select[Job]:
    if filters.states:
        query = query.where(Job.state.in_(filters.states))
    for column, wanted in (
        (Job.agent, filters.agent),
        (Job.llm, filters.llm),
        (Job.priority, filters.priority),
        (Job.bulk_id, filters.bulk_id),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    if filters.tag is not None:
        tagged = select(JobTag.seq).where(JobTag.tenant_id == tenant_id, JobTag.tag == filters.tag)
        query = query.where(Job.seq.in_(tagged))
    if filters.created_after is not None:
        query = query.where(Job.created_at >= filters.created_after)
    if filters.created_before is not None:
        query = query.where(Job.created_at < filters.created_before)
    return query


def _containing(query: Select[Job], text: str) -> Select[Job]:
    """Jobs with ``text`` in id, error or request; case does not matter (on SQLite: of ASCII letters)."""
    written = json.dumps(text, ensure_ascii=False)[1:-1]  # quotes and line breaks as the stored JSON has them
    # Not "id in": that would look through the requests of all jobs, whatever else narrows the query.
    asked = select(Payload.job_id).where(
        Payload.job_id == Job.id, Payload.request.icontains(written, autoescape=True)
    )
    return query.where(
        or_(
            cast(Job.id, String).icontains(text, autoescape=True),
            Job.error_message.icontains(text, autoescape=True),
            asked.exists(),
        )
    )


def details(session: Session, jobs: Sequence[Job]) -> list[Details]:
    """Results, bills and places in the queue for some jobs, in the same order."""
    ids = [job.id for job in jobs if job.is_terminal]
    results: dict[str, Result] = {}
    bills: dict[str, Cost] = {}
    if ids:
        found = session.scalars(select(Result).where(Result.job_id.in_(ids)))
        results = {result.job_id: result for result in found}
        bills = costs.billed(session, ids)
    rates: dict[str, float | None] = {}
    if any(job.claimable for job in jobs):
        rates = {known.alias: known.jobs_per_second for known in session.scalars(select(Llm))}
    return [_detail(session, job, results, bills, rates) for job in jobs]


def new_details(job: Job, place: int | None, rate: float | None) -> Details:
    """What there is to tell of a job that was just stored."""
    return Details(job, None, None, place, place / rate if place is not None and rate else None)


def _detail(
    session: Session,
    job: Job,
    results: dict[str, Result],
    bills: dict[str, Cost],
    rates: dict[str, float | None],
) -> Details:
    place = position(session, job)
    rate = rates.get(job.llm)
    eta = place / rate if place is not None and rate else None
    return Details(job, results.get(job.id), bills.get(job.id), place, eta)


def versions(session: Session, job_ids: Sequence[str]) -> dict[str, tuple[int, bool]]:
    """(version, has ended) of some jobs, for those who wait for a change."""
    query = select(Job.id, Job.version, Job.finished_at).where(Job.id.in_(job_ids))
    return {job_id: (version, ended is not None) for job_id, version, ended in session.execute(query)}
