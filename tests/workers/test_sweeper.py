"""The sweeper repairs what hints and workers lost, and leaves alone what is well."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import select, update

from config.settings import Broker, Retention, Settings
from models import claims, commands, workers
from models.audit import SYSTEM
from models.base import utcnow
from models.commands import Command, Kind
from models.costs import Cost
from models.counters import Counter
from models.database import Unavailable
from models.endings import cancel_all
from models.job_rows import Attempt, Job
from models.messages import BrokerMessage
from models.states import State
from models.workers import Worker
from tests.service import Service, new_job, running_service, wait_until
from workers.broker import make_live_log
from workers.sweeper import RARELY_SECONDS, Sweeper, Watch


class Clock:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The sweeper's clock."""
    return Clock()


@pytest.fixture
def service(settings: Settings, sqlite_url: str) -> Iterator[Service]:
    """A database and a broker without any worker."""
    with running_service(settings, sqlite_url, Broker()) as made:
        yield made


@pytest.fixture
def sweeper(service: Service, clock: Clock) -> Sweeper:
    """A sweeper that tells time by the test's clock."""
    return sweeper_of(service, clock)


def outlive_lease(service: Service, sweeper: Sweeper, clock: Clock) -> None:
    """Sweep often enough while a lease runs out."""
    for _ in range(5):
        clock.now += service.settings.worker.lease_seconds / 4
        sweeper.sweep()


def register(service: Service, worker_id: str = "worker_1") -> None:
    """A worker's row as the worker makes it."""
    now = utcnow()
    with service.database.write() as session:
        session.add(
            Worker(
                id=worker_id,
                kind="inference",
                host="h",
                pid=1,
                beats=0,
                started_at=now,
                seen_at=now,
                figures={},
            )
        )


def claim(service: Service, worker_id: str = "worker_1") -> list[str]:
    """Let a worker take all it can."""
    with service.database.write() as session:
        return [taken.job_id for taken in claims.claim(session, worker_id, "pico", 64, utcnow())]


def messages(service: Service) -> int:
    """Hints on their way."""
    with service.database.read() as session:
        return len(session.scalars(select(BrokerMessage)).all())


def test_a_worker_is_lost_only_when_its_counter_stands_still(clock: Clock) -> None:
    """Liveness is a counter that moves, by the watcher's own clock alone."""
    watch = Watch(lease_seconds=10, gap_seconds=9.5, clock=clock)
    assert watch.lost({"a": 1, "b": 1}) == []
    clock.now += 9
    assert watch.lost({"a": 1, "b": 2}) == []
    clock.now += 1
    assert watch.lost({"a": 1, "b": 2}) == ["a"]
    assert watch.lost({"b": 2}) == []


def test_time_in_which_nobody_looked_is_held_against_no_worker(clock: Clock) -> None:
    """After a gap in looking (an outage of the database, say) every lease begins anew."""
    watch = Watch(lease_seconds=10, gap_seconds=3, clock=clock)
    watch.lost({"a": 1})
    clock.now += 60
    assert watch.lost({"a": 1}) == []
    for _ in range(5):
        clock.now += 2
        lost = watch.lost({"a": 1})
    assert lost == ["a"]


def test_the_jobs_of_a_silent_worker_go_on_elsewhere(
    service: Service, sweeper: Sweeper, clock: Clock
) -> None:
    """After the lease they are queued again with one failure more, and a hint is sent for them."""
    register(service)
    (job,) = service.submit(new_job(), hint=False)
    claim(service)
    sweeper.sweep()
    assert service.job(job.id).job.state == State.RUNNING
    outlive_lease(service, sweeper, clock)
    found = service.job(job.id).job
    assert (found.state, found.failures, found.claimable) == (State.QUEUED, 1, True)
    assert messages(service) >= 1  # one that waits long on a busy machine is hinted again
    with service.database.read() as session:
        assert session.scalars(select(Attempt.outcome)).all() == ["worker_lost"]
        assert [bool(cost.amount) for cost in session.scalars(select(Cost))] == [False]
    assert service.drift() == {}


def test_a_job_that_kills_its_workers_fails_in_the_end(
    service: Service, sweeper: Sweeper, clock: Clock
) -> None:
    """After ``max_attempts`` lost workers a job is failed as ``worker_lost``, and costs nothing."""
    (job,) = service.submit(new_job(max_attempts=2), hint=False)
    for worker_id in ("worker_1", "worker_2"):
        register(service, worker_id)
        claim(service, worker_id)
        outlive_lease(service, sweeper, clock)
    found = service.job(job.id)
    assert (found.job.state, found.job.error_type, found.cost) == (State.FAILED, "worker_lost", None)
    assert service.drift() == {}


def test_the_commands_of_a_silent_worker_go_to_others(
    service: Service, sweeper: Sweeper, clock: Clock
) -> None:
    """What it had taken and what waited for it alone is for any worker; what ended a day ago is forgotten."""
    register(service)
    with service.database.write() as session:
        first, second = (
            commands.issue(
                session, "default", "pico", Kind.SAVE, {"owner": "default/ada"}, utcnow(), "worker_1"
            )
            for _ in range(2)
        )
        commands.take(session, "worker_1", "pico", utcnow(), 1)
    outlive_lease(service, sweeper, clock)
    with service.database.write() as session:
        taken = commands.take(session, "worker_2", "pico", utcnow())
        assert [command.id for command in taken] == [first.id, second.id]
        commands.finish(session, first.id, "worker_2", {}, utcnow() - timedelta(hours=25))
        commands.finish(session, second.id, "worker_2", {}, utcnow() - timedelta(hours=23))
    sweeper.tidy()
    with service.database.read() as session:
        assert session.scalars(select(Command.id)).all() == [second.id]


