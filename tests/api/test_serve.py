"""Serving: what it refuses to begin with."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.serve import serve
from config.settings import Settings
from models.database import Database
from workers.broker import SqlBroker, make_broker


def test_wrong_schema_is_not_served(settings: Settings) -> None:
    """When the schema is not this version's nothing is bound, and the reason reaches the caller."""

    def refuse(database: Database) -> None:
        assert database.dialect == "sqlite"
        raise LookupError("the database is newer")

    with pytest.raises(LookupError, match="newer"):
        serve(settings, refuse)


def test_own_broker_is_closed(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker that the application made is closed with it; one that it was given is its giver's."""
    closed: list[SqlBroker] = []

    def close(broker: SqlBroker) -> None:
        closed.append(broker)

    monkeypatch.setattr(SqlBroker, "close", close)
    given = make_broker(settings, database)
    for broker in (None, given):
        with TestClient(create_app(settings, database, broker)):
            pass
    assert len(closed) == 1
    assert closed[0] is not given
