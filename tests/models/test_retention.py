"""What is thrown away when it is old enough."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event, select, text

from models import counters, retention
from models.costs import Cost
from models.database import Database
from models.events import Event
from models.job_rows import Attempt, Job, JobTag, Payload, Result
from models.retention import Page
from models.states import State
from tests.models.desk import Desk
from tests.rows import TENANT, at, new_job

DAY = 86_400


def look(desk: Desk, state: State, before: float, after: int = 0) -> Page:
    """What ended in a state before a time."""
    with desk.database.read() as session:
        return retention.look(session, TENANT, state, at(before), after)


def seqs(page: Page) -> list[int]:
    """The old jobs of a page."""
    return [old.seq for old in page.old]


def drop(desk: Desk, *rows: int) -> int:
    """Delete jobs; how many."""
    return desk.do("drop", lambda session: retention.drop(session, rows))


def numbers(desk: Desk) -> dict[str, int]:
    """The row of each job that there is."""
    return {job.id: job.seq for job in desk.all(Job)}


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows a look."""
    monkeypatch.setattr(retention, "PAGE", 2)


def test_a_look_finds_what_ended_in_a_state_long_ago(desk: Desk) -> None:
    """Neither younger jobs nor those that ended otherwise or go on are found."""
    done, gone, _waits = desk.submit(new_job(), new_job(), new_job(run_at=at(99 * DAY)))
    desk.finish(desk.take())
    desk.cancel(gone)
    desk.wait(2 * DAY)
    desk.submit(new_job(), new_job())
    desk.finish(desk.take())
    desk.take()
    rows = numbers(desk)
    assert seqs(look(desk, State.SUCCEEDED, DAY)) == [rows[done]]
    assert seqs(look(desk, State.CANCELLED, DAY)) == [rows[gone]]
    assert seqs(look(desk, State.SUCCEEDED, -1)) == []
    assert seqs(look(desk, State.FAILED, DAY)) == []
    assert len(seqs(look(desk, State.SUCCEEDED, 3 * DAY))) == 2


@pytest.mark.usefixtures("small_pages")
def test_a_look_goes_through_one_page(desk: Desk) -> None:
    """It tells behind which row the next page begins, and when nothing comes behind it."""
    desk.submit(*(new_job() for _ in range(3)))
    first, second, third = sorted(numbers(desk).values())
    desk.finish(*desk.claim(3))
    page = look(desk, State.SUCCEEDED, DAY)
    assert (seqs(page), page.last) == ([first, second], second)
    assert look(desk, State.SUCCEEDED, -1).last == second
    page = look(desk, State.SUCCEEDED, DAY, after=second)
    assert (seqs(page), page.last) == ([third], 0)


def test_long_jobs_weigh_more(desk: Desk) -> None:
    """A job with much text counts for several, so that a batch of such is small."""
    desk.submit(new_job(), new_job(estimated_tokens=3 * retention.TOKENS))
    desk.finish(*desk.claim(2))
    assert [old.weight for old in look(desk, State.SUCCEEDED, DAY).old] == [1, 4]


def test_an_ended_job_goes_with_all_that_hangs_on_it(desk: Desk) -> None:
    """Request, result, attempts, events and tags go; what was paid and done stays on record."""
    (job_id,) = desk.submit(new_job(tags=("a",)))
    desk.finish(desk.take())
    assert drop(desk, *numbers(desk).values()) == 1
    for noun in (Job, Payload, Result, Attempt, Event, JobTag):
        assert desk.all(noun) == []
    assert [cost.job_id for cost in desk.all(Cost)] == [job_id]
    assert [action for _, action in desk.acts(job_id)] == ["job.submit", "job.succeeded"]


def test_only_what_is_there_and_has_ended_is_deleted_and_counted_out(desk: Desk) -> None:
    """Somebody else may have been faster, and a number of a job that goes on harms nothing."""
    desk.submit(new_job(), new_job(), new_job())
    desk.finish(*desk.claim(2))
    rows = sorted(numbers(desk).values())
    assert drop(desk, rows[0]) == 1
    assert drop(desk, *rows) == 1
    assert list(numbers(desk).values()) == rows[2:]
    with desk.database.read() as session:
        assert set(counters.states(session).values()) == {1}


def test_a_job_that_another_holds_is_passed_by(postgres_database: Database) -> None:
    """Two sweepers on PostgreSQL neither wait for each other nor count a job out twice."""
    desk = Desk(postgres_database)
    desk.submit(new_job(), new_job())
    desk.finish(*desk.claim(2))
    held, free = sorted(numbers(desk).values())
    with postgres_database.write() as other:
        other.execute(select(Job.seq).where(Job.seq == held).with_for_update())
        assert drop(desk, held, free) == 1
    assert drop(desk, held, free) == 1
    desk.check()


@pytest.fixture
def statements(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """What is asked of the database, with the parameters."""
    seen: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    yield seen
    event.remove(database.engine, "before_cursor_execute", note)


def test_a_look_reads_one_index_in_its_order(database: Database, statements: list[tuple[str, Any]]) -> None:
    """On both databases the rows of other states are not read, and nothing is sorted."""
    desk = Desk(database)
    desk.submit(new_job())
    look(desk, State.FAILED, DAY, after=7)
    (statement, parameters) = statements[-1]
    with database.engine.connect() as connection:
        if database.dialect == "sqlite":
            steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            assert [step[3] for step in steps] == [
                "SEARCH jobs USING INDEX ix_jobs_tenant_state (tenant_id=? AND state=? AND seq>?)"
            ]
            return
        for way in ("seqscan", "bitmapscan"):  # which are quicker for a table of one row
            connection.execute(text(f"SET LOCAL enable_{way} = off"))
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars())
    assert "Index Scan using ix_jobs_tenant_state" in plan
    assert "Sort" not in plan
