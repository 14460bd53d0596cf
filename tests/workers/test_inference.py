"""The inference worker under faults: its database goes away, its engine dies, it is declared lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import orjson
import pytest
from sqlalchemy import select, update

from config import telemetry
from config.settings import Broker, Settings
from models import claims, endings, jobs, messages, workers
from models.base import utcnow
from models.claims import Claim
from models.database import Database, Session, Unavailable
from models.events import Event
from models.job_rows import Attempt, Job, Payload
from models.requests import Message
from models.states import State
from models.submission import submit
from models.workers import Standing
from tests.service import OFFSETS, Service, completion, new_job, running_service, wait_until
from workers.backends.fake import FakeBackend
from workers.broker.hints import hint_queue
from workers.engine import Admission


@pytest.fixture
def slow(settings: Settings, sqlite_url: str) -> Iterator[Service]:
    """A service whose LLM takes 10 ms a token and never stops by itself."""
    with running_service(settings, sqlite_url, Broker(), "fake:step_ms=10&endless=1") as made:
        yield made


def test_an_ending_waits_for_the_database_and_is_not_lost(
    slow: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database does not answer, results are kept and tried again."""
    inference = slow.start()
    refused = threading.Event()
    write = Database.write

    @contextmanager
    def refuse_once(self: Database) -> Iterator[Session]:
        if threading.current_thread().name == "recorder" and not refused.is_set():
            refused.set()
            raise Unavailable("the disk is full")
        with write(self) as session:
            yield session

    monkeypatch.setattr(Database, "write", refuse_once)
    (done,) = slow.wait(slow.submit(new_job(completion(max_tokens=3))))
    assert refused.is_set()
    assert done.job.state == State.SUCCEEDED
    wait_until(lambda: inference.recorder.running == 0)


