"""The dispatcher's own look: jobs run without any hint, and an idle look costs nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from pydantic import SecretStr

from config.settings import Broker, Settings
from models.base import utcnow
from models.database import Database, Session
from models.states import State
from tests.service import Service, completion, new_job, running_service, wait_until
from workers import stopping


def looking(settings: Settings, seconds: float) -> Settings:
    """Settings with which a worker looks so often; 0: never."""
    return settings.model_copy(
        update={"worker": settings.worker.model_copy(update={"look_seconds": seconds})}
    )


@pytest.fixture
def service(settings: Settings, sqlite_url: str) -> Iterator[Service]:
    """A service whose worker never looks by itself: the tests do it for it."""
    with running_service(looking(settings, 0), sqlite_url, Broker(), "fake:step_ms=10&endless=1") as made:
        yield made


@pytest.fixture
def away() -> Broker:
    """A Redis that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return Broker(kind="redis", redis_url=SecretStr(f"redis://127.0.0.1:{port}"))


def test_jobs_run_while_redis_is_away(
    settings: Settings, sqlite_url: str, away: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When no hint can be sent or received jobs are found all the same, at their time and in their turn."""
    monkeypatch.setattr(stopping, "HINTS_SECONDS", 0.1)  # its consumers sleep before they try again
    with running_service(looking(settings, 0.05), sqlite_url, away) as service:
        service.start()
        due = utcnow() + timedelta(milliseconds=100)
        sent = service.submit(new_job(), new_job(run_at=due), *(new_job(agent="ada") for _ in range(3)))
        service.wait(sent, State.SUCCEEDED)


def test_a_look_finds_what_no_hint_told_of(service: Service) -> None:
    """A job that may be claimed, one whose time has come, one that is too old: each is worth a claim."""
    dispatcher = service.start().dispatcher
    wait_until(lambda: not dispatcher._bell.is_set())
    assert not dispatcher.finds_work()
    soon = utcnow() + timedelta(milliseconds=5)
    for job in (new_job(), new_job(run_at=soon), new_job(run_at=soon + timedelta(days=1), expires_at=soon)):
        (sent,) = service.submit(job, hint=False)
        wait_until(dispatcher.finds_work)
        dispatcher.admit()
        service.wait([sent], State.RUNNING, State.EXPIRED)
        assert not dispatcher.finds_work()


def test_idle_looks_take_no_lock(
    settings: Settings, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that looks again and again and finds nothing writes nothing for it."""
    writers: list[str] = []
    write = Database.write

    @contextmanager
    def note(self: Database) -> Iterator[Session]:
        writers.append(threading.current_thread().name)
        with write(self) as session:
            yield session

    with running_service(looking(settings, 0.01), sqlite_url, Broker()) as service:
        dispatcher = service.start().dispatcher
        wait_until(lambda: not dispatcher._bell.is_set())
        looks: list[bool] = []
        look = dispatcher.finds_work
        monkeypatch.setattr(dispatcher, "finds_work", lambda: looks.append(look()))
        wait_until(lambda: len(looks) > 0)
        monkeypatch.setattr(Database, "write", note)
        seen = len(looks)
        wait_until(lambda: len(looks) > seen + 5)
        assert "dispatcher" not in writers
        assert not any(looks)


def test_a_full_engine_is_not_looked_for(settings: Settings, sqlite_url: str) -> None:
    """While there is no room a look asks nothing: the end of a job rings the bell."""
    small = looking(settings, 0).model_copy(
        update={"engine": settings.engine.model_copy(update={"max_rows": 1})}
    )
    with running_service(small, sqlite_url, Broker(), "fake:step_ms=10&endless=1") as service:
        inference = service.start()
        runs = service.submit(new_job(completion(max_tokens=3000)))
        service.wait(runs, State.RUNNING)
        service.submit(new_job(), hint=False)
        assert not inference.dispatcher.finds_work()
        service.stop(grace_seconds=0)
