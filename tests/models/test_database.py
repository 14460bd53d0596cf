"""Transactions: all or nothing, in turn, and an honest word when the database cannot be used."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import ArgumentError, InternalError

from models import tenants
from models.database import Database, Turnstile, Unavailable, make_engine
from models.tenants import Tenant
from tests.rows import START


def names(database: Database) -> list[str]:
    """The ids of all tenants."""
    with database.read() as session:
        return list(session.scalars(select(Tenant.id).order_by(Tenant.id)))


def change_and_raise(database: Database) -> None:
    """A block that does half of what it meant to do."""
    with database.write() as session:
        tenants.ensure(session, "a", START)
        raise LookupError


def test_a_write_is_kept(database: Database) -> None:
    """What a block wrote is there when it has ended, and its objects can still be read."""
    with database.write() as session:
        tenant = Tenant(id="a", name="a", weight=1, created_at=START)
        session.add(tenant)
    assert (names(database), tenant.weight) == (["a"], 1)


def test_a_write_that_raises_leaves_nothing(database: Database) -> None:
    """Everything the block did is taken back, and the next writer is let in."""
    with pytest.raises(LookupError):
        change_and_raise(database)
    with database.write() as session:
        tenants.ensure(session, "b", START)
    assert names(database) == ["b"]


def test_a_look_writes_nothing(database: Database) -> None:
    """What is changed within ``read`` is not kept: PostgreSQL refuses it, SQLite forgets it."""
    refused = (
        pytest.raises(InternalError, match="read-only") if database.dialect == "postgresql" else nullcontext()
    )
    with refused, database.read() as session:
        tenants.ensure(session, "a", START)
    assert names(database) == []


def test_a_look_is_consistent(database: Database) -> None:
    """A reader sees one state of things, whatever is committed while it looks."""
    with database.read() as session:
        assert session.scalars(select(Tenant.id)).all() == []
        with database.write() as other:
            tenants.ensure(other, "a", START)
        assert session.scalars(select(Tenant.id)).all() == []
    assert names(database) == ["a"]


def test_a_look_takes_no_lock(database: Database) -> None:
    """A reader neither waits for a writer nor holds one up."""
    with database.write() as session:
        tenants.ensure(session, "a", START)
        session.flush()
        assert names(database) == []
    with database.read() as session:
        session.scalars(select(Tenant.id)).all()
        with database.write() as other:
            tenants.ensure(other, "b", START)


@pytest.fixture
def impatient(sqlite_url: str) -> Iterator[Database]:
    """A SQLite database that waits for a lock for 50 ms."""
    database = Database.connect(sqlite_url, busy_timeout_ms=50)
    with database.write() as session:
        session.execute(text("CREATE TABLE things (name TEXT)"))
    yield database
    database.close()


def test_a_locked_file_is_unavailable_and_comes_back(impatient: Database) -> None:
    """While another process holds the lock for too long, writing says so; readers go on; later it works."""
    other = sqlite3.connect(impatient.engine.url.database or "", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"), impatient.write() as session:
        session.execute(text("INSERT INTO things VALUES ('a')"))
    with impatient.read() as session:
        assert session.execute(text("SELECT * FROM things")).all() == []
    other.execute("ROLLBACK")
    other.close()
    with impatient.write() as session:
        session.execute(text("INSERT INTO things VALUES ('a')"))


def test_what_cannot_be_reached_is_unavailable(tmp_path: Path) -> None:
    """A file in a folder that is not there, a server that does not listen: the reason fits on one line."""
    for url in (f"sqlite:///{tmp_path / 'none' / 'x.db'}", f"postgresql:///x?host={tmp_path}"):
        database = Database.connect(url)
        with pytest.raises(Unavailable) as caught, database.read() as session:
            session.execute(text("SELECT 1"))
        assert len(str(caught.value).splitlines()) == 1
        database.close()


def test_mistakes_in_a_statement_are_not_called_unavailable(database: Database) -> None:
    """What will fail again when tried again keeps its own name."""
    with database.write() as session:
        session.add(Tenant(id="a", name="a", weight=1, created_at=START))
    with pytest.raises(Exception, match=r"(?i)unique") as caught, database.write() as session:
        session.add(Tenant(id="a", name="a", weight=1, created_at=START))
    assert not isinstance(caught.value, Unavailable)


def test_sqlite_is_durable_and_keeps_references(impatient: Database) -> None:
    """Each connection runs WAL with full synchronisation and checks foreign keys."""
    with impatient.read() as session:
        pragmas = {
            name: session.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "sqlite:///:memory:"])
def test_other_databases_are_refused(url: str) -> None:
    """Only SQLite files and PostgreSQL are known; a database in memory would be another for each thread."""
    with pytest.raises(ValueError, match=r"database\.url"):
        make_engine(url)


def test_a_url_that_cannot_be_read_is_refused() -> None:
    """Nonsense is an error of its own."""
    with pytest.raises(ArgumentError):
        make_engine("nonsense")


def test_the_turnstile_lets_through_in_order_of_arrival() -> None:
    """Threads that wait go through one at a time, first come first served."""
    turnstile, order, waiting = Turnstile(10), list[int](), list[threading.Thread]()

    def go(number: int) -> None:
        with turnstile:
            order.append(number)

    with turnstile:
        for number in range(8):
            waiting.append(threading.Thread(target=go, args=(number,)))
            waiting[-1].start()
            while len(turnstile._waiting) <= number:
                pass
        assert order == []
    for thread in waiting:
        thread.join(10)
    assert order == list(range(8))


def test_the_turnstile_opens_after_an_exception() -> None:
    """Who leaves by an exception lets the next one in."""
    turnstile = Turnstile(10)
    for _ in range(2):
        with pytest.raises(LookupError), turnstile:
            raise LookupError
    assert not turnstile._held


def test_who_waits_too_long_at_the_turnstile_goes_away() -> None:
    """Those who queue wait side by side, say that the database is locked, and leave the turnstile sound."""
    turnstile, said = Turnstile(0.05), list[str]()

    def go() -> None:
        try:
            with turnstile:
                said.append("let in")
        except Unavailable as error:
            said.append(str(error))

    waiting = [threading.Thread(target=go) for _ in range(4)]
    with turnstile:
        for thread in waiting:
            thread.start()
        for thread in waiting:
            thread.join(10)
    assert said == ["database is locked"] * 4
    assert not turnstile._held
    with turnstile:
        assert not turnstile._waiting


def test_the_busy_timeout_is_the_turnstiles(impatient: Database) -> None:
    """A writer behind another of its process waits no longer than for another process."""
    with ThreadPoolExecutor(1) as pool, impatient.write(), pytest.raises(Unavailable, match="locked"):
        pool.submit(write_nothing, impatient).result(10)


def write_nothing(database: Database) -> None:
    """One transaction that changes nothing."""
    with database.write():
        pass
