"""Tenants, and their shares of a queue (start-time fair queueing on estimated tokens)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate
from typing import cast

from sqlalchemy import BigInteger, Executable, Integer, String, Table, bindparam, case, func, select
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
    """Built once, and one statement: a submission spends less time on it so."""
    shares, queues, tenants = (cast(Table, noun.__table__) for noun in (FairShare, Queue, Tenant))
    tenant, llm = bindparam("tenant", type_=String), bindparam("queue", type_=String)
    count = bindparam("count", type_=BigInteger)
    weight = func.coalesce(select(tenants.c.weight).where(tenants.c.id == tenant).scalar_subquery(), 1)
    virtual = func.coalesce(select(queues.c.virtual).where(queues.c.llm == llm).scalar_subquery(), 0)
    fair = bindparam("cost", type_=BigInteger) // weight
    whole = case((fair > count, fair), else_=count)
    made = insert(shares).values(tenant_id=tenant, llm=llm, reach=virtual + whole)
    # Of two ends the further: behind one's own work, or behind the virtual clock.
    ahead = case((shares.c.reach > virtual, shares.c.reach), else_=virtual)
    return made.on_conflict_do_update(
        index_elements=["tenant_id", "llm"], set_={"reach": ahead + whole}
    ).returning(shares.c.reach, weight)


_TAKE = {"sqlite": _take(sqlite.Insert), "postgresql": _take(postgresql.Insert)}


def ensure(session: Session, tenant_id: str, now: datetime) -> None:
    """Make a tenant if it is not there."""
    values = {"id": tenant_id, "name": tenant_id, "weight": 1, "created_at": now}
    session.execute(upsert(session, Tenant).values(values).on_conflict_do_nothing())


def take_shares(session: Session, tenant_id: str, llm: str, costs: Sequence[int]) -> list[int]:
    """Move a tenant on by some jobs of ``costs`` estimated tokens; returns the tag at which each starts.

    The formula is start-time fair queueing: start = max(virtual clock, own
    reach), reach = start + cost / weight; the next job starts at that reach.
    No job is free, whatever the weight: each moves its tenant on by one at least.
    """
    values = {"tenant": tenant_id, "queue": llm, "cost": sum(costs), "count": len(costs)}
    reach, weight = session.execute(_TAKE[session.get_bind().dialect.name], values).one()
    before = accumulate(costs, initial=0)
    starts = [max(number, cost // weight) for number, cost in enumerate(before)]
    whole = starts.pop()
    return [int(reach) - whole + start for start in starts]


def advance(session: Session, llm: str, share: int) -> None:
    """Set a queue's virtual clock forward to the tag of a claimed job; never back."""
    session.execute(
        upsert(session, Queue)
        .values(llm=llm, virtual=share)
        .on_conflict_do_update(index_elements=["llm"], set_={"virtual": share}, where=Queue.virtual < share)
    )
