"""Migrating: forward, back and forward again, and what happens when program and database do not fit."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import event, inspect, text
from sqlalchemy.exc import IntegrityError

import migrations
from migrations import SchemaError
from models import listing
from models.database import Database
from models.documents import Document
from models.finding import Filters
from tests.indexing import index
from tests.migrations.filled import counts, fill
from tests.models.desk import Desk
from tests.rows import TENANT, new_job


@pytest.fixture
def empty(database_url: str) -> Iterator[Database]:
    """An empty database, without any table."""
    database = Database.connect(database_url)
    yield database
    database.close()


def tables(database: Database) -> set[str]:
    """The names of all tables there are."""
    return set(inspect(database.engine).get_table_names())


def revisions() -> list[str]:
    """All revisions, oldest first."""
    scripts = ScriptDirectory.from_config(migrations._config())
    return [script.revision for script in scripts.walk_revisions()][::-1]


def test_forward_back_and_forward_again(empty: Database) -> None:
    """With rows in every table the schema goes down to nothing and up again, and works as before."""
    for _ in range(2):
        migrations.upgrade(empty)
        assert migrations.current(empty) == migrations.head()
        fill(empty)
        migrations.downgrade(empty, "base")
        assert (tables(empty), migrations.current(empty)) == ({"alembic_version"}, None)


def test_each_step_goes_back_with_its_rows(empty: Database) -> None:
    """One revision down and up again loses no row of a table that both know."""
    migrations.upgrade(empty)
    fill(empty)
    before = counts(empty)
    for revision in revisions()[-2:-1]:
        migrations.downgrade(empty, revision)
        known = before.keys() & tables(empty)
        migrations.upgrade(empty)
        after = counts(empty)
        assert {name: after[name] for name in known} == {name: before[name] for name in known}


def test_jobs_from_before_the_search_are_found(empty: Database) -> None:
    """After the upgrade they are read one by one until the index has come to them."""
    migrations.upgrade(empty, "0002")
    desk = Desk(empty)
    (old,) = desk.submit(new_job("needle"))
    migrations.upgrade(empty)
    for count in (0, 1):
        with empty.read() as session:
            page = listing.page(session, TENANT, Filters(text="needle"), None, 9)
        assert [job.id for job in page.jobs] == [old]
        assert len(desk.all(Document)) == count
        index(empty)


def test_a_sqlite_without_full_text_search_is_refused(sqlite_url: str) -> None:
    """One sentence says what is missing, and nothing of the step stays."""
    database = Database.connect(sqlite_url)
    migrations.upgrade(database, "0002")
    event.listen(database.engine, "connect", without_fts5)
    database.engine.dispose()
    with pytest.raises(RuntimeError, match="SQLite has been built without FTS5"):
        migrations.upgrade(database)
    assert migrations.current(database) == "0002"
    assert "documents" not in tables(database)
    database.close()


def without_fts5(connection: Any, _record: object) -> None:
    """Let a connection say that it has been built without everything."""
    connection.create_function("sqlite_compileoption_used", 1, lambda _name: 0)


def test_a_fitting_schema_is_accepted(database: Database) -> None:
    """At the newest revision there is nothing to complain of, and nothing to do."""
    migrations.check(database)
    migrations.upgrade(database)
    assert migrations.current(database) == migrations.head()


def test_an_older_schema_is_refused(empty: Database) -> None:
    """A database that was never migrated, or not far enough, names the cure."""
    assert migrations.current(empty) is None
    with pytest.raises(SchemaError, match="penstock migrate"):
        migrations.check(empty)


def test_a_newer_schema_is_refused(empty: Database) -> None:
    """A revision that this program does not know is neither used nor touched."""
    migrations.upgrade(empty)
    with empty.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for step in (migrations.check, migrations.upgrade):
        with pytest.raises(SchemaError, match="newer version"):
            step(empty)
    assert migrations.current(empty) == "9999"


def test_looking_takes_no_lock(database: Database) -> None:
    """The revision can be read while another writes."""
    with database.write() as session:
        session.execute(text("UPDATE queues SET virtual = 1"))
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(migrations.current, database).result(5) == migrations.head()


def test_a_step_that_fails_leaves_everything_as_it_was(empty: Database) -> None:
    """Nothing of a broken migration stays, and the connection checks references as before."""

    def broken(config: Config) -> None:
        config.attributes["connection"].execute(text("CREATE TABLE half (id INTEGER)"))
        raise LookupError

    migrations.upgrade(empty)
    with pytest.raises(LookupError):
        migrations._run(empty, broken)
    assert "half" not in tables(empty)
    with pytest.raises(IntegrityError), empty.write() as session:
        session.execute(text("INSERT INTO payloads (job_id, tenant_id, request) VALUES ('none', 'a', '{}')"))


@pytest.mark.slow
def test_processes_that_migrate_at_once_do_it_once(postgres_url: str) -> None:
    """On PostgreSQL, which has no single writer, processes wait for each other and find one schema."""
    script = "import sys, migrations as m; m.upgrade(m.Database.connect(sys.argv[1]))"
    started = [subprocess.Popen([sys.executable, "-c", script, postgres_url]) for _ in range(2)]
    assert [process.wait(60) for process in started] == [0, 0]


def test_threads_that_migrate_at_once_do_it_once(empty: Database) -> None:
    """So do threads of one process, though Alembic knows only one migration at a time."""
    start = threading.Barrier(2)

    def migrate(_: int) -> None:
        start.wait(10)
        migrations.upgrade(empty)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(migrate, range(2)))
    assert migrations.current(empty) == migrations.head()
