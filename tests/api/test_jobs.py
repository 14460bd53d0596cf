"""Jobs through the door, from submission to deletion."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.wire.job import JobView
from config.settings import Llm, Settings
from models import counters
from models.database import Database
from models.messages import pending
from models.states import State
from tests.api.conftest import BOTH, FakeWorker
from workers.broker.hints import hint_queue


def hints(database: Database) -> int:
    """Hints on their way to the workers."""
    with database.read() as session:
        return pending(session, hint_queue("pico"))


def submit(client: TestClient, **body: Any) -> dict[str, Any]:
    """Submit a job that must be accepted."""
    answer = client.post("/v1/jobs", json={"prompt": "hello", **body})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


@BOTH
def test_submitted_job_can_be_read_where_location_says(client: TestClient) -> None:
    """A 202 names the place of the job, says when to ask again, and shows the job as it then is."""
    answer = client.post("/v1/jobs", json={"messages": [{"role": "user", "content": "hello"}]})
    assert answer.status_code == 202
    assert answer.headers["retry-after"] == "1"
    assert client.get(answer.headers["location"]).json() == answer.json()


def test_job_shows_exactly_the_documented_fields(client: TestClient) -> None:
    """A new job has every field of the design and none more, with nulls and zeros before it ran."""
    job = submit(client, metadata={"line": "17"}, tags=["a", "b", "a"], priority="background")
    assert list(job) == list(JobView.model_fields)
    assert (job["state"], job["attempt"], job["position"]) == ("queued", 1, 1)
    assert job["usage"] == {"prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0}
    assert job["cost"] == {"currency": "EUR", "amount": "0"}
    assert (job["metadata"], job["tags"]) == ({"line": "17"}, ["a", "b"])
    assert (job["result"], job["error"], job["retry_of"], job["bulk"]) == (None, None, None, None)
    assert job["created_at"].endswith("Z")


@BOTH
def test_ended_job_shows_result_usage_and_cost(client: TestClient, worker: FakeWorker) -> None:
    """When a worker has finished, the job has its text, its tokens and its price as a plain decimal."""
    job = submit(client)
    (claim,) = worker.claim()
    worker.finish(claim, "done", json={"host": "a"})
    ended = client.get(f"/v1/jobs/{job['id']}").json()
    assert (ended["state"], ended["position"], ended["eta_seconds"]) == ("succeeded", None, None)
    assert ended["result"] == {
        "text": "done", "json": {"host": "a"}, "finish_reason": "stop", "constrained": None,
    }  # fmt: skip
    assert ended["usage"] == {"prompt_tokens": 10, "cached_tokens": 4, "completion_tokens": 2}
    assert ended["cost"] == {"currency": "EUR", "amount": "0.0000104"}


def test_failed_job_says_why(client: TestClient, worker: FakeWorker) -> None:
    """A failed job has an error with type and message, and keeps the text there was."""
    job = submit(client)
    (claim,) = worker.claim()
    worker.finish(claim, "so f", State.FAILED, error_type="timeout", error_message="it took 30 seconds")
    ended = client.get(f"/v1/jobs/{job['id']}").json()
    assert ended["error"] == {"type": "timeout", "message": "it took 30 seconds"}
    assert ended["result"]["text"] == "so f"


def test_position_and_estimate_follow_the_queue(client: TestClient, worker: FakeWorker) -> None:
    """The position counts those ahead in the same queue, and the estimate divides it by the worker's rate."""
    worker.publish()
    first, second = submit(client), submit(client)
    assert (first["position"], second["position"]) == (1, 2)
    urgent = submit(client, priority="interactive")
    assert (urgent["position"], urgent["eta_seconds"]) == (1, 0.5)
    assert client.get(f"/v1/jobs/{second['id']}").json()["position"] == 3


def test_scheduled_job_waits_for_its_time(client: TestClient, database: Database) -> None:
    """A job with a later ``run_at`` is scheduled, not in line, and shows its time in UTC; one hint waits."""
    at = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    job = submit(client, run_at=at.isoformat().replace("+00:00", "Z"))
    assert (job["state"], job["position"]) == ("scheduled", None)
    assert datetime.fromisoformat(job["run_at"]) == at
    assert hints(database) == 1


def test_agents_second_job_is_not_in_line(client: TestClient, worker: FakeWorker) -> None:
    """An agent's jobs run one at a time: the second becomes claimable when the first has ended."""
    submit(client, agent="a")
    second = submit(client, agent="a")
    assert second["position"] is None
    assert worker.run_all() == 1
    assert client.get(f"/v1/jobs/{second['id']}").json()["position"] == 1


