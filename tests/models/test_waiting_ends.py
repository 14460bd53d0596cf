"""Jobs that end without having been taken: cancelled by their client, or expired."""

from __future__ import annotations

import pytest

from models import endings
from models.events import Event
from models.states import State
from tests.models.desk import CLIENT, Desk
from tests.rows import at, new_job


def test_waiting_jobs_are_cancelled_at_once(desk: Desk) -> None:
    """A queued or scheduled job ends at the word of its client, unpaid, and watchers are told."""
    for job_id in desk.submit(new_job(), new_job(run_at=at(5))):
        desk.cancel(job_id)
        job = desk.job(job_id)
        assert (job.state, job.claimable, job.finished_at, job.failures) == (State.CANCELLED, False, at(0), 0)
        assert (desk.costs(job_id), desk.acts(job_id)[-1]) == ([], (CLIENT, "job.cancelled"))
        assert [event.type for event in desk.all(Event, job_id=job_id)] == ["state"]


@pytest.mark.parametrize("state", [State.RUNNING, State.SUCCEEDED])
def test_only_waiting_jobs_are_cancelled_at_once(desk: Desk, state: State) -> None:
    """A running job needs its worker to stop it, an ended one stays as it is: both are refused."""
    (job_id,) = desk.submit()
    (claim,) = desk.claim()
    if state == State.SUCCEEDED:
        desk.finish(claim)
    with pytest.raises(ValueError, match="does not wait"):
        desk.cancel(job_id)
    assert desk.states(job_id) == [state]


def test_what_waits_too_long_expires(desk: Desk) -> None:
    """At ``expires_at`` a waiting job ends by itself; one that runs by then may finish."""
    runs, queued, scheduled, later = desk.submit(
        new_job(expires_at=at(10)),
        new_job(expires_at=at(10)),
        new_job(expires_at=at(10), run_at=at(20)),
        new_job(expires_at=at(11)),
    )
    desk.claim()
    desk.now = at(9.999)
    desk.expire()
    assert desk.states(queued) == [State.QUEUED]
    desk.now = at(10)
    desk.expire()
    assert desk.states(runs, queued, scheduled, later) == [
        State.RUNNING, State.EXPIRED, State.EXPIRED, State.QUEUED,
    ]  # fmt: skip
    assert desk.acts(queued)[-1] == ("system", "job.expired")


def test_expiry_goes_in_bounded_steps(desk: Desk) -> None:
    """No transaction ends more than the limit; the next takes the rest."""
    ids = desk.submit(*(new_job(expires_at=at(1)) for _ in range(5)))
    desk.wait(2)
    for left in (3, 1, 0):
        desk.do("expire_due", lambda s: endings.expire_due(s, desk.now, limit=2))
        assert desk.states(*ids).count(State.QUEUED) == left
