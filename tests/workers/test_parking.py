"""Interactive jobs are admitted at once, even when the engine is full: the last in rank make room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import select

from config.settings import Broker, Settings
from models import tenants
from models.base import utcnow
from models.books import check_integrity
from models.claims import any_ahead
from models.costs import Cost
from models.job_rows import Attempt, Job, Payload, Result
from models.states import Priority, State
from models.submission import NewJob
from tests.service import Service, completion, new_job, running_service, wait_until

TOKENS = 60
WAITING = 2_000


def small(settings: Settings, url: str, step_ms: int) -> Iterator[Service]:
    """A service whose engine takes two rows."""
    engine = settings.engine.model_copy(update={"max_rows": 2})
    with running_service(
        settings.model_copy(update={"engine": engine}), url, Broker(), f"fake:step_ms={step_ms}&endless=1"
    ) as made:
        yield made
        with made.database.read() as session:
            assert check_integrity(session) == []


@pytest.fixture
def service(settings: Settings, database_url: str) -> Iterator[Service]:
    """Two rows, ten milliseconds a step, on both databases."""
    yield from small(settings, database_url, 10)


@pytest.fixture
def slow(settings: Settings, sqlite_url: str) -> Iterator[Service]:
    """Two rows, and steps so long that they can be counted."""
    yield from small(settings, sqlite_url, 300)


def background(number: int, tokens: int = TOKENS) -> list[NewJob]:
    """Long jobs of the lowest class."""
    asked = [completion(f"background {n}", max_tokens=tokens) for n in range(number)]
    return [new_job(request, priority=Priority.BACKGROUND) for request in asked]


def texts(service: Service, jobs: list[Job]) -> list[str]:
    """The results of ended jobs."""
    with service.database.read() as session:
        return [str(session.get_one(Result, job.id).text) for job in jobs]


def outcomes(service: Service, job: Job) -> list[str | None]:
    """How a job's attempts ended."""
    with service.database.read() as session:
        query = select(Attempt.outcome).where(Attempt.job_id == job.id)
        return list(session.scalars(query.order_by(Attempt.fence)))


def test_an_interactive_job_parks_the_last_in_rank(service: Service) -> None:
    """It runs at once; the parked one goes on from its tokens, to the same text, and is billed once."""
    service.start()
    undisturbed = service.submit(*background(2))
    service.wait(undisturbed, State.SUCCEEDED)
    first, last = service.submit(*background(2))
    wait_until(lambda: service.job(last.id).job.state == State.RUNNING)
    (urgent,) = service.submit(new_job(completion("now", max_tokens=5), priority=Priority.INTERACTIVE))
    (done,) = service.wait([urgent])
    assert service.job(last.id).job.state != State.SUCCEEDED
    service.wait([first, last], State.SUCCEEDED)
    assert done.job.state == State.SUCCEEDED
    assert texts(service, [first, last]) == texts(service, undisturbed)
    assert (outcomes(service, first), outcomes(service, last)) == (["succeeded"], ["parked", "succeeded"])
    parked = service.job(last.id).job
    assert (parked.failures, parked.completion_tokens) == (0, TOKENS)
    with service.database.read() as session:
        assert session.get_one(Payload, last.id).spent_seconds > 0
        assert session.get_one(Payload, first.id).spent_seconds == 0
        (bill,) = session.scalars(select(Cost).where(Cost.job_id == last.id)).all()
    assert (bill.billable, bill.completion_tokens) == (True, TOKENS)


def test_it_is_admitted_within_a_step_or_two_however_many_wait(slow: Service) -> None:
    """With the engine full and thousands of background jobs waiting, the next steps are its own."""
    inference = slow.start()
    running = slow.submit(*background(2, 1000))
    slow.wait(running, State.RUNNING)
    slow.submit(*background(WAITING), hint=False)
    backend = inference.engine._backend.result()
    before = backend.steps  # type: ignore[attr-defined]  # the twin counts them
    (urgent,) = slow.submit(new_job(completion("now", max_tokens=1), priority=Priority.INTERACTIVE))
    slow.wait([urgent], State.SUCCEEDED)
    steps = backend.steps - before  # type: ignore[attr-defined]  # as above
    assert (
        steps <= 5
    )  # one under way, one at which it is admitted and read, one for its token, two to be told
    slow.stop(grace_seconds=0)


def test_nobody_is_parked_for_an_equal(service: Service) -> None:
    """Jobs of the same class, and of a worse one, wait for room."""
    inference = service.start()
    running = service.submit(*background(2, 500))
    service.wait(running, State.RUNNING)
    service.submit(*background(3))
    with service.database.read() as session:
        assert not any_ahead(session, "pico", inference.engine.parkable())
    assert not inference.dispatcher.admit()
    assert {outcome for job in running for outcome in outcomes(service, job)} == {None}
    service.stop(grace_seconds=0)


def test_a_full_engine_does_not_claim_round_and_round(service: Service) -> None:
    """An urgent job of a tenant that may run none is seen and cannot be had: one claim, then the bell."""
    inference = service.start()
    running = service.submit(*background(2, 500))
    service.wait(running, State.RUNNING)
    with service.database.write() as session:
        tenants.ensure(session, "none", utcnow())
        tenants.change(session, "none", {"max_running": 0})
    service.submit(new_job(tenant_id="none", priority=Priority.INTERACTIVE), hint=False)
    assert inference.dispatcher.finds_work()
    assert not inference.dispatcher.admit()
    service.stop(grace_seconds=0)
