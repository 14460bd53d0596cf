"""What is thrown away when it is old enough."""

from __future__ import annotations

from models import retention
from models.costs import Cost
from models.job_rows import Job
from models.states import State
from tests.models.desk import Desk
from tests.rows import at, new_job

DAY = 86_400


def drop(desk: Desk, before: float, limit: int = 500) -> int:
    """Delete what ended before a time; how many."""
    return desk.do("drop", lambda s: retention.drop_ended(s, at(before), limit))


def test_what_ended_long_ago_goes(desk: Desk) -> None:
    """Ended jobs older than the time go and are counted out; younger ones and those that go on stay."""
    old, waits, young = desk.submit(new_job(), new_job(run_at=at(99 * DAY)), new_job())
    desk.finish(desk.take())
    desk.wait(2 * DAY)
    runs, _ = desk.submit(new_job(), new_job())
    desk.cancel(young)
    assert drop(desk, 0) == 0
    assert drop(desk, DAY) == 1
    kept = {job.id: job.state for job in desk.all(Job)}
    assert old not in kept
    assert (kept[waits], kept[young], kept[runs]) == (State.SCHEDULED, State.CANCELLED, State.QUEUED)


def test_bills_and_the_audit_trail_are_kept(desk: Desk) -> None:
    """What was paid and done stays on record when the job is gone."""
    (job_id,) = desk.submit()
    desk.finish(desk.take())
    drop(desk, DAY)
    assert [cost.job_id for cost in desk.all(Cost)] == [job_id]
    assert [action for _, action in desk.acts(job_id)] == ["job.submit", "job.succeeded"]


def test_it_goes_in_bounded_steps(desk: Desk) -> None:
    """No transaction deletes more than the limit."""
    desk.submit(*(new_job() for _ in range(5)))
    desk.finish(*desk.claim(5))
    assert [drop(desk, DAY, limit=2) for _ in range(4)] == [2, 2, 1, 0]
