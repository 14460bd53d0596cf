"""What happens after a commit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text

from models.database import Database
from models.hooks import after_commit


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    """A database with one empty table."""
    database = Database.connect(sqlite_url)
    with database.write() as session:
        session.execute(text("CREATE TABLE t (x)"))
    yield database
    database.close()


def insert_and(database: Database, *callbacks: Callable[[], None]) -> None:
    """A transaction that stores a row, and what is to follow it."""
    with database.write() as session:
        session.execute(text("INSERT INTO t VALUES (1)"))
        for callback in callbacks:
            after_commit(session, callback)


def rows(database: Database) -> int:
    """How many rows are committed."""
    with database.read() as session:
        return int(session.scalar(text("SELECT count(*) FROM t")) or 0)


def test_callbacks_run_once_after_the_commit(database: Database) -> None:
    """They run in order, see what their transaction has changed, and never again."""
    ran: list[object] = []
    insert_and(database, lambda: ran.append("first"), lambda: ran.append(rows(database)))
    insert_and(database)
    assert ran == ["first", 1]


def test_callbacks_hold_nobody_up(database: Database) -> None:
    """While one runs the next writer may go and no connection is taken: it may wait for others."""
    seen: list[object] = []

    def look() -> None:
        seen.append((database._turnstile._held, database.engine.pool.checkedout()))  # type: ignore[attr-defined,union-attr] # a Turnstile and a queue on SQLite
        insert_and(database)

    insert_and(database, look)
    assert seen == [(False, 0)]
    assert rows(database) == 2


def test_a_rollback_forgets_callbacks(database: Database) -> None:
    """What was to follow a transaction that failed never runs."""
    ran: list[str] = []

    def fail() -> None:
        with database.write() as session:
            after_commit(session, lambda: ran.append("never"))
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    with database.write() as session:
        after_commit(session, lambda: ran.append("never"))
        session.rollback()
    insert_and(database, lambda: ran.append("later"))
    assert ran == ["later"]


def test_a_savepoint_runs_nothing(database: Database) -> None:
    """Releasing a savepoint is no commit; rolling one back forgets nothing of the outer transaction."""
    ran: list[str] = []
    with database.write() as session:
        after_commit(session, lambda: ran.append("outer"))
        with session.begin_nested():
            session.execute(text("INSERT INTO t VALUES (1)"))
        assert ran == []
        savepoint = session.begin_nested()
        session.execute(text("INSERT INTO t VALUES (2)"))
        savepoint.rollback()
    assert ran == ["outer"]


def test_a_callback_that_fails_undoes_nothing(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """What is committed does not look as if it had failed, and the other callbacks run."""
    ran: list[str] = []

    def fail() -> None:
        raise LookupError

    with caplog.at_level(logging.ERROR):
        insert_and(database, fail, lambda: ran.append("next"))
    assert (rows(database), ran) == (1, ["next"])
    assert "follow a commit" in caplog.text
