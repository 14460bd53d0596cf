"""Queues through the door: their modes, what each mode refuses, and what can be seen of them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient

from config.settings import Llm, Settings
from models import queues
from models.audit import Audit
from models.database import Database
from models.job_rows import Job
from models.messages import pending
from models.tenants import Draining
from tests.api.conftest import BOTH, FakeWorker
from tests.api.test_jobs import submit
from workers.broker.hints import hint_queue


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Two LLMs; the alias of one has a slash."""
    llms = {"pico": Llm(path="builtin:pico"), "org/big": Llm(path="org/big-4bit")}
    return settings.model_copy(update={"llms": llms})


def steer(client: TestClient, act: str, llm: str = "pico") -> dict[str, Any]:
    """Pause, drain or resume a queue; how it then is."""
    answer = client.post(f"/v1/queues/{llm}/{act}")
    assert answer.status_code == 200, answer.text
    queue: dict[str, Any] = answer.json()
    return queue


def modes(client: TestClient) -> dict[str, str]:
    """What each configured queue does."""
    return {entry["llm"]: entry["mode"] for entry in client.get("/v1/queues").json()["modes"]}


def hints(database: Database) -> int:
    """Hints on their way to the workers."""
    with database.read() as session:
        return pending(session, hint_queue("pico"))


@BOTH
def test_queues_count_by_llm_and_priority(client: TestClient, worker: FakeWorker) -> None:
    """Each queue that is not empty is shown with its depth and the age of its oldest queued job."""
    for _ in range(3):
        submit(client, priority="interactive")
    submit(client, run_at="2999-01-01T00:00:00Z")
    worker.claim(1)
    first, second = client.get("/v1/queues").json()["data"]
    assert (first["priority"], first["queued"], first["running"]) == ("interactive", 2, 1)
    assert 0 <= first["oldest_seconds"] < 60
    assert (second["priority"], second["scheduled"], second["oldest_seconds"]) == ("standard", 1, None)


def test_every_configured_queue_shows_its_mode(client: TestClient) -> None:
    """An LLM for which no job waits is in the list of modes, and open before anybody steers it."""
    assert modes(client) == {"pico": "open", "org/big": "open"}
    steer(client, "pause", "org/big")
    steer(client, "drain")
    assert modes(client) == {"pico": "draining", "org/big": "paused"}
    steer(client, "resume")
    assert modes(client) == {"pico": "open", "org/big": "paused"}


def test_entries_of_the_list_show_their_queues_mode(client: TestClient) -> None:
    """Each entry by LLM and priority says what its queue does, beside what it said before."""
    submit(client)
    submit(client, priority="background", llm="org/big")
    steer(client, "pause")
    entries = client.get("/v1/queues").json()["data"]
    assert [(entry["llm"], entry["priority"], entry["queued"], entry["mode"]) for entry in entries] == [
        ("org/big", "background", 1, "open"),
        ("pico", "standard", 1, "paused"),
    ]


@BOTH
def test_a_paused_queue_takes_jobs_in_and_begins_none(client: TestClient, worker: FakeWorker) -> None:
    """What runs goes on to its end, what comes waits, and all goes on after resume."""
    submit(client)
    (running,) = worker.claim()
    assert steer(client, "pause")["mode"] == "paused"
    submit(client)
    assert worker.claim() == []
    worker.finish(running)
    assert client.get(f"/v1/jobs/{running.job_id}").json()["state"] == "succeeded"
    assert (steer(client, "resume")["mode"], len(worker.claim())) == ("open", 1)


