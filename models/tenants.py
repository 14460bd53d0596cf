"""Tenants, and their shares of a queue (start-time fair queueing on estimated tokens)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Integer, String, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base, UtcDateTime

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
    if session.get(Tenant, tenant_id) is None:
        session.add(Tenant(id=tenant_id, name=tenant_id, weight=1, created_at=now))
        session.flush()


def take_share(session: Session, tenant_id: str, llm: str, cost: int) -> int:
    """Move a tenant on by ``cost`` estimated tokens; returns the tag at which that work starts.

    The formula is start-time fair queueing: start = max(virtual clock, own
    reach), reach = start + cost / weight.
    """
    weight = session.scalar(select(Tenant.weight).where(Tenant.id == tenant_id)) or 1
    virtual = session.scalar(select(Queue.virtual).where(Queue.llm == llm)) or 0
    step = max(1, cost // weight)
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    query = dialect.insert(FairShare).values(tenant_id=tenant_id, llm=llm, reach=virtual + step)
    largest = func.greatest if dialect is postgresql else func.max
    query = query.on_conflict_do_update(
        index_elements=["tenant_id", "llm"],
        set_={"reach": largest(FairShare.reach, virtual) + step},
    )
    reach = session.scalar(query.returning(FairShare.reach))
    return int(reach or step) - step


def advance(session: Session, llm: str, share: int) -> None:
    """Set a queue's virtual clock forward to the tag of a claimed job; never back."""
    moved = session.execute(
        update(Queue).where(Queue.llm == llm, Queue.virtual < share).values(virtual=share)
    )
    if not moved.rowcount and session.get(Queue, llm) is None:  # type: ignore[attr-defined]  # CursorResult
        session.add(Queue(llm=llm, virtual=share))
        session.flush()