def test_jobs_of_a_worker_that_left_are_not_forgotten(service: Service, sweeper: Sweeper) -> None:
    """A running job whose worker has ended is rescued at once, whatever went wrong when it left."""
    register(service)
    (job,) = service.submit(new_job(), hint=False)
    claim(service)
    with service.database.write() as session:
        workers.end(session, "worker_1", utcnow())
    sweeper.sweep()
    assert service.job(job.id).job.state == State.QUEUED


def test_a_lost_hint_is_sent_again_but_not_at_every_sweep(
    service: Service, sweeper: Sweeper, clock: Clock
) -> None:
    """A queue that has waited too long gets one hint, and another only after the same time."""
    service.submit(new_job(), new_job(), hint=False)
    sweeper.sweep()
    assert messages(service) == 0
    with service.database.write() as session:
        session.execute(update(Job).values(created_at=utcnow() - timedelta(minutes=1)))
    for _ in range(3):
        sweeper.sweep()
    assert messages(service) == 1
    clock.now += service.settings.worker.rehint_seconds
    sweeper.sweep()
    assert messages(service) == 2


def test_what_is_due_moves_on(service: Service, sweeper: Sweeper) -> None:
    """A scheduled job whose time has come is queued and hinted; one past its end expires."""
    soon, past = utcnow() + timedelta(milliseconds=5), utcnow() + timedelta(milliseconds=5)
    due, late = service.submit(new_job(run_at=soon), new_job(expires_at=past), hint=False)
    wait_until(lambda: utcnow() > soon)
    sweeper.sweep()
    assert service.job(due.id).job.state == State.QUEUED
    assert service.job(late.id).job.state == State.EXPIRED
    assert messages(service) == 1


def test_tidying_folds_counters_and_keeps_their_sums(service: Service, sweeper: Sweeper) -> None:
    """Deltas become one row a key, and the books still agree."""
    for _ in range(5):
        service.submit(new_job(), hint=False)
    sweeper.tidy()
    with service.database.read() as session:
        assert len(session.scalars(select(Counter)).all()) == 1
    assert service.drift() == {}


def test_ended_jobs_are_deleted_when_retention_says_so(settings: Settings, sqlite_url: str) -> None:
    """Rows older than their state is kept go, and are counted out; the bill stays."""
    kept = settings.model_copy(update={"retention": Retention(cancelled_days=1e-9)})
    with running_service(kept, sqlite_url, Broker()) as service:
        cancel(service, 1)
        sweeper_of(service).tidy()
        assert jobs_left(service) == 0
        assert service.drift() == {}


def cancel(service: Service, count: int) -> None:
    """Jobs that have ended."""
    service.submit(*(new_job() for _ in range(count)), hint=False)
    with service.database.write() as session:
        cancel_all(session, session.scalars(select(Job)).all(), SYSTEM, utcnow())


def jobs_left(service: Service) -> int:
    """How many jobs there are."""
    with service.database.read() as session:
        return len(session.scalars(select(Job)).all())


def sweeper_of(service: Service, clock: Callable[[], float] = time.monotonic) -> Sweeper:
    """A sweeper of a service."""
    live = make_live_log(service.settings, service.database)
    return Sweeper(service.database, service.broker, live, service.settings, clock)


class Racing(Clock):
    """A clock that moves on by a second whenever it is asked, once it runs."""

    running = False

    def __call__(self) -> float:
        """Tell the time."""
        self.now += self.running
        return self.now


def test_a_sweep_tidies_for_a_moment_and_the_next_goes_on(settings: Settings, sqlite_url: str) -> None:
    """However much there is to delete, workers are looked after meanwhile; what is left goes bit by bit."""
    kept = settings.model_copy(update={"retention": Retention(cancelled_days=1e-9, lock_ms=5)})
    clock = Racing()
    with running_service(kept, sqlite_url, Broker()) as service:
        cancel(service, 120)
        sweeper = sweeper_of(service, clock)
        sweeper.sweep()
        assert jobs_left(service) == 120
        clock.now += RARELY_SECONDS
        clock.running = True
        seen = []
        for _ in range(30):
            sweeper.sweep()
            seen.append(jobs_left(service))
        assert seen[-1] == 0
        assert len(set(seen)) > 2
        assert service.drift() == {}


def test_tidying_that_was_interrupted_begins_anew(
    service: Service, sweeper: Sweeper, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the database goes away in the middle, the next time comes as if nothing had been."""
    for _ in range(5):
        service.submit(new_job(), hint=False)
    away = partial(_raise, Unavailable("away"))
    with monkeypatch.context() as patched:
        patched.setattr("models.counters.compact", away)
        clock.now += RARELY_SECONDS
        with pytest.raises(Unavailable):
            sweeper.sweep()
    for _ in range(2):
        clock.now += RARELY_SECONDS
        sweeper.sweep()
    with service.database.read() as session:
        assert len(session.scalars(select(Counter)).all()) == 1


def _raise(error: Exception, *_: object) -> int:
    raise error


def test_an_archive_that_cannot_be_written_stops_nothing_else(settings: Settings, sqlite_url: str) -> None:
    """No job is deleted, and the rest of the tidying is done."""
    kept = settings.model_copy(update={"retention": Retention(cancelled_days=1e-9, archive=True)})
    (settings.data_dir / "archive").write_text("in the way")
    with running_service(kept, sqlite_url, Broker()) as service:
        cancel(service, 2)
        register(service, "worker_old")
        with service.database.write() as session:
            workers.end(session, "worker_old", utcnow() - timedelta(days=2))
        sweeper_of(service).tidy()
        assert jobs_left(service) == 2
        with service.database.read() as session:
            assert session.get(Worker, "worker_old") is None
