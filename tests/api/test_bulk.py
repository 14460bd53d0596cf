"""Bulks: all or none, in order, published at once."""

from __future__ import annotations

import threading
from typing import Any

import orjson
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from config.settings import Bulk, Queue, Settings
from models import bulks, counters
from models.bulks import Bulk as BulkRow
from models.database import Database
from models.job_rows import Job
from models.messages import pending
from tests.api.conftest import BOTH, FakeWorker
from workers.broker.hints import hint_queue

LINES = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Chunks and limits so small that tests meet them."""
    return settings.model_copy(update={"bulk": Bulk(max_jobs=50, chunk_jobs=4), "queue": Queue(max_depth=60)})


def jobs(count: int, **more: Any) -> list[dict[str, Any]]:
    """Some jobs that can be told apart."""
    return [{"prompt": f"number {number}", **more} for number in range(count)]


def send(client: TestClient, *some: dict[str, Any], **headers: str) -> dict[str, Any]:
    """Send a bulk that must be accepted."""
    answer = client.post("/v1/bulk", json={"jobs": list(some)}, headers=headers)
    assert answer.status_code == 202, answer.text
    bulk: dict[str, Any] = answer.json()
    return bulk


@BOTH
def test_bulk_is_stored_in_order(client: TestClient, worker: FakeWorker, database: Database) -> None:
    """All jobs of a bulk are stored in the order sent, over several chunks, and the counters know of them."""
    answer = client.post("/v1/bulk", json={"jobs": jobs(10)})
    assert (answer.status_code, answer.headers["retry-after"]) == (202, "1")
    bulk = client.get(answer.headers["location"]).json()
    assert bulk == answer.json()
    assert (bulk["total"], bulk["counts"]["queued"], bulk["ended"]) == (10, 10, False)
    listed = client.get("/v1/jobs", params={"bulk": bulk["id"]}).json()["data"]
    assert {job["bulk"] for job in listed} == {bulk["id"]}
    claims = worker.claim()
    assert [f"number {n}" in claim.request for n, claim in enumerate(claims)] == [True] * 10
    assert [claim.job_id for claim in claims] == [job["id"] for job in reversed(listed)]
    with database.read() as session:
        assert counters.drift(session) == {}


def test_lines_do_the_same(client: TestClient, worker: FakeWorker) -> None:
    """One job a line is a bulk too; empty lines are nothing."""
    content = b"\n\r\n".join(orjson.dumps(job) for job in jobs(5)) + b"\n"
    for kind in ("application/x-ndjson", "application/jsonl; charset=utf-8"):
        answer = client.post("/v1/bulk", content=content, headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["total"]) == (202, 5)
    assert worker.run_all() == 10


@BOTH
def test_bulk_is_seen_as_a_whole_or_not_at_all(
    app: FastAPI, client: TestClient, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the last chunk is stored nobody sees, counts or claims a single job of the bulk."""
    seen: list[tuple[int, int]] = []
    publish = bulks.publish

    def look_first(*arguments: Any) -> Any:
        with app.state.door.database.read() as session:
            listed = client.get("/v1/jobs").json()["data"]
            seen.append((len(listed), sum(counters.waiting(session).values())))
        return publish(*arguments)

    monkeypatch.setattr(bulks, "publish", look_first)
    send(client, *jobs(9))
    assert seen == [(0, 0)]
    assert worker.run_all() == 9


def test_one_bad_job_refuses_all(client: TestClient) -> None:
    """What is wrong is told with the index of each bad job, and nothing is stored."""
    bad = [*jobs(2), {"prompt": ""}, *jobs(1), {"prompt": "x", "llm": "nope"}]
    answer = client.post("/v1/bulk", json={"jobs": bad})
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == ["jobs[2].prompt", "jobs[4].llm"]
    assert client.get("/v1/jobs").json()["data"] == []


def test_bad_lines_are_named_by_number(client: TestClient) -> None:
    """A line that is not JSON makes it a 400; every bad line is listed with its number."""
    answer = client.post("/v1/bulk", content=b'{"prompt":"a"}\n\n{"prompt":1}\n{"pro', headers=LINES)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("line 4: ")
    assert [fault["field"] for fault in answer.json()["errors"]] == ["line 3.prompt", "line 4"]


