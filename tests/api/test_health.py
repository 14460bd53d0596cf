"""What the service says of itself: health and metrics."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import update
from starlette.testclient import TestClient

from api.app import create_app
from api.pulse import Pulse
from api.readiness import LEAST_FREE, Readiness
from api.wire.fields import CheckView
from config.settings import Broker, Llm, Settings
from models.base import utcnow
from models.database import Database
from models.job_rows import Job
from models.workers import Worker
from tests.api.conftest import BOTH, FakeWorker
from tests.indexing import index


class Disk(NamedTuple):
    """What ``shutil.disk_usage`` tells."""

    total: int
    used: int
    free: int


@pytest.fixture
def keyless(app: FastAPI) -> TestClient:
    """A client without a key."""
    return TestClient(app, base_url="http://localhost")


def change_worker(database: Database, **values: Any) -> None:
    """Change the row of the worker."""
    with database.write() as session:
        session.execute(update(Worker).values(**values))


def missing(client: TestClient) -> dict[str, str]:
    """What a service that is not ready lacks, by part; empty when it is ready."""
    answer = client.get("/health/ready")
    assert answer.headers["cache-control"] == "no-store"
    if answer.status_code == 503:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:penstock:problem:not-ready"
        assert int(answer.headers["retry-after"]) >= 1
    checks = answer.json()["checks"]
    assert set(checks) == {"database", "worker", "llm", "broker"}
    wrong = {name: check["detail"] for name, check in checks.items() if not check["ok"]}
    assert (answer.status_code == 200) is (wrong.keys() <= {"broker"})
    if answer.status_code == 200:
        assert answer.json()["status"] == ("degraded" if wrong else "ok")
    assert all(detail in answer.text for detail in wrong.values())
    return wrong


def test_fresh_service_lives_and_has_started(keyless: TestClient) -> None:
    """Without any worker the process is alive and its database answers, but it is not ready."""
    assert keyless.get("/health/live").json() == {"status": "ok", "checks": {}}
    started = keyless.get("/health/startup")
    assert (started.status_code, started.json()["checks"]["database"]["ok"]) == (200, True)
    assert missing(keyless) == {
        "worker": "no live inference worker (none has started)",
        "llm": "no worker has loaded pico",
    }


@BOTH
def test_service_with_a_worker_is_ready(keyless: TestClient, worker: FakeWorker) -> None:
    """With a live inference worker that has loaded the LLM, jobs are stored and run."""
    worker.publish()
    assert missing(keyless) == {}


def test_silent_worker_is_not_enough(keyless: TestClient, worker: FakeWorker, database: Database) -> None:
    """A worker seen longer ago than its lease does not count, until it beats again."""
    worker.publish()
    change_worker(database, seen_at=utcnow() - timedelta(seconds=5))
    assert missing(keyless) == {"worker": "no live inference worker (1 silent for 1 seconds)"}
    change_worker(database, beats=2)
    assert missing(keyless) == {}


def test_heartbeats_are_judged_by_our_own_clock(
    settings: Settings, worker: FakeWorker, database: Database
) -> None:
    """A worker whose counter stands still for its lease is lost, whatever its clock says."""
    now = 100.0
    readiness = Readiness(settings, database, lambda: now)

    def fresh() -> bool:
        return readiness.check().checks["worker"].ok

    worker.publish()
    assert fresh()
    change_worker(database, seen_at=utcnow() + timedelta(hours=1))
    now += settings.worker.lease_seconds + 0.5
    assert not fresh()
    change_worker(database, beats=7, seen_at=utcnow() - timedelta(hours=1))
    assert fresh()
    now += settings.worker.lease_seconds / 2
    assert fresh()


@pytest.mark.parametrize("values", [{"kind": "errands", "llm": None}, {"ended_at": utcnow()}])
def test_only_living_inference_workers_count(
    keyless: TestClient, worker: FakeWorker, database: Database, values: dict[str, Any]
) -> None:
    """Neither one that does errands nor one that has stopped runs jobs."""
    worker.publish()
    change_worker(database, **values)
    assert missing(keyless) == {
        "worker": "no live inference worker (none has started)",
        "llm": "no worker has loaded pico",
    }


def test_llm_that_is_loading_is_not_ready(keyless: TestClient, worker: FakeWorker) -> None:
    """A worker that still loads its LLM is alive; jobs do not run yet. Another LLM does not help."""
    worker.publish(ready=False)
    worker.publish(alias="other")
    assert missing(keyless) == {"llm": "no worker has loaded pico"}


def test_an_llm_that_sleeps_is_ready(keyless: TestClient, worker: FakeWorker, database: Database) -> None:
    """A worker that can load it is enough; one that could not says that there is a reason, and not which."""
    worker.publish(ready=False)
    change_worker(database, llms={"pico": None})
    assert missing(keyless) == {}
    change_worker(database, llms={"pico": "OSError: no such folder"})
    assert missing(keyless) == {"llm": "pico could not be loaded: /v1/llms and its worker's log say why"}


def test_every_llm_that_is_served_must_be_ready(
    settings: Settings, database: Database, worker: FakeWorker
) -> None:
    """Where there are workers for several LLMs, each that is missing is named, not the default one alone."""
    llms = {alias: Llm(path="builtin:pico") for alias in ("pico", "large", "small", "spare")}
    several = settings.model_copy(update={"llms": llms, "serve": ("pico", "large", "small")})
    client = TestClient(create_app(several, database), base_url="http://localhost")
    worker.publish()
    worker.publish(alias="large", ready=False)
    assert missing(client) == {"llm": "no worker has loaded large; no worker has loaded small"}
    worker.publish(alias="large")
    worker.publish(alias="small")
    assert missing(client) == {}
    assert client.get("/health/ready").json()["checks"]["llm"]["detail"] == "ready: pico, large, small"


def with_redis(settings: Settings, url: str) -> Settings:
    """Settings that send hints through Redis."""
    return settings.model_copy(update={"broker": Broker(kind="redis", redis_url=SecretStr(url))})


def test_broker_that_is_gone_only_slows_the_service_down(
    settings: Settings, database: Database, worker: FakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """Without its Redis the service is ready but degraded, and says what that means, not where Redis is."""
    app = create_app(with_redis(settings, "redis://:s3cret@127.0.0.1:1/0"), database)
    worker.publish()
    client = TestClient(app, base_url="http://localhost")
    (detail,) = missing(client).values()
    assert "hints are missing, so jobs are found by looking every few seconds" in detail
    assert "127.0.0.1" not in detail
    assert "127.0.0.1" in caplog.text
    assert "s3cret" not in caplog.text
    change_worker(database, ended_at=utcnow())
    assert set(missing(client)) == {"worker", "llm", "broker"}


def test_broker_that_answers_is_asked_once_a_second(settings: Settings, redis_url: str) -> None:
    """A Redis that answers is fine, and however often anybody looks it is pinged only now and then."""
    now, broker = 100.0, with_redis(settings, redis_url).broker
    pulse = Pulse(broker, lambda: now)
    assert pulse.check() == CheckView(ok=True, detail="Redis answers")
    pulse._url = SecretStr("redis://127.0.0.1:1/0")
    now += 0.9
    assert pulse.check().ok
    now += 0.2
    assert not pulse.check().ok


def test_full_disk_is_noticed(
    keyless: TestClient, worker: FakeWorker, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that cannot store jobs, for SQLite's disk is full, is not ready and says so."""
    worker.publish()
    disks: dict[str, int] = {}
    monkeypatch.setattr("shutil.disk_usage", lambda path: Disk(10**9, 10**9, disks[str(path)]))
    folder = str(Path(str(database.engine.url.database)).parent)
    disks[folder] = LEAST_FREE
    assert missing(keyless) == {}
    disks[folder] = LEAST_FREE - 1
    assert missing(keyless) == {
        "database": "its disk is full: 31 MiB are left, and 32 are needed to store jobs and results"
    }


