"""New jobs: what is stored of them, and where they stand in the queue."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import event, update
from sqlalchemy.exc import IntegrityError

from models import counters, queues, submission
from models.job_rows import Job, JobTag, Payload
from models.states import Priority, State
from models.tenants import Draining, FairShare, Mode, Tenant
from tests.models.desk import CLIENT, Desk
from tests.rows import OFFSETS, TENANT, at, new_job


def test_a_job_is_stored_with_all_that_was_asked(desk: Desk) -> None:
    """What the client said is in the row, the payload and the tags; nothing has begun."""
    asked = new_job("draw me a sheep", agent="ada", metadata={"a": "b"}, tags=("x", "y", "x"), max_attempts=5)
    (job_id,) = desk.submit(asked)
    job = desk.job(job_id)
    assert (job.state, job.claimable, job.fence, job.failures, job.attempt) == (State.QUEUED, True, 0, 0, 1)
    assert (job.agent, job.extra, job.tags) == ("ada", {"a": "b"}, ["x", "y", "x"])
    assert (job.max_attempts, job.timeout_seconds, job.created_at) == (5, 30.0, desk.now)
    assert desk.all(Payload, job_id=job_id)[0].request == asked.request
    assert sorted(tag.tag for tag in desk.all(JobTag, seq=job.seq)) == ["x", "y"]
    assert desk.acts(job_id) == [(CLIENT, "job.submit")]


@pytest.mark.parametrize(
    ("run_at", "state", "claimable"),
    [
        (None, State.QUEUED, True),
        (-1, State.QUEUED, True),
        (0, State.QUEUED, True),
        (1, State.SCHEDULED, False),
    ],
)
def test_only_a_time_to_come_schedules(
    desk: Desk, run_at: float | None, state: State, claimable: bool
) -> None:
    """A job with ``run_at`` ahead is scheduled; one whose time has come is queued."""
    (job_id,) = desk.submit(new_job(run_at=None if run_at is None else at(run_at)))
    job = desk.job(job_id)
    assert (job.state, job.claimable) == (state, claimable)


def test_jobs_of_one_call_stand_in_their_order(desk: Desk) -> None:
    """Each starts where the one of its class before it reaches, and the rank adds the offset of the class."""
    kinds = (Priority.STANDARD, Priority.INTERACTIVE, Priority.BACKGROUND, Priority.STANDARD)
    ids = desk.submit(*(new_job(priority=kind, estimated_tokens=7) for kind in kinds))
    stored = [desk.job(job_id) for job_id in ids]
    assert [job.share for job in stored] == [0, 0, 0, 7]
    assert [job.rank for job in stored] == [1_000, 0, 100_000, 1_007]
    assert [job.seq for job in stored] == sorted(job.seq for job in stored)


def test_staged_jobs_are_nowhere_to_be_seen(desk: Desk) -> None:
    """Jobs of a bulk that is not published are neither counted nor claimed, promoted, expired or audited."""
    bulk = desk.stage(new_job(), new_job(run_at=at(5)), new_job(expires_at=at(5)))
    staged = [job.id for job in desk.all(Job, bulk_id=bulk.id)]
    desk.wait(10)
    assert (desk.claim(10), desk.promote(), desk.expire()) == ([], [], [])
    with desk.database.read() as session:
        assert counters.states(session) == {}
    assert [act for job_id in staged for act in desk.acts(job_id)] == []
    assert len(staged) == 3


def test_an_ended_job_can_be_asked_again(desk: Desk) -> None:
    """A retry is a new job with the same request and wishes, that runs at once and names the old one."""
    first = new_job(
        "again", agent="ada", priority=Priority.INTERACTIVE, tags=("x",), metadata={"a": "b"}, run_at=at(1)
    )
    (job_id,) = desk.submit(first)
    desk.cancel(job_id)
    with desk.database.read() as session:
        second = submission.again(session, desk.job(job_id))
    assert second == replace(first, run_at=None, retry_of=job_id)


def test_a_submission_that_fails_leaves_nothing(desk: Desk) -> None:
    """Job, payload, counters and audit row come together or not at all."""
    broken = new_job(agent="x" * 10, tags=(None,))
    with pytest.raises(IntegrityError):
        desk.submit(new_job(), broken)
    assert desk.all(Job) == []
    assert desk.all(Payload) == []
    assert desk.claim() == []


def test_offsets_belong_to_the_caller(desk: Desk) -> None:
    """Ranks follow the offsets that the settings give, not ones written here."""
    (stored,) = desk.do(
        "submit",
        lambda s: submission.submit(s, [new_job()], {**OFFSETS, Priority.STANDARD: 77}, CLIENT, desk.now),
    )
    assert desk.job(stored.id).rank == 77


def limit(desk: Desk, max_running: int | None) -> None:
    """Let only so many jobs of the default tenant run at once."""
    with desk.database.write() as session:
        session.execute(update(Tenant).where(Tenant.id == TENANT).values(max_running=max_running))


def test_jobs_of_a_limited_tenant_have_a_lane_of_their_own(desk: Desk) -> None:
    """It is named for the tenant, in every queue and for staged jobs too; others share one without a name."""
    limit(desk, 2)
    ids = desk.submit(new_job(), new_job(llm="other"), new_job(run_at=at(5)))
    bulk = desk.stage(new_job())
    ids += [job.id for job in desk.all(Job, bulk_id=bulk.id)]
    (theirs,) = desk.submit(new_job(tenant_id="b"))
    limit(desk, None)
    (free,) = desk.submit()
    assert [desk.job(job_id).lane for job_id in ids] == [TENANT] * 4
    assert [desk.job(job_id).lane for job_id in (theirs, free)] == ["", ""]


def test_a_draining_queue_takes_nothing_in(desk: Desk) -> None:
    """Jobs for it are refused by its name, and those beside them, staged or not; no share is taken."""
    drain(desk, "other")
    for store in (desk.submit, desk.stage):
        with pytest.raises(Draining) as refused:
            store(new_job(), new_job(llm="other"))
        assert refused.value.llm == "other"
    assert (desk.all(Job), desk.all(FairShare)) == ([], [])
    desk.submit(new_job())


def drain(desk: Desk, llm: str) -> None:
    """Let a queue take no jobs in."""
    with desk.database.write() as session:
        queues.steer(session, llm, Mode.DRAINING, TENANT, CLIENT, desk.now)


def test_lane_and_mode_cost_no_statement(desk: Desk) -> None:
    """A job is stored by three statements (its share, its row, its payload), whatever limits there are."""
    limit(desk, 2)
    seen: list[str] = []

    def note(_c: object, _k: object, statement: str, *_: object) -> None:
        seen.append(" ".join(statement.split()[:3]))

    with desk.database.write() as session:
        session.connection()  # begins the transaction
        event.listen(desk.database.engine, "before_cursor_execute", note)
        submission.submit(session, [new_job()], OFFSETS, CLIENT, desk.now)
        event.remove(desk.database.engine, "before_cursor_execute", note)
    assert seen == ["INSERT INTO fair_shares", "INSERT INTO jobs", "INSERT INTO payloads"]
