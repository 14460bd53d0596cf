"""Serving: what it refuses to begin with."""

from __future__ import annotations

import pytest

from api.serve import serve
from config.settings import Settings
from models.database import Database


def test_wrong_schema_is_not_served(settings: Settings) -> None:
    """When the schema is not this version's nothing is bound, and the reason reaches the caller."""

    def refuse(database: Database) -> None:
        assert database.dialect == "sqlite"
        raise LookupError("the database is newer")

    with pytest.raises(LookupError, match="newer"):
        serve(settings, refuse)
