"""Query plans on SQLite: what is asked all the time is found by an index, however many jobs have ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event

from models import agents, bulks, claims, documents, endings, jobs, listing, queues, retention, workers
from models.database import Database, Session
from models.finding import Filters
from models.job_rows import Job
from models.states import State
from tests.models.desk import WORKER, Desk
from tests.rows import LLM, TENANT, at, new_job

FILTERS: dict[str, Filters] = {
    "all": Filters(),
    "states": Filters(states=(State.FAILED, State.QUEUED)),
    "agent": Filters(agent="ada"),
    "tag": Filters(tag="x"),
    "bulk": Filters(bulk_id="bulk_1"),
    "llm": Filters(llm=LLM),
    "time": Filters(created_after=at(-9), created_before=at(9)),
    "text": Filters(text="hello you"),
    "text and tag": Filters(text="hello", tag="x"),
    "id": Filters(text="job_0123456789ab"),
}


def listed(filters: Filters, session: Session) -> object:
    """A page of jobs."""
    return listing.page(session, TENANT, filters, None, 9)


def counted(filters: Filters, session: Session) -> object:
    """How many jobs there are."""
    return listing.count(session, TENANT, filters)


LOOKS: dict[str, Callable[[Session], object]] = {
    **{f"list by {name}": partial(listed, filters) for name, filters in FILTERS.items()},
    **{f"count by {name}": partial(counted, filters) for name, filters in FILTERS.items()},
    "activity": lambda s: agents.activity(s, TENANT, ["ada"]),
    "behind": documents.behind,
    "pending": lambda s: documents.pending(s, 9, 9),
    "stale": lambda s: documents.stale(s, 9),
    "horizon": documents.horizon,
    "claim": lambda s: claims.claim(s, WORKER, LLM, 5, at(6)),
    "claim_ahead": lambda s: claims.claim_ahead(s, "worker_2", LLM, [(3, 10**9)], at(6)),
    "any_ahead": lambda s: claims.any_ahead(s, LLM, [(3, 10**9)]),
    "promote_due": lambda s: jobs.promote_due(s, at(6)),
    "expire_due": lambda s: endings.expire_due(s, at(6)),
    "rescue": lambda s: endings.rescue(s, WORKER, "EUR", at(6)),
    "any_due": lambda s: jobs.any_due(s, at(1)),
    "any_claimable": lambda s: claims.any_claimable(s, LLM),
    "cancels_for": lambda s: jobs.cancels_for(s, WORKER),
    "orphaned": workers.orphaned,
    "oldest_claimable": queues.oldest_claimable,
    "depths": queues.depths,
    "release_many": lambda s: agents.release_many(s, TENANT, ["ada"], at(6)),
    "bulk counts": lambda s: bulks.counts(s, "bulk_1"),
    "bulk rest": lambda s: bulks.unfinished(s, "bulk_1", 10),
    "retention look": lambda s: retention.look(s, TENANT, State.FAILED, at(9), 7),
    "retention drop": lambda s: retention.drop(s, [1, 2]),
    "places": lambda s: jobs.places(s, [Job(llm=LLM, lane="", claimable=True)]),
}


@contextmanager
def plans(database: Database) -> Iterator[list[str]]:
    """The steps by which SQLite answers what is asked meanwhile."""
    steps: list[str] = []

    def explain(_c: Any, cursor: Any, statement: str, parameters: Any, _x: Any, many: bool) -> None:
        if not many and statement.split(maxsplit=1)[0] in {"SELECT", "WITH", "UPDATE", "DELETE"}:
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
    """The best rows of a lane come out of the index in order: nothing is sorted."""
    desk = Desk(sqlite_database)
    desk.submit(new_job(), new_job())
    with plans(sqlite_database) as steps, sqlite_database.write() as session:
        claims.claim(session, WORKER, LLM, 1, at(0))
    assert "SEARCH jobs USING INDEX ix_jobs_claim (llm=? AND lane=?)" in steps
    assert "SEARCH jobs USING INDEX ix_jobs_suspects (llm=? AND lane=?)" in steps
    assert not [step for step in steps if "ORDER BY" in step]
