"""Rows that wait for the end of their transaction."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event

from models import audit, rows
from models.audit import Audit
from models.base import utcnow
from models.database import Database


def act(number: int) -> dict[str, Any]:
    """An act to be recorded."""
    return audit.row("default", "key", "job.submit", f"job_{number}", utcnow())


def subjects(database: Database) -> list[str]:
    """What is recorded, in order."""
    with database.read() as session:
        return [found.subject for found in session.query(Audit).order_by(Audit.id)]


def test_they_are_written_together_at_the_commit(database: Database) -> None:
    """What several acts of one transaction add to a table is one statement, in their order."""
    statements: list[tuple[str, bool]] = []

    def note(*arguments: Any) -> None:
        statements.append((arguments[2].split()[0], bool(arguments[5])))

    event.listen(database.engine, "before_cursor_execute", note)
    with database.write() as session:
        audit.record(session, [act(1), act(2)])
        audit.record(session, [])
        audit.record(session, [act(3)])
        before = len([verb for verb, _ in statements if verb == "INSERT"])
    event.remove(database.engine, "before_cursor_execute", note)
    assert (before, [many for verb, many in statements if verb == "INSERT"]) == (0, [True])
    assert subjects(database) == ["job_1", "job_2", "job_3"]


def test_a_rollback_forgets_them(database: Database) -> None:
    """Rows of a transaction that failed are never written."""

    def fail() -> None:
        with database.write() as session:
            audit.record(session, [act(1)])
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    with database.write() as session:
        audit.record(session, [act(2)])
        rows.write(session)
        audit.record(session, [act(3)])
    assert subjects(database) == ["job_2", "job_3"]