@BOTH
def test_a_draining_queue_refuses_jobs_and_runs_dry(client: TestClient, worker: FakeWorker) -> None:
    """A new job gets 503 with the LLM and the cure; those that wait are worked off until it is idle."""
    submit(client)
    assert (steer(client, "drain")["queued"], steer(client, "drain")["idle"]) == (1, False)
    answer = client.post("/v1/jobs", json={"prompt": "a"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert answer.json()["type"] == "urn:penstock:problem:queue-draining"
    assert "pico" in answer.json()["detail"]
    assert "POST /v1/queues/pico/resume" in answer.json()["detail"]
    submit(client, llm="org/big")
    assert worker.run_all() == 1
    assert client.get("/v1/queues/pico").json()["idle"] is True
    steer(client, "resume")
    submit(client)


def test_a_refused_job_leaves_nothing(client: TestClient, database: Database) -> None:
    """Neither a row nor a share of the queue is taken by a job that a draining queue refuses."""
    before = submit(client)
    steer(client, "drain")
    key = {"Idempotency-Key": "again"}
    assert client.post("/v1/jobs", json={"prompt": "a"}, headers=key).status_code == 503
    steer(client, "resume")
    assert client.post("/v1/jobs", json={"prompt": "a"}, headers=key).status_code == 202
    with database.read() as session:
        first, second = session.scalars(select(Job).order_by(Job.seq))
        assert second.share == first.share + first.estimated_tokens
        assert first.id == before["id"]


def test_a_draining_queue_refuses_retries(client: TestClient, worker: FakeWorker) -> None:
    """An ended job is not submitted again either; the first try of one that fails is still worked off."""
    job = submit(client)
    worker.run_all()
    steer(client, "drain")
    answer = client.post(f"/v1/jobs/{job['id']}/retry")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:penstock:problem:queue-draining")


@BOTH
def test_a_draining_queue_refuses_bulks_whole(client: TestClient) -> None:
    """One job for a draining queue refuses the bulk: all of its jobs are stored or none."""
    steer(client, "drain")
    answer = client.post("/v1/bulk", json={"jobs": [{"prompt": "a", "llm": "org/big"}, {"prompt": "b"}]})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:penstock:problem:queue-draining")
    assert client.get("/v1/jobs").json()["data"] == []


def test_a_bulk_that_was_staged_before_is_not_published(
    app: FastAPI, client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that begins to drain while a bulk is stored refuses it in the end: it never got its 202."""
    publish = app.state.door.together.write
    staged: list[str] = []

    def drained(act: Any) -> Any:
        with database.read() as session:
            staged.extend(session.scalars(select(Job.id).where(Job.staged)))
        steer(client, "drain")
        return publish(act)

    monkeypatch.setattr(app.state.door.together, "write", drained)
    answer = client.post("/v1/bulk", json={"jobs": [{"prompt": "a"}]})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:penstock:problem:queue-draining")
    assert len(staged) == 1
    assert client.get("/v1/jobs").json()["data"] == []


def test_a_bulk_waits_in_a_paused_queue(client: TestClient, worker: FakeWorker) -> None:
    """A pause takes bulks in like jobs."""
    steer(client, "pause")
    assert client.post("/v1/bulk", json={"jobs": [{"prompt": "a"}]}).status_code == 202
    assert worker.claim() == []


@pytest.mark.parametrize("act", ["resume", "drain"])
def test_workers_are_woken_when_a_pause_ends(client: TestClient, database: Database, act: str) -> None:
    """What waited through the pause is hinted at once; a pause itself wakes nobody."""
    submit(client)
    before = hints(database)
    steer(client, "pause")
    assert hints(database) == before
    steer(client, act)
    assert hints(database) == before + 1


def test_steering_twice_is_once_on_record(client: TestClient, database: Database, key: str) -> None:
    """Only changes are audited, each with the key that made it."""
    for act in ("resume", "pause", "pause", "drain", "resume", "resume"):
        steer(client, act)
    with database.read() as session:
        acts = session.scalars(select(Audit).where(Audit.subject == "pico").order_by(Audit.id))
        found = [(act.action, act.actor) for act in acts]
    mine = key.split("_")[1]
    assert found == [("queue.pause", mine), ("queue.drain", mine), ("queue.resume", mine)]


def test_a_queue_shows_its_jobs_by_priority(client: TestClient, worker: FakeWorker) -> None:
    """One LLM's queue is its mode, its counts in all and by priority; other queues do not count."""
    for priority in ("interactive", "interactive", "background"):
        submit(client, priority=priority)
    submit(client, run_at="2999-01-01T00:00:00Z")
    submit(client, llm="org/big")
    worker.claim(1)
    queue = client.get("/v1/queues/pico").json()
    counts = (queue["queued"], queue["scheduled"], queue["running"])
    assert (queue["llm"], queue["mode"], queue["idle"], counts) == ("pico", "open", False, (2, 1, 1))
    assert [(entry["priority"], entry["queued"], entry["running"]) for entry in queue["priorities"]] == [
        ("interactive", 1, 1),
        ("standard", 0, 0),
        ("background", 1, 0),
    ]
    assert client.get("/v1/queues/org/big").json()["queued"] == 1


@BOTH
def test_the_window_is_changed(client: TestClient, database: Database, key: str) -> None:
    """It is that of the settings until somebody sets another; each change is on record, the mode stays."""
    assert client.get("/v1/queues/org/big").json()["window_ms"] == 2
    steer(client, "pause", "org/big")
    for wanted in (25, 25, 0.5):
        answer = client.patch("/v1/queues/org/big", json={"window_ms": wanted})
        assert (answer.status_code, answer.json()["window_ms"], answer.json()["mode"]) == (
            200,
            wanted,
            "paused",
        )
    assert client.get("/v1/queues/org/big").json()["window_ms"] == 0.5
    assert client.get("/v1/queues/pico").json()["window_ms"] == 2
    with database.read() as session:
        assert queues.window(session, "org/big") == 0.5
    acts = [(act["action"], act["actor"], act["details"]) for act in client.get("/v1/audit").json()["data"]]
    mine = key.split("_")[1]
    assert acts[:2] == [("queue.window", mine, {"window_ms": ms}) for ms in (0.5, 25)]
    assert len(acts) == 3


@pytest.mark.parametrize(
    "body", [{}, {"window_ms": -1}, {"window_ms": 10_001}, {"window_ms": "5"}, {"window_ms": True}]
)
def test_a_window_has_its_limits(client: TestClient, body: dict[str, Any]) -> None:
    """What is no number of milliseconds up to ten seconds is refused, and changes nothing."""
    answer = client.patch("/v1/queues/pico", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "window_ms")
    assert client.get("/v1/queues/pico").json()["window_ms"] == 2


def test_others_jobs_keep_a_queue_from_being_idle(client: TestClient, stranger: TestClient) -> None:
    """A tenant counts its own jobs, but a queue has run dry only when nobody's wait in it."""
    submit(stranger)
    queue = client.get("/v1/queues/pico").json()
    assert (queue["queued"], queue["priorities"], queue["idle"]) == (0, [], False)
    assert client.get("/v1/queues/org/big").json()["idle"] is True


@pytest.mark.parametrize("llm", ["nothing", "pic", "pico/now", "%00"])
def test_unknown_queues_are_not_found(client: TestClient, llm: str) -> None:
    """An LLM that is not configured has no queue; the answer names those that may be meant."""
    place = f"/v1/queues/{llm}"
    window = client.patch(place, json={"window_ms": 5})
    for answer in (client.get(place), client.post(f"{place}/pause"), window):
        assert answer.status_code == 404
        assert "pico" in answer.json()["detail"]


def test_steering_takes_no_body(client: TestClient) -> None:
    """A body would mean nothing, so it is refused."""
    answer = client.post("/v1/queues/pico/pause", json={"minutes": 5})
    assert answer.status_code == 422
    assert modes(client)["pico"] == "open"


def test_the_error_names_its_queue() -> None:
    """What the models raise survives being copied for a thread of its own."""
    assert Draining("pico").llm == "pico"


def test_metrics_find_the_age_of_a_rare_class(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figure is there though few jobs of a class came behind many; unknown is not young."""
    for priority in ("standard", "standard", "background"):
        submit(client, priority=priority)
    monkeypatch.setattr(queues, "LOOK", 1)
    assert ages(client) == {"standard", "background"}
    monkeypatch.setattr(queues, "LOOK", 0)
    assert ages(client) == set()


def ages(client: TestClient) -> set[str]:
    """The classes whose oldest job has a figure."""
    text = client.get("/metrics").text
    return set(re.findall(r'^penstock_queue_oldest_seconds\{llm="pico",priority="(\w+)"', text, re.MULTILINE))
