"""Live events: every change of state is told, in order."""

from __future__ import annotations

import orjson

from models import events
from models.events import Event
from tests.models.desk import Desk
from tests.rows import TENANT, at, new_job


def told(desk: Desk, job_id: str) -> list[tuple[str, int, int]]:
    """(State, attempt, fence) as watchers of a job were told."""
    with desk.database.read() as session:
        found = [orjson.loads(event.data) for event in events.after(session, job_id, 0)]
    return [(data["state"], data["attempt"], data["fence"]) for data in found]


def test_watchers_are_told_of_each_change(desk: Desk) -> None:
    """From the claim to the end each state comes with the attempt and the fence it belongs to."""
    (job_id,) = desk.submit(new_job(run_at=at(1)))
    desk.wait(1)
    desk.promote()
    desk.hand_back(desk.take())
    desk.take()
    desk.rescue()
    desk.fail(desk.take())
    desk.wait(10)
    desk.promote()
    desk.fail(desk.take())
    assert told(desk, job_id) == [
        ("queued", 1, 0), ("running", 1, 1), ("queued", 1, 1), ("running", 1, 2), ("queued", 2, 2),
        ("running", 2, 3), ("scheduled", 3, 3), ("queued", 3, 3), ("running", 3, 4), ("failed", 3, 4),
    ]  # fmt: skip


def test_a_watcher_goes_on_where_it_was(desk: Desk) -> None:
    """Only what is newer than the last event seen is given, at most so many at a time."""
    job_id, _ = desk.submit(new_job(), new_job())
    desk.finish(*desk.claim(2))
    with desk.database.read() as session:
        first, second = events.after(session, job_id, 0)
        assert first.id < second.id
        assert [event.id for event in events.after(session, job_id, first.id)] == [second.id]
        assert [event.id for event in events.after(session, job_id, 0, limit=1)] == [first.id]
        assert events.after(session, job_id, second.id) == []
        assert events.newest(session, [job_id, "job_none"]) == {job_id: second.id}


def test_old_events_of_some_kinds_go(desk: Desk) -> None:
    """Pruning takes the kinds it is told, older than a time, in bounded steps."""
    (job_id,) = desk.submit()
    kinds = ("tokens", "tokens", "tokens", "state")
    first = events.row(TENANT, job_id, "state", {}, at(0))
    with desk.database.write() as session:
        events.record(session, [first])
        events.record(session, [])
        events.record(
            session, [events.row(TENANT, job_id, kind, {"n": n}, at(n)) for n, kind in enumerate(kinds)]
        )
        assert events.prune(session, ["tokens"], at(2), limit=1) == 1
        assert events.prune(session, ["tokens"], at(2)) == 1
        assert events.prune(session, ["tokens"], at(2)) == 0
    kept = sorted((event.created_at, event.type) for event in desk.all(Event))
    assert kept == [(at(0), "state"), (at(2), "tokens"), (at(3), "state")]
