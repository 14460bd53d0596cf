"""The cheap look whether somebody has changed the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import text

from models.changes import Changes
from models.database import Database

Connect = Callable[[str], Database]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Opens databases that are closed after the test."""
    with ExitStack() as stack:

        def open_one(url: str) -> Database:
            database = Database.connect(url, busy_timeout_ms=0)
            stack.callback(database.close)
            return database

        yield open_one


def test_commits_of_others_are_noticed_once(sqlite_url: str, connect: Connect) -> None:
    """A look says yes the first time and after each commit of any other connection, else no."""
    database, other = connect(sqlite_url), connect(sqlite_url)
    changes = Changes(database)
    assert changes.look()
    assert not changes.look()
    for writer in (database, other):
        with writer.write() as session:
            session.execute(text("CREATE TABLE IF NOT EXISTS t (x)"))
            session.execute(text("INSERT INTO t VALUES (1)"))
            assert not changes.look()
        assert changes.look()
        assert not changes.look()
    changes.close()


def test_looking_takes_no_lock(sqlite_url: str, connect: Connect) -> None:
    """While another connection holds the write lock, a look answers at once."""
    database = connect(sqlite_url)
    changes = Changes(database)
    with database.write() as session:
        session.execute(text("CREATE TABLE t (x)"))
        assert changes.look()
        assert not changes.look()
    changes.close()


def test_a_connection_that_fails_is_replaced(sqlite_url: str, connect: Connect) -> None:
    """When looking fails, the answer is "perhaps", and the next look uses a new connection."""
    database = connect(sqlite_url)
    changes = Changes(database)
    changes.look()
    assert changes._connection is not None
    changes._connection.dbapi_connection.close()  # type: ignore[union-attr]  # it is open
    assert changes.look()
    assert changes.look()
    assert not changes.look()
    changes.close()


def test_a_connection_that_cannot_be_had_is_no_answer(connect: Connect, tmp_path: Path) -> None:
    """Where no database can be opened the answer is "perhaps", at each look."""
    changes = Changes(connect(f"sqlite:///{tmp_path / 'none' / 'x.db'}"))
    assert changes.look()
    assert changes.look()
    changes.close()


def test_postgresql_always_says_perhaps(postgres_url: str, connect: Connect) -> None:
    """Where changes are not counted, every look says that there may be some."""
    changes = Changes(connect(postgres_url))
    assert not changes.are_counted
    assert changes.look()
    assert changes.look()
    changes.close()
