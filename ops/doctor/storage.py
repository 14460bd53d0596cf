"""Database, broker and key file."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import migrations
from config.settings import Settings
from models import counters, keys
from models.database import Database, Unavailable
from ops.complaint import Complaint
from ops.doctor.finding import Finding, fail, ok, warn
from ops.storage import connect, is_there, sqlite_file


def database(settings: Settings) -> Iterator[Finding]:
    """Whether it answers, has the schema of this program, is whole, and counts right."""
    file = sqlite_file(settings)
    if file is not None and not file.exists():
        yield warn("database", f"there is none at {file}", "`penstock up` makes it")
        return
    try:
        found = connect(settings)
    except Complaint as error:
        yield fail("database", str(error), "put database.url right")
        return
    try:
        revision = migrations.current(found)
        yield ok("database", f"{found.dialect} answers")
        yield from _schema(found, revision)
        if file is not None:
            yield _integrity(file)
        if revision == migrations.head():
            yield _counters(found)
    except Exception as error:  # noqa: BLE001 - drivers differ in what they raise; the person needs its words
        yield fail("database", f"does not answer: {error}", "start it, or put database.url right")
    finally:
        found.close()


def _schema(found: Database, revision: str | None) -> Iterator[Finding]:
    try:
        migrations.check(found)
    except migrations.NewerSchemaError as error:
        yield fail("migrations", str(error), "run the newer version of Penstock")
    except migrations.SchemaError as error:
        yield warn("migrations", str(error), "`penstock up` or `penstock migrate` does it")
    else:
        yield ok("migrations", f"at {revision}, as this version wants it")


def _integrity(file: Path) -> Finding:
    """SQLite's own check of its pages and rows, on a connection that cannot write."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        words = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
    if words == ["ok"]:
        return ok("integrity", f"{file.name} is whole ({file.stat().st_size / 2**20:.1f} MiB)")
    cure = f"stop the service and put back the newest copy in {file.parent / 'backups'}"
    return fail("integrity", "; ".join(map(str, words)), cure)


def _counters(found: Database) -> Finding:
    with found.read() as session:
        drift = counters.drift(session)
    if not drift:
        return ok("counters", "agree with the rows")
    worst = ", ".join(f"{llm}/{name} {amount:+d}" for (_, llm, _, name), amount in list(drift.items())[:3])
    return fail("counters", f"differ from the rows: {worst}", "report it: this must never happen")


def broker(settings: Settings) -> Iterator[Finding]:
    """Whether hints can travel."""
    if settings.broker.kind == "redis":
        yield _redis(settings)
        return
    yield ok("broker", "embedded in the database")


def _redis(settings: Settings) -> Finding:
    import redis

    url = settings.broker.redis_url
    if url is None:
        return fail("broker", "broker.kind is redis, but broker.redis_url is not set", "set it")
    try:
        with closing(redis.Redis.from_url(url.get_secret_value(), socket_timeout=3)) as connection:
            connection.ping()
            version = connection.info("server").get("redis_version", "of unknown version")
    except (redis.RedisError, ValueError) as error:
        return fail("broker", f"Redis does not answer: {error}", "start it, or put broker.redis_url right")
    return ok("broker", f"Redis {version} answers")


def key_file(settings: Settings) -> Iterator[Finding]:
    """Whether the key that the command line uses is there, private and valid."""
    file = settings.data_dir / "api-key"
    if not file.exists():
        yield warn("key file", f"there is none at {file}", "`penstock up` makes the first key")
        return
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        yield fail("key file", f"{file} is readable by others ({mode:o})", f"chmod 600 {file}")
    else:
        yield ok("key file", f"{file}, readable by you alone")
    if not _is_valid(settings, file.read_text(encoding="utf-8").strip()):
        cure = f"`penstock key create > {file}` makes another"
        yield fail("key", "the key in the file opens nothing", cure)


def _is_valid(settings: Settings, text: str) -> bool:
    """Whether the database knows the key; true too where it cannot be asked."""
    if not is_there(settings):
        return True
    found = connect(settings)
    try:
        with found.read() as session:
            return keys.verify(session, text) is not None
    except Unavailable:
        return True
    finally:
        found.close()
