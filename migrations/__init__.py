"""The schema's history, and the few questions one may ask about it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DatabaseError, OperationalError

from models.database import Database, Unavailable

_ONE_AT_A_TIME = threading.Lock()
"""Alembic keeps what it is at in one place for the whole process."""


class SchemaError(Exception):
    """The database's schema and this program do not fit together."""


class NewerSchemaError(SchemaError):
    """A newer version of this program has migrated the database."""


class NoDatabaseError(SchemaError):
    """What the URL names cannot be read as a database: damaged, something else, or not for this user."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


def _run(database: Database, step: Callable[[Config], None]) -> None:
    config = _config()
    with _ONE_AT_A_TIME, _reachable(), database.engine.connect() as connection, _unlinked(connection):
        if database.dialect == "postgresql":  # on SQLite a transaction holds the write lock from its start
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('penstock migrations'))"))
        config.attributes["connection"] = connection
        step(config)
        connection.commit()


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise Unavailable(str(error.orig)) from error


@contextmanager
def _unlinked(connection: Connection) -> Iterator[None]:
    """Foreign keys off on SQLite: its ALTER copies tables, and a drop would cascade."""
    if connection.dialect.name != "sqlite":
        yield
        return
    raw = connection.connection.cursor()
    raw.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        connection.rollback()  # of a step that failed: within a transaction the pragma does nothing
        raw.execute("PRAGMA foreign_keys=ON")
        raw.close()


def head() -> str:
    """The revision that this program's models describe."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise SchemaError("no migrations are installed")
    return revision


def current(database: Database) -> str | None:
    """The revision the database is at; None for an empty one.

    Raises:
        NoDatabaseError: there is something else, or it is damaged.
        models.database.Unavailable: it does not answer.
    """
    try:
        with database.read() as session:
            return MigrationContext.configure(session.connection()).get_current_revision()
    except DatabaseError as error:
        url = database.engine.url.render_as_string(hide_password=True)
        raise NoDatabaseError(
            f"{url} cannot be read ({error.orig}): "
            "put a sound copy in its place, or name another with --data-dir or database.url"
        ) from error


def check(database: Database) -> None:
    """Do nothing if the schema fits.

    Raises:
        NewerSchemaError: it is newer than this program.
        SchemaError: it is older (cure: ``penstock migrate``).
    """
    found, wanted = check_known(database), head()
    if found != wanted:
        raise SchemaError(
            f"the database is at revision {found or 'none'}, not at {wanted}: run `penstock migrate`"
        )


def check_known(database: Database) -> str | None:
    """The revision the database is at, as :func:`current`, if this program has heard of it.

    Raises:
        NewerSchemaError: it has not.
    """
    found = current(database)
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise NewerSchemaError(
            f"the database is at revision {found}, which this version of Penstock does not know: "
            "a newer version has migrated it; run that version"
        )
    return found


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema up to ``revision``.

    Raises:
        NewerSchemaError: the database is newer than this program.
    """
    check_known(database)
    _run(database, lambda config: command.upgrade(config, revision))


def downgrade(database: Database, revision: str) -> None:
    """Bring the schema down to ``revision`` (``base`` for an empty one)."""
    _run(database, lambda config: command.downgrade(config, revision))