@BOTH
def test_metrics_show_the_queues(
    client: TestClient, keyless: TestClient, worker: FakeWorker, database: Database
) -> None:
    """Depth by state and age of the oldest, by LLM and priority, of all tenants and without a key."""
    for priority in ("interactive", "background", "background"):
        client.post("/v1/jobs", json={"prompt": "a", "priority": priority})
    client.post("/v1/jobs", json={"prompt": "a", "run_at": "2100-01-01T00:00:00Z"})
    worker.claim(1)
    with database.write() as session:
        session.execute(update(Job).values(created_at=utcnow() - timedelta(seconds=50)))
    answer = keyless.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found = re.findall(
        r'^(penstock_queue_\w+)\{llm="pico",priority="(\w+)"(?:,state="(\w+)")?\} (\S+)$',
        answer.text,
        re.MULTILINE,
    )
    figures = {(name, priority, state): float(value) for name, priority, state, value in found}
    depth = {key[1:]: value for key, value in figures.items() if key[0] == "penstock_queue_jobs" and value}
    assert depth == {("interactive", "running"): 1, ("background", "queued"): 2, ("standard", "scheduled"): 1}
    ages = {key[1]: value for key, value in figures.items() if key[0] == "penstock_queue_oldest_seconds"}
    assert 50 <= ages["background"] < 110
    assert (ages["interactive"], ages["standard"]) == (0, 0)


@BOTH
def test_metrics_tell_how_far_the_text_index_is_behind(
    client: TestClient, keyless: TestClient, database: Database
) -> None:
    """It is as many jobs as wait for their words to be indexed, and none when that is done."""
    for _ in range(3):
        client.post("/v1/jobs", json={"prompt": "a"})
    assert "\npenstock_search_behind_jobs 3.0\n" in keyless.get("/metrics").text
    index(database)
    assert "\npenstock_search_behind_jobs 0.0\n" in keyless.get("/metrics").text


def test_requests_are_counted_by_route(client: TestClient, keyless: TestClient) -> None:
    """Counts go by the template of the route, so that ids and junk make no new figures."""
    for path in ("/v1/jobs/job_1", "/v1/jobs/job_2", "/nothing", "/nothing/else"):
        client.get(path)
    text = keyless.get("/metrics").text
    assert 'route="/v1/jobs/{job_id}"' in text
    assert "job_1" not in text
    assert "/nothing" not in text
