"""The whole walk of a job, on each database and each broker, with hints as the only wake-up.

No sweeper runs in these tests and the dispatcher does not look by itself, so
whatever happens here happened because a hint said so.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import select

from config.settings import Broker, Settings
from models import jobs
from models.audit import Audit
from models.base import utcnow
from models.costs import Cost
from models.endings import cancel_waiting
from models.job_rows import Attempt, Job, Payload
from models.states import Priority, State
from tests.service import Service, completion, new_job, running_service, wait_until


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with which a worker never looks for jobs by itself."""
    return settings.model_copy(update={"worker": settings.worker.model_copy(update={"look_seconds": 0})})


@pytest.fixture
def service(settings: Settings, database_url: str, broker_settings: Broker) -> Iterator[Service]:
    """A service whose LLM answers at once, not yet started."""
    with running_service(settings, database_url, broker_settings) as made:
        yield made


@pytest.fixture
def slow(settings: Settings, database_url: str, broker_settings: Broker) -> Iterator[Service]:
    """A service whose LLM takes 10 ms a token and never stops by itself."""
    llm = "fake:step_ms=10&endless=1"
    with running_service(settings, database_url, broker_settings, llm) as made:
        yield made


def test_jobs_run_on_hints_alone(service: Service) -> None:
    """Without a sweeper, jobs sent to an idle worker end with a result, a bill and true counters."""
    service.start()
    sent = service.submit(*(new_job(completion(f"line {n}")) for n in range(20)))
    for done in service.wait(sent):
        assert done.job.state == State.SUCCEEDED
        assert done.result is not None
        assert done.result.text
        assert done.cost is not None
        assert done.cost.amount > 0
        assert done.job.completion_tokens
        assert done.job.prompt_tokens
    assert service.drift() == {}


def test_what_waited_before_the_start_is_run(service: Service) -> None:
    """A worker looks once when it starts: jobs whose hints were lost before are found."""
    sent = service.submit(new_job(), hint=False)
    service.start()
    service.wait(sent, State.SUCCEEDED)


def test_a_scheduled_job_runs_when_its_hint_falls_due(service: Service) -> None:
    """``run_at`` is kept by a durable, delayed hint."""
    service.start()
    due = utcnow() + timedelta(milliseconds=300)
    (done,) = service.wait(service.submit(new_job(run_at=due)))
    assert done.job.state == State.SUCCEEDED
    assert done.job.started_at is not None
    assert done.job.started_at >= due


def test_an_agents_jobs_run_one_at_a_time_in_order(slow: Service) -> None:
    """The next turn of an agent starts only when the one before it has ended."""
    slow.start()
    sent = slow.submit(*(new_job(completion(max_tokens=3), agent="ada") for _ in range(4)))
    done = [details.job for details in slow.wait(sent)]
    for earlier, later in itertools.pairwise(done):
        assert earlier.finished_at is not None
        assert later.started_at is not None
        assert earlier.finished_at <= later.started_at


def test_arrivals_within_the_window_are_decoded_together(service: Service) -> None:
    """Jobs of one burst share their decode steps."""
    inference = service.start()
    service.wait(service.submit(*(new_job(completion("same", max_tokens=12)) for _ in range(16))))
    stats = inference.engine.stats()
    assert stats.decoded_tokens / stats.decode_steps >= 8


def test_a_running_job_is_cancelled_and_pays_for_what_it_keeps(slow: Service) -> None:
    """A raised flag is seen, the row stops, and its tokens so far are kept and billed."""
    slow.start()
    sent = slow.submit(new_job(completion(max_tokens=2000)))
    slow.wait(sent, State.RUNNING)
    with slow.database.write() as session:
        jobs.request_cancel(session, session.scalars(select(Job)).one(), "test", utcnow())
    (done,) = slow.wait(sent)
    assert done.job.state == State.CANCELLED
    assert done.result is not None
    assert done.result.finish_reason == "cancelled"
    assert done.cost is not None
    assert done.cost.completion_tokens == done.job.completion_tokens
    assert slow.drift() == {}


def test_cancelling_a_waiting_job_lets_the_agents_next_one_run(slow: Service) -> None:
    """A cancelled predecessor no longer stands in the way."""
    first, second, third = slow.submit(*(new_job(completion(max_tokens=3), agent="ada") for _ in range(3)))
    with slow.database.write() as session:
        for job in (first, second):
            row = session.scalars(select(Job).where(Job.id == job.id)).one()
            cancel_waiting(session, row, "test", utcnow())
    slow.start()
    slow.wait([third], State.SUCCEEDED)


