"""While the database does not answer: what clients are told, and those who wait."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import event
from starlette.testclient import TestClient

from api.app import create_app
from api.sightings import Sightings
from config.settings import Settings
from models.database import Database, Unavailable
from tests.api.conftest import FakeWorker
from tests.service import wait_until

GONE = "postgresql://penstock:s3cret@127.0.0.1:1/hidden"
"""A database that refuses connections, and what no client may learn of it."""

SOON = 20.0
"""Far below the waits that are asked for, far above what a busy machine takes."""

Read = Callable[[Sightings, Sequence[str]], dict[str, Any]]


@pytest.mark.parametrize("path", ["/v1/jobs", "/health/ready", "/health/startup"])
def test_database_that_is_gone_is_a_503(
    settings: Settings, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without its database the service says so and when to ask again; where that is, only the log tells."""
    client = TestClient(create_app(settings, Database.connect(GONE)), base_url="http://localhost")
    answer = client.get(path, headers={"Authorization": f"Bearer pk_0123456789ab_{'x' * 43}"})
    kind = "not-ready" if "health" in path else "database-unavailable"
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert answer.json()["type"] == f"urn:penstock:problem:{kind}"
    assert int(answer.headers["retry-after"]) >= 1
    assert not re.search(
        r"127\.0|port|s3cret|hidden|penstock:|psycopg|sqlalche", answer.text.replace("urn:penstock:", "")
    )
    assert "127.0.0.1" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/bulk"])
def test_full_database_takes_nothing_and_says_so(client: TestClient, database: Database, path: str) -> None:
    """When SQLite can grow no more, a submission is a 503 with the reason, and room makes it work again."""
    most = [1]

    def bound(connection: Any, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count={most[-1]}")

    event.listen(database.engine, "checkout", bound)
    job = {"prompt": "x" * 50_000}
    body = job if path == "/v1/jobs" else {"jobs": [job]}
    answer = client.post(path, json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert "database or disk is full" in answer.json()["detail"]
    assert client.get("/v1/jobs").json()["data"] == []
    most.append(1_000_000)
    assert client.post(path, json=body).status_code == 202


def test_metrics_do_without_a_database(settings: Settings) -> None:
    """The figures of the processes are shown although the queues cannot be counted."""
    client = TestClient(create_app(settings, Database.connect(GONE)), base_url="http://localhost")
    answer = client.get("/metrics")
    assert (answer.status_code, "penstock_queue_jobs{" in answer.text) == (200, False)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads of clients."""
    with ThreadPoolExecutor(40) as pool:
        yield pool


def submit(client: httpx2.Client) -> str:
    """Submit a job; returns its id."""
    job_id: str = client.post("/v1/jobs", json={"prompt": "hello"}).json()["id"]
    return job_id


def wait(client: httpx2.Client, job_id: str, seconds: float = 60) -> httpx2.Response:
    """Ask for a job and wait for its end."""
    return client.get(f"/v1/jobs/{job_id}", params={"wait": seconds})


def watched(app: FastAPI, key: str, count: int = 1) -> None:
    """Return once so many wait for ``key``."""
    wait_until(lambda: len(app.state.door.watcher._watches.get(key, ())) == count)


def failing(times: int, error: Exception) -> Read:
    """A reading that fails so many times before it works."""
    read, left = Sightings._read, threading.Semaphore(times)

    def attempt(self: Sightings, keys: Sequence[str]) -> dict[str, Any]:
        if left.acquire(blocking=False):
            raise error
        return dict(read(self, keys))

    return attempt


def test_failed_look_is_not_remembered(
    client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a reading that failed the next look reads again, although nothing has changed since."""
    job_id = submit(client)
    sightings = Sightings(database)
    good = sightings.look([job_id])
    assert good[job_id] is not None
    monkeypatch.setattr(Sightings, "_read", failing(2, Unavailable("gone")))
    submit(client)  # so that the change is noticed, and lost if the failure is remembered
    for _ in range(2):
        with pytest.raises(Unavailable):
            sightings.look([job_id])
    assert sightings.look([job_id]) == good
    assert sightings.look([job_id, "job_0"]) == {**good, "job_0": None}
    sightings.close()


@pytest.mark.parametrize("error", [Unavailable("gone"), RuntimeError("a mistake")])
def test_wait_outlives_a_database_that_fails(
    client: TestClient,
    app: FastAPI,
    worker: FakeWorker,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    """While nobody can look, those who wait go on waiting, and afterwards they see the end."""
    job_id = submit(client)
    monkeypatch.setattr(Sightings, "_read", failing(3, error))
    assert wait(client, job_id, 0.2).elapsed.total_seconds() >= 0.2
    monkeypatch.setattr(Sightings, "_read", failing(3, error))
    answer = pool.submit(wait, client, job_id)
    watched(app, job_id)
    worker.run_all()
    assert answer.result(SOON).json()["state"] == "succeeded"
