"""What happens after a commit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from models.database import Database
from models.hooks import after_commit


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    """An empty database."""
    database = Database.connect(sqlite_url)
    yield database
    database.close()


def test_a_callback_runs_once_after_the_commit(database: Database) -> None:
    """A callback runs when its transaction is committed, not before, and not at later commits."""
    ran: list[str] = []
    with Session(database.engine) as session:
        after_commit(session, lambda: ran.append("first"))
        after_commit(session, lambda: ran.append("second"))
        session.execute(text("CREATE TABLE t (x)"))
        assert ran == []
        session.commit()
        assert ran == ["first", "second"]
        session.execute(text("INSERT INTO t VALUES (1)"))
        session.commit()
    assert ran == ["first", "second"]


def test_a_callback_sees_what_was_committed(database: Database) -> None:
    """When the callback runs, others can read the transaction's changes."""
    seen: list[int | None] = []

    def look() -> None:
        with database.read() as other:
            seen.append(other.scalar(text("SELECT count(*) FROM t")))

    with database.write() as session:
        session.execute(text("CREATE TABLE t (x)"))
        session.execute(text("INSERT INTO t VALUES (1)"))
        after_commit(session, look)
    assert seen == [1]


def test_a_rollback_forgets_callbacks(database: Database) -> None:
    """After a rollback the same session may commit without running what was rolled back."""
    ran: list[str] = []
    with Session(database.engine) as session:
        session.execute(text("CREATE TABLE t (x)"))
        after_commit(session, lambda: ran.append("never"))
        session.rollback()
        session.execute(text("CREATE TABLE t (x)"))
        after_commit(session, lambda: ran.append("later"))
        session.commit()
    assert ran == ["later"]


def test_a_savepoint_runs_nothing(database: Database) -> None:
    """Releasing a savepoint is no commit; rolling one back forgets nothing of the outer transaction."""
    ran: list[str] = []
    with database.write() as session:
        after_commit(session, lambda: ran.append("outer"))
        with session.begin_nested():
            session.execute(text("CREATE TABLE t (x)"))
        assert ran == []
        savepoint = session.begin_nested()
        session.execute(text("INSERT INTO t VALUES (1)"))
        savepoint.rollback()
    assert ran == ["outer"]
