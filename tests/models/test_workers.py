"""Workers and LLMs as rows."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from models import claims, workers
from models.database import Database, Session
from models.workers import Worker
from tests.models.desk import WORKER, Desk
from tests.rows import LLM, at, new_job, new_llm, new_worker

WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
Change = Callable[[Session], None]


def add(desk: Desk, *ids: str) -> None:
    """Register workers."""
    with desk.database.write() as session:
        session.add_all([new_worker(id=worker_id) for worker_id in ids])


def test_a_beat_raises_the_counter(desk: Desk) -> None:
    """Each beat counts one more and carries figures; none is taken from a worker that is gone."""
    add(desk, "a", "b")
    with desk.database.write() as session:
        assert workers.beat(session, "a", {"batch": 3}, at(1))
        assert workers.beat(session, "a", {"batch": 4}, at(2))
        workers.end(session, "b", at(2))
        assert not workers.beat(session, "b", {}, at(3))
        assert not workers.beat(session, "none", {}, at(3))
    (a,), (b,) = desk.all(Worker, id="a"), desk.all(Worker, id="b")
    assert (a.beats, a.seen_at, a.figures, b.beats) == (2, at(2), {"batch": 4}, 0)


def test_the_first_word_of_an_end_counts(desk: Desk) -> None:
    """A worker that was declared lost does not end a second time."""
    add(desk, "a", "b")
    with desk.database.write() as session:
        workers.end(session, "a", at(1))
        workers.end(session, "a", at(2))
        assert [worker.id for worker in workers.alive(session)] == ["b"]
    assert desk.all(Worker, id="a")[0].ended_at == at(1)


def test_a_worker_stands_until_it_ends(desk: Desk) -> None:
    """Who was declared lost, or has no row, may not act."""
    add(desk, "a", "b")
    with desk.database.write() as session:
        workers.end(session, "b", at(1))
        assert [workers.stands(session, name) for name in ("a", "b", "none")] == [True, False, False]


def test_no_worker_is_declared_lost_while_it_acts(postgres_database: Database) -> None:
    """On PostgreSQL whoever ends a worker waits for its claim, and then sees what it claimed."""
    desk = Desk(postgres_database)
    add(desk, WORKER)
    desk.submit()

    def declare_lost(session: Session) -> list[str]:
        workers.end(session, WORKER, at(1))
        return workers.orphaned(session)

    with ThreadPoolExecutor(1) as pool:
        with postgres_database.write() as session:
            assert workers.stands(session, WORKER)
            claims.claim(session, WORKER, LLM, 1, at(0))
            session.flush()
            found = pool.submit(desk.do, "end", declare_lost)
            while not session.scalar(WAITING):
                assert not found.done()
        assert found.result(10) == [WORKER]
        desk.rescue()


def test_jobs_of_workers_that_are_gone_are_found(desk: Desk) -> None:
    """Workers that ended or whose rows are missing are named while jobs run in their names."""
    add(desk, WORKER, "ended")
    desk.submit(*(new_job() for _ in range(4)))
    desk.claim()
    desk.claim(2, worker="ended")
    desk.claim(worker="missing")
    with desk.database.write() as session:
        workers.end(session, "ended", at(1))
        assert sorted(workers.orphaned(session)) == ["ended", "missing"]
    desk.rescue("ended")
    desk.rescue("missing")
    with desk.database.read() as session:
        assert workers.orphaned(session) == []


def test_an_llm_is_told_of_anew(desk: Desk) -> None:
    """The newest word on an alias replaces the one before; its rate comes later."""
    with desk.database.write() as session:
        workers.publish_llm(session, new_llm(context_length=1))
        workers.publish_llm(session, new_llm(alias="another"))
    with desk.database.write() as session:
        workers.publish_llm(session, new_llm(context_length=2))
        workers.publish_rate(session, LLM, 2.5, at(1))
        workers.publish_rate(session, "none", 2.5, at(1))
    with desk.database.read() as session:
        another, pico = workers.llms(session)
    assert (another.alias, pico.alias, pico.context_length) == ("another", LLM, 2)
    assert (another.jobs_per_second, pico.jobs_per_second, pico.updated_at) == (None, 2.5, at(1))


def is_ready(database: Database) -> bool:
    """Whether the one LLM is said to be ready."""
    with database.read() as session:
        (llm,) = workers.llms(session)
        return llm.ready


def come(worker_id: str) -> Change:
    """What a worker writes that has loaded the LLM."""

    def change(session: Session) -> None:
        workers.publish_llm(session, new_llm(updated_at=at(1)))
        workers.serve(session, worker_id, LLM)

    return change


def go(worker_id: str) -> Change:
    """What a worker writes that leaves."""
    return lambda session: workers.end(session, worker_id, at(2))


def at_once(database: Database, first: Change, second: Change) -> None:
    """Let the second transaction come to the LLM's row while the first has not committed."""

    def write() -> None:
        with database.write() as session:
            second(session)

    with ThreadPoolExecutor(1) as pool:
        with database.write() as session:
            first(session)
            session.flush()
            other = pool.submit(write)
            while not session.scalar(WAITING):
                assert not other.done()
        other.result(10)


def test_an_llm_is_ready_while_a_living_worker_serves_it(desk: Desk) -> None:
    """It is ready from its first worker to its last; one that was declared lost before it came is none."""
    add(desk, "a", "b", "lost")
    desk.do("end", go("lost"))
    for change, ready in ((come("lost"), False), (come("a"), True), (come("b"), True), (go("a"), True)):
        desk.do("change", change)
        assert is_ready(desk.database) is ready
    desk.do("end", go("b"))
    assert not is_ready(desk.database)


def test_two_workers_tell_of_an_llm_for_the_first_time(postgres_database: Database) -> None:
    """Whoever comes second waits, and finds nothing wrong with a row that is there by then."""
    desk = Desk(postgres_database)
    add(desk, "a", "b")
    at_once(postgres_database, come("a"), come("b"))
    assert is_ready(postgres_database)
    desk.check()


@pytest.mark.parametrize("changes", [(come("b"), go("a")), (go("a"), come("b"))], ids=["come", "go"])
def test_one_worker_comes_while_another_leaves(
    postgres_database: Database, changes: tuple[Change, Change]
) -> None:
    """The LLM stays ready, whichever of the two is first at its row."""
    desk = Desk(postgres_database)
    add(desk, "a", "b")
    desk.do("come", come("a"))
    at_once(postgres_database, *changes)
    assert is_ready(postgres_database)
    desk.check()


def test_the_last_two_workers_leave_at_once(postgres_database: Database) -> None:
    """Each sees the other go: an LLM that nobody serves is not ready."""
    desk = Desk(postgres_database)
    add(desk, "a", "b")
    desk.do("come", come("a"))
    desk.do("come", come("b"))
    at_once(postgres_database, go("a"), go("b"))
    assert not is_ready(postgres_database)
    desk.check()


def test_workers_that_ended_long_ago_are_forgotten(desk: Desk) -> None:
    """Only what ended before the time goes; the living stay."""
    add(desk, "old", "young", "alive")
    with desk.database.write() as session:
        workers.end(session, "old", at(1))
        workers.end(session, "young", at(5))
        workers.prune(session, at(5))
    assert sorted(worker.id for worker in desk.all(Worker)) == ["alive", "young"]
