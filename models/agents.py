"""Agents: named identities whose jobs run one at a time, in order of submission."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, String, UniqueConstraint, case, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base, UtcDateTime, upsert
from models.ids import new_id
from models.job_rows import Job
from models.states import State


class Agent(Base):
    """A name, unique within its tenant, under which a conversation goes on."""

    __tablename__ = "agents"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(128))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime] = mapped_column(UtcDateTime)


def touch(session: Session, tenant_id: str, name: str, now: datetime) -> None:
    """Make the agent or note its use; its row stays locked until the transaction ends.

    The lock is what makes "does an earlier job of this agent still go on?" a
    question with one answer when two clients submit at once.
    """
    values = {"id": new_id("agent"), "tenant_id": tenant_id, "name": name, "created_at": now}
    session.execute(
        upsert(session, Agent)
        .values(**values, last_used_at=now)
        .on_conflict_do_update(index_elements=["tenant_id", "name"], set_={"last_used_at": now})
    )


def is_busy(session: Session, tenant_id: str, name: str) -> bool:
    """Whether a job of the agent has not ended."""
    return session.scalar(_going_on(tenant_id, name).limit(1)) is not None


def release_next(session: Session, tenant_id: str, name: str, now: datetime) -> str | None:
    """Make the agent's first job that has not ended claimable, and return its id.

    None if there is none, if it is not queued (nothing overtakes a job that
    waits for its time), or if another of the agent's jobs runs or may run: a
    bulk is published behind jobs that were submitted while it was stored.
    """
    touch(session, tenant_id, name, now)
    active = _going_on(tenant_id, name).where(Job.claimable | (Job.state == State.RUNNING))
    if session.scalar(active.limit(1)) is not None:
        return None
    head = session.execute(
        _going_on(tenant_id, name).with_only_columns(Job.seq, Job.id, Job.state).order_by(Job.seq).limit(1)
    ).first()
    if head is None or head.state != State.QUEUED:
        return None
    session.execute(update(Job).where(Job.seq == head.seq).values(claimable=True))
    return str(head.id)


def release_behind(session: Session, jobs: Iterable[Job], now: datetime) -> list[str]:
    """:func:`release_next` for the agents of some jobs; returns the ids that may now run."""
    names = sorted({(job.tenant_id, job.agent) for job in jobs if job.agent is not None})
    freed = (release_next(session, tenant_id, name, now) for tenant_id, name in names)
    return [job_id for job_id in freed if job_id is not None]


def _going_on(tenant_id: str, name: str) -> Select[int]:
    return select(Job.seq).where(
        Job.tenant_id == tenant_id, Job.agent == name, Job.finished_at.is_(None), Job.staged.is_(False)
    )


def find(session: Session, tenant_id: str, name: str) -> Agent | None:
    """One agent of a tenant by its name."""
    return session.scalar(select(Agent).where(Agent.tenant_id == tenant_id, Agent.name == name))


def listed(session: Session, tenant_id: str, after: str, limit: int) -> list[Agent]:
    """Agents of a tenant by name, those behind ``after``."""
    query = select(Agent).where(Agent.tenant_id == tenant_id, Agent.name > after)
    return list(session.scalars(query.order_by(Agent.name).limit(limit)))


@dataclass(frozen=True, slots=True)
class Activity:
    """How many jobs of an agent have not ended."""

    waiting: int = 0
    running: int = 0


def activity(session: Session, tenant_id: str, names: Sequence[str]) -> dict[str, Activity]:
    """What some agents are at; idle ones are missing."""
    query = (
        select(Job.agent, func.count(), func.sum(case((Job.state == State.RUNNING, 1), else_=0)))
        .where(Job.tenant_id == tenant_id, Job.agent.in_(names))
        .where(Job.finished_at.is_(None), Job.staged.is_(False))
        .group_by(Job.agent)
    )
    return {
        str(name): Activity(waiting=int(count) - int(running), running=int(running))
        for name, count, running in session.execute(query)
    }
