"""Stopping a worker: every part of it is bounded, and what could not be written down goes back."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import select

from config.settings import Broker, Settings
from models import workers
from models.claims import Claim
from models.database import Database, Session, Unavailable
from models.endings import Ending
from models.job_rows import Attempt
from models.states import State
from ops import lifeline
from ops.supervisor.up import programs
from tests.repository import PROJECT
from tests.service import PATIENCE, Service, completion, new_job, running_service, wait_until
from workers import stopping
from workers.engine import Admission
from workers.inference import Inference

WORKER = """
import sys, time
from config.settings import Settings
from workers import stopping
from workers.backends.fake import FakeBackend
from workers.inference import main

stopping.STEP_SECONDS = 0.1
setattr(FakeBackend, sys.argv[2], lambda *_, **__: time.sleep(600))
sys.exit(main(Settings.model_validate_json(sys.argv[1]), lambda _: None))
"""


@pytest.fixture
def slow(settings: Settings, sqlite_url: str) -> Iterator[Service]:
    """A service whose LLM takes 10 ms a token and never stops by itself."""
    with running_service(settings, sqlite_url, Broker(), "fake:step_ms=10&endless=1") as made:
        yield made


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that are over at once."""
    for name in ("STEP_SECONDS", "BOOKS_SECONDS", "LEAVE_SECONDS"):
        monkeypatch.setattr(stopping, name, 0.05 if name != "LEAVE_SECONDS" else 5.0)


@contextmanager
def worker(service: Service, blocked: str) -> Iterator[subprocess.Popen[bytes]]:
    """An inference worker as a process of its own, in which one method of the backend never returns."""
    values = service.settings.model_dump(mode="json")
    values["database"]["url"] = service.settings.database_url
    values["worker"]["grace_seconds"] = 0
    process = subprocess.Popen([sys.executable, "-c", WORKER, json.dumps(values), blocked], cwd=PROJECT)
    with process:
        yield process
        process.kill()


def is_registered(service: Service) -> bool:
    """Whether a worker lives."""
    with service.database.read() as session:
        return len(workers.alive(session)) == 1


def test_a_stop_while_the_llm_is_loaded_is_heeded(slow: Service) -> None:
    """SIGTERM ends a worker that loads for minutes, cleanly and without waiting for the LLM."""
    with worker(slow, "__init__") as process:
        wait_until(lambda: is_registered(slow))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert not is_registered(slow)


def test_a_step_that_does_not_end_costs_no_attempt(slow: Service) -> None:
    """Jobs of an engine that cannot be waited for go back by the books, and the exit is clean."""
    sent = slow.submit(new_job(), new_job())
    with worker(slow, "step") as process:
        slow.wait(sent, State.RUNNING)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert [details.job.failures for details in slow.wait(sent, State.QUEUED)] == [0, 0]
    with slow.database.read() as session:
        assert session.scalars(select(Attempt.outcome)).all() == ["handed_back", "handed_back"]
    assert slow.drift() == {}


def test_a_stalled_step_ends_the_worker_and_counts(settings: Settings, sqlite_url: str) -> None:
    """A step longer than the limit ends the process with status 1, and its job has a failure more."""
    short = settings.model_copy(update={"worker": settings.worker.model_copy(update={"stall_seconds": 0.2})})
    with running_service(short, sqlite_url, Broker()) as service:
        sent = service.submit(new_job())
        with worker(service, "step") as process:
            assert process.wait(PATIENCE) == 1
        (found,) = service.wait(sent, State.QUEUED)
        assert found.job.failures == 1


@pytest.mark.usefixtures("hurried")
def test_books_that_cannot_be_closed_go_back(slow: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a result cannot be written in time the stop goes on without it, and its job is given back."""
    inference = slow.start()
    tried = threading.Event()
    write = Database.write

    @contextmanager
    def refuse(self: Database) -> Iterator[Session]:
        if threading.current_thread().name == "recorder":
            tried.set()
            raise Unavailable("locked")
        with write(self) as session:
            yield session

    monkeypatch.setattr(Database, "write", refuse)
    (job,) = slow.submit(new_job(completion(max_tokens=2)))
    assert tried.wait(PATIENCE)
    assert inference.stop(0)
    found = slow.job(job.id).job
    assert (found.state, found.failures, found.claimable) == (State.QUEUED, 0, True)
    wait_until(lambda: not inference.recorder._thread.is_alive())


@pytest.mark.usefixtures("hurried")
def test_a_stop_without_a_database_comes_to_an_end(
    slow: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It says what is left to the leases, and that it was not clean."""
    inference = slow.start()
    sent = slow.submit(new_job(completion(max_tokens=3000)))
    slow.wait(sent, State.RUNNING)

    def refuse(_self: Database) -> None:
        raise Unavailable("it is away")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "write", refuse)
        assert not inference.stop(0)
    assert "the books of 1 jobs stay open" in caplog.text
    assert "leaving went wrong" in caplog.text


