"""The schema: models and migrations say the same, and every row says whose it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Index, MetaData, inspect, text

import migrations
from migrations.metadata import FULL_TEXT, is_of_the_models, metadata
from models.database import Database

OF_NOBODY = {
    "tenants", "queues", "llms", "workers", "broker_messages", "runtime_settings", "alembic_version",
}  # fmt: skip
"""Tables that hold no tenant's data: tenants themselves, machines, and messages that carry only ids."""


def test_models_are_the_sum_of_the_migrations(database: Database) -> None:
    """Comparing the migrated database with the models, by the environment's own settings, finds nothing."""
    migrations._run(database, command.check)


def test_a_difference_would_be_seen(database: Database) -> None:
    """The comparison finds a lost index, a lost column and a changed type."""
    changes = (
        "DROP INDEX ix_jobs_claim",
        "ALTER TABLE attempts DROP COLUMN outcome",
        "CREATE TABLE extra (id INTEGER)",
    )
    with database.engine.connect() as connection:
        for change in changes:
            connection.execute(text(change))
        context = MigrationContext.configure(connection, opts={"include_object": is_of_the_models})
        found = compare_metadata(context, metadata)
        connection.rollback()
    assert sorted(str(each[0]) for each in found) == ["add_column", "add_index", "remove_table"]


def indexes(source: MetaData, dialect: str) -> dict[str, tuple[bool, str]]:
    """By name: whether an index is unique, and the condition of a partial one."""
    found: dict[str, Index] = {
        str(index.name): index for table in source.tables.values() for index in table.indexes
    }
    return {
        name: (bool(index.unique), plain(str(index.dialect_options[dialect].get("where"))))
        for name, index in found.items()
        if not name.startswith(FULL_TEXT)
    }


def plain(condition: str) -> str:
    """A condition without what PostgreSQL adds when it shows it: casts, brackets, case."""
    bare = re.sub(r"::[\w ]+(\[\])?", "", condition)
    return re.sub(r"[()\s]", "", bare).lower()


def test_partial_indexes_have_the_conditions_of_the_models(database: Database) -> None:
    """What Alembic does not compare: uniqueness and conditions of all indexes are those of the models."""
    migrated = MetaData()
    migrated.reflect(database.engine)
    assert indexes(migrated, database.dialect) == indexes(metadata, database.dialect)


def test_every_row_says_whose_it_is(database: Database) -> None:
    """Each table has a ``tenant_id`` that cannot be empty, but for those that hold no tenant's data."""
    looker = inspect(database.engine)
    without = set()
    for table in looker.get_table_names():
        if table.startswith(FULL_TEXT):  # of SQLite's own making; a tenant's code stands before each word
            continue
        columns = {column["name"]: column for column in looker.get_columns(table)}
        if "tenant_id" not in columns or columns["tenant_id"]["nullable"]:
            without.add(table)
    assert without == OF_NOBODY


@pytest.mark.parametrize(
    "file", sorted(Path(migrations.__file__).parent.glob("versions/*.py")), ids=lambda f: f.stem
)
def test_names_say_when_to_run(file: Path) -> None:
    """A migration's file name is its number, ``pre`` or ``post`` deploy, and what it is about."""
    named = re.fullmatch(r"(\d{4})_(pre|post)_[a-z0-9_]+\.py", file.name)
    assert named is not None
    assert f'revision = "{named[1]}"' in file.read_text(encoding="utf-8")


def test_the_history_is_one_line() -> None:
    """There is one newest revision, and each has at most one before it: numbers rise along the way."""
    scripts = ScriptDirectory.from_config(migrations._config())
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert len(scripts.get_heads()) == 1
    assert revisions == sorted(revisions, reverse=True)
