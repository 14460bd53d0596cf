"""Who a worker process is, also after it was declared lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from models import workers
from models.base import utcnow
from models.books import check_integrity
from models.database import Database
from tests.rows import LLM, new_llm
from workers.identity import Identity


@pytest.fixture
def identity(sqlite_database: Database, tmp_path: Path) -> Iterator[Identity]:
    """A worker that serves an LLM."""
    made = Identity(sqlite_database, "inference", tmp_path, lambda: {LLM: None, "other": "it broke"})
    made.register()
    with sqlite_database.write() as session:
        workers.publish_llm(session, new_llm())
        made.serve(session, LLM)
    yield made
    with sqlite_database.write() as session:
        made.leave(session, "EUR")
    with sqlite_database.read() as session:
        assert check_integrity(session) == []


def test_a_worker_that_was_declared_lost_serves_again(identity: Identity, sqlite_database: Database) -> None:
    """Its LLM is not ready while it counts as lost; the new name tells of it, and of what can be loaded."""
    before = identity.worker_id
    with sqlite_database.write() as session:
        workers.end(session, before, utcnow())
        assert workers.standings(workers.alive(session)) == {}
    assert not identity.beat({})
    identity.register()
    with sqlite_database.read() as session:
        assert workers.serving(session, LLM) == [identity.worker_id] != [before]
        (worker,) = workers.alive(session)
        assert (worker.llm, worker.llms) == (LLM, {LLM: None, "other": "it broke"})
