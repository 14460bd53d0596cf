"""What the tests of the models share."""

from __future__ import annotations

import pytest

from models.database import Database
from tests.models.desk import Desk


@pytest.fixture
def desk(database: Database) -> Desk:
    """A desk over an empty database: once on SQLite, once on PostgreSQL."""
    return Desk(database)
