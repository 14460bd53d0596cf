"""Events of a job, as JSON and as a stream."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import orjson
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.door import Desk
from api.routes import events
from config.settings import Broker, Live, Settings
from models.database import Unavailable
from models.keys import Caller
from models.live import TokenDelta
from tests.api.conftest import BOTH, FakeWorker
from tests.api.test_jobs import submit

STREAM = {"Accept": "text/event-stream"}


def parse(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Events of a stream as (id, type, data)."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["id"], fields["event"], orjson.loads(fields["data"])))
    return found


def story(found: list[tuple[str, str, dict[str, Any]]]) -> list[str]:
    """States by name, tokens by their text."""
    return [data["state"] if kind == "state" else data["text"] for _, kind, data in found]


def say(app: FastAPI, job_id: str, text: str) -> None:
    """Let the engine have generated some text."""
    app.state.door.live.append([TokenDelta("default", job_id, 1, text, 1)])


@BOTH
def test_events_tell_the_whole_story(app: FastAPI, client: TestClient, worker: FakeWorker) -> None:
    """As JSON, the events are the states and tokens in order, the submission first."""
    job = submit(client)
    (claim,) = worker.claim()
    say(app, job["id"], "hel")
    say(app, job["id"], "lo")
    worker.finish(claim)
    page = client.get(f"/v1/jobs/{job['id']}/events").json()
    shown = [event["data"].get("state") or event["data"]["text"] for event in page["data"]]
    assert shown == ["queued", "running", "hel", "lo", "succeeded"]
    assert page["data"][0]["at"] == job["created_at"]
    assert page["has_more"] is False


def test_events_go_on_behind_the_last_seen(app: FastAPI, client: TestClient, worker: FakeWorker) -> None:
    """With ``Last-Event-ID`` only what came later is shown, as JSON and as a stream."""
    job = submit(client)
    path = f"/v1/jobs/{job['id']}/events"
    (claim,) = worker.claim()
    seen = client.get(path).json()["data"][-1]["id"]
    say(app, job["id"], "hello")
    worker.finish(claim)
    rest = client.get(path, headers={"Last-Event-ID": seen}).json()["data"]
    assert [event["type"] for event in rest] == ["tokens", "state"]
    streamed = parse(client.get(path, headers={"Last-Event-ID": seen, **STREAM}).text)
    assert story(streamed) == ["hello", "succeeded"]


@pytest.mark.parametrize("last", ["x", "-1", "1.2", "9" * 30, "1.5-x"])
def test_bad_last_event_id_is_named(client: TestClient, last: str) -> None:
    """What is not the id of an event is refused."""
    job = submit(client)
    answer = client.get(f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": last})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Last-Event-ID")


def test_many_events_come_in_pages(
    app: FastAPI, client: TestClient, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page says whether there is more, and a stream gives all pages."""
    monkeypatch.setattr(events, "AT_ONCE", 3)
    job = submit(client)
    (claim,) = worker.claim()
    for number in range(7):
        say(app, job["id"], str(number))
    worker.finish(claim)
    path = f"/v1/jobs/{job['id']}/events"
    page = client.get(path).json()
    assert (len(page["data"]), page["has_more"]) == (3, True)
    assert story(parse(client.get(path, headers=STREAM).text)) == [
        "queued", "running", *"0123456", "succeeded",
    ]  # fmt: skip


def test_submission_shows_scheduled_jobs_as_such(client: TestClient, worker: FakeWorker) -> None:
    """The first event is the state in which the job came, also when it was scheduled."""
    job = submit(client, run_at="2999-01-01T00:00:00Z")
    (first,) = client.get(f"/v1/jobs/{job['id']}/events").json()["data"]
    assert (first["id"], first["data"]["state"]) == ("0", "scheduled")


def lines(response: httpx2.Response) -> Iterator[str]:
    """Data lines of a live stream."""
    return (line for line in response.iter_lines() if line.startswith(("data:", ":")))


