"""A service without HTTP: the inference worker in this process, the fake LLM, a real database and broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import migrations
from config.settings import Broker, Llm, Settings
from models import counters, listing, tenants
from models.base import utcnow
from models.database import Database
from models.job_rows import Job
from models.requests import CompletionRequest, Message, Sampling, TextPart
from models.states import Priority, State
from models.submission import NewJob, submit
from workers.broker import make_broker, wake
from workers.inference import Inference

OFFSETS = {Priority.INTERACTIVE: 0, Priority.STANDARD: 1_000, Priority.BACKGROUND: 100_000}
PATIENCE = 30.0
"""Seconds after which a test gives up waiting; nothing here takes a hundredth of it."""


def completion(text: str = "hello", **sampling: Any) -> CompletionRequest:
    """A request with one user message; ``max_tokens`` is 16 unless given."""
    message = Message(role="user", content=(TextPart(text=text),))
    return CompletionRequest(messages=(message,), sampling=Sampling(**{"max_tokens": 16, **sampling}))


def new_job(request: CompletionRequest | None = None, **fields: Any) -> NewJob:
    """A job of the default tenant for the LLM ``pico``."""
    asked = request or completion()
    known = {"tenant_id": "default", "llm": "pico", "timeout_seconds": 30.0, "max_attempts": 3}
    return NewJob(
        request=asked.model_dump_json(), estimated_tokens=asked.estimated_tokens, **{**known, **fields}
    )


class Service:
    """What the tests of the walk do to it and ask of it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database.connect(settings.database_url)
        migrations.upgrade(self.database)
        with self.database.write() as session:
            tenants.ensure(session, "default", utcnow())
        self.broker = make_broker(settings, self.database)
        self.deaths: list[str] = []
        self.inference: Inference | None = None

    def make(self) -> Inference:
        """An inference worker that is not started."""
        (llm,) = self.settings.served_llms
        return Inference(self.settings, self.database, llm, lambda: self.deaths.append("dead"))

    def start(self) -> Inference:
        """Start an inference worker; there is neither a sweeper nor any other process."""
        self.inference = self.make()
        self.inference.start()
        return self.inference

    def stop(self, grace_seconds: float = 5) -> None:
        """Stop the worker in good order."""
        if self.inference is not None:
            self.inference.stop(grace_seconds)
            self.inference = None

    def submit(self, *jobs: NewJob, hint: bool = True) -> list[Job]:
        """Store jobs and send their hint, as the route does; without a hint nobody may notice."""
        now = utcnow()
        with self.database.write() as session:
            stored = submit(session, jobs, OFFSETS, "test", now)
            for job, delay in zip(stored, (_delay(j, now) for j in stored), strict=True):
                if hint:
                    wake(self.broker, session, job.llm, [job.id], delay_ms=delay)
        return stored

    def job(self, job_id: str) -> listing.Details:
        """A job as it stands."""
        with self.database.read() as session:
            found = session.query(Job).filter_by(id=job_id).one()
            return listing.details(session, [found])[0]

    def wait(self, jobs: Sequence[Job], *states: State) -> list[listing.Details]:
        """Wait until all jobs are in one of ``states`` (any final one if none is named)."""

        def there(details: listing.Details) -> bool:
            return details.job.state in states if states else details.job.is_terminal

        wait_until(lambda: all(there(self.job(job.id)) for job in jobs))
        return [self.job(job.id) for job in jobs]

    def drift(self) -> dict[counters.Key, int]:
        """Where counters and rows disagree."""
        with self.database.read() as session:
            return counters.drift(session)


def _delay(job: Job, now: datetime) -> int | None:
    if job.run_at is None or job.run_at <= now:
        return None
    return int((job.run_at - now).total_seconds() * 1000)


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for something to become true; fails the test when it does not."""
    give_up = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < give_up, "gave up waiting"
        time.sleep(0.005)


@contextmanager
def running_service(settings: Settings, url: str, broker: Broker, llm: str = "fake:") -> Iterator[Service]:
    """A service on ``url`` and ``broker`` whose LLM ``pico`` is the fake one with the options in ``llm``."""
    values = settings.model_dump()
    values["database"]["url"] = url
    values["broker"] = {**broker.model_dump(), "poll_ms": 10}
    values["llms"] = {"pico": Llm(path=llm)}
    service = Service(Settings.model_validate(values))
    try:
        yield service
    finally:
        service.stop()
        service.broker.close()
        service.database.close()
