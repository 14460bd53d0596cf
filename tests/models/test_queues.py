"""Looking at queues: their depth and their age."""

from __future__ import annotations

from models import queues
from models.queues import Depth
from models.states import Priority
from tests.models.desk import Desk
from tests.rows import LLM, at, new_job


def test_the_first_in_order_tells_whether_hints_were_lost(desk: Desk) -> None:
    """For each queue: the job that should go next, and since when it could."""
    desk.submit()
    desk.take()
    desk.submit(new_job(run_at=at(5)), new_job(agent="ada", llm=LLM))
    desk.submit(new_job(llm="other", run_at=at(50)))
    (other,) = desk.submit(new_job(llm="other"))
    desk.wait(6)
    (urgent,) = desk.submit(new_job(priority=Priority.INTERACTIVE))
    with desk.database.read() as session:
        assert queues.oldest_claimable(session) == {LLM: (urgent, at(6)), "other": (other, at(0))}


def test_a_promoted_job_waits_since_it_fell_due(desk: Desk) -> None:
    """The time before ``run_at`` is not waiting."""
    (job_id,) = desk.submit(new_job(run_at=at(5)))
    desk.wait(7)
    desk.promote()
    with desk.database.read() as session:
        assert queues.oldest_claimable(session) == {LLM: (job_id, at(5))}


def test_depths_add_up_over_tenants(desk: Desk) -> None:
    """Each queue and class shows how many wait, are scheduled and run; empty ones are missing."""
    desk.submit(new_job(), new_job(run_at=at(9)), new_job())
    desk.take()
    desk.wait(1)
    desk.submit(new_job(tenant_id="b"), new_job(tenant_id="b", priority=Priority.BACKGROUND))
    with desk.database.read() as session:
        everybody, theirs = queues.depths(session), queues.depths(session, "b")
    assert everybody == [Depth(LLM, 1, 2, 1, 1, at(0)), Depth(LLM, 2, 1, 0, 0, at(1))]
    assert theirs == [Depth(LLM, 1, 1, 0, 0, at(1)), Depth(LLM, 2, 1, 0, 0, at(1))]


def test_the_place_of_a_new_job_is_counted_up_to_a_bound(desk: Desk) -> None:
    """What goes before counts, up to the bound; a job that cannot be claimed has no place."""
    ids = desk.submit(*(new_job() for _ in range(5)), new_job(run_at=at(9)))
    with desk.database.read() as session:
        places = [queues.place_of_new(session, desk.job(job_id), at_most=4) for job_id in ids]
    assert places == [1, 2, 3, 4, None, None]