def test_a_timeout_ends_the_job_as_failed_without_another_attempt(slow: Service) -> None:
    """The attempt that takes too long is stopped, keeps its text, and is not tried again."""
    slow.start()
    (done,) = slow.wait(slow.submit(new_job(completion(max_tokens=2000), timeout_seconds=0.2)))
    assert (done.job.state, done.job.error_type) == (State.FAILED, "timeout")
    assert done.result is not None
    assert done.result.text
    assert done.job.fence == 1


def test_a_failing_row_is_tried_again_and_then_fails_alone(
    settings: Settings, database_url: str, broker_settings: Broker
) -> None:
    """Retries wait, are bounded by max_attempts, cost nothing, and leave the neighbours be."""
    with running_service(settings, database_url, broker_settings, "fake:spoil=bad") as service:
        service.start()
        bad, good = service.submit(new_job(completion("bad"), max_attempts=2), new_job(completion("good")))
        failed, succeeded = service.wait([bad, good])
        assert succeeded.job.state == State.SUCCEEDED
        assert (failed.job.state, failed.job.error_type) == (State.FAILED, "row_error")
        assert (failed.job.failures, failed.job.fence, failed.cost) == (2, 2, None)
        with service.database.read() as session:
            outcomes = session.scalars(select(Attempt.outcome).where(Attempt.job_id == bad.id))
            amounts = session.scalars(select(Cost.amount).where(Cost.job_id == bad.id))
            assert list(outcomes) == ["failed", "failed"]
            assert not any(amounts)


def test_stopping_gives_jobs_back_with_their_tokens(slow: Service) -> None:
    """What does not fit in the grace time goes on later where it stopped, without using an attempt up."""
    slow.start()
    sent = slow.submit(new_job(completion(max_tokens=60)))
    slow.wait(sent, State.RUNNING)
    wait_until(lambda: slow.inference is not None and slow.inference.engine.stats().decoded_tokens > 5)
    slow.stop(grace_seconds=0)
    (waiting,) = slow.wait(sent, State.QUEUED)
    with slow.database.read() as session:
        kept = session.scalars(select(Payload.progress)).one() or []
    assert waiting.job.failures == 0
    assert len(kept) > 5
    slow.start()
    (done,) = slow.wait(sent)
    assert (done.job.state, done.job.completion_tokens, done.job.failures) == (State.SUCCEEDED, 60, 0)


def test_a_late_result_changes_nothing_and_is_recorded(slow: Service) -> None:
    """A worker whose job was given to others meanwhile finds the fence raised."""
    inference = slow.start()
    sent = slow.submit(new_job(completion(max_tokens=2000)))
    slow.wait(sent, State.RUNNING)
    with slow.database.write() as session:
        row = session.scalars(select(Job)).one()
        jobs.hand_back(session, [(row.id, row.fence, [])], "worker_lost", utcnow())
        row.claimable = False
    inference.engine.cancel(sent[0].id, 1)
    wait_until(lambda: inference.recorder.running == 0)
    assert slow.job(sent[0].id).job.state == State.QUEUED
    with slow.database.read() as session:
        assert "job.late_result" in session.scalars(select(Audit.action)).all()


def test_an_expired_job_never_starts(service: Service) -> None:
    """A job past ``expires_at`` ends as expired, at no cost."""
    past = utcnow() + timedelta(milliseconds=1)
    sent = service.submit(new_job(expires_at=past))
    wait_until(lambda: utcnow() > past)
    service.start()
    (done,) = service.wait(sent)
    assert (done.job.state, done.job.fence, done.cost) == (State.EXPIRED, 0, None)


def test_better_ranked_jobs_are_claimed_first(service: Service) -> None:
    """When there is room for few, the interactive ones go before what came earlier."""
    background = service.submit(*(new_job(priority=Priority.BACKGROUND) for _ in range(80)))
    urgent = service.submit(new_job(priority=Priority.INTERACTIVE))
    service.start()
    (first,) = service.wait(urgent)
    assert first.job.started_at is not None
    later = [done.job.started_at for done in service.wait(background)]
    rows = service.settings.engine.max_rows
    assert sum(at is not None and at > first.job.started_at for at in later) == 81 - rows