@BOTH
def test_cancel_of_a_waiting_job_ends_it_at_once(client: TestClient, database: Database) -> None:
    """A queued job that is cancelled has ended, stays so when cancelled again, and the counters know."""
    job = submit(client)
    first = client.post(f"/v1/jobs/{job['id']}/cancel")
    again = client.post(f"/v1/jobs/{job['id']}/cancel")
    assert (first.status_code, first.json()["state"]) == (200, "cancelled")
    assert (again.status_code, again.json()) == (200, first.json())
    with database.read() as session:
        assert counters.drift(session) == {}


def test_cancel_of_a_running_job_raises_the_flag(client: TestClient, worker: FakeWorker) -> None:
    """A running job goes on until its worker sees the flag: the answer is 202 and still ``running``."""
    job = submit(client)
    worker.claim()
    answer = client.post(f"/v1/jobs/{job['id']}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "running")


def test_cancel_of_an_agents_job_lets_the_next_through(
    client: TestClient, worker: FakeWorker, database: Database
) -> None:
    """When an agent's waiting job is cancelled, its successor can be claimed, and the workers are told."""
    first, second = submit(client, agent="a"), submit(client, agent="a")
    assert hints(database) == 1
    client.post(f"/v1/jobs/{first['id']}/cancel")
    assert hints(database) == 2
    assert [claim.job_id for claim in worker.claim()] == [second["id"]]


def test_ended_job_cannot_be_cancelled(client: TestClient, worker: FakeWorker) -> None:
    """Cancelling what has succeeded is a conflict."""
    job = submit(client)
    worker.run_all()
    answer = client.post(f"/v1/jobs/{job['id']}/cancel")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:penstock:problem:already-ended")


@BOTH
def test_delete_takes_ended_jobs_only(client: TestClient, worker: FakeWorker) -> None:
    """A job that has not ended is not deleted; an ended one is gone, but its bill stays."""
    job = submit(client)
    refused = client.delete(f"/v1/jobs/{job['id']}")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:penstock:problem:not-ended")
    worker.run_all()
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert client.get(f"/v1/jobs/{job['id']}").status_code == 404
    assert [cost["job"] for cost in client.get("/v1/costs").json()["data"]] == [job["id"]]


@BOTH
def test_retry_makes_a_new_job_that_asks_the_same(client: TestClient, worker: FakeWorker) -> None:
    """A retry is a new queued job with the same request, tags and metadata that names the old one."""
    job = submit(client, tags=["x"], metadata={"a": "b"}, max_attempts=2)
    early = client.post(f"/v1/jobs/{job['id']}/retry")
    assert early.status_code == 409
    (old,) = worker.claim()
    worker.finish(old)
    answer = client.post(f"/v1/jobs/{job['id']}/retry")
    assert answer.status_code == 202
    new = answer.json()
    assert (new["retry_of"], new["state"], new["tags"]) == (job["id"], "queued", ["x"])
    assert (new["metadata"], new["max_attempts"]) == ({"a": "b"}, 2)
    assert [claim.request for claim in worker.claim()] == [old.request]


def test_retry_for_an_llm_that_is_gone_is_refused(
    client: TestClient, worker: FakeWorker, settings: Settings, database: Database
) -> None:
    """A job whose LLM is configured no more would wait for ever: it is not submitted again."""
    job = submit(client)
    worker.run_all()
    other = settings.model_copy(update={"llms": {"big": Llm(path="hub/big")}, "default_llm": "big"})
    changed = TestClient(
        create_app(other, database), base_url="http://localhost", headers=dict(client.headers)
    )
    answer = changed.post(f"/v1/jobs/{job['id']}/retry")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "llm")


@pytest.mark.parametrize("path", ["cancel", "retry"])
def test_actions_take_no_body(client: TestClient, path: str) -> None:
    """A body where none means anything is refused rather than ignored."""
    job = submit(client)
    answer = client.post(f"/v1/jobs/{job['id']}/{path}", json={"reason": "x"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "body"


def test_unchanged_job_answers_304(client: TestClient, worker: FakeWorker) -> None:
    """A client that has the job by its entity tag gets no body, until the job changes."""
    job = submit(client)
    tag = client.get(f"/v1/jobs/{job['id']}").headers["etag"]
    same = client.get(f"/v1/jobs/{job['id']}", headers={"If-None-Match": f'"other", W/{tag}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    worker.claim()
    changed = client.get(f"/v1/jobs/{job['id']}", headers={"If-None-Match": tag})
    assert (changed.status_code, changed.json()["state"]) == (200, "running")


def test_retry_after_is_told_until_the_end(client: TestClient, worker: FakeWorker) -> None:
    """A job that has not ended says when to ask again; an ended one does not."""
    job = submit(client)
    assert client.get(f"/v1/jobs/{job['id']}").headers["retry-after"] == "1"
    worker.run_all()
    assert "retry-after" not in client.get(f"/v1/jobs/{job['id']}").headers
