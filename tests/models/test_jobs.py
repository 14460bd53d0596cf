"""Jobs that have not ended: promotion, parking, cancel flags; and looking them up, and deleting them."""

from __future__ import annotations

import pytest

from models import claims, jobs
from models.events import Event
from models.job_rows import Attempt, Job, JobTag, Payload, Result
from models.states import Priority, State
from tests.models.desk import CLIENT, WORKER, Desk
from tests.rows import LLM, TENANT, Held, at, new_job


def test_a_scheduled_job_is_promoted_when_its_time_has_come(desk: Desk) -> None:
    """Not before ``run_at``, at once from then on; watchers are told."""
    (job_id,) = desk.submit(new_job(run_at=at(10)))
    desk.now = at(9.999)
    assert desk.promote() == []
    desk.now = at(10)
    assert desk.promote() == [job_id]
    assert [event.type for event in desk.all(Event, job_id=job_id)] == ["state"]
    assert [claim.job_id for claim in desk.claim()] == [job_id]


def test_promotion_takes_the_longest_due_first(desk: Desk) -> None:
    """A limited promotion begins with the earliest ``run_at``."""
    late, early = desk.submit(new_job(run_at=at(2)), new_job(run_at=at(1)))
    desk.wait(5)
    assert desk.do("promote_due", lambda s: jobs.promote_due(s, desk.now, limit=1)) == [early]
    assert desk.states(late, early) == [State.SCHEDULED, State.QUEUED]


def test_parking_keeps_the_tokens_and_uses_no_attempt(desk: Desk) -> None:
    """A job handed back waits again with its tokens, which the next claim is given; no failure is counted."""
    (job_id,) = desk.submit(new_job(max_attempts=1))
    for tokens in ([1, 2], [1, 2, 3]):
        claim = desk.take()
        assert desk.hand_back(claim, tokens) == [job_id]
        assert desk.progress(job_id) == tokens
    job = desk.job(job_id)
    assert (job.state, job.claimable, job.worker_id, job.failures, job.attempt) == (
        State.QUEUED, True, None, 0, 1,
    )  # fmt: skip
    assert [attempt.outcome for attempt in desk.attempts(job_id)] == ["handed_back", "handed_back"]
    claim = desk.take()
    assert (claim.fence, claim.attempt, claim.progress) == (3, 1, (1, 2, 3))
    assert desk.costs(job_id) == []


def test_a_stale_hand_back_is_ignored(desk: Desk) -> None:
    """Only who still holds the fence can hand a job back."""
    (job_id,) = desk.submit()
    first = desk.take()
    desk.hand_back(first, [1])
    desk.claim()
    assert desk.hand_back(first, [9, 9]) == []
    assert (desk.states(job_id), desk.progress(job_id)) == ([State.RUNNING], [1])


def test_a_cancel_flag_reaches_the_worker_that_runs_the_job(desk: Desk) -> None:
    """The flag of a running job is seen by its worker only; raising it twice is one act."""
    (job_id, _) = desk.submit(new_job(), new_job())
    claim = desk.take()
    desk.claim(worker="worker_2")
    desk.request_cancel(job_id)
    desk.request_cancel(job_id)
    with desk.database.read() as session:
        assert jobs.cancels_for(session, WORKER) == [(job_id, claim.fence)]
        assert jobs.cancels_for(session, "worker_2") == []
    assert desk.acts(job_id)[1:] == [(CLIENT, "job.cancel_requested")]
    assert desk.job(job_id).version == claim.fence + 2


def test_a_flag_of_a_job_that_does_not_run_is_refused(desk: Desk) -> None:
    """A waiting job is cancelled, an ended one left alone: neither gets a flag."""
    (job_id,) = desk.submit()
    with pytest.raises(ValueError, match="does not run"):
        desk.request_cancel(job_id)


def test_others_jobs_are_not_found(desk: Desk) -> None:
    """A job is found by its own tenant only, and not before its bulk is published."""
    (job_id,) = desk.submit()
    bulk = desk.stage(new_job())
    (staged,) = desk.all(Job, bulk_id=bulk.id)
    with desk.database.read() as session:
        assert jobs.find(session, "other", job_id) is None
        assert jobs.find(session, TENANT, staged.id) is None
        found = jobs.find(session, TENANT, job_id)
    assert found is not None
    assert found.id == job_id


def test_finding_with_a_lock_reads_anew(desk: Desk) -> None:
    """Who looked before taking the lock sees what happened in between."""
    (job_id,) = desk.submit()
    with desk.database.write() as session:
        seen = jobs.find(session, TENANT, job_id)
        assert seen is not None
        session.connection().exec_driver_sql("UPDATE jobs SET version = 9")
        assert seen.version == 1
        assert jobs.find(session, TENANT, job_id, lock=True) is seen
        assert seen.version == 9


def test_ids_are_grouped_by_queue(desk: Desk) -> None:
    """Hints name a queue: ids are sorted to theirs, unknown ones left out."""
    (one,) = desk.submit()
    (two,) = desk.submit(new_job(llm="other"))
    with desk.database.read() as session:
        assert jobs.by_llm(session, [one, two, "job_none"]) == {LLM: [one], "other": [two]}
        assert jobs.by_llm(session, []) == {}


