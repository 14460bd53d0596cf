"""Endings: one result, one bill, guarded by the fence; and failures that are tried again."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from models import endings, jobs
from models.costs import Cost
from models.endings import Usage
from models.events import Event
from models.job_rows import Result
from models.states import TERMINAL, State
from tests import rows
from tests.models.desk import CLIENT, WORKER, Desk
from tests.rows import LLM, TENANT, USAGE, Held, at, new_job

FREE = Decimal(0)


def test_a_success_is_written_down_whole(desk: Desk) -> None:
    """State, tokens, result, bill, attempt, audit and event stand there together."""
    (job_id,) = desk.submit(new_job(agent="ada"))
    claim = desk.take()
    desk.wait(2)
    ended = desk.finish(claim, json={"a": 1}, first_step_at=at(1))
    assert ([job.id for job in ended.jobs], ended.late, ended.released) == ([job_id], [], [])
    job = desk.job(job_id)
    assert (job.state, job.finished_at, job.failures, job.attempt) == (State.SUCCEEDED, at(2), 0, 1)
    assert (job.prompt_tokens, job.cached_tokens, job.completion_tokens) == (10, 4, 6)
    result = desk.result(job_id)
    assert result is not None
    assert (result.text, result.json, result.finish_reason) == ("hello back", {"a": 1}, "stop")
    (attempt,) = desk.attempts(job_id)
    assert (attempt.outcome, attempt.first_step_at, attempt.ended_at) == ("succeeded", at(1), at(2))
    assert desk.acts(job_id) == [(CLIENT, "job.submit"), (WORKER, "job.succeeded")]
    assert [event.type for event in desk.all(Event, job_id=job_id)] == ["state", "state"]


def test_the_bill_of_a_success_is_exact(desk: Desk) -> None:
    """Amounts are what the worker said, to the last digit, and the whole is their sum."""
    (job_id,) = desk.submit(new_job(agent="ada"))
    desk.finish(desk.take())
    (cost,) = desk.costs(job_id)
    assert (cost.billable, cost.fence, cost.llm, cost.agent, cost.currency) == (True, 1, "pico", "ada", "EUR")
    assert (cost.prompt_tokens, cost.cached_tokens, cost.completion_tokens) == (10, 4, 6)
    parts = (cost.prompt_amount, cost.cached_amount, cost.completion_amount)
    assert parts == (USAGE.prompt_amount, USAGE.cached_amount, USAGE.completion_amount)
    assert cost.amount == sum(parts) == Decimal("0.0000071")


def test_a_stopped_job_keeps_and_pays_what_it_has(desk: Desk) -> None:
    """A job stopped by a cancel keeps its text and is billed for it."""
    (job_id,) = desk.submit()
    desk.finish(desk.take(), state=State.CANCELLED, text="so far")
    result, (cost,) = desk.result(job_id), desk.costs(job_id)
    assert result is not None
    assert (result.text, result.finish_reason, cost.billable) == ("so far", "cancelled", True)
    assert desk.acts(job_id)[-1] == (WORKER, "job.cancelled")


def test_a_failure_says_why_and_costs_nothing(desk: Desk) -> None:
    """An unbillable ending is recorded at zero, whatever its tokens would have cost."""
    (job_id,) = desk.submit()
    desk.finish(desk.take(), state=State.FAILED, usage=USAGE)
    job, (cost,), (attempt,) = desk.job(job_id), desk.costs(job_id), desk.attempts(job_id)
    assert (job.error_type, job.error_message, job.failures, job.attempt) == ("row_error", "it broke", 1, 1)
    assert (attempt.outcome, attempt.error_type) == ("failed", "row_error")
    assert (cost.billable, cost.amount, cost.prompt_amount, cost.prompt_tokens) == (False, FREE, FREE, 10)
    assert desk.result(job_id) is None


def test_a_late_ending_changes_nothing(desk: Desk) -> None:
    """Once the job was given to another, the first worker's word is only noted in the audit trail."""
    (job_id,) = desk.submit()
    first = desk.take()
    desk.rescue()
    second = desk.take("worker_2")
    moves = len(desk.moves)
    for state in (State.SUCCEEDED, State.FAILED, State.CANCELLED):
        assert desk.finish(first, state=state).late == [job_id]
    assert desk.fail(first).late == [job_id]
    assert desk.acts(job_id)[1:] == [(WORKER, "job.late_result")] * 4
    assert (len(desk.moves), desk.result(job_id)) == (moves, None)
    assert [cost.billable for cost in desk.costs(job_id)] == [False]
    desk.finish(second, text="mine")
    result = desk.result(job_id)
    assert result is not None
    assert result.text == "mine"


