"""Commits that do not wait for the disk."""

from __future__ import annotations

from contextlib import closing

from sqlalchemy import text

from models.database import Database
from models.relaxed import relaxed

SETTING = {"sqlite": "PRAGMA synchronous", "postgresql": "SHOW synchronous_commit"}
RELAXED = {"sqlite": 1, "postgresql": "off"}


def setting(database: Database) -> object:
    """How a new transaction of this database would commit."""
    with database.write() as session:
        return session.scalar(text(SETTING[database.dialect]))


def test_only_the_second_way_is_relaxed(database_url: str) -> None:
    """Relaxed connections do not wait for the disk; those of the database itself stay as they are."""
    with closing(Database.connect(database_url)) as durable:
        before = setting(durable)
        with closing(relaxed(durable)) as quick:
            assert setting(quick) == RELAXED[durable.dialect]
            assert setting(durable) == before


def test_both_ways_lead_to_the_same_rows(database_url: str) -> None:
    """What is written one way is read the other way."""
    with closing(Database.connect(database_url)) as durable, closing(relaxed(durable)) as quick:
        with quick.write() as session:
            session.execute(text("CREATE TABLE t (x INTEGER)"))
            session.execute(text("INSERT INTO t VALUES (7)"))
        with durable.read() as session:
            assert session.scalar(text("SELECT x FROM t")) == 7
