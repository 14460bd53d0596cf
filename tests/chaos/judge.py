"""After the chaos: everything that was promised has happened, once, and nothing else has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from sqlalchemy import case, func, select

from models.audit import Audit
from models.books import check_integrity
from models.bulks import Bulk
from models.database import Database
from models.events import Event
from models.job_rows import Attempt, Job
from models.states import State
from tests.chaos.crowd import Promises
from tests.chaos.rig import wait_until


@dataclass
class Verdict:
    """What was found: ``faults`` is empty if all is well."""

    jobs: int
    states: dict[str, int]
    attempts: int
    late: int
    faults: list[str] = field(default_factory=list)


PUBLISHED = Job.staged.is_(False)
"""Jobs of a bulk that was cut off while it was stored are nobody's: the sweeper removes them in its time."""


def left(database: Database) -> int:
    """Jobs that have not ended."""
    with database.read() as session:
        return session.scalar(select(func.count()).where(PUBLISHED, Job.finished_at.is_(None))) or 0


def ended(database: Database) -> int:
    """Jobs that have ended."""
    with database.read() as session:
        return session.scalar(select(func.count()).where(Job.finished_at.is_not(None))) or 0


def judge(database: Database, promises: Promises, seconds: float) -> Verdict:
    """Wait until every job has ended, then compare the rows with what clients were told.

    Raises:
        AssertionError: some jobs have not ended after ``seconds``.
    """
    wait_until(lambda: left(database) == 0, seconds)
    with database.read() as session:
        counted = select(Job.state, func.count()).where(PUBLISHED).group_by(Job.state)
        states = {state: int(count) for state, count in session.execute(counted)}
        verdict = Verdict(
            jobs=sum(states.values()),
            states=states,
            attempts=session.scalar(select(func.count()).select_from(Attempt)) or 0,
            late=session.scalar(select(func.count()).where(Audit.action == "job.late_result")) or 0,
            faults=[
                f"{b.rule}: {b.count} break it: {', '.join(b.samples)}" for b in check_integrity(session)
            ],
        )
    verdict.faults += [*_promised(database, promises), *_in_order(database, promises)]
    return verdict


def _promised(database: Database, promises: Promises) -> Iterator[str]:
    """Exactly the jobs that were accepted are there, each under its key."""
    with database.read() as session:
        jobs = {row.id: row.bulk_id for row in session.execute(select(Job.id, Job.bulk_id).where(PUBLISHED))}
        bulks = set(session.scalars(select(Bulk.id).where(Bulk.published_at.is_not(None))))
        others = select(Job.id, Job.state, Job.error_type).where(PUBLISHED, Job.state != State.SUCCEEDED)
        lost = [tuple(row) for row in session.execute(others)]
    single = {job_id for job_id, bulk_id in jobs.items() if bulk_id is None}
    told = set(promises.jobs.values())
    if single != told:
        yield f"accepted and missing: {sorted(told - single)[:5]}; stored twice: {sorted(single - told)[:5]}"
    if bulks != set(promises.bulks.values()):
        yield f"bulks differ: {sorted(bulks ^ set(promises.bulks.values()))[:5]}"
    if len(jobs) != promises.count:
        yield f"{len(jobs)} jobs are stored, {promises.count} were accepted"
    if lost:
        yield f"{len(lost)} jobs did not succeed: {lost[:5]}"


def _in_order(database: Database, promises: Promises) -> Iterator[str]:
    """An agent's jobs ran one after the other, in the order of their submission.

    Told by the order of events, not by times: the clock of a process may have been wrong.
    """
    running = case((Event.data.contains('"running"'), Event.id))
    query = select(Event.job_id, func.min(running), func.max(Event.id)).where(Event.type == "state")
    with database.read() as session:
        lives = {
            job_id: (begun, ended) for job_id, begun, ended in session.execute(query.group_by(Event.job_id))
        }
    for agent, ids in promises.agents.items():
        for before, after in pairwise(ids):
            if lives[after][0] < lives[before][1]:
                yield f"{agent}: {after} began before {before} had ended"
