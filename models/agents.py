"""Agents: named identities whose jobs run one at a time, in order of submission."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast
from urllib.parse import quote

from sqlalchemy import (
    BigInteger,
    Executable,
    Integer,
    Select,
    String,
    Table,
    UniqueConstraint,
    delete,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from models import audit
from models.base import Base, UtcDateTime, upsert
from models.ids import new_id
from models.job_rows import Job
from models.states import State


class Agent(Base):
    """A name, unique within its tenant, under which a conversation goes on.

    ``held_…`` is what a worker said last of the conversation's cache (see :mod:`models.caches`).
    ``hits`` counts jobs that found something cached, ``hit_tokens`` what they found, and
    ``prompt_tokens`` what all of the agent's jobs had to read.
    """

    __tablename__ = "agents"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(128))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime] = mapped_column(UtcDateTime)
    held_tokens: Mapped[int] = mapped_column(Integer, server_default="0")
    held_where: Mapped[str] = mapped_column(String(8), server_default="none")
    held_llm: Mapped[str | None] = mapped_column(String(64))
    held_by: Mapped[str | None] = mapped_column(String(40))
    held_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    hits: Mapped[int] = mapped_column(Integer, server_default="0")
    hit_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    prompt_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")


@dataclass(slots=True)
class Reading:
    """What ended jobs of an agent read, and what of it was cached: named as in :class:`Agent`."""

    hits: int = 0
    hit_tokens: int = 0
    prompt_tokens: int = 0

    def add(self, job: Job) -> None:
        """Count one more; a job that never ran has read nothing."""
        cached = job.cached_tokens or 0
        self.hits += cached > 0
        self.hit_tokens += cached
        self.prompt_tokens += job.prompt_tokens or 0


NOTHING = Reading()

AT_ONCE = 500
"""Agents that one statement names."""


def _touch(insert: type[sqlite.Insert] | type[postgresql.Insert]) -> Executable:
    """In one statement: an agent is made or its use noted, and what its jobs read is added up."""
    agents = cast(Table, Agent.__table__)
    statement = insert(agents)
    new = statement.excluded
    counts = {name: agents.c[name] + new[name] for name in ("hits", "hit_tokens", "prompt_tokens")}
    return statement.on_conflict_do_update(
        index_elements=["tenant_id", "name"], set_={"last_used_at": new.last_used_at, **counts}
    )


_TOUCH = {"sqlite": _touch(sqlite.Insert), "postgresql": _touch(postgresql.Insert)}


def touch(session: Session, tenant_id: str, name: str, now: datetime) -> None:
    """Make the agent or note its use; its row stays locked until the transaction ends.

    The lock is what makes "does an earlier job of this agent still go on?" a
    question with one answer when two clients submit at once.
    """
    _touch_many(session, tenant_id, [name], now, {})


def lock(session: Session, job_ids: Collection[str]) -> None:
    """Lock the agents of some jobs; whoever changes a job does so before locking the job itself.

    Else two would wait for each other: one ends a job and, holding the agent,
    wants to make the next one claimable; the other cancels that next one and,
    holding the job, wants the agent. SQLite has one writer, so nothing is done.
    """
    if session.get_bind().dialect.name == "sqlite" or not job_ids:
        return
    names = select(Job.tenant_id, Job.agent).where(Job.id.in_(job_ids), Job.agent.is_not(None))
    query = select(Agent.id).where(tuple_(Agent.tenant_id, Agent.name).in_(names))
    # In the order of Python's sorted(), which release_many() follows.
    order = (Agent.tenant_id.collate("C"), Agent.name.collate("C"))
    session.execute(query.order_by(*order).with_for_update())


def is_busy(session: Session, tenant_id: str, name: str) -> bool:
    """Whether a job of the agent has not ended."""
    return session.scalar(_going_on(tenant_id, name).limit(1)) is not None


def release_behind(session: Session, jobs: Iterable[Job], now: datetime) -> list[str]:
    """:func:`release_many` for the agents of some jobs that ended or became due, of whatever tenants.

    What the jobs read is counted in the statement by which their agents are touched.
    """
    read: dict[str, dict[str, Reading]] = {}
    for job in jobs:
        if job.agent is not None:
            read.setdefault(job.tenant_id, {}).setdefault(job.agent, Reading()).add(job)
    freed = (release_many(session, tenant_id, names, now, names) for tenant_id, names in sorted(read.items()))
    return [job_id for ids in freed for job_id in ids]


def release_many(
    session: Session,
    tenant_id: str,
    names: Iterable[str],
    now: datetime,
    read: Mapping[str, Reading] | None = None,
) -> list[str]:
    """Make the first job that has not ended claimable, for each of some agents; returns their ids.

    Not where it is not queued (nothing overtakes a job that waits for its time), nor where another
    of the agent's jobs runs or may run: a bulk is published behind jobs that were submitted while
    it was stored.
    """
    ordered = sorted(set(names))
    ready: list[str] = []
    for first in range(0, len(ordered), AT_ONCE):
        some = ordered[first : first + AT_ONCE]
        _touch_many(session, tenant_id, some, now, read or {})
        ready += _release(session, tenant_id, some)
    return ready


def _release(session: Session, tenant_id: str, names: Sequence[str]) -> list[str]:
    going_on = (
        select(Job.agent)
        .where(Job.tenant_id == tenant_id, Job.agent.in_(names))
        .where(Job.finished_at.is_(None), Job.staged.is_(False))
    )
    active = set(session.scalars(going_on.where(Job.claimable | (Job.state == State.RUNNING)).distinct()))
    idle = set(names) - active
    if not idle:
        return []
    # One step into an index for each agent, however many of its jobs wait: min() would read them all.
    head = (
        select(Job.seq)
        .where(Job.tenant_id == Agent.tenant_id, Job.agent == Agent.name)
        .where(Job.finished_at.is_(None), Job.staged.is_(False))
        .order_by(Job.seq)
        .limit(1)
        .scalar_subquery()
    )
    heads = select(head).where(Agent.tenant_id == tenant_id, Agent.name.in_(idle))
    firsts = [seq for seq in session.scalars(heads) if seq is not None]
    if not firsts:
        return []
    queued = (Job.seq.in_(firsts), Job.state == State.QUEUED)
    session.execute(update(Job).where(*queued).values(claimable=True))
    return list(session.scalars(select(Job.id).where(*queued).order_by(Job.seq)))


def _touch_many(
    session: Session, tenant_id: str, names: Sequence[str], now: datetime, read: Mapping[str, Reading]
) -> None:
    """:func:`touch` for agents in order of their names, so that two who lock some never deadlock."""
    rows = [
        {
            "id": new_id("agent"), "tenant_id": tenant_id, "name": name, "created_at": now,
            "last_used_at": now, "hits": found.hits, "hit_tokens": found.hit_tokens,
            "prompt_tokens": found.prompt_tokens,
        }
        for name, found in ((name, read.get(name, NOTHING)) for name in names)
    ]  # fmt: skip
    session.execute(_TOUCH[session.get_bind().dialect.name], rows)


def _going_on(tenant_id: str, name: str) -> Select[int]:
    return select(Job.seq).where(
        Job.tenant_id == tenant_id, Job.agent == name, Job.finished_at.is_(None), Job.staged.is_(False)
    )


def find(session: Session, tenant_id: str, name: str, *, lock: bool = False) -> Agent | None:
    """One agent of a tenant by its name; locked, if asked, none of its jobs can be submitted meanwhile."""
    query = select(Agent).where(Agent.tenant_id == tenant_id, Agent.name == name)
    return session.scalar(query.with_for_update() if lock else query)


def create(session: Session, tenant_id: str, name: str, actor: str, now: datetime) -> bool:
    """Make an agent before its first job, on record; False if it is there."""
    agent_id = new_id("agent")
    row = upsert(session, Agent).values(
        id=agent_id, tenant_id=tenant_id, name=name, created_at=now, last_used_at=now
    )
    made = session.scalar(row.on_conflict_do_nothing().returning(Agent.id)) is not None
    if made:
        audit.record(session, [audit.row(tenant_id, actor, "agent.create", agent_id, now, name=name)])
    return made


def remove(session: Session, agent: Agent, actor: str, now: datetime) -> None:
    """Delete an agent that was found under lock, on record; its jobs stay, and so do its caches.

    Raises:
        ValueError: a job of it has not ended.
    """
    if is_busy(session, agent.tenant_id, agent.name):
        raise ValueError(f"a job of {agent.name} has not ended")
    session.execute(delete(Agent).where(Agent.id == agent.id))
    act = audit.row(agent.tenant_id, actor, "agent.delete", agent.id, now, name=agent.name)
    audit.record(session, [act])


def owner(tenant_id: str, name: str) -> str:
    """What names an agent among those of all tenants, whatever they are called: no two have it in common."""
    return f"{quote(tenant_id, safe='')}/{name}"


def listed(session: Session, tenant_id: str, after: str, limit: int) -> list[Agent]:
    """Agents of a tenant by name, those behind ``after``."""
    query = select(Agent).where(Agent.tenant_id == tenant_id, Agent.name > after)
    return list(session.scalars(query.order_by(Agent.name).limit(limit)))


MOST_COUNTED = 1_000
"""Waiting jobs of an agent that are counted at most: one may hold half of a long queue."""


@dataclass(frozen=True, slots=True)
class Activity:
    """How many jobs of an agent have not ended; of those that wait, :data:`MOST_COUNTED` at most."""

    waiting: int = 0
    running: int = 0


def activity(session: Session, tenant_id: str, names: Sequence[str]) -> dict[str, Activity]:
    """What some agents are at; those that are not known are missing."""
    runs = select(Job.agent, func.count()).where(Job.tenant_id == tenant_id, Job.state == State.RUNNING)
    rows = session.execute(runs.where(Job.agent.in_(names)).group_by(Job.agent))
    running = {name: int(number) for name, number in rows}
    own = (Job.tenant_id == Agent.tenant_id, Job.agent == Agent.name, Job.finished_at.is_(None))
    waits = select(Job.seq).where(*own, Job.staged.is_(False), Job.state != State.RUNNING)
    few = select(func.count()).select_from(waits.limit(MOST_COUNTED).correlate(Agent).subquery())
    query = select(Agent.name, few.scalar_subquery())
    query = query.where(Agent.tenant_id == tenant_id, Agent.name.in_(names))
    return {name: Activity(waiting, running.get(name, 0)) for name, waiting in session.execute(query)}
