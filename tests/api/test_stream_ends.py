"""When a stream of events is over: never before its end was shown, and never long after."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import islice
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.routes import events
from api.sightings import Sightings
from tests.api.conftest import FakeWorker
from tests.api.test_events import STREAM, lines, parse, story
from tests.api.test_jobs import submit


def test_finished_stream_is_not_begun_again(client: TestClient, worker: FakeWorker) -> None:
    """A client that has seen the end gets 204, which tells it to stop reconnecting."""
    job = submit(client)
    worker.run_all()
    path = f"/v1/jobs/{job['id']}/events"
    last, *_ = parse(client.get(path, headers=STREAM).text)[-1]
    assert client.get(path, headers={"Last-Event-ID": last, **STREAM}).status_code == 204


def test_end_between_two_looks_is_shown(
    app: FastAPI, client: TestClient, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that ends right after its events were read is not taken for one whose end was seen."""
    job = submit(client)
    claims = worker.claim()
    path = f"/v1/jobs/{job['id']}/events"
    seen = client.get(path).json()["data"][-1]["id"]
    live = app.state.door.live
    read = live.read

    def end_afterwards(*arguments: Any) -> Any:
        found = read(*arguments)
        while claims:
            worker.finish(claims.pop())
        return found

    monkeypatch.setattr(live, "read", end_afterwards)
    answer = client.get(path, headers={"Last-Event-ID": seen, **STREAM})
    assert answer.status_code == 200
    assert story(parse(answer.text)) == ["succeeded"]


def test_stream_from_beyond_the_end_ends_with_the_job(
    remote: httpx2.Client, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that claims to have seen more than there is gets no events, but its stream ends."""
    monkeypatch.setattr(events, "KEEP_ALIVE_SECONDS", 0.05)
    job_id = remote.post("/v1/jobs", json={"prompt": "a"}).json()["id"]
    path = f"/v1/jobs/{job_id}/events?stream=true"
    with remote.stream("GET", path, headers={"Last-Event-ID": "9" * 18}) as response:
        arriving = lines(response)
        assert next(arriving) == ": keep-alive"
        worker.run_all()
        assert len(list(islice(arriving, 100))) < 100
    assert remote.get(path, headers={"Last-Event-ID": "9" * 18}).status_code == 204


def test_stream_of_a_job_that_vanished_between_two_looks_ends(
    remote: httpx2.Client, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that was claimed, ended and deleted while nobody looked has no events again: its stream ends."""
    monkeypatch.setattr(events, "KEEP_ALIVE_SECONDS", 3600.0)
    read, look, may_read, looks = Sightings._read, events._look, threading.Event(), threading.Semaphore(0)
    rounds = iter(range(100))

    def read_late(self: Sightings, keys: Sequence[str]) -> dict[str, Any]:
        if next(rounds) > 0:
            may_read.wait(30)
        return dict(read(self, keys))

    def count(*arguments: Any) -> events.Look:
        found = look(*arguments)
        looks.release()
        return found

    monkeypatch.setattr(Sightings, "_read", read_late)
    monkeypatch.setattr(events, "_look", count)
    job_id = remote.post("/v1/jobs", json={"prompt": "a"}).json()["id"]
    with remote.stream("GET", f"/v1/jobs/{job_id}/events?stream=true") as response:
        arriving = lines(response)
        assert all(looks.acquire(timeout=30) for _ in range(2))  # the second follows the watcher's
        worker.run_all()
        assert remote.delete(f"/v1/jobs/{job_id}").status_code == 204
        may_read.set()
        assert '"queued"' in list(arriving)[-1]
