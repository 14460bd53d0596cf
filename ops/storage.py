"""The way to the service's database for commands that work without the API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ops.complaint import CONFIGURATION_ERROR, Complaint

if TYPE_CHECKING:
    from config.settings import Settings
    from models.database import Database


def sqlite_file(settings: Settings) -> Path | None:
    """The file of an SQLite database; None for any other."""
    url = settings.database_url
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


def is_there(settings: Settings) -> bool:
    """Whether there can be a database: to ask SQLite for one that is not there would make it."""
    file = sqlite_file(settings)
    return file is None or file.exists()


def connect(settings: Settings) -> Database:
    """The database that the settings name; nothing is asked of it yet.

    Raises:
        Complaint: the URL cannot be used.
    """
    from models.database import Database

    try:
        return Database.connect(
            settings.database_url,
            pool_size=2,  # a command asks one thing at a time
            busy_timeout_ms=settings.database.busy_timeout_ms,
        )
    except Exception as error:  # whatever a driver says here, it is about the URL
        raise Complaint(f"database.url cannot be used: {error}", CONFIGURATION_ERROR) from error