DEEP = b'"deep": ' + b"[" * 400 + b"]" * 400


@pytest.mark.parametrize(
    ("content", "status", "place"),
    [
        (b'{"jobs": [{"prompt": "a"}', 400, "line 1 column 25"),
        (b'{"jobs": [{"prompt": "\\ud800"}]}', 422, "jobs[0].prompt"),
        (b'{"jobs": [], "more": 1}', 422, "more"),
        (b'{"jobs": {}}', 422, "jobs"),
        (b'{"jobs": []}', 422, "jobs"),
        (b"{}", 422, "jobs"),
        (b"[]", 422, "body"),
        (orjson.dumps({"jobs": [{"prompt": "a"}] * 51}), 422, "jobs"),
        (b'{"jobs": [5]}', 422, "jobs[0]"),
        (b'{"jobs": [{"prompt": "a", "deep": ' + b"[" * 150 + b"]" * 150 + b"}]}", 422, "jobs[0].deep"),
        (b'{"jobs": [{"prompt": "a", "deep": ' + b"[" * 990 + b"]" * 990 + b"}]}", 400, "line 1 column"),
        (b'{"jobs": [{"prompt": "\\ud800", ' + DEEP + b"}]}", 422, "jobs[0].prompt"),
        (b'{"jobs": [{"prompt": "a", "temperature": NaN}]}', 422, "jobs[0].temperature"),
    ],
)
def test_odd_bulks_are_refused(client: TestClient, content: bytes, status: int, place: str) -> None:
    """A bulk of another shape, of no jobs or of too many says what is wrong and where."""
    answer = client.post("/v1/bulk", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    fields = [fault["field"] for fault in answer.json().get("errors", [])]
    assert place in answer.json()["detail"] or place in fields


def test_wrong_content_type_names_the_right_ones(client: TestClient) -> None:
    """A bulk comes as JSON or as JSON lines."""
    answer = client.post("/v1/bulk", content=b"prompt,a", headers={"Content-Type": "text/csv"})
    assert answer.status_code == 415
    assert answer.headers["accept-post"] == "application/json, application/x-ndjson, application/jsonl"


def test_full_queue_takes_no_bulk(client: TestClient) -> None:
    """A bulk that does not fit is refused as a whole, with a time to come back; one that fits is taken."""
    send(client, *jobs(40))
    answer = client.post("/v1/bulk", json={"jobs": jobs(30)})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
    assert answer.json()["type"] == "urn:penstock:problem:queue-full"
    send(client, *jobs(20))


@BOTH
def test_bulk_is_done_once_under_a_key(client: TestClient) -> None:
    """A bulk that is resent under its Idempotency-Key is not stored again."""
    headers = {"Idempotency-Key": "k"}
    first, again = (client.post("/v1/bulk", json={"jobs": jobs(5)}, headers=headers) for _ in range(2))
    assert (first.status_code, again.json()) == (202, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert len(client.get("/v1/jobs").json()["data"]) == 5


def test_racing_duplicates_publish_one_bulk(
    client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When two equal bulks are staged at once, one is published, both get its answer, the other's rows go."""
    meet = threading.Barrier(2)
    monkeypatch.setattr("api.bulk_store.BulkStore._stage", _after(meet))
    answers: list[Any] = []

    def post() -> None:
        headers = {"Idempotency-Key": "k"}
        answers.append(client.post("/v1/bulk", json={"jobs": jobs(3)}, headers=headers).json())

    threads = [threading.Thread(target=post) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers[0] == answers[1]
    with database.read() as session:
        assert (session.query(Job).count(), session.query(BulkRow).count()) == (3, 1)


def _after(meet: threading.Barrier) -> Any:
    from api.bulk_store import BulkStore

    stage = BulkStore._stage

    def meet_first(self: BulkStore, *arguments: Any) -> None:
        stage(self, *arguments)
        meet.wait(10)

    return meet_first


@BOTH
def test_agents_jobs_of_a_bulk_keep_their_order(client: TestClient, worker: FakeWorker) -> None:
    """Of each agent one job can be claimed at a time, in the order sent, behind what the agent had before."""
    client.post("/v1/jobs", json={"prompt": "earlier", "agent": "anna"})
    send(client, *jobs(3, agent="anna"), *jobs(2, agent="otto"))
    rounds = []
    while claims := worker.claim():
        rounds.append(
            sorted(
                f"{c.agent}: {orjson.loads(c.request)['messages'][0]['content'][0]['text']}" for c in claims
            )
        )
        for claim in claims:
            worker.finish(claim)
    assert rounds == [
        ["anna: earlier", "otto: number 0"],
        ["anna: number 0", "otto: number 1"],
        ["anna: number 1"],
        ["anna: number 2"],
    ]


@BOTH
def test_wait_ends_with_the_last_job(client: TestClient, worker: FakeWorker) -> None:
    """Waiting for a bulk ends when every job has, and the counts say how."""
    bulk = send(client, *jobs(3))
    assert client.get(f"/v1/bulk/{bulk['id']}?wait=0.1").json()["ended"] is False
    timer = threading.Timer(0.2, worker.run_all)
    timer.start()
    ended = client.get(f"/v1/bulk/{bulk['id']}?wait=30").json()
    timer.join()
    assert (ended["ended"], ended["counts"]["succeeded"]) == (True, 3)
    client.delete(f"/v1/jobs/{client.get('/v1/jobs').json()['data'][0]['id']}")
    assert client.get(f"/v1/bulk/{bulk['id']}").json()["counts"]["deleted"] == 1


@BOTH
def test_cancel_stops_all_that_has_not_ended(
    client: TestClient, worker: FakeWorker, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting jobs of a bulk are cancelled, running ones flagged, ended ones left; twice changes nothing."""
    monkeypatch.setattr("api.routes.bulk.CANCEL_JOBS", 3)
    bulk = send(client, *jobs(10), *jobs(3, agent="anna"))
    first, _running = worker.claim(2)
    worker.finish(first)
    answer = client.post(f"/v1/bulk/{bulk['id']}/cancel")
    assert answer.status_code == 200
    counts = {state: count for state, count in answer.json()["counts"].items() if count}
    assert counts == {"succeeded": 1, "running": 1, "cancelled": 11}
    assert client.post(f"/v1/bulk/{bulk['id']}/cancel").json() == answer.json()
    with database.read() as session:
        assert counters.drift(session) == {}


def test_bulk_of_another_tenant_is_not_there(client: TestClient, stranger: TestClient) -> None:
    """Neither looking nor cancelling reaches a bulk of another tenant."""
    bulk = send(client, *jobs(1))
    assert stranger.get(f"/v1/bulk/{bulk['id']}").status_code == 404
    assert stranger.post(f"/v1/bulk/{bulk['id']}/cancel").status_code == 404
    assert client.get("/v1/bulk/bulk_1").status_code == 404


def test_scheduled_jobs_of_a_bulk_are_hinted_at_their_time(client: TestClient, database: Database) -> None:
    """One hint goes out for what can run now, and one for each later time."""
    later = jobs(2, run_at="2999-01-01T00:00:00Z")
    soon = jobs(3, run_at=_in_an_hour())
    send(client, *jobs(2), *soon, *later)
    with database.read() as session:
        assert pending(session, hint_queue("pico")) == 2


def _in_an_hour() -> str:
    from tests.api.test_validation import time

    return time(hours=1)


def test_unpublished_bulk_stays_out_of_sight(
    client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When publishing fails the client gets no 202, and what was staged is left to the sweeper."""

    def fail(*_: object) -> list[str]:
        raise RuntimeError("the power went")

    monkeypatch.setattr(bulks, "publish", fail)
    assert client.post("/v1/bulk", json={"jobs": jobs(3)}).status_code == 500
    assert client.get("/v1/jobs").json()["data"] == []
    with database.read() as session:
        assert counters.drift(session) == {}