def test_what_takes_too_long_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    """An act within its time is done, one that hangs or fails is not, and says so."""
    go_on = threading.Event()
    assert stopping.within(PATIENCE, "quick", lambda: None)
    assert not stopping.within(0.01, "slow", go_on.wait)
    go_on.set()
    with caplog.at_level(logging.ERROR):
        assert not stopping.within(PATIENCE, "wrong", lambda: 1 / 0)
    assert "slow took longer than 0.01 s" in caplog.text
    assert "wrong went wrong" in caplog.text


def test_whoever_ends_a_worker_waits_for_all_its_parts(settings: Settings) -> None:
    """Supervisor and lifeline give a worker its grace time and the sum of all bounds, and some more."""
    bounds = [value for name, value in vars(stopping).items() if name.endswith("_SECONDS")]
    assert sum(bounds) - stopping.SETTLE_SECONDS <= stopping.SETTLE_SECONDS
    _, *both = programs(settings, {})
    for program in both:
        assert program.grace_seconds > settings.worker.grace_seconds + stopping.SETTLE_SECONDS
        assert float(program.environment[lifeline.GRACE_VARIABLE]) == program.grace_seconds


def test_a_child_without_a_parent_has_the_grace_it_was_told() -> None:
    """When the lifeline breaks, a child that does not heed SIGTERM is ended after what its parent said."""
    code = """
        import signal, time
        signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))
        from ops import lifeline
        assert lifeline.hold()
        print("held", flush=True)
        while True: time.sleep(600)
    """
    line = lifeline.Lifeline()
    child = subprocess.Popen(
        [sys.executable, "-c", code.replace("\n        ", "\n")], cwd=PROJECT, text=True,
        env={**os.environ, **line.variables(), **lifeline.grace(1)},
        pass_fds=[line.read_end], stdout=subprocess.PIPE,
    )  # fmt: skip
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        line.close()
        assert child.stdout.readline() == "asked\n"
        assert child.wait(PATIENCE) == 1


def stopped_while_encoding(service: Service) -> Inference:
    """A worker whose dispatcher has no thread any more, and is told to stop by its first prompt."""
    inference = service.start()
    dispatcher = inference.dispatcher
    dispatcher.stop()
    dispatcher._stopping.clear()
    encode = dispatcher._encode

    def stop_first(claim: Claim) -> Admission | Ending:
        dispatcher._stopping.set()
        return encode(claim)

    dispatcher._encode = stop_first
    return inference


def test_prompts_not_encoded_in_time_go_back(slow: Service) -> None:
    """A stop in the midst of a claim leaves the rest of it to the books, and no job loses an attempt."""
    inference = stopped_while_encoding(slow)
    sent = slow.submit(*(new_job(completion(max_tokens=3000)) for _ in range(3)), hint=False)
    inference.dispatcher.admit()
    assert (inference.engine.held, inference.recorder.running) == (1, 3)
    assert inference.stop(0)
    assert [details.job.failures for details in slow.wait(sent, State.QUEUED)] == [0, 0, 0]
    assert slow.deaths == []


def test_a_claim_that_came_too_late_goes_back(slow: Service) -> None:
    """Jobs claimed while the engine takes no more are given back by the books, and nothing breaks."""
    inference = stopped_while_encoding(slow)
    inference.engine.drain(0)
    (job,) = slow.submit(new_job(), hint=False)
    inference.engine.capacity = lambda: 1  # type: ignore[method-assign] # it had room a moment ago
    inference.dispatcher.admit()
    assert slow.job(job.id).job.state == State.RUNNING
    assert inference.stop(0)
    found = slow.job(job.id).job
    assert (found.state, found.failures, slow.deaths) == (State.QUEUED, 0, [])