def test_claiming_goes_on_after_the_database_was_away(slow: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim that found no database is tried again without another hint."""
    inference = slow.start()
    refused = threading.Event()
    admit = inference.dispatcher.admit

    def refuse_once() -> bool:
        if not refused.is_set():
            refused.set()
            raise Unavailable("locked")
        return admit()

    monkeypatch.setattr(inference.dispatcher, "admit", refuse_once)
    slow.wait(slow.submit(new_job(completion(max_tokens=2))), State.SUCCEEDED)
    assert refused.is_set()


def test_a_part_that_breaks_ends_the_process(slow: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected error in a thread is reported as death, never swallowed."""
    inference = slow.start()

    def break_down() -> bool:
        raise RuntimeError("broken")

    monkeypatch.setattr(inference.dispatcher, "admit", break_down)
    inference.dispatcher.ring()
    wait_until(lambda: slow.deaths == ["dead"])


def test_a_dead_engine_gives_its_jobs_to_others_at_once(settings: Settings, sqlite_url: str) -> None:
    """When the engine cannot be rebuilt, its jobs are queued again before the process ends."""
    llm = "fake:fail_steps=2&fail_reset=1&endless=1"
    with running_service(settings, sqlite_url, Broker(), llm) as service:
        service.start()
        (job,) = service.submit(new_job())
        wait_until(lambda: service.deaths == ["dead"])
        service.stop(grace_seconds=0)
        found = service.job(job.id).job
        assert (found.state, found.failures) == (State.QUEUED, 1)
        assert service.drift() == {}


def test_a_worker_declared_lost_starts_anew_under_another_id(slow: Service) -> None:
    """Its old jobs are let go, its new claims go by its new id, and all of them end once."""
    inference = slow.start()
    (first,) = slow.submit(new_job(completion(max_tokens=100)))
    slow.wait([first], State.RUNNING)
    before = inference.identity.worker_id
    with slow.database.write() as session:
        workers.end(session, before, utcnow())
        endings.rescue(session, before, "EUR", utcnow())
    wait_until(lambda: inference.identity.worker_id != before)
    (second,) = slow.submit(new_job(completion(max_tokens=2)))
    done = slow.wait([first, second], State.SUCCEEDED)
    assert [details.job.failures for details in done] == [1, 0]
    with slow.database.read() as session:
        attempts = select(Attempt.worker_id).where(Attempt.job_id == first.id).order_by(Attempt.fence)
        owners = session.scalars(attempts).all()
    assert (owners[0], owners[-1]) == (before, inference.identity.worker_id)


def test_a_cancel_is_seen_while_the_job_runs(slow: Service) -> None:
    """The control thread passes a raised flag on to the engine."""
    slow.start()
    sent = slow.submit(new_job(completion(max_tokens=3000)), new_job(completion(max_tokens=30)))
    slow.wait(sent, State.RUNNING)
    with slow.database.write() as session:
        row = session.scalars(select(Job).where(Job.id == sent[0].id)).one()
        jobs.request_cancel(session, row, "test", utcnow())
    stopped, neighbour = slow.wait(sent)
    assert (stopped.job.state, neighbour.job.state) == (State.CANCELLED, State.SUCCEEDED)
    assert neighbour.job.completion_tokens == 30


def test_tokens_are_shown_while_the_job_runs(slow: Service) -> None:
    """Live events carry the text in pieces, which joined are the result."""
    slow.start()
    (done,) = slow.wait(slow.submit(new_job(completion(max_tokens=40))))
    assert done.result is not None
    with slow.database.read() as session:
        shown = session.scalars(select(Event.data).where(Event.type == "tokens").order_by(Event.id))
        pieces = [orjson.loads(data)["text"] for data in shown]
    assert len(pieces) > 1
    assert "".join(pieces) == done.result.text


def test_the_first_engine_step_is_noted(slow: Service) -> None:
    """An attempt says when the decoder took its row."""
    slow.start()
    slow.wait(slow.submit(new_job(completion(max_tokens=2))))
    with slow.database.read() as session:
        attempt = session.scalars(select(Attempt)).one()
    assert attempt.first_step_at is not None
    assert attempt.ended_at is not None
    assert attempt.started_at <= attempt.first_step_at <= attempt.ended_at


def test_the_heartbeat_carries_the_engines_figures(slow: Service) -> None:
    """A worker's row rises its counter and shows what the engine does."""
    inference = slow.start()
    slow.submit(new_job(completion(max_tokens=200)))

    def shown() -> bool:
        with slow.database.read() as session:
            (row,) = workers.alive(session)
            return row.beats > 2 and row.figures.get("rows") == 1 and row.id == inference.identity.worker_id

    wait_until(shown)


def test_a_claim_that_was_never_answered_is_given_back(
    slow: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that stand in the worker's name without its knowing run after all, and lose no attempt."""
    monkeypatch.setattr("workers.inference.STRANGE_AFTER", timedelta(0))
    inference = slow.start()
    with slow.database.write() as session:
        sent = submit(session, [new_job(completion(max_tokens=2))], OFFSETS, "test", utcnow())
        claims.claim(session, inference.identity.worker_id, "pico", 1, utcnow())
    (done,) = slow.wait(sent, State.SUCCEEDED)
    assert (done.job.fence, done.job.failures) == (2, 0)


def test_all_of_a_claim_is_known_before_its_prompts_are_read(slow: Service) -> None:
    """However long tokenising takes, no job of the claim is taken for one that was never answered."""
    inference = slow.start()
    encode, known = inference.dispatcher._encode, list[int]()

    def note(claim: Claim) -> Admission | endings.Ending:
        known.append(inference.recorder.running)
        return encode(claim)

    inference.dispatcher._encode = note
    slow.wait(slow.submit(*(new_job(completion(max_tokens=3000), timeout_seconds=0.1) for _ in range(3))))
    assert known[0] == 3


@pytest.mark.parametrize("error", [Exception("bad byte"), AssertionError("no tools")])
def test_a_prompt_that_cannot_be_read_fails_its_own_job(
    slow: Service, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever the tokenizer raises is that job's error; its neighbour and the worker go on."""
    encode = FakeBackend.encode

    def choke(self: FakeBackend, messages: Sequence[Message]) -> list[int]:
        if messages[0].text == "bad":
            raise error
        return encode(self, messages)

    monkeypatch.setattr(FakeBackend, "encode", choke)
    slow.start()
    bad, good = slow.wait(slow.submit(new_job(completion("bad")), new_job(completion(max_tokens=2))))
    assert (bad.job.state, good.job.state) == (State.FAILED, State.SUCCEEDED)
    assert (bad.job.error_type, bad.job.error_message) == ("invalid_prompt", str(error))
    assert slow.deaths == []


def test_a_worker_declared_lost_claims_nothing_until_it_has_a_new_id(
    settings: Settings, sqlite_url: str
) -> None:
    """A dead name gets no jobs, which a sweep would take away at the cost of an attempt; the new one does."""
    hourly = settings.worker.model_copy(update={"heartbeat_ms": 3_600_000, "look_seconds": 0})
    quiet = settings.model_copy(update={"worker": hourly})
    with running_service(quiet, sqlite_url, Broker()) as service:
        inference = service.start()
        with service.database.write() as session:
            workers.end(session, inference.identity.worker_id, utcnow())
        (job,) = service.submit(new_job(), hint=False)
        assert not inference.dispatcher.admit()
        assert service.job(job.id).job.fence == 0
        inference.control._beat()
        (done,) = service.wait([job], State.SUCCEEDED)
        assert (done.job.fence, done.job.failures) == (1, 0)
        with service.database.read() as session:
            assert session.scalars(select(Attempt.worker_id)).all() == [inference.identity.worker_id]


def test_one_ending_that_cannot_be_written_costs_the_others_nothing(
    slow: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Endings of one step are written apart when they cannot be written together."""
    slow.start()
    finish = endings.finish
    monkeypatch.setattr(
        "workers.recorder.endings.finish",
        lambda session, some, *rest: finish(session, some, *rest) if len(some) < 2 else 1 / 0,
    )
    done = slow.wait(slow.submit(*(new_job(completion(max_tokens=3)) for _ in range(6))))
    assert {details.job.state for details in done} == {State.SUCCEEDED}
    assert slow.deaths == []


def test_an_llm_is_ready_only_while_a_worker_serves_it(slow: Service) -> None:
    """It is ready when its worker has loaded it, and not before nor after that has left."""

    def ready() -> bool:
        with slow.database.read() as session:
            return workers.standings(workers.alive(session)).get("pico", Standing()).is_ready

    slow.inference = inference = slow.make()
    assert inference.come()
    assert not ready()
    assert inference.load()
    assert ready()
    slow.stop()
    assert not ready()


def test_nothing_is_held_of_an_llm_that_was_unloaded(slow: Service) -> None:
    """The gauges of its rows and bytes fall to nothing, for the process may go on with another LLM."""
    gauges = (telemetry.engine_batch_rows, telemetry.engine_live_bytes, telemetry.engine_pool_bytes)

    def held() -> list[float]:
        return [gauge.labels("pico")._value.get() for gauge in gauges]

    slow.start()
    slow.wait(slow.submit(new_job(completion("word " * 200, max_tokens=30), agent="ada")), State.SUCCEEDED)
    wait_until(lambda: held()[2] > 0)
    slow.submit(new_job(completion(max_tokens=3000)))
    wait_until(lambda: min(held()) > 0)
    slow.stop(grace_seconds=0)
    assert held() == [0, 0, 0]


def test_an_agents_turn_with_another_llm_is_hinted_there(settings: Settings, sqlite_url: str) -> None:
    """The end of one turn makes the next claimable: the workers of its own LLM hear of it."""
    with running_service(settings, sqlite_url, Broker()) as service:
        service.start()
        first, _ = service.submit(new_job(agent="ada"), new_job(agent="ada", llm="large"))
        service.wait([first], State.SUCCEEDED)
        with service.database.read() as session:
            assert messages.pending(session, hint_queue("large")) == 2  # its own, and that of its turn


def test_a_claim_has_the_time_that_is_left(slow: Service) -> None:
    """A job that was parked again and again does not run longer than it may in all."""
    (job,) = slow.submit(new_job(completion(max_tokens=3000), timeout_seconds=5.0), hint=False)
    with slow.database.write() as session:
        session.execute(update(Payload).where(Payload.job_id == job.id).values(spent_seconds=5.0))
    slow.start()
    (done,) = slow.wait([job])
    assert (done.job.state, done.job.error_type) == (State.FAILED, "timeout")
    assert done.job.completion_tokens is not None
    assert done.job.completion_tokens < 10
