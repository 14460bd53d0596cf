"""Looking at jobs: pages by keyset, counts, and all that a job's page shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import costs, counters
from models.costs import Cost
from models.documents import among
from models.finding import Filters, Search
from models.job_rows import Job, Result
from models.jobs import places
from models.states import State
from models.workers import Llm

LOOK = 10_000
"""Jobs that a page looks at, at most, on each way to them."""

MOST_COUNTED = 10_000
"""Where a count ends that the counters do not know; nor does it look at more jobs on a way to them."""


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

    Where several filters have to be passed, a page may be short, or empty, although others follow.

    Raises:
        ValueError: the text to be found has no word in it.
    """
    searched = Search(session, tenant_id, filters)
    if filters.llm is not None or filters.priority is not None:
        states = filters.states or tuple(State)
        if not counters.of_tenant(session, tenant_id, states, filters.llm, filters.priority):
            return Page([], None)  # of these it is known at once that there are none
    found = searched.find(before, limit + 1, LOOK)
    query = select(Job).where(among(session, Job.seq, found.seqs[:limit])).order_by(Job.seq.desc())
    jobs = list(session.scalars(query))
    return Page(jobs, found.seqs[limit - 1] if len(found.seqs) > limit else found.floor)


@dataclass(frozen=True, slots=True)
class Count:
    """How many jobs pass; if it is ``capped``, there are at least so many."""

    count: int
    capped: bool = False


def count(session: Session, tenant_id: str, filters: Filters) -> Count:
    """How many jobs of a tenant pass: exactly if the counters tell, else up to :data:`MOST_COUNTED`.

    Raises:
        ValueError: the text to be found has no word in it.
    """
    if filters.are_counted:
        states = filters.states or tuple(State)
        return Count(counters.of_tenant(session, tenant_id, states, filters.llm, filters.priority))
    there, all_seen = Search(session, tenant_id, filters).count(MOST_COUNTED + 1)
    return Count(min(there, MOST_COUNTED), there > MOST_COUNTED or not all_seen)


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
    ahead = places(session, jobs)
    return [
        new_details(job, ahead.get(job.id), rates.get(job.llm), results.get(job.id), bills.get(job.id))
        for job in jobs
    ]


def new_details(
    job: Job,
    place: int | None,
    rate: float | None,
    result: Result | None = None,
    cost: Cost | None = None,
) -> Details:
    """What there is to tell of a job; one that was just stored has neither result nor bill."""
    return Details(job, result, cost, place, place / rate if place is not None and rate else None)


def versions(session: Session, job_ids: Sequence[str]) -> dict[str, tuple[int, bool]]:
    """(version, has ended) of some jobs, for those who wait for a change."""
    query = select(Job.id, Job.version, Job.finished_at).where(Job.id.in_(job_ids))
    return {job_id: (version, ended is not None) for job_id, version, ended in session.execute(query)}
