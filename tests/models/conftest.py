"""What the tests of the models share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from models.books import check_integrity
from models.database import Database
from tests.models.desk import Desk


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    """A desk over an empty database, once on SQLite, once on PostgreSQL; the books balance at the end."""
    desk = Desk(database)
    yield desk
    with database.read() as session:
        assert desk.is_tampered or check_integrity(session) == []