class TestLive:
    """A stream that is read while things happen."""

    @pytest.fixture(params=["sql", "redis"])
    def settings(self, request: pytest.FixtureRequest, settings: Settings) -> Settings:
        """Tokens in the database, and in Redis."""
        if request.param == "sql":
            return settings
        broker = Broker(
            redis_url=request.getfixturevalue("redis_url"),
            namespace=request.getfixturevalue("redis_namespace"),
        )
        return settings.model_copy(
            update={"broker": broker, "live": Live(kind="redis", flush_ms=20, poll_ms=10)}
        )

    def test_stream_shows_things_as_they_happen(
        self, app: FastAPI, remote: httpx2.Client, worker: FakeWorker
    ) -> None:
        """Each state and each text arrives before the next is made, and the stream ends with the job."""
        job_id = remote.post("/v1/jobs", json={"prompt": "a"}).json()["id"]
        with remote.stream("GET", f"/v1/jobs/{job_id}/events?stream=true") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            assert response.headers["cache-control"] == "no-store"
            arriving = (line for line in response.iter_lines() if line.startswith("data:"))
            assert '"queued"' in next(arriving)
            (claim,) = worker.claim()
            assert '"running"' in next(arriving)
            say(app, job_id, "hello")
            assert '"hello"' in next(arriving)
            worker.finish(claim)
            assert '"succeeded"' in next(arriving)
            assert list(arriving) == []

    def test_quiet_stream_is_kept_alive(
        self, remote: httpx2.Client, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While nothing happens, comments show that the connection lives, before the job runs and after."""
        monkeypatch.setattr(events, "KEEP_ALIVE_SECONDS", 0.05)
        job_id = remote.post("/v1/jobs", json={"prompt": "a"}).json()["id"]
        with remote.stream("GET", f"/v1/jobs/{job_id}/events?stream=true") as response:
            arriving = response.iter_lines()
            comments = (line for line in arriving if line == ": keep-alive")
            assert [next(comments) for _ in range(3)]
            worker.claim()
            assert any("running" in line for line in arriving)
            assert [next(comments) for _ in range(3)]

    def test_only_a_running_job_is_asked_for_tokens(
        self, app: FastAPI, client: TestClient, worker: FakeWorker
    ) -> None:
        """Redis is looked at for each flush while the job runs, and for nothing else; rows are told of."""
        desk = Desk(app.state.door, Caller("key", "default"))
        job_id = submit(client)["id"]
        queued = events._look(desk, job_id, None)
        (claim,) = worker.claim()
        running = events._look(desk, job_id, None)
        worker.finish(claim)
        ended = events._look(desk, job_id, None)
        seldom = events.KEEP_ALIVE_SECONDS
        often = 0.02 if desk.settings.live.kind == "redis" else seldom
        assert [look.pause_seconds for look in (queued, running, ended)] == [seldom, often, seldom]


def test_stream_outlives_a_database_that_fails(
    app: FastAPI, remote: httpx2.Client, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the database cannot be read for a moment the stream stays open and goes on afterwards."""
    job_id = remote.post("/v1/jobs", json={"prompt": "a"}).json()["id"]
    look, failures = events._look, [Unavailable("locked")] * 2

    def sometimes(*arguments: Any) -> Any:
        if arguments[2] is not None and failures:
            raise failures.pop()
        return look(*arguments)

    monkeypatch.setattr(events, "_look", sometimes)
    with remote.stream("GET", f"/v1/jobs/{job_id}/events?stream=true") as response:
        arriving = (line for line in response.iter_lines() if line.startswith("data:"))
        assert '"queued"' in next(arriving)
        (claim,) = worker.claim()
        worker.finish(claim)
        shown = "".join(arriving)
    assert failures == []
    assert '"running"' in shown
    assert '"succeeded"' in shown


def test_stop_ends_streams(app: FastAPI, remote: httpx2.Client) -> None:
    """When the service is told to stop, streams end; clients come back with their last id."""
    job_id = remote.post("/v1/jobs", json={"prompt": "a"}).json()["id"]
    timer = threading.Timer(0.2, app.state.door.watcher.close)
    timer.start()
    assert story(parse(remote.get(f"/v1/jobs/{job_id}/events?stream=true").text)) == ["queued"]
    timer.join()
