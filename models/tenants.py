"""Tenants, and their shares of a queue (start-time fair queueing on estimated tokens)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import accumulate
from typing import cast

from sqlalchemy import (
    BigInteger,
    Boolean,
    Executable,
    Integer,
    SmallInteger,
    String,
    Table,
    bindparam,
    case,
    false,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base, UtcDateTime, upsert
from models.lanes import SHARED
from models.states import Priority

DEFAULT_TENANT = "default"


class Tenant(Base):
    """Someone whose jobs, agents and keys nobody else sees.

    ``weight`` is the share of the queue, ``max_running`` how many jobs run at
    once (none: as many as there is room for), ``max_waiting`` how many may wait
    (none: what the settings say). ``shares_prefixes`` says whether what is computed of its prompts
    serves other tenants that share theirs, and the other way round.
    """

    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    weight: Mapped[int] = mapped_column(Integer, default=1)
    max_running: Mapped[int | None] = mapped_column(Integer)
    max_waiting: Mapped[int | None] = mapped_column(Integer)
    shares_prefixes: Mapped[bool] = mapped_column(Boolean, server_default=false())
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class FairShare(Base):
    """How far a tenant's submitted work of one class reaches on the virtual clock of one queue.

    Of one class: else a tenant's interactive job would wait behind its own background jobs.
    """

    __tablename__ = "fair_shares"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    llm: Mapped[str] = mapped_column(String(64), primary_key=True)
    priority: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    reach: Mapped[int] = mapped_column(BigInteger)


class Mode(StrEnum):
    """What a queue does: all, nothing but take jobs in, or nothing but work off what it has."""

    OPEN = "open"
    PAUSED = "paused"
    DRAINING = "draining"


class Queue(Base):
    """One LLM's queue; ``virtual`` is the share tag of the furthest job claimed, ``mode`` a :class:`Mode`."""

    __tablename__ = "queues"

    llm: Mapped[str] = mapped_column(String(64), primary_key=True)
    virtual: Mapped[int] = mapped_column(BigInteger, default=0)
    mode: Mapped[str] = mapped_column(String(16), default=Mode.OPEN, server_default="open")


class Draining(Exception):  # noqa: N818  (a state that passes, not a mistake)
    """The queue of an LLM, its one argument, takes no jobs in until it is resumed; nothing was stored."""

    @property
    def llm(self) -> str:
        """Whose queue it is."""
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Shares:
    """The tag at which each of some jobs starts, the lane that they wait in, and what their queue does."""

    starts: list[int]
    lane: str
    mode: Mode = Mode.OPEN


def _take(insert: type[sqlite.Insert] | type[postgresql.Insert]) -> Executable:
    """Built once, and one statement: a submission spends less time on it so."""
    shares, queues, tenants = (cast(Table, noun.__table__) for noun in (FairShare, Queue, Tenant))
    tenant, llm = bindparam("tenant", type_=String), bindparam("queue", type_=String)
    priority = bindparam("class", type_=SmallInteger)
    count = bindparam("count", type_=BigInteger)
    of_tenant, of_queue = tenants.c.id == tenant, queues.c.llm == llm
    weight = func.coalesce(select(tenants.c.weight).where(of_tenant).scalar_subquery(), 1)
    virtual = func.coalesce(select(queues.c.virtual).where(of_queue).scalar_subquery(), 0)
    limit = select(tenants.c.max_running).where(of_tenant).scalar_subquery()
    mode = select(queues.c.mode).where(of_queue).scalar_subquery()
    fair = bindparam("cost", type_=BigInteger) // weight
    whole = case((fair > count, fair), else_=count)
    made = insert(shares).values(tenant_id=tenant, llm=llm, priority=priority, reach=virtual + whole)
    # Of two ends the further: behind one's own work, or behind the virtual clock.
    ahead = case((shares.c.reach > virtual, shares.c.reach), else_=virtual)
    return made.on_conflict_do_update(
        index_elements=["tenant_id", "llm", "priority"], set_={"reach": ahead + whole}
    ).returning(shares.c.reach, weight, limit, mode)


