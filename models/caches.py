"""What workers say of the caches that they hold of agents' conversations: kept in the agents' rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import cast

from sqlalchemy import Integer, String, Table, bindparam, or_, select, update
from sqlalchemy.orm import Session

from models.agents import Agent
from models.base import UtcDateTime
from models.workers import Worker


class Where(StrEnum):
    """The tier in which a cache is."""

    MEMORY = "memory"
    DISK = "disk"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Holding:
    """A worker's word: of an agent's conversation it holds the cache of so many tokens, made by an LLM."""

    tenant_id: str
    name: str
    tokens: int
    where: Where
    llm: str
    worker_id: str


_AGENTS = cast(Table, Agent.__table__).c
_NOTE = (
    update(cast(Table, Agent.__table__))
    .where(
        _AGENTS.tenant_id == bindparam("tenant", type_=String),
        _AGENTS.name == bindparam("agent", type_=String),
    )
    .where(
        or_(
            bindparam("where", type_=String) == Where.MEMORY.value,
            _AGENTS.held_by == bindparam("worker", type_=String),
            ~select(Worker.id).where(Worker.id == _AGENTS.held_by, Worker.ended_at.is_(None)).exists(),
        )
    )
    .values(
        held_tokens=bindparam("tokens", type_=Integer),
        held_where=bindparam("where", type_=String),
        held_llm=bindparam("llm", type_=String),
        held_by=bindparam("worker", type_=String),
        held_at=bindparam("now", type_=UtcDateTime),
    )
)


def note_held(session: Session, holdings: Sequence[Holding], now: datetime) -> None:
    """Store what workers say of caches; agents that are gone are passed by.

    What is in memory counts always: there the conversation went on last. Of the disk, or of nothing,
    counts the word of the worker that was heard last, as long as it lives: another's is of an older copy.
    Call it in a transaction of its own: it locks agents, in order, and whoever holds a job may not.
    """
    rows = [
        {
            "tenant": held.tenant_id, "agent": held.name, "tokens": held.tokens, "where": held.where.value,
            "llm": held.llm, "worker": held.worker_id, "now": now,
        }
        for held in sorted(holdings, key=lambda held: (held.tenant_id, held.name))
    ]  # fmt: skip
    if rows:
        session.execute(_NOTE, rows)


def lost(session: Session, agents: Collection[Agent]) -> set[str]:
    """The ids of those of some agents whose cache was in the memory of a worker that is gone."""
    holders = {agent.id: agent.held_by for agent in agents if agent.held_where == Where.MEMORY}
    if not holders:
        return set()
    query = select(Worker.id).where(Worker.id.in_(set(holders.values())), Worker.ended_at.is_(None))
    living = set(session.scalars(query))
    return {agent_id for agent_id, worker_id in holders.items() if worker_id not in living}


def keeper(session: Session, agent: Agent, llm: str) -> str | None:
    """The worker that a command on an agent's cache is for; None for any that serves the LLM.

    It cannot be declared lost before the transaction ends.
    """
    query = select(Worker.id).where(Worker.id == agent.held_by, Worker.llm == llm, Worker.ended_at.is_(None))
    return session.scalar(query.with_for_update(read=True))
