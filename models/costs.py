"""The bill: what each job's tokens cost, one billable entry a job at the most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Boolean, Index, Integer, String, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base, Money, Serial, UtcDateTime, rows_into


class Cost(Base):
    """Tokens of one attempt and their price; attempts that were lost stand here at zero."""

    __tablename__ = "costs"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(String(40))
    fence: Mapped[int] = mapped_column(Integer)
    billable: Mapped[bool] = mapped_column(Boolean)
    llm: Mapped[str] = mapped_column(String(64))
    agent: Mapped[str | None] = mapped_column(String(128))
    prompt_tokens: Mapped[int] = mapped_column(Integer)
    cached_tokens: Mapped[int] = mapped_column(Integer)
    completion_tokens: Mapped[int] = mapped_column(Integer)
    currency: Mapped[str] = mapped_column(String(3))
    prompt_amount: Mapped[Decimal] = mapped_column(Money)
    cached_amount: Mapped[Decimal] = mapped_column(Money)
    completion_amount: Mapped[Decimal] = mapped_column(Money)
    amount: Mapped[Decimal] = mapped_column(Money)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


Index(
    "uq_costs_billable_job", Cost.job_id, unique=True,
    sqlite_where=text("billable"), postgresql_where=text("billable"),
)  # fmt: skip
Index("uq_costs_job_id_fence", Cost.job_id, Cost.fence, unique=True)
Index("ix_costs_tenant_id_created_at", Cost.tenant_id, Cost.created_at)


_INSERT = rows_into(Cost)


def record(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Store cost entries (values by column name)."""
    if rows:
        session.execute(_INSERT, rows)


def billed(session: Session, job_ids: Iterable[str]) -> dict[str, Cost]:
    """The billable entry of each job that has one."""
    query = select(Cost).where(Cost.job_id.in_(tuple(job_ids)), Cost.billable.is_(True))
    return {cost.job_id: cost for cost in session.scalars(query)}


def page(session: Session, tenant_id: str, before: int | None, limit: int) -> list[Cost]:
    """Entries of a tenant, newest first, those before the one with id ``before``."""
    query = select(Cost).where(Cost.tenant_id == tenant_id)
    if before is not None:
        query = query.where(Cost.id < before)
    return list(session.scalars(query.order_by(Cost.id.desc()).limit(limit)))