_TAKE = {"sqlite": _take(sqlite.Insert), "postgresql": _take(postgresql.Insert)}


def ensure(session: Session, tenant_id: str, now: datetime) -> None:
    """Make a tenant if it is not there."""
    values = {"id": tenant_id, "name": tenant_id, "weight": 1, "created_at": now}
    session.execute(upsert(session, Tenant).values(values).on_conflict_do_nothing())


def listed(session: Session) -> list[Tenant]:
    """All tenants, by id."""
    return list(session.scalars(select(Tenant).order_by(Tenant.id)))


def change(session: Session, tenant_id: str, values: Mapping[str, int | None]) -> Tenant | None:
    """Set ``weight``, ``shares_prefixes`` or a limit of a tenant; None if there is no such tenant.

    Jobs that are there stay in their lanes: see :func:`models.lanes.move`.
    """
    tenant = session.get(Tenant, tenant_id)
    if tenant is not None:
        for name, value in values.items():
            setattr(tenant, name, value)
        session.flush()
    return tenant


def salt(tenant_id: str, *, shares_prefixes: bool) -> str:
    """What the names of a tenant's caches begin with: the same for all that share, its own for another."""
    return "" if shares_prefixes else tenant_id


def salt_of(session: Session, tenant_id: str) -> str:
    """:func:`salt` for a tenant by its row; one without a row shares nothing."""
    shares = session.scalar(select(Tenant.shares_prefixes).where(Tenant.id == tenant_id))
    return salt(tenant_id, shares_prefixes=bool(shares))


def settle(session: Session, tenant_id: str) -> None:
    """Wait for the submissions of a tenant that are under way: they may not know of a change yet.

    On PostgreSQL each holds its share until its end, and those who wait for it
    come in order; on SQLite nobody else writes.
    """
    if session.get_bind().dialect.name == "sqlite":
        return
    mine = select(FairShare).where(FairShare.tenant_id == tenant_id)
    # In the order of Python's sorted(), which submissions follow.
    order = (FairShare.llm.collate("C"), FairShare.priority)
    session.scalars(mine.order_by(*order).with_for_update()).all()


def lane_of(tenant: Tenant) -> str:
    """Where a tenant's jobs wait: in a lane of their own if only so many may run at once."""
    return SHARED if tenant.max_running is None else tenant.id


def take_shares(
    session: Session, tenant_id: str, llm: str, priority: Priority, costs: Sequence[int]
) -> Shares:
    """Move a tenant on by some jobs of one class and of ``costs`` estimated tokens; where they stand then.

    The formula is start-time fair queueing: start = max(virtual clock, own
    reach), reach = start + cost / weight; the next job starts at that reach.
    No job is free, whatever the weight: each moves its tenant on by one at least.
    """
    values = {
        "tenant": tenant_id, "queue": llm, "class": int(priority), "cost": sum(costs), "count": len(costs)
    }  # fmt: skip
    reach, weight, limit, mode = session.execute(_TAKE[session.get_bind().dialect.name], values).one()
    before = accumulate(costs, initial=0)
    starts = [max(number, cost // weight) for number, cost in enumerate(before)]
    whole = starts.pop()
    tags = [int(reach) - whole + start for start in starts]
    return Shares(tags, SHARED if limit is None else tenant_id, Mode(mode or Mode.OPEN))


def advance(session: Session, llm: str, share: int) -> None:
    """Set a queue's virtual clock forward to the tag of a claimed job; never back."""
    session.execute(
        upsert(session, Queue)
        .values(llm=llm, virtual=share)
        .on_conflict_do_update(index_elements=["llm"], set_={"virtual": share}, where=Queue.virtual < share)
    )
