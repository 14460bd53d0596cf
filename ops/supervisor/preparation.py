"""What must be there before the children start: folder, lock, schema, first key."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ops import backups
from ops.complaint import Complaint
from ops.show import say

if TYPE_CHECKING:
    from models.database import Database

CONSOLE = "console"
"""The actor, in the audit trail, of what was done on the machine itself and not over HTTP."""

KEEP_BACKUPS = 5

LEAST_FREE_BYTES = 48 * 2**20
"""Room for a start: shared figures take 12 MiB of it, and a service with less than 32 left is not ready."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say in a sentence why something cannot be written in the data directory.

    Raises:
        Complaint: the disk is full, or the place is not ours to write in.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise _full(folder) from error
        raise Complaint(
            f"The data directory {folder} cannot be written ({error.strerror}): "
            "give yourself the right, or choose another folder with --data-dir."
        ) from error


def _full(folder: Path) -> Complaint:
    return Complaint(
        f"The disk is full: {folder} needs {LEAST_FREE_BYTES >> 20} MiB of room for a start. "
        "Make it there, or choose another folder with --data-dir."
    )


def make_folder(folder: Path) -> None:
    """Make the data directory and the folders in it, readable by nobody else.

    Raises:
        Complaint: the place cannot be written, or the disk is full.
    """
    os.umask(0o077)  # for all that we and our children make: rows, keys and logs are private
    with writing(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in ("logs", "metrics", "backups"):
            (folder / part).mkdir(exist_ok=True)
    if shutil.disk_usage(folder).free < LEAST_FREE_BYTES:
        raise _full(folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the data directory for one `up` alone; the lock goes with the process, however it ends.

    Raises:
        Complaint: another one holds it, or the lock cannot be written.
    """
    with writing(folder):
        file = (folder / "lock").open("a+", encoding="utf-8")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise Complaint(
                f"Another `penstock up` (process {holder}) runs on {folder}: stop it, "
                "or choose another folder with --data-dir."
            ) from None
        with writing(folder):
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield


def migrate(database: Database, folder: Path) -> str | None:
    """Bring the schema up to this program's, after a copy of an SQLite file; returns the old revision.

    Raises:
        migrations.NewerSchemaError: the schema is newer than this program.
        migrations.NoDatabaseError: what is there is no database.
        Complaint: no copy could be made.
    """
    import migrations

    before = migrations.check_known(database)
    if before == migrations.head():
        return before
    if before is not None and database.dialect == "sqlite":
        say(f"Backed the database up to {back_up(Path(database.engine.url.database or ''), folder, before)}")
    say(f"Migrating the database from {before or 'nothing'} to {migrations.head()}")
    migrations.upgrade(database)
    return before


def back_up(file: Path, folder: Path, revision: str) -> Path:
    """Copy a live SQLite file into ``folder``/backups and keep the last five copies.

    Raises:
        Complaint: the copy could not be made; what there was of it is gone.
    """
    made = backups.place(folder, f"penstock-{revision}")
    backups.copy(file, made)
    copies = sorted(made.parent.glob("penstock-*.db"), key=lambda path: path.stat().st_mtime_ns)
    for old in copies[:-KEEP_BACKUPS]:
        old.unlink()
    return made


def first_key(database: Database, file: Path) -> bool:
    """Make the first key and leave its text in ``file``; says whether one was made.

    The file is there before the row is committed: a crash between the two
    leaves a text without a key, and the next start makes both anew.
    """
    from models import audit, keys, tenants
    from models.base import utcnow

    with database.write() as session:
        if keys.any_exist(session):
            if not file.exists():
                say(f"There are keys, but not in {file}: `penstock key create` makes another.")
            return False
        now = utcnow()
        tenant = tenants.DEFAULT_TENANT
        tenants.ensure(session, tenant, now)
        text = keys.create(session, tenant, "first", now)
        audit.record(session, [audit.row(tenant, CONSOLE, "key.create", text.split("_")[1], now)])
        write_private(file, text + "\n")
    return True


def write_private(file: Path, text: str) -> None:
    """Replace a file at once and durably, readable by its owner alone."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(file)
