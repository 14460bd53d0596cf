"""Tenants, and their shares of a queue (start-time fair queueing on estimated tokens)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate

from sqlalchemy import BigInteger, Integer, String, case, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base, UtcDateTime, upsert

DEFAULT_TENANT = "default"


class Tenant(Base):
    """Someone whose jobs, agents and keys nobody else sees; ``weight`` is the share of the queue."""

    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    weight: Mapped[int] = mapped_column(Integer, default=1)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class FairShare(Base):
    """How far a tenant's submitted work reaches on the virtual clock of one queue."""

    __tablename__ = "fair_shares"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    llm: Mapped[str] = mapped_column(String(64), primary_key=True)
    reach: Mapped[int] = mapped_column(BigInteger)


class Queue(Base):
    """One LLM's queue; ``virtual`` is the share tag of the furthest job claimed."""

    __tablename__ = "queues"

    llm: Mapped[str] = mapped_column(String(64), primary_key=True)
    virtual: Mapped[int] = mapped_column(BigInteger, default=0)


def ensure(session: Session, tenant_id: str, now: datetime) -> None:
    """Make a tenant if it is not there."""
    values = {"id": tenant_id, "name": tenant_id, "weight": 1, "created_at": now}
    session.execute(upsert(session, Tenant).values(values).on_conflict_do_nothing())


def take_shares(session: Session, tenant_id: str, llm: str, costs: Sequence[int]) -> list[int]:
    """Move a tenant on by some jobs of ``costs`` estimated tokens; returns the tag at which each starts.

    The formula is start-time fair queueing: start = max(virtual clock, own
    reach), reach = start + cost / weight; the next job starts at that reach.
    """
    weight = session.scalar(select(Tenant.weight).where(Tenant.id == tenant_id)) or 1
    virtual = session.scalar(select(Queue.virtual).where(Queue.llm == llm)) or 0
    starts = list(accumulate((max(1, cost // weight) for cost in costs), initial=0))
    whole = starts.pop()
    behind = case((FairShare.reach > virtual, FairShare.reach), else_=virtual)
    reach = session.scalar(
        upsert(session, FairShare)
        .values(tenant_id=tenant_id, llm=llm, reach=virtual + whole)
        .on_conflict_do_update(index_elements=["tenant_id", "llm"], set_={"reach": behind + whole})
        .returning(FairShare.reach)
    )
    return [int(reach or whole) - whole + start for start in starts]


def advance(session: Session, llm: str, share: int) -> None:
    """Set a queue's virtual clock forward to the tag of a claimed job; never back."""
    session.execute(
        upsert(session, Queue)
        .values(llm=llm, virtual=share)
        .on_conflict_do_update(index_elements=["llm"], set_={"virtual": share}, where=Queue.virtual < share)
    )
