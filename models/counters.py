"""Counters of states, kept as deltas in the transactions that change them.

A transaction only ever adds rows here, so writers never queue for one row; the
errands worker folds old deltas together, and :func:`drift` proves the sums.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, Index, SmallInteger, String, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base, Serial, rows_into
from models.job_rows import Job
from models.rows import later
from models.states import Priority, State

Key = tuple[str, str, int, str]
"""Tenant, LLM, priority, and the name of what is counted (a state of a job)."""


KEYS_AT_ONCE = 100
"""Counts that are folded in one transaction."""


class Counter(Base):
    """A change of one count; the count is the sum of its rows."""

    __tablename__ = "counters"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(64))
    llm: Mapped[str] = mapped_column(String(64))
    priority: Mapped[int] = mapped_column(SmallInteger)
    name: Mapped[str] = mapped_column(String(64))
    amount: Mapped[int] = mapped_column(BigInteger)


_INSERT = rows_into(Counter)

Index("ix_counters_key", Counter.name, Counter.llm, Counter.priority, Counter.tenant_id, Counter.amount)


class Deltas:
    """Changes gathered within one transaction, written once at its end."""

    def __init__(self) -> None:
        self._amounts: defaultdict[Key, int] = defaultdict(int)

    def move(self, job: Job | Mapping[str, Any], before: State | None, after: State | None) -> None:
        """Count a job out of one state and into another."""
        values = job if isinstance(job, Mapping) else vars(job)
        key = (values["tenant_id"], values["llm"], int(values["priority"]))
        if before is not None:
            self.add((*key, before.value), -1)
        if after is not None:
            self.add((*key, after.value), 1)

    def add(self, key: Key, amount: int) -> None:
        """Change one count."""
        self._amounts[key] += amount

    def write(self, session: Session) -> int:
        """Store what was gathered (at the end of the transaction) and start anew; returns how many rows."""
        names = ("tenant_id", "llm", "priority", "name")
        rows = [dict(zip(names, key, strict=True), amount=n) for key, n in self._amounts.items() if n]
        later(session, _INSERT, rows)
        self._amounts.clear()
        return len(rows)


def states(session: Session, tenant_id: str | None = None) -> dict[Key, int]:
    """Jobs by tenant, LLM, priority and state; all tenants unless one is named."""
    columns = (Counter.tenant_id, Counter.llm, Counter.priority, Counter.name)
    query = select(*columns, func.sum(Counter.amount)).group_by(*columns)
    if tenant_id is not None:
        query = query.where(Counter.tenant_id == tenant_id)
    return {(t, llm, p, name): int(n) for t, llm, p, name, n in session.execute(query) if n}


def of_tenant(
    session: Session, tenant_id: str, names: Sequence[State], llm: str | None, priority: Priority | None
) -> int:
    """How many jobs of a tenant are in one of some states, of one LLM and priority or of all."""
    query = select(func.sum(Counter.amount)).where(Counter.name.in_([name.value for name in names]))
    query = query.where(Counter.tenant_id == tenant_id)
    if llm is not None:
        query = query.where(Counter.llm == llm)
    if priority is not None:
        query = query.where(Counter.priority == priority)
    return int(session.scalar(query) or 0)


def waiting(session: Session) -> dict[str, int]:
    """How many jobs wait, by tenant; those without any may be missing."""
    names = [State.QUEUED.value, State.SCHEDULED.value]
    query = select(Counter.tenant_id, func.sum(Counter.amount)).where(Counter.name.in_(names))
    return {tenant_id: int(n) for tenant_id, n in session.execute(query.group_by(Counter.tenant_id))}


def compact(session: Session, limit: int = 20_000) -> int:
    """Fold up to ``limit`` deltas, key by key, into one row a key; returns how many rows that saved."""
    columns = (Counter.tenant_id, Counter.llm, Counter.priority, Counter.name)
    several = select(*columns).group_by(*columns).having(func.count() > 1).limit(KEYS_AT_ONCE)
    deltas = Deltas()
    folded = 0
    for tenant_id, llm, priority, name in session.execute(several).all():
        if limit - folded < 2:
            break
        same = (Counter.name == name, Counter.llm == llm, Counter.priority == priority)
        mine = select(Counter.id).where(*same, Counter.tenant_id == tenant_id).order_by(Counter.id)
        gone = delete(Counter).where(Counter.id.in_(mine.limit(limit - folded)))
        amounts = session.scalars(gone.returning(Counter.amount)).all()
        deltas.add((tenant_id, llm, priority, name), sum(amounts))
        folded += len(amounts)
    return folded - deltas.write(session)


def drift(session: Session) -> dict[Key, int]:
    """Counters minus rows, where they differ; empty when the books are right."""
    columns = (Job.tenant_id, Job.llm, Job.priority, Job.state)
    query = select(*columns, func.count()).where(Job.staged.is_(False)).group_by(*columns)
    rows: dict[Key, int] = {(t, llm, p, state): n for t, llm, p, state, n in session.execute(query)}
    counted = states(session)
    keys = rows.keys() | counted.keys()
    return {k: d for k in keys if (d := counted.get(k, 0) - rows.get(k, 0))}
