"""Another priority for a waiting job, through the door."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from models.database import Database
from tests.api.conftest import BOTH, FakeWorker
from tests.api.test_jobs import submit
from tests.api.test_queues import hints


def change(client: TestClient, job_id: str, priority: str) -> dict[str, Any]:
    """Put a job into another class."""
    answer = client.patch(f"/v1/jobs/{job_id}", json={"priority": priority})
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job


@BOTH
def test_a_waiting_job_moves_ahead(client: TestClient, worker: FakeWorker) -> None:
    """The answer shows its new class and place, and it is claimed there."""
    jobs = [submit(client, priority="background") for _ in range(3)]
    moved = change(client, jobs[2]["id"], "interactive")
    assert (moved["priority"], moved["position"], moved["state"]) == ("interactive", 1, "queued")
    (claim,) = worker.claim(1)
    assert claim.job_id == jobs[2]["id"]


def test_a_scheduled_job_changes_too(client: TestClient) -> None:
    """It has its new class when its time comes, and is counted there from now on."""
    job = submit(client, run_at="2999-01-01T00:00:00Z")
    assert change(client, job["id"], "background")["state"] == "scheduled"
    (queue,) = client.get("/v1/queues").json()["data"]
    assert (queue["priority"], queue["scheduled"]) == ("background", 1)


def test_workers_are_told(client: TestClient, database: Database) -> None:
    """One hint for a job that may run now, none for one that is as it was or must wait."""
    job = submit(client)
    later = submit(client, run_at="2999-01-01T00:00:00Z")
    before = hints(database)
    change(client, later["id"], "interactive")
    change(client, job["id"], "standard")
    assert hints(database) == before
    change(client, job["id"], "interactive")
    assert hints(database) == before + 1


def test_the_change_shows(client: TestClient, key: str) -> None:
    """The entity tag is another one, and the trail says who did it."""
    job = submit(client)
    before = client.get(f"/v1/jobs/{job['id']}").headers["etag"]
    change(client, job["id"], "background")
    assert client.get(f"/v1/jobs/{job['id']}").headers["etag"] != before
    act = client.get("/v1/audit").json()["data"][0]
    assert (act["action"], act["subject"], act["actor"]) == ("job.priority", job["id"], key.split("_")[1])


def test_running_and_ended_jobs_are_refused(client: TestClient, worker: FakeWorker) -> None:
    """A 409 says that the job runs, or how it has ended."""
    job = submit(client)
    path, body = f"/v1/jobs/{job['id']}", {"priority": "interactive"}
    (claim,) = worker.claim()
    running = client.patch(path, json=body)
    assert (running.status_code, running.json()["type"]) == (409, "urn:penstock:problem:already-running")
    worker.finish(claim)
    ended = client.patch(path, json=body)
    assert (ended.status_code, ended.json()["type"]) == (409, "urn:penstock:problem:already-ended")
    assert "succeeded" in ended.json()["detail"]


def test_only_own_jobs_change(client: TestClient, stranger: TestClient) -> None:
    """Another tenant's job, or one that is not there, is not found."""
    job = submit(stranger)
    for job_id in (job["id"], "job_1"):
        assert client.patch(f"/v1/jobs/{job_id}", json={"priority": "interactive"}).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "priority"),
        ({"priority": "urgent"}, "priority"),
        ({"priority": 0}, "priority"),
        ({"priority": "standard", "max_tokens": 5}, "max_tokens"),
        ({"priority": "standard", "agent": "ada"}, "agent"),
    ],
)
def test_nothing_else_can_be_changed(client: TestClient, body: dict[str, Any], field: str) -> None:
    """A body without a known priority, or with more than that, is refused by the name of the field."""
    job = submit(client)
    answer = client.patch(f"/v1/jobs/{job['id']}", json=body)
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == [field]
