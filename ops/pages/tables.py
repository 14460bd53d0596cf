"""The page of all tables of the database, from the models."""

from __future__ import annotations

from typing import Any

from migrations.metadata import NOUNS
from models.base import Base
from ops.pages.markdown import code, prose, table

_INTRODUCTION = """\
# Tables

As the models declare them; Alembic's migrations in `migrations/` make the same on SQLite and PostgreSQL
(a test compares). Times are UTC, money is a whole number of 10⁻¹² units, ids are a prefix and a UUID
that sorts by time. Nearly all tables carry `tenant_id`;
[why some do not](decisions/tables-without-a-tenant.md) is a decision of its own.
"""


def page() -> str:
    """All tables by the module that holds them, with their columns."""
    lines = [_INTRODUCTION]
    kinds: list[type[Any]] = [mapper.class_ for mapper in Base.registry.mappers]
    for noun in sorted(NOUNS, key=lambda module: module.__name__):
        mine = (kind for kind in kinds if kind.__module__ == noun.__name__)
        for kind in sorted(mine, key=lambda kind: str(kind.__tablename__)):
            lines += _section(kind)
    return "\n".join(lines)


def _section(kind: type[Any]) -> list[str]:
    columns = kind.__table__.columns
    rows = [(code(column.name), str(column.type).lower(), _notes(column)) for column in columns]
    source = f"`{kind.__module__}.{kind.__name__}`"
    heads = ("column", "type", "")
    return [f"## {kind.__tablename__}", "", f"{prose(kind.__doc__)} ({source})", "", *table(heads, rows)]


def _notes(column: Any) -> str:
    notes = ["key"] if column.primary_key else []
    notes += [f"of `{foreign.target_fullname}`" for foreign in column.foreign_keys]
    notes += ["may be empty"] if column.nullable else []
    return ", ".join(notes)
