"""The queue's limit, without a count for every job."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from api.depth import Depth
from api.problems import Problem
from config.settings import Queue, Settings
from models import counters
from models.database import Database
from tests.api.conftest import FakeWorker
from tests.api.test_jobs import submit


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Three jobs may wait."""
    return settings.model_copy(update={"queue": Queue(max_depth=3)})


def test_full_queue_answers_429(client: TestClient, worker: FakeWorker) -> None:
    """Beyond the limit jobs are refused with a time to come back, and taken again when there is room."""
    made = [submit(client)["id"] for _ in range(3)]
    answer = client.post("/v1/jobs", json={"prompt": "a"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
    assert answer.json()["type"] == "urn:penstock:problem:queue-full"
    assert client.post(f"/v1/jobs/{made[0]}/cancel").status_code == 200
    assert client.post("/v1/jobs", json={"prompt": "a"}).status_code == 202
    assert client.post(f"/v1/jobs/{made[0]}/retry").status_code == 429


def test_count_is_kept_for_a_moment(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far from the limit one count serves many jobs; a refusal is never made on an old one."""
    counts = iter([0, 100, 0])
    monkeypatch.setattr(counters, "waiting", lambda _session: next(counts))
    depth = Depth(database, 10)
    for _ in range(10):
        depth.check(1)
        depth.add(1)
    with pytest.raises(Problem, match="100 jobs wait and 10 may"):
        depth.check(1)
    depth.check(10)
