"""What all tables share: names of constraints, times in UTC, money without floats."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    DateTime,
    Dialect,
    Insert,
    Integer,
    MetaData,
    Table,
    TypeDecorator,
    insert,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Session

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

MONEY_SCALE = 12
"""Digits after the point that are kept: a millionth of a millionth."""

Serial = BigInteger().with_variant(Integer, "sqlite")
"""A 64-bit key that SQLite too hands out by itself (it does so for INTEGER only)."""


class Base(DeclarativeBase):
    """The parent of every table."""

    metadata = MetaData(naming_convention=NAMING)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC; a naive one is refused with ``ValueError``."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware time into what the database keeps."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  (its signature)
        """Give every stored time its zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Money(TypeDecorator[Decimal]):
    """An amount of money as a whole number of 1e-12 units, so that sums are exact."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:  # noqa: ARG002  (its signature)
        """Scale an amount up; more than 12 digits after the point are rounded half to even."""
        return None if value is None else int(value.scaleb(MONEY_SCALE).to_integral_value())

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Decimal | None:  # noqa: ARG002  (its signature)
        """Scale a stored number down; sums come back as int or Decimal."""
        return None if value is None else Decimal(value).scaleb(-MONEY_SCALE)


def upsert(session: Session, table: type[Base]) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that can say what happens when the row is there (``on_conflict_do_update`` and so on).

    Looking first and inserting then would fail whenever two transactions look at once.
    """
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def rows_into(table: type[Base]) -> Insert:
    """An INSERT of mappings by column name, to be made once and used for ever.

    Without the ORM, and not built anew, it costs a quarter of ``insert(table)``.
    """
    return insert(cast(Table, table.__table__))


def utcnow() -> datetime:
    """The wall time, aware, in UTC."""
    return datetime.now(UTC)
