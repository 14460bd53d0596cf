"""A second way into the database, for changes that a power cut may take back."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event

from models.database import Database, make_engine

POOL = 4
"""Connections of its own; few threads change what may be lost."""


def relaxed(database: Database) -> Database:
    """The same database by connections whose commits do not wait for the disk.

    The order of commits and the file's soundness are kept, and a killed process
    loses nothing; only when the machine itself stops may the last commits be
    gone. A commit of the durable kind makes all earlier ones durable too.
    To be closed by whoever asked for it.
    """
    url = database.engine.url.render_as_string(hide_password=False)
    engine = make_engine(url, pool_size=POOL)
    event.listen(engine, "connect", _on_sqlite if database.dialect == "sqlite" else _on_postgresql)
    return Database(engine)


def _on_sqlite(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous=NORMAL")


def _on_postgresql(connection: Any, _record: object) -> None:
    connection.execute("SET synchronous_commit TO off")
    connection.commit()
