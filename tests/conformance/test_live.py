"""What every log of live events does, as rows (SQLite, PostgreSQL) or in Redis streams."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, update

from config.settings import Broker, Live, Settings
from migrations.metadata import metadata
from models import events
from models.base import utcnow
from models.database import Database
from models.ids import new_id
from models.job_rows import Job
from workers.broker import LiveEvent, LiveLog, TokenDelta, make_live_log

KEEP_SECONDS = 2


@dataclass
class Scene:
    """A log, and the database beside it."""

    log: LiveLog
    database: Database

    def job(self) -> str:
        """A running job."""
        now, job_id = utcnow(), new_id("job")
        job = Job(
            id=job_id, tenant_id="default", state="running", claimable=False, llm="pico", priority=1,
            share=0, rank=0, estimated_tokens=1, created_at=now, timeout_seconds=60, max_attempts=3,
            extra={}, tags=[],
        )  # fmt: skip
        with self.database.write() as session:
            session.add(job)
        return job_id

    def state(self, job_id: str, state: str) -> None:
        """A change of state, as the models write it."""
        with self.database.write() as session:
            events.record(session, [events.row("default", job_id, "state", {"state": state}, utcnow())])

    def tokens(self, job_id: str, *texts: str) -> None:
        """Tokens of a first attempt."""
        self.log.append([TokenDelta("default", job_id, 1, text, len(text)) for text in texts])

    def story(self, job_id: str) -> list[str]:
        """Six events in order: what a watcher of the whole job sees."""
        self.state(job_id, "queued")
        self.state(job_id, "running")
        self.tokens(job_id, "a")
        self.tokens(job_id, "b", "c")
        self.state(job_id, "succeeded")
        return ["queued", "running", "a", "b", "c", "succeeded"]


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A log with nothing in it: rows on SQLite or PostgreSQL, or Redis beside SQLite."""
    url = request.getfixturevalue("postgres_url" if request.param == "postgresql" else "sqlite_url")
    settings = Settings(live=Live(keep_seconds=KEEP_SECONDS))
    if request.param == "redis":
        redis_url, namespace = (request.getfixturevalue(f"redis_{name}") for name in ("url", "namespace"))
        broker = Broker(redis_url=redis_url, namespace=namespace)
        settings = Settings(broker=broker, live=Live(kind="redis", keep_seconds=KEEP_SECONDS))
    with closing(Database.connect(url)) as database:
        metadata.create_all(database.engine)
        with closing(make_live_log(settings, database)) as log:
            yield Scene(log, database)


def told(found: list[LiveEvent]) -> list[Any]:
    """What each event tells, shortly."""
    return [event.data["text"] if event.type == "tokens" else event.data["state"] for event in found]


def test_a_watcher_sees_everything_in_order(scene: Scene) -> None:
    """States and tokens come as they happened, with their type, data and time."""
    job_id = scene.job()
    start = utcnow()
    story = scene.story(job_id)
    found = scene.log.read(job_id, None)
    assert told(found) == story
    assert [event.type for event in found] == ["state"] * 2 + ["tokens"] * 3 + ["state"]
    assert found[2].data == {"text": "a", "tokens": 1, "attempt": 1}
    times = [event.at for event in found]
    assert times == sorted(times)
    assert start <= times[0]
    assert times[-1] <= utcnow()


def test_any_event_resumes_the_story(scene: Scene) -> None:
    """Whoever names the last event seen gets exactly what followed it."""
    job_id = scene.job()
    story = scene.story(job_id)
    for n, event in enumerate(scene.log.read(job_id, None), start=1):
        assert told(scene.log.read(job_id, event.id)) == story[n:]


def test_a_story_is_read_in_pieces(scene: Scene) -> None:
    """With a limit the story comes in pieces, nothing twice and nothing missing."""
    job_id = scene.job()
    story = scene.story(job_id)
    pieces: list[Any] = []
    last: str | None = None
    while piece := scene.log.read(job_id, last, limit=2):
        assert len(piece) <= 2
        pieces += told(piece)
        last = piece[-1].id
    assert pieces == story


def test_what_is_new_follows_what_was_read(scene: Scene) -> None:
    """A watcher who has read everything gets what happens next, of both kinds."""
    job_id = scene.job()
    scene.tokens(job_id, "a")
    (first,) = scene.log.read(job_id, None)
    assert scene.log.read(job_id, first.id) == []
    scene.state(job_id, "succeeded")
    scene.tokens(job_id, "b")
    assert told(scene.log.read(job_id, first.id)) == ["succeeded", "b"]


def test_jobs_do_not_mix(scene: Scene) -> None:
    """One append may serve several jobs; each watcher sees its own, and nobody an unknown one's."""
    one, two = scene.job(), scene.job()
    scene.log.append([TokenDelta("default", one, 1, "a", 1), TokenDelta("default", two, 2, "b", 1)])
    scene.log.append([])
    assert told(scene.log.read(one, None)) == ["a"]
    assert told(scene.log.read(two, None)) == ["b"]
    assert scene.log.read(two, None)[0].data["attempt"] == 2
    assert scene.log.read(new_id("job"), None) == []


def test_tokens_may_be_any_text(scene: Scene) -> None:
    """Text comes back as it was, whatever characters it has."""
    job_id = scene.job()
    text = 'ä "\\ \n\t\x1f 漢字 🚰 \u2028'
    scene.tokens(job_id, text)
    assert told(scene.log.read(job_id, None)) == [text]


def test_tokens_of_a_deleted_job_harm_nobody(scene: Scene) -> None:
    """Tokens for a job that is gone do not keep those of another from being shown."""
    gone, job_id = scene.job(), scene.job()
    with scene.database.write() as session:
        session.execute(delete(Job).where(Job.id == gone))
    scene.log.append([TokenDelta("default", gone, 1, "a", 1), TokenDelta("default", job_id, 1, "b", 1)])
    assert told(scene.log.read(job_id, None)) == ["b"]


@pytest.mark.slow
def test_tokens_of_ended_jobs_are_forgotten(scene: Scene) -> None:
    """Some time after its end a job's tokens are gone; its states stay."""
    job_id = scene.job()
    scene.story(job_id)
    with scene.database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(finished_at=utcnow()))
    scene.log.prune(utcnow() - timedelta(seconds=60))
    assert len(scene.log.read(job_id, None)) == 6
    time.sleep(KEEP_SECONDS * 1.1)
    scene.log.prune(utcnow())
    assert told(scene.log.read(job_id, None)) == ["queued", "running", "succeeded"]


@pytest.mark.parametrize(
    "cursor", ["x", "1.", "1.2", "1.2-", "-1", "1.2-3.4", "1 ", "²", "1.2-3-4", "9" * 30]
)
def test_a_bad_cursor_is_refused(scene: Scene, cursor: str) -> None:
    """What is not the id of an event is an error that says so."""
    with pytest.raises(ValueError, match="not the id of an event"):
        scene.log.read(new_id("job"), cursor)
