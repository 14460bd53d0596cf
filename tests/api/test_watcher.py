"""The watcher: one look for all who wait."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping, Sequence

import pytest
from sqlalchemy import event
from starlette.testclient import TestClient

from api.sightings import EVENTS, Sightings
from api.watcher import Watcher
from models.database import Database, Unavailable
from tests.api.conftest import BOTH, FakeWorker

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The one event loop we run on."""
    return "asyncio"


class Scene:
    """What a watcher looks at, in the test's own hands."""

    def __init__(self, **states: Hashable) -> None:
        self.states = states
        self.looks: list[list[str]] = []
        self.broken = False

    def look(self, keys: Sequence[str]) -> Mapping[str, Hashable]:
        """Note what is asked for."""
        self.looks.append(sorted(keys))
        if self.broken:
            raise Unavailable("gone")
        return self.states


async def test_all_waiters_share_one_look() -> None:
    """However many wait for however many keys, each round is one look at each key once."""
    scene = Scene(a=1, b=2)
    watcher = Watcher(scene.look, 0.01)
    with watcher.watch("a") as first, watcher.watch("a") as second, watcher.watch("b") as third:
        for watch in (first, second, third):
            assert await watch.change(5)
        assert (first.state, second.state, third.state) == (1, 1, 2)
        assert not await first.change(0.05)
        scene.states["a"] = 3
        assert await second.change(5)
        assert (second.state, first.state) == (3, 3)
        assert not await third.change(0.03)
    assert {tuple(keys) for keys in scene.looks} == {("a", "b")}


async def test_nobody_looks_when_nobody_waits() -> None:
    """With the last waiter the looking ends, and it begins again with the next."""
    scene = Scene(a=1)
    watcher = Watcher(scene.look, 0.01)
    with watcher.watch("a") as watch:
        await watch.change(5)
    await asyncio.sleep(0.05)
    count = len(scene.looks)
    await asyncio.sleep(0.05)
    assert len(scene.looks) == count
    with watcher.watch("a") as watch:
        assert await watch.change(5)


async def test_what_is_gone_has_no_state() -> None:
    """A key that the look does not know shows as None, which is a change."""
    watcher = Watcher(Scene().look, 0.01)
    with watcher.watch("a") as watch:
        assert await watch.change(5)
        assert (watch.seen, watch.state) == (True, None)


@pytest.mark.parametrize("error", [Unavailable("gone"), ZeroDivisionError()])
async def test_failed_look_is_tried_again(error: Exception) -> None:
    """A database that fails for a moment ends no wait."""
    failures = [error, error]

    def look(_keys: Sequence[str]) -> Mapping[str, Hashable]:
        if failures:
            raise failures.pop()
        return {"a": 1}

    with Watcher(look, 0.01).watch("a") as watch:
        assert await watch.change(5)
        assert watch.state == 1


async def test_closing_wakes_everybody() -> None:
    """When the watcher closes, those who wait and those who come later go on at once."""
    watcher = Watcher(Scene(a=1).look, 10)
    with watcher.watch("a") as watch:
        await watch.change(5)
        asyncio.get_running_loop().call_later(0.02, watcher.close)
        assert await watch.change(5)
    with watcher.watch("a") as watch:
        assert await watch.change(5)


@BOTH
def test_sightings_follow_the_database(database: Database, worker: FakeWorker) -> None:
    """Jobs, bulks and events are seen as they are, and what is not there is None."""
    sightings = Sightings(database)
    nothing = {"job_1": None, "bulk_1": True, f"{EVENTS}job_1": None}
    assert sightings.look(list(nothing)) == nothing
    sightings.close()


@BOTH
def test_job_without_events_is_not_taken_for_gone(client: TestClient, database: Database) -> None:
    """Whoever waits for events sees the difference between none yet and a job that was deleted."""
    sightings = Sightings(database)
    key = EVENTS + client.post("/v1/jobs", json={"prompt": "a"}).json()["id"]
    assert sightings.look([key]) == {key: 0}
    worker = FakeWorker(database)
    worker.run_all()
    assert sightings.look([key])[key] not in (0, None)
    client.delete(f"/v1/jobs/{key.removeprefix(EVENTS)}")
    assert sightings.look([key]) == {key: None}
    sightings.close()


def test_quiet_sqlite_is_not_asked(sqlite_database: Database) -> None:
    """As long as nobody commits, looking again runs no query; a new key or a commit does."""
    queries: list[str] = []
    sightings = Sightings(sqlite_database)
    sightings.look(["job_1"])
    event.listen(
        sqlite_database.engine, "before_cursor_execute", lambda *arguments: queries.append(arguments[2])
    )
    sightings.look(["job_1"])
    assert queries == []
    sightings.look(["job_1", "job_2"])
    assert len(queries) == 2  # BEGIN and one SELECT
    FakeWorker(sqlite_database).publish()
    queries.clear()
    sightings.look(["job_1"])
    assert queries != []
    sightings.close()
