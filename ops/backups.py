"""Copies of the SQLite database, made while the service runs and put back while it does not."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from ops.complaint import Complaint

FOLDER = "backups"
SIDES = ("-wal", "-shm")
"""What SQLite keeps beside a file and folds into it; a copy has none of it."""


def place(folder: Path, label: str) -> Path:
    """A file for a copy among the others of a data directory; the name tells what for, and when."""
    backups = folder / FOLDER
    backups.mkdir(exist_ok=True)
    return backups / f"{label}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.db"


def copy(source: Path, target: Path) -> None:
    """Copy a database by SQLite's online backup, whatever is being written to it; replaces ``target``.

    The copy is checked, durable, and readable by its owner alone.

    Raises:
        Complaint: it could not be made; what there was of it is gone.
    """
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        draft.touch(mode=0o600, exist_ok=False)
        with closing(_opened(source)) as original, closing(sqlite3.connect(draft)) as made:
            original.backup(made)
            made.execute("PRAGMA journal_mode=DELETE")
            (verdict,) = made.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise Complaint(f"{source} is damaged ({verdict}): no copy was made.")
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(target)
    except (sqlite3.Error, OSError) as error:
        raise Complaint(f"{source} cannot be copied to {target} ({error}): make room there.") from error
    finally:
        for side in ("", *SIDES, "-journal"):
            with suppress(OSError):
                Path(f"{draft}{side}").unlink(missing_ok=True)


def revision(file: Path) -> str:
    """The revision of the schema in a copy, which is only read.

    Raises:
        Complaint: it is no copy of a Penstock database.
    """
    try:
        with closing(_opened(file)) as opened:
            return str(opened.execute("SELECT version_num FROM alembic_version").fetchone()[0])
    except (sqlite3.Error, TypeError) as error:
        wanted = "name a file that `penstock backup` made"
        raise Complaint(f"{file} holds no Penstock database ({error}): {wanted}.") from error


def _opened(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)


def restore(source: Path, file: Path, folder: Path) -> Path | None:
    """Put a copy in the place of the database; returns where the database that was there is kept.

    The caller sees to it that nothing has the database open.

    Raises:
        Complaint: one of the two cannot be copied; the database is as it was.
    """
    kept = None
    if file.exists():
        kept = place(folder, "before-restore")
        copy(file, kept)
    copy(source, file)
    for side in SIDES:
        Path(f"{file}{side}").unlink(missing_ok=True)
    return kept
