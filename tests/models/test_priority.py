"""Another priority for a job that waits."""

from __future__ import annotations

import json

from models import counters, priority, tenants
from models.audit import Audit
from models.queues import Depth, depths
from models.states import Priority
from tests.models.desk import CLIENT, Desk
from tests.rows import LLM, OFFSETS, TENANT, at, new_job


def change(desk: Desk, job_id: str, to: Priority) -> bool:
    """Put a job into another class."""
    return desk.prioritise(job_id, to)


def test_a_waiting_job_goes_where_its_new_class_stands(desk: Desk) -> None:
    """Its tag is that of a new job of the class, and it is claimed in that order."""
    first, second, third = desk.submit(*(new_job() for _ in range(3)))
    assert change(desk, third, Priority.INTERACTIVE)
    assert change(desk, first, Priority.BACKGROUND)
    job = desk.job(third)
    assert (job.priority, job.share, job.rank, job.version) == (Priority.INTERACTIVE, 0, 0, 2)
    assert [desk.take().job_id for _ in range(3)] == [third, second, first]


def test_counts_and_trail_follow(desk: Desk) -> None:
    """The counters move from class to class in the same transaction, and the act is on record."""
    _, scheduled = desk.submit(new_job(), new_job(run_at=at(5)))
    change(desk, scheduled, Priority.BACKGROUND)
    with desk.database.read() as session:
        assert depths(session) == [Depth(LLM, 1, queued=1, oldest=at(0)), Depth(LLM, 2, scheduled=1)]
        assert counters.drift(session) == {}
    (act,) = desk.all(Audit, subject=scheduled, action="job.priority")
    assert (act.actor, json.loads(act.details)) == (CLIENT, {"before": "standard", "after": "background"})


def test_the_same_priority_changes_nothing(desk: Desk) -> None:
    """Neither version nor trail tell of a change that was none."""
    (job_id,) = desk.submit()
    assert not change(desk, job_id, Priority.STANDARD)
    assert desk.job(job_id).version == 1
    assert desk.acts(job_id) == [(CLIENT, "job.submit")]


def test_an_agents_next_job_stays_behind_the_one_before_it(desk: Desk) -> None:
    """A job that cannot be claimed yet changes its class, and still waits for its turn."""
    first, second = desk.submit(new_job(agent="ada"), new_job(agent="ada"))
    assert change(desk, second, Priority.INTERACTIVE)
    assert (desk.job(second).rank, desk.job(second).claimable) == (0, False)
    claim = desk.take()
    assert claim.job_id == first
    desk.finish(claim)
    assert desk.take().job_id == second


def test_only_waiting_jobs_change(desk: Desk) -> None:
    """What runs or has ended keeps the class under which it was admitted."""
    (job_id,) = desk.submit()
    claim = desk.take()
    assert not change(desk, job_id, Priority.INTERACTIVE)
    desk.finish(claim)
    assert not change(desk, job_id, Priority.INTERACTIVE)
    assert desk.job(job_id).priority == Priority.STANDARD


def test_a_change_is_no_way_past_others(desk: Desk) -> None:
    """Who moves many jobs into a class stands there as if it had submitted them: another comes second."""
    mine = desk.submit(*(new_job(priority=Priority.BACKGROUND) for _ in range(10)))
    for job_id in mine:
        change(desk, job_id, Priority.STANDARD)
    with desk.database.write() as session:
        tenants.ensure(session, "other", desk.now)
    (theirs,) = desk.submit(new_job(tenant_id="other"))
    assert theirs in [claim.job_id for claim in desk.claim(2)]


def test_a_job_that_is_not_there_changes_nothing(desk: Desk) -> None:
    """Neither a stranger's id nor one of a bulk that is still being stored is found."""
    with desk.database.write() as session:
        found = priority.prioritise(
            session, TENANT, "job_none", Priority.INTERACTIVE, OFFSETS, CLIENT, desk.now
        )
    assert found is None
