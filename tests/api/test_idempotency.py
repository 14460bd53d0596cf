"""A request that comes twice is done once."""

from __future__ import annotations

import threading
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from api.depth import Room
from models.idempotency import KeyTaken
from tests.api.conftest import BOTH, FakeWorker

KEY = {"Idempotency-Key": "a-key"}


@BOTH
def test_same_key_and_body_give_the_first_answer(client: TestClient, worker: FakeWorker) -> None:
    """The resend gets status, Location and body of the first answer, even when the job has changed since."""
    first = client.post("/v1/jobs", json={"prompt": "a"}, headers=KEY)
    worker.run_all()
    again = client.post("/v1/jobs", json={"prompt": "a"}, headers=KEY)
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert len(client.get("/v1/jobs").json()["data"]) == 1


@BOTH
def test_same_key_with_another_body_is_refused(client: TestClient) -> None:
    """A key stands for one request: another body is a 422, and nothing is stored."""
    client.post("/v1/jobs", json={"prompt": "a"}, headers=KEY)
    answer = client.post("/v1/jobs", json={"prompt": "b"}, headers=KEY)
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:penstock:problem:idempotency-key-reused"
    assert len(client.get("/v1/jobs").json()["data"]) == 1


def test_key_stands_for_the_route_too(client: TestClient, worker: FakeWorker) -> None:
    """The key of a submission cannot be used for a retry."""
    job = client.post("/v1/jobs", json={"prompt": "a"}, headers=KEY).json()
    worker.run_all()
    assert client.post(f"/v1/jobs/{job['id']}/retry", headers=KEY).status_code == 422


def test_retry_is_done_once_under_a_key(client: TestClient, worker: FakeWorker) -> None:
    """A retry that is resent makes one new job."""
    job = client.post("/v1/jobs", json={"prompt": "a"}).json()
    worker.run_all()
    first, again = (client.post(f"/v1/jobs/{job['id']}/retry", headers=KEY) for _ in range(2))
    assert first.json() == again.json()
    assert len(client.get("/v1/jobs").json()["data"]) == 2


def test_keys_of_tenants_do_not_meet(client: TestClient, stranger: TestClient) -> None:
    """Two tenants may use the same key for different requests."""
    assert client.post("/v1/jobs", json={"prompt": "a"}, headers=KEY).status_code == 202
    assert stranger.post("/v1/jobs", json={"prompt": "b"}, headers=KEY).status_code == 202


def test_answer_that_cannot_be_kept_ends_in_a_503(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that seems to be taken, over and over, though nobody has answered it, is given up on."""
    tries: list[int] = []

    def fail(*_: object) -> None:
        tries.append(1)
        assert len(tries) < 50
        raise KeyTaken("a-key")

    monkeypatch.setattr("models.idempotency.remember", fail)
    answer = client.post("/v1/jobs", json={"prompt": "a"}, headers=KEY)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "Idempotency-Key" in answer.json()["detail"]
    assert client.get("/v1/jobs").json()["data"] == []


def test_refused_request_does_not_use_the_key_up(client: TestClient) -> None:
    """A body that was refused may be corrected under the same key."""
    assert client.post("/v1/jobs", json={"prompt": ""}, headers=KEY).status_code == 422
    assert client.post("/v1/jobs", json={"prompt": "a"}, headers=KEY).status_code == 202


def test_replay_comes_before_what_time_has_changed(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer is given again although the queue has filled since."""
    first = client.post("/v1/jobs", json={"prompt": "a"}, headers=KEY)
    monkeypatch.setattr("api.depth.Depth._room", lambda *_: Room(1, 1, own=False))
    assert client.post("/v1/jobs", json={"prompt": "a"}, headers=KEY).json() == first.json()
    assert client.post("/v1/jobs", json={"prompt": "a"}).status_code == 429


@pytest.mark.parametrize("shape", ["", "x" * 256, "a b", "ä"])
def test_shape_of_a_key_is_checked(client: TestClient, shape: str) -> None:
    """A key is 1 to 255 visible ASCII characters."""
    headers = {b"Idempotency-Key": shape.encode()}
    answer = client.post("/v1/jobs", json={"prompt": "a"}, headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Idempotency-Key")


@BOTH
def test_simultaneous_duplicates_make_one_job(remote: httpx2.Client) -> None:
    """Of ten equal requests at the same moment one is done; all get its answer."""
    answers: list[Any] = []
    start = threading.Barrier(10)

    def send() -> None:
        start.wait()
        answers.append(remote.post("/v1/jobs", json={"prompt": "a"}, headers=KEY))

    threads = [threading.Thread(target=send) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 9
    assert len(remote.get("/v1/jobs").json()["data"]) == 1
