"""Long-polls end when the job does, and cost nothing while they wait."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from config.settings import Server, Settings
from tests.api.conftest import BOTH, FakeWorker
from tests.api.test_jobs import submit


@BOTH
def test_wait_ends_with_the_job(client: TestClient, worker: FakeWorker) -> None:
    """A waiting request gets the ended job soon after a worker has finished it."""
    job = submit(client)
    timer = threading.Timer(0.2, worker.run_all)
    timer.start()
    began = time.monotonic()
    ended = client.get(f"/v1/jobs/{job['id']}?wait=30").json()
    timer.join()
    assert ended["state"] == "succeeded"
    assert time.monotonic() - began < 10


def test_wait_ends_with_the_time(client: TestClient) -> None:
    """When the seconds are over the job is shown as it is, with 200."""
    job = submit(client)
    began = time.monotonic()
    answer = client.get(f"/v1/jobs/{job['id']}?wait=0.2")
    assert (answer.status_code, answer.json()["state"]) == (200, "queued")
    assert time.monotonic() - began >= 0.2


def test_wait_for_an_ended_job_is_none(client: TestClient, worker: FakeWorker) -> None:
    """A job that has ended is shown at once."""
    job = submit(client)
    worker.run_all()
    began = time.monotonic()
    client.get(f"/v1/jobs/{job['id']}?wait=30")
    assert time.monotonic() - began < 5


def test_wait_for_a_job_that_is_deleted_ends(client: TestClient, worker: FakeWorker) -> None:
    """When the job vanishes meanwhile, the waiting request gets a 404 rather than silence."""
    job = submit(client)

    def end_and_delete() -> None:
        worker.run_all()
        client.delete(f"/v1/jobs/{job['id']}")

    client.app.state.door.watcher._seconds = 0.3  # type: ignore[attr-defined]  # both happen between two looks
    timer = threading.Timer(0.1, end_and_delete)
    timer.start()
    answer = client.get(f"/v1/jobs/{job['id']}?wait=30")
    timer.join()
    assert answer.status_code == 404


@pytest.mark.parametrize("seconds", ["61", "-1", "x", "nan", "inf"])
def test_odd_waits_are_refused(client: TestClient, seconds: str) -> None:
    """A wait must be a number of seconds up to the limit, whatever the job."""
    answer = client.get(f"/v1/jobs/job_{'0' * 32}?wait={seconds}")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "wait")


class TestManyWaiters:
    """Fifty long-polls against a service with four threads."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        """Four threads for requests."""
        return settings.model_copy(update={"server": Server(port=0, threads=4)})

    def test_waiting_holds_no_thread(self, remote: httpx2.Client, worker: FakeWorker) -> None:
        """While fifty requests wait, others are answered; then all fifty end with their jobs."""
        ids = [remote.post("/v1/jobs", json={"prompt": "a"}).json()["id"] for _ in range(50)]
        with ThreadPoolExecutor(50) as pool:
            waiting = [pool.submit(remote.get, f"/v1/jobs/{job_id}?wait=50") for job_id in ids]
            time.sleep(0.5)
            assert not any(answer.done() for answer in waiting)
            extra = [remote.post("/v1/jobs", json={"prompt": "b"}).status_code for _ in range(20)]
            assert extra == [202] * 20
            worker.run_all()
            states = {answer.result().json()["state"] for answer in waiting}
        assert states == {"succeeded"}

    def test_nobody_is_watched_afterwards(self, app: FastAPI, remote: httpx2.Client) -> None:
        """When the last waiter has gone, so has its watch."""
        job_id = remote.post("/v1/jobs", json={"prompt": "a"}).json()["id"]
        remote.get(f"/v1/jobs/{job_id}?wait=0.1")
        assert app.state.door.watcher._watches == {}


def test_stop_lets_waiters_go(app: FastAPI, remote: httpx2.Client) -> None:
    """When the service is told to stop, a waiting request is answered at once with what there is."""
    job_id = remote.post("/v1/jobs", json={"prompt": "a"}).json()["id"]
    timer = threading.Timer(0.2, app.state.door.watcher.close)
    timer.start()
    began = time.monotonic()
    answer = remote.get(f"/v1/jobs/{job_id}?wait=30")
    timer.join()
    assert (answer.status_code, answer.json()["state"]) == (200, "queued")
    assert time.monotonic() - began < 10