def test_the_same_ending_twice_counts_once(desk: Desk) -> None:
    """A worker that repeats itself, in one call or in two, is late the second time."""
    (job_id,) = desk.submit()
    claim = desk.take()
    ended = desk.finish(claim, claim)
    assert ([job.id for job in ended.jobs], ended.late) == ([job_id], [job_id])
    assert desk.finish(claim).late == [job_id]
    assert len(desk.costs(job_id)) == 1


def test_jobs_of_one_step_end_together(desk: Desk) -> None:
    """Endings of many jobs are one transaction, a late one among them does no harm."""
    ids = desk.submit(*(new_job() for _ in range(5)))
    claims = desk.claim(5)
    ended = desk.finish(Held(ids[4], 99), *claims[:4])
    assert ([job.id for job in ended.jobs], ended.late) == (ids[:4], [ids[4]])
    assert desk.states(*ids) == [State.SUCCEEDED] * 4 + [State.RUNNING]


def test_the_database_refuses_a_second_result(desk: Desk) -> None:
    """Even code that forgets the fence cannot write two results of a job."""
    (job_id,) = desk.submit()
    desk.finish(desk.take())
    values = {"job_id": job_id, "tenant_id": "default", "text": "", "finish_reason": "stop"}
    with pytest.raises(IntegrityError):
        desk.do("second", lambda s: s.execute(insert(Result).values(**values, created_at=desk.now)))


def test_the_database_refuses_a_second_bill(desk: Desk) -> None:
    """A job has one billable entry at the most, and one entry for each attempt."""
    (job_id,) = desk.submit()
    desk.finish(desk.take())
    (paid,) = desk.costs(job_id)
    values = {
        column.key: getattr(paid, column.key) for column in Cost.__table__.columns if column.key != "id"
    }
    desk.is_tampered = True
    add = insert(Cost)
    for change in ({"fence": 2}, {"billable": False}):
        second = add.values(**{**values, **change})
        with pytest.raises(IntegrityError), desk.database.write() as session:
            session.execute(second)
    desk.do("lost", lambda s: s.execute(add.values(**{**values, "fence": 2, "billable": False})))


def test_failures_are_tried_again_until_max_attempts(desk: Desk) -> None:
    """Each failure counts and waits longer; the last one ends the job; none of them costs anything."""
    (job_id,) = desk.submit(new_job(max_attempts=3))
    for failures, wait in ((1, 5), (2, 10)):
        claim = desk.take()
        assert claim.attempt == failures
        ended = desk.fail(claim, usage=USAGE)
        job = desk.job(job_id)
        assert ([j.id for j in ended.jobs], job.state, job.failures) == ([job_id], State.SCHEDULED, failures)
        assert (job.attempt, job.error_type) == (failures + 1, None)
        desk.wait(wait - 0.001)
        assert (desk.promote(), desk.claim()) == ([], [])
        desk.wait(0.001)
        assert desk.promote() == [job_id]
    desk.fail(desk.take())
    job = desk.job(job_id)
    assert (job.state, job.failures, job.attempt, job.error_type) == (State.FAILED, 3, 3, "row_error")
    assert [(cost.fence, cost.billable, cost.amount) for cost in desk.costs(job_id)] == [
        (1, False, FREE), (2, False, FREE), (3, False, FREE),
    ]  # fmt: skip
    assert [attempt.error_message for attempt in desk.attempts(job_id)] == ["it broke"] * 3


def test_what_is_not_worth_another_try_fails_at_once(desk: Desk) -> None:
    """Without a pause there is no retry, however many attempts are left."""
    (job_id,) = desk.submit(new_job(max_attempts=9))
    desk.fail(desk.take(), pause=None)
    assert desk.states(job_id) == [State.FAILED]


def test_a_retry_is_never_billed(desk: Desk) -> None:
    """A failed attempt said to be billable does not take the place of the bill to come."""
    (job_id,) = desk.submit()
    desk.fail(desk.take(), billable=True, usage=USAGE)
    desk.wait(5)
    desk.promote()
    desk.finish(desk.take())
    assert [(cost.billable, cost.amount > 0) for cost in desk.costs(job_id)] == [(False, False), (True, True)]


