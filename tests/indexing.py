"""The full-text index for tests: brought up to date on the spot."""

from __future__ import annotations

from models.database import Database
from workers.indexing import Indexer


def index(database: Database) -> None:
    """Make the documents of all jobs that can be seen."""
    for _ in Indexer(database, 1.0).round():
        pass
