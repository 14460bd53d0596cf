"""``penstock backup`` and ``penstock restore``: the whole database in one file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.invocation import Invocation
from ops.cli.options import DataDir, Json
from ops.complaint import CONFIGURATION_ERROR, Complaint
from ops.show import document, say

if TYPE_CHECKING:
    from config.settings import Settings

Target = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="Where to; by default a new file among the backups."),
]
Source = Annotated[Path, typer.Argument(metavar="FILE", help="A file that `penstock backup` made.")]


def backup(ctx: typer.Context, target: Target = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Copy the SQLite database into a file; the service may run."""
    call = Invocation.of(ctx, data_dir, json)
    from ops import backups

    source = _file(call.settings)
    with call.database() as database:
        import migrations

        revision = migrations.current(database) or "empty"
    made = target or backups.place(call.settings.data_dir, f"backup-{revision}")
    if target is not None and target.exists():
        raise Complaint(f"{target} is there already: name a new file, or remove it first.")
    backups.copy(source, made)
    if call.json:
        document({"file": made, "bytes": made.stat().st_size, "revision": revision})
    else:
        print(made)


def restore(ctx: typer.Context, source: Source, data_dir: DataDir = None, json: Json = False) -> None:
    """Put a copy in the place of the SQLite database; the service must be stopped."""
    call = Invocation.of(ctx, data_dir, json)
    from ops import backups
    from ops.supervisor import preparation

    file, folder = _file(call.settings), call.settings.data_dir
    revision = backups.revision(source)
    preparation.make_folder(folder)
    with preparation.locked(folder):
        kept = backups.restore(source, file, folder)
    if call.json:
        document({"file": file, "revision": revision, "kept": kept})
    else:
        say(f"{file} is what {source} was." + (f" What was there is kept in {kept}." if kept else ""))


def _file(settings: Settings) -> Path:
    """The file of the database.

    Raises:
        Complaint: it is no SQLite database.
    """
    from ops.storage import sqlite_file

    file = sqlite_file(settings)
    if file is None:
        raise Complaint(
            "The database is PostgreSQL: use pg_dump and pg_restore, as the page on operations shows.",
            CONFIGURATION_ERROR,
        )
    return file