def test_a_retry_starts_from_the_beginning(desk: Desk) -> None:
    """Tokens kept from before the failure may be what broke it: they are dropped."""
    (job_id,) = desk.submit()
    desk.hand_back(desk.take(), [1, 2])
    desk.fail(desk.take())
    assert desk.progress(job_id) is None


def test_a_job_to_be_cancelled_is_not_tried_again(desk: Desk) -> None:
    """An error or a lost worker ends a job whose cancel was asked for, as cancelled and unpaid."""
    ids = desk.submit(new_job(), new_job())
    failing, _ = desk.claim(2)
    for job_id in ids:
        desk.request_cancel(job_id)
    desk.fail(failing)
    desk.rescue()
    for job_id in ids:
        job, (cost,) = desk.job(job_id), desk.costs(job_id)
        assert (job.state, job.error_type, job.failures, cost.amount) == (State.CANCELLED, None, 0, FREE)


def test_jobs_of_a_lost_worker_go_to_others(desk: Desk) -> None:
    """A rescue counts a failure, costs nothing, keeps tokens, and touches no other worker's jobs."""
    mine, other = desk.submit(new_job(), new_job())
    desk.hand_back(desk.take(), [1, 2])
    desk.claim()
    desk.claim(worker="worker_2")
    assert (desk.rescue().released, desk.rescue().released) == ([mine], [])
    job = desk.job(mine)
    assert (job.state, job.claimable, job.failures, job.attempt) == (State.QUEUED, True, 1, 2)
    assert [attempt.outcome for attempt in desk.attempts(mine)] == ["handed_back", "worker_lost"]
    assert [(cost.billable, cost.amount) for cost in desk.costs(mine)] == [(False, FREE)]
    assert (desk.progress(mine), desk.states(other)) == ([1, 2], [State.RUNNING])


def test_a_job_that_kills_its_workers_fails(desk: Desk) -> None:
    """When the last attempt's worker is lost the job fails, so a poisonous one does not go round for ever."""
    (job_id,) = desk.submit(new_job(max_attempts=2))
    desk.claim()
    desk.rescue()
    desk.claim()
    ended = desk.rescue()
    job = desk.job(job_id)
    assert [job.id for job in ended.jobs] == [job_id]
    assert (job.state, job.error_type, job.failures, job.attempt) == (State.FAILED, "worker_lost", 2, 2)
    assert [cost.amount for cost in desk.costs(job_id)] == [0, 0]


def told(state: State) -> float:
    """How many jobs the metrics say have ended so."""
    labels = {"llm": LLM, "state": state.value}
    return REGISTRY.get_sample_value("penstock_jobs_ended_total", labels) or 0


def test_the_metrics_count_every_end_once(desk: Desk) -> None:
    """Jobs that ran and jobs that never did are counted where they end; a retry or a rescue is no end."""
    before = {state: told(state) for state in TERMINAL}
    desk.submit(*(new_job() for _ in range(3)), new_job(max_attempts=1))
    (waits, _) = desk.submit(new_job(run_at=at(50)), new_job(run_at=at(60), expires_at=at(5)))
    succeeds, fails, retried, lost = desk.claim(9)
    desk.finish(succeeds)
    desk.finish(fails, state=State.FAILED)
    desk.fail(retried)
    desk.rescue()
    desk.cancel(waits)
    desk.wait(5)
    desk.expire()
    assert {state: told(state) - before[state] for state in TERMINAL} == {
        State.SUCCEEDED: 1, State.FAILED: 2, State.CANCELLED: 1, State.EXPIRED: 1,
    }  # fmt: skip
    assert desk.states(lost.job_id) == [State.FAILED]


def test_an_end_that_is_rolled_back_is_not_counted(desk: Desk) -> None:
    """What the database does not keep, the metrics do not tell."""
    (job_id,) = desk.submit()
    before = told(State.CANCELLED)

    def cancel_and_fail() -> None:
        with desk.database.write() as session:
            job = jobs.find(session, TENANT, job_id, lock=True)
            assert job is not None
            endings.cancel_waiting(session, job, CLIENT, desk.now)
            raise LookupError

    with pytest.raises(LookupError):
        cancel_and_fail()
    assert told(State.CANCELLED) == before


def test_the_price_is_the_sum_of_its_parts() -> None:
    """``Usage.amount`` adds up what prompt, cached prompt and completion cost."""
    usage = replace(rows.USAGE, cached_amount=Decimal("0.5"))
    assert usage.amount == Decimal("0.5000070")
    assert Usage().amount == 0
