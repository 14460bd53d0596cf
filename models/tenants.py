"""Tenants, and their shares of a queue (start-time fair queueing on estimated tokens)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate
from typing import cast

from sqlalchemy import BigInteger, Executable, Integer, String, Table, bindparam, case, select
from sqlalchemy.dialects import postgresql, sqlite
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


def _take(insert: type[sqlite.Insert] | type[postgresql.Insert]) -> Executable:
    """Built once: a submission spends less time on its statements so."""
    shares = cast(Table, FairShare.__table__)
    virtual, whole = bindparam("virtual", type_=BigInteger), bindparam("whole", type_=BigInteger)
    behind = case((shares.c.reach > virtual, shares.c.reach), else_=virtual)
    return (
        insert(shares)
        .on_conflict_do_update(index_elements=["tenant_id", "llm"], set_={"reach": behind + whole})
        .returning(shares.c.reach)
    )


_TAKE = {"sqlite": _take(sqlite.Insert), "postgresql": _take(postgresql.Insert)}
_STANDING = select(
    select(Tenant.__table__.c.weight).where(Tenant.__table__.c.id == bindparam("tenant")).scalar_subquery(),
    select(Queue.__table__.c.virtual).where(Queue.__table__.c.llm == bindparam("queue")).scalar_subquery(),
)


def ensure(session: Session, tenant_id: str, now: datetime) -> None:
    """Make a tenant if it is not there."""
    values = {"id": tenant_id, "name": tenant_id, "weight": 1, "created_at": now}
    session.execute(upsert(session, Tenant).values(values).on_conflict_do_nothing())


def take_shares(session: Session, tenant_id: str, llm: str, costs: Sequence[int]) -> list[int]:
    """Move a tenant on by some jobs of ``costs`` estimated tokens; returns the tag at which each starts.

    The formula is start-time fair queueing: start = max(virtual clock, own
    reach), reach = start + cost / weight; the next job starts at that reach.
    """
    weight, virtual = session.execute(_STANDING, {"tenant": tenant_id, "queue": llm}).one()
    weight, virtual = weight or 1, virtual or 0
    starts = list(accumulate((max(1, cost // weight) for cost in costs), initial=0))
    whole = starts.pop()
    values = {
        "tenant_id": tenant_id,
        "llm": llm,
        "reach": virtual + whole,
        "virtual": virtual,
        "whole": whole,
    }
    reach = session.scalar(_TAKE[session.get_bind().dialect.name], values)
    return [int(reach or whole) - whole + start for start in starts]


def advance(session: Session, llm: str, share: int) -> None:
    """Set a queue's virtual clock forward to the tag of a claimed job; never back."""
    session.execute(
        upsert(session, Queue)
        .values(llm=llm, virtual=share)
        .on_conflict_do_update(index_elements=["llm"], set_={"virtual": share}, where=Queue.virtual < share)
    )