def test_it_is_known_whether_a_queue_has_anything_to_claim(desk: Desk) -> None:
    """Only rows of that queue that may be claimed count, not those to come, running, or behind another."""

    def claimable() -> bool:
        with desk.database.read() as session:
            return claims.any_claimable(session, LLM)

    desk.submit(new_job(llm="other"), new_job(run_at=at(9)))
    assert not claimable()
    desk.submit(new_job(agent="ada"), new_job(agent="ada"))
    assert claimable()
    desk.claim()
    assert not claimable()


def test_it_is_known_since_when_a_job_could_be_claimed(desk: Desk) -> None:
    """From its submission or its ``run_at``; not known of an agent's turn, of a bulk, of a later attempt."""
    desk.submit(new_job(), new_job(agent="ada"), new_job(run_at=at(5)))
    desk.publish(desk.stage(new_job()))
    desk.wait(9)
    desk.promote()
    claims = desk.claim(10)
    assert sorted(claim.ready_at for claim in claims if claim.ready_at is not None) == [at(0), at(5)]
    assert len(claims) == 4
    (single,) = (claim for claim in claims if claim.ready_at == at(0))
    desk.hand_back(single)
    assert desk.take().ready_at is None


def test_it_is_known_whether_anything_is_due(desk: Desk) -> None:
    """Times to come, running jobs and staged ones are nothing to do; a time that has come is."""

    def due() -> bool:
        with desk.database.read() as session:
            return jobs.any_due(session, desk.now)

    desk.submit(new_job(expires_at=at(5)))
    desk.claim()
    desk.stage(new_job(run_at=at(5)), new_job(expires_at=at(5)))
    desk.now = at(7)
    assert not due()
    (scheduled,) = desk.submit(new_job(run_at=at(10)))
    (waiting,) = desk.submit(new_job(expires_at=at(20)))
    desk.now = at(10)
    assert due()
    desk.cancel(scheduled)
    assert not due()
    desk.now = at(20)
    assert due()
    desk.cancel(waiting)
    assert not due()


def test_deleting_keeps_bill_and_audit(desk: Desk) -> None:
    """Payload, result, attempts, tags and events go with the job; what was paid and done stays on record."""
    (job_id,) = desk.submit(new_job(tags=("x",)))
    desk.finish(desk.take())
    desk.remove(job_id)
    for table in (Job, Payload, Result, Attempt, JobTag, Event):
        assert desk.all(table) == []
    (cost,) = desk.costs(job_id)
    assert cost.billable
    assert desk.acts(job_id) == [(CLIENT, "job.submit"), (WORKER, "job.succeeded"), (CLIENT, "job.delete")]


@pytest.mark.parametrize("state", [State.SCHEDULED, State.QUEUED, State.RUNNING])
def test_only_ended_jobs_can_be_deleted(desk: Desk, state: State) -> None:
    """A job that has not ended is refused and stays."""
    (job_id,) = desk.submit(new_job(run_at=at(5) if state == State.SCHEDULED else None))
    if state == State.RUNNING:
        desk.claim()
    with pytest.raises(ValueError, match="has not ended"):
        desk.remove(job_id)
    assert desk.states(job_id) == [state]


def test_a_late_word_about_a_deleted_job_does_no_harm(desk: Desk) -> None:
    """The job is gone, and so is what came too late for it."""
    (job_id,) = desk.submit()
    claim = desk.take()
    desk.finish(claim)
    desk.remove(job_id)
    assert desk.finish(Held(job_id, 1)).late == [job_id]
    assert desk.result(job_id) is None


def test_a_place_in_the_queue_counts_what_goes_before(desk: Desk) -> None:
    """Position 1 is the next to be claimed; other queues, running and waiting jobs do not count."""
    urgent = new_job(priority=Priority.INTERACTIVE)
    ids = desk.submit(new_job(), new_job(), urgent, new_job(run_at=at(9)), new_job())
    desk.submit(new_job(llm="other", priority=Priority.INTERACTIVE))
    assert places(desk, ids) == [2, 3, 1, None, None]  # only the front is looked at
    desk.claim()
    assert places(desk, ids) == [1, 2, None, None, 3]


def places(desk: Desk, ids: list[str]) -> list[int | None]:
    """The positions of some jobs."""
    with desk.database.read() as session:
        found = jobs.places(session, map(desk.job, ids), at_most=3)
    return [found.get(job_id) for job_id in ids]


def test_the_time_of_an_attempt_goes_on_where_it_stopped(desk: Desk) -> None:
    """What a parked job has taken of its time is kept and added up; after a failure it begins anew."""
    desk.submit()
    for taken, so_far in ((2.5, 0.0), (4.0, 2.5)):
        claim = desk.take()
        assert claim.spent_seconds == so_far
        with desk.database.write() as session:
            kept = [(claim.job_id, claim.fence, [1])]
            jobs.hand_back(session, kept, "parked", desk.now, {claim.job_id: taken})
    claim = desk.take()
    assert claim.spent_seconds == 6.5
    desk.fail(claim, pause=1)
    desk.wait(1)
    desk.promote()
    assert desk.take().spent_seconds == 0
