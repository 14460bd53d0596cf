"""Agents: named identities whose jobs run one at a time, in order of submission."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String, UniqueConstraint, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base, UtcDateTime
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
    mine = (Agent.tenant_id == tenant_id, Agent.name == name)
    found = session.execute(update(Agent).where(*mine).values(last_used_at=now))
    if not found.rowcount:  # type: ignore[attr-defined]  # update gives a CursorResult
        session.add(
            Agent(id=new_id("agent"), tenant_id=tenant_id, name=name, created_at=now, last_used_at=now)
        )
        session.flush()


def is_busy(session: Session, tenant_id: str, name: str, before: int | None = None) -> bool:
    """Whether a job of the agent (of those submitted before ``before``) has not ended."""
    query = select(Job.seq).where(
        Job.tenant_id == tenant_id, Job.agent == name, Job.finished_at.is_(None), Job.staged.is_(False)
    )
    if before is not None:
        query = query.where(Job.seq < before)
    return session.scalar(query.limit(1)) is not None


def release_next(session: Session, tenant_id: str, name: str, now: datetime) -> str | None:
    """Make the agent's next queued job claimable; returns its id, or None if there is none."""
    touch(session, tenant_id, name, now)
    head = session.execute(
        select(Job.seq, Job.id, Job.state)
        .where(
            Job.tenant_id == tenant_id,
            Job.agent == name,
            Job.finished_at.is_(None),
            Job.staged.is_(False),
        )
        .order_by(Job.seq)
        .limit(1)
    ).first()
    if head is None or head.state != State.QUEUED:
        return None
    session.execute(update(Job).where(Job.seq == head.seq).values(claimable=True))
    return str(head.id)


def find(session: Session, tenant_id: str, name: str) -> Agent | None:
    """One agent of a tenant by its name."""
    return session.scalar(select(Agent).where(Agent.tenant_id == tenant_id, Agent.name == name))


def listed(session: Session, tenant_id: str, after: str, limit: int) -> list[Agent]:
    """Agents of a tenant by name, those behind ``after``."""
    query = select(Agent).where(Agent.tenant_id == tenant_id, Agent.name > after)
    return list(session.scalars(query.order_by(Agent.name).limit(limit)))
