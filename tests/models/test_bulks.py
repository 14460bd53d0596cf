"""Bulks: stored in chunks, seen all at once or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event, text

from models import bulks, counters, lanes
from models.books import check_integrity
from models.bulks import Bulk
from models.database import Database, Unavailable
from models.job_rows import Job, Payload
from models.states import Priority, State
from tests.models.desk import CLIENT, Desk
from tests.rows import LLM, TENANT, at, new_job


def jobs_of(desk: Desk, bulk: Bulk) -> list[str]:
    """The ids of a bulk's jobs, in order."""
    return [job.id for job in sorted(desk.all(Job, bulk_id=bulk.id), key=lambda job: job.seq)]


def found(desk: Desk, bulk: Bulk, tenant_id: str = TENANT) -> Bulk | None:
    """What a client of a tenant gets for the bulk's id."""
    with desk.database.read() as session:
        return bulks.find(session, tenant_id, bulk.id)


def test_publication_shows_everything_at_once(desk: Desk) -> None:
    """Before it nothing is seen or claimed, after it all is, counted and on record."""
    bulk = desk.stage(new_job(), new_job(priority=Priority.BACKGROUND), new_job(run_at=at(5)))
    assert (found(desk, bulk), desk.claim(10)) == (None, [])
    assert desk.publish(bulk) == [LLM]
    seen = found(desk, bulk)
    assert seen is not None
    assert (seen.total, seen.published_at) == (3, desk.now)
    with desk.database.read() as session:
        assert counters.states(session) == {
            (TENANT, LLM, 1, "queued"): 1, (TENANT, LLM, 2, "queued"): 1, (TENANT, LLM, 1, "scheduled"): 1,
        }  # fmt: skip
    assert [claim.job_id for claim in desk.claim(10)] == jobs_of(desk, bulk)[:2]
    assert desk.acts(bulk.id) == [(CLIENT, "bulk.submit")]


def test_a_bulk_with_nothing_ready_rings_no_bell(desk: Desk) -> None:
    """Publication names only queues that have something to do now."""
    assert desk.publish(desk.stage(new_job(run_at=at(5)))) == []


def test_what_falls_due_while_it_is_stored_runs_after_publication(desk: Desk) -> None:
    """Times that come before the publication are seen to right after it."""
    bulk = desk.stage(new_job(run_at=at(5)), new_job(expires_at=at(5)))
    desk.now = at(6)
    desk.publish(bulk)
    desk.promote()
    desk.expire()
    assert desk.states(*jobs_of(desk, bulk)) == [State.QUEUED, State.EXPIRED]


def test_bulks_of_others_are_not_found(desk: Desk) -> None:
    """A bulk is its tenant's own."""
    bulk = desk.stage(new_job())
    desk.publish(bulk)
    assert found(desk, bulk, "other") is None


def test_a_bulk_counts_its_jobs(desk: Desk) -> None:
    """The counts follow the states, and deleted jobs are missing."""
    bulk = desk.stage(*(new_job() for _ in range(4)))
    desk.publish(bulk)
    first, second, _ = desk.claim(3)
    desk.finish(first, second)
    desk.remove(first.job_id)
    with desk.database.read() as session:
        assert bulks.counts(session, bulk.id) == {"succeeded": 1, "running": 1, "queued": 1}


def test_cancelling_a_bulk_finds_what_goes_on(desk: Desk) -> None:
    """Jobs that have not ended are found a chunk at a time; flagged ones only if they wait again."""
    bulk = desk.stage(*(new_job() for _ in range(4)))
    desk.publish(bulk)
    one, two, three, four = jobs_of(desk, bulk)
    done, flagged = desk.claim(2)
    desk.finish(done)
    desk.request_cancel(two)

    def unfinished(limit: int) -> list[str]:
        return [job.id for job in desk.do("look", lambda s: bulks.unfinished(s, bulk.id, limit))]

    assert (unfinished(1), unfinished(9)) == ([three], [three, four])
    desk.hand_back(flagged)
    assert unfinished(9) == [two, three, four]
    assert one == done.job_id


def test_what_was_never_published_is_swept_away(desk: Desk) -> None:
    """An abandoned bulk goes chunk by chunk, and its handle last; others stay."""
    abandoned = desk.stage(*(new_job() for _ in range(5)))
    published = desk.stage(new_job())
    desk.publish(published)
    desk.wait(10)
    fresh = desk.stage(new_job())

    def drop() -> int:
        return desk.do("drop", lambda s: bulks.drop_abandoned(s, at(5), limit=3))

    assert [drop(), drop(), drop()] == [3, 2, 0]
    assert sorted(bulk.id for bulk in desk.all(Bulk)) == sorted([published.id, fresh.id])
    assert len(desk.all(Payload)) == 2
    assert jobs_of(desk, abandoned) == []


def move(database: Database, *job_ids: str) -> int:
    """Put jobs into another lane, without waiting long for whoever holds them."""
    with database.write() as session:
        session.execute(text("SET LOCAL lock_timeout = '20ms'"))
        return lanes.move(session, job_ids, TENANT)


def test_publication_locks_agents_before_jobs(postgres_database: Database) -> None:
    """Whoever holds an agent that a publication wants finds the bulk's jobs free: neither waits for ever."""
    desk = Desk(postgres_database)
    desk.submit(new_job(agent="al"))
    bulk = desk.stage(new_job(agent="al"), new_job(agent="bo"), new_job())
    moved: list[int] = []

    def come_between(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("INSERT INTO agents") and not moved:
            moved.append(move(postgres_database, *jobs_of(desk, bulk)))

    event.listen(postgres_database.engine, "before_cursor_execute", come_between)
    desk.publish(bulk)
    assert moved == [3]
    assert [desk.job(job_id).claimable for job_id in jobs_of(desk, bulk)] == [False, True, True]
    with postgres_database.read() as session:
        assert check_integrity(session) == []


def test_publication_locks_jobs_in_order(postgres_database: Database) -> None:
    """The first in order is locked first, wherever the rows lie: whoever moves jobs goes the same way."""
    desk = Desk(postgres_database)
    bulk = desk.stage(new_job(), new_job())
    first, second = jobs_of(desk, bulk)
    move(postgres_database, first)  # PostgreSQL writes the row anew, behind the other
    with ThreadPoolExecutor(1) as pool:
        with postgres_database.write() as holder:
            lanes.move(holder, [second], TENANT)
            published = pool.submit(desk.publish, bulk)
            waits = "SELECT count(*) FROM pg_locks WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))"
            while not published.done() and not holder.scalar(text(waits)):
                pass
            with pytest.raises(Unavailable, match="lock timeout"):
                move(postgres_database, first)
        assert published.result() == [LLM]
    desk.check()
    with postgres_database.read() as session:
        assert check_integrity(session) == []
