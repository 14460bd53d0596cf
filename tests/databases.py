"""Migrated databases for tests: made once in a test process, then only copied or emptied."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, make_url, text

import migrations
from migrations.metadata import metadata
from models.database import Database


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file at the newest revision with no rows, to be copied and never opened."""
    file = tmp_path_factory.mktemp("migrated") / "penstock.db"
    made = Database.connect(f"sqlite:///{file}")
    migrations.upgrade(made)
    made.close()  # the last one out folds the write-ahead log into the file
    return file


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: str) -> Iterator[str]:
    """The URL of a PostgreSQL database at the newest revision, shared by tests that empty it again."""
    name = f"penstock_test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        url = make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
        made = Database.connect(url)
        migrations.upgrade(made)
        made.close()
        yield url
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_database(tmp_path: Path, migrated_file: Path) -> Iterator[Database]:
    """A migrated, empty SQLite database."""
    file = tmp_path / "penstock.db"
    shutil.copyfile(migrated_file, file)
    database = Database.connect(f"sqlite:///{file}")
    without_fsync(database)
    yield database
    database.close()


def without_fsync(database: Database) -> None:
    """Let a SQLite database not wait for the disk: no power cut comes in a test."""

    def relax(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    event.listen(database.engine, "connect", relax)


@pytest.fixture
def postgres_database(migrated_postgres: str) -> Iterator[Database]:
    """A migrated, empty PostgreSQL database."""
    database = Database.connect(migrated_postgres)
    yield database
    tables = ", ".join(metadata.tables)
    with database.write() as session:
        session.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))
    database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Database:
    """A migrated, empty database: once on SQLite, once on PostgreSQL. Its URL is its own affair."""
    fixture = "sqlite_database" if request.param == "sqlite" else "postgres_database"
    made: Database = request.getfixturevalue(fixture)
    return made
