"""Query plans on SQLite: what is asked all the time is found by an index, however many jobs have ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from models import agents, bulks, endings, jobs, queues, retention, workers
from models.database import Database, Session
from models.job_rows import Job
from tests.models.desk import WORKER, Desk
from tests.rows import LLM, TENANT, at, new_job

LOOKS: dict[str, Callable[[Session], object]] = {
    "claim": lambda s: jobs.claim(s, WORKER, LLM, 5, at(6)),
    "promote_due": lambda s: jobs.promote_due(s, at(6)),
    "expire_due": lambda s: endings.expire_due(s, at(6)),
    "rescue": lambda s: endings.rescue(s, WORKER, "EUR", at(6)),
    "any_due": lambda s: jobs.any_due(s, at(1)),
    "any_claimable": lambda s: jobs.any_claimable(s, LLM),
    "cancels_for": lambda s: jobs.cancels_for(s, WORKER),
    "orphaned": workers.orphaned,
    "oldest_claimable": queues.oldest_claimable,
    "depths": queues.depths,
    "release_many": lambda s: agents.release_many(s, TENANT, ["ada"], at(6)),
    "bulk counts": lambda s: bulks.counts(s, "bulk_1"),
    "bulk rest": lambda s: bulks.unfinished(s, "bulk_1", 10),
    "drop_ended": lambda s: retention.drop_ended(s, at(-9)),
    "position": lambda s: [jobs.position(s, job) for job in s.query(Job).filter_by(id="job_1")],
}


@contextmanager
def plans(database: Database) -> Iterator[list[str]]:
    """The steps by which SQLite answers what is asked meanwhile."""
    steps: list[str] = []

    def explain(_c: Any, cursor: Any, statement: str, parameters: Any, _x: Any, many: bool) -> None:
        if not many and statement.split(maxsplit=1)[0] in {"SELECT", "UPDATE", "DELETE"}:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            steps.extend(row[3] for row in cursor.fetchall())

    event.listen(database.engine, "before_cursor_execute", explain)
    yield steps
    event.remove(database.engine, "before_cursor_execute", explain)


@pytest.mark.parametrize("name", LOOKS)
def test_no_look_walks_through_all_jobs(sqlite_database: Database, name: str) -> None:
    """Whatever runs many times a second, or holds the write lock, never scans the table of jobs."""
    desk = Desk(sqlite_database)
    desk.careful = False
    desk.submit(*(new_job(agent="ada", expires_at=at(5)) for _ in range(3)), new_job(run_at=at(5)))
    desk.claim()
    with plans(sqlite_database) as steps, sqlite_database.write() as session:
        LOOKS[name](session)
    assert steps
    assert [step for step in steps if step.startswith("SCAN jobs") and "USING" not in step] == []


def test_a_claim_is_one_index_scan(sqlite_database: Database) -> None:
    """The best rows come out of the index in order: nothing is sorted."""
    desk = Desk(sqlite_database)
    desk.submit(new_job(), new_job())
    with plans(sqlite_database) as steps, sqlite_database.write() as session:
        jobs.claim(session, WORKER, LLM, 1, at(0))
    assert steps[0] == "SEARCH jobs USING INDEX ix_jobs_claim (llm=?)"
    assert not [step for step in steps if "ORDER BY" in step]
