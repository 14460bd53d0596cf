"""Commands to workers: what is asked of them beside jobs, such as to save an agent's cache.

A command waits in its row until a worker that serves its LLM takes it: the one that it is
addressed to, or any. It is taken once, and a lost worker's commands wait again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Index, SmallInteger, String, Text, and_, delete, func, or_, select, text, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base, UtcDateTime
from models.ids import new_id

MOST_TAKES = 3
"""Workers that a command is tried on: one that brings each down must not go round for ever."""

MESSAGES = "messages"
"""The argument that holds a conversation, which is kept no longer than it is needed."""


class Kind(StrEnum):
    """What a worker can be told to do."""

    SAVE = "agent.save"
    WARM = "agent.warm"
    FORGET = "agent.forget"
    LOAD = "llm.load"
    UNLOAD = "llm.unload"


OF_LLMS = (Kind.LOAD, Kind.UNLOAD)
"""What is for the process that can load the LLM, whether it has or not; the others are for whoever has."""


class CommandState(StrEnum):
    """Where a command stands; ``done`` and ``failed`` are ends."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Command(Base):
    """One thing that a worker of an LLM is to do.

    ``worker_id`` is whom it is addressed to (none: any that serves the LLM), ``taken_by`` who does
    or did it, ``takes`` how often it was taken. ``kind`` is a :class:`Kind`, of this version or another.
    """

    __tablename__ = "commands"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(64))
    llm: Mapped[str] = mapped_column(String(64))
    worker_id: Mapped[str | None] = mapped_column(String(40))
    kind: Mapped[str] = mapped_column(String(32))
    args: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(16))
    takes: Mapped[int] = mapped_column(SmallInteger, default=0)
    error: Mapped[str | None] = mapped_column(Text)
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    taken_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    taken_by: Mapped[str | None] = mapped_column(String(40))
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)

    @property
    def agent(self) -> str | None:
        """The name of the agent that a command is about; None if it is about an LLM."""
        return None if self.kind in OF_LLMS else str(self.args["owner"]).partition("/")[2]


Index("ix_commands_tenant_id_id", Command.tenant_id, Command.id)
Index(
    "ix_commands_waiting", Command.llm, Command.id,
    sqlite_where=text("state = 'waiting'"), postgresql_where=text("state = 'waiting'"),
)  # fmt: skip
Index(
    "ix_commands_running", Command.taken_by,
    sqlite_where=text("state = 'running'"), postgresql_where=text("state = 'running'"),
)  # fmt: skip


def issue(
    session: Session,
    tenant_id: str,
    llm: str,
    kind: Kind,
    args: Mapping[str, Any],
    now: datetime,
    worker_id: str | None = None,
) -> Command:
    """→ waiting. A worker that it is addressed to must stand until the end of the transaction.

    That is so for whom :func:`models.workers.posts` has named.
    """
    command = Command(
        id=new_id("cmd"), tenant_id=tenant_id, llm=llm, worker_id=worker_id, kind=kind, args=dict(args),
        state=CommandState.WAITING, created_at=now,
    )  # fmt: skip
    session.add(command)
    session.flush()
    return command


def any_waiting(session: Session, worker_id: str, llm: str) -> bool:
    """Whether a worker that serves an LLM would find something to take; takes no lock."""
    query = select(Command.id).where(Command.state == CommandState.WAITING, Command.llm == llm)
    return session.scalar(query.where(_may_be_taken_by(worker_id)).limit(1)) is not None


def take(session: Session, worker_id: str, llm: str, now: datetime, limit: int = 16) -> list[Command]:
    """Waiting → running for the first commands that a worker may take, in order; no other gets them.

    The worker must stand (:func:`models.workers.stands`): who was declared lost would keep them for ever.
    """
    query = select(Command).where(Command.state == CommandState.WAITING, Command.llm == llm)
    query = query.where(_may_be_taken_by(worker_id)).order_by(Command.id).limit(limit)
    found = session.scalars(query.with_for_update(skip_locked=True)).all()
    for command in found:
        _taken(command, worker_id, now)
    session.flush()
    return list(found)


def _may_be_taken_by(worker_id: str) -> Any:
    addressed = or_(Command.worker_id.is_(None), Command.worker_id == worker_id)
    return and_(addressed, Command.kind.not_in(OF_LLMS))


def about_llms(session: Session, aliases: Collection[str]) -> Command | None:
    """The first that waits of the commands to load or unload one of some LLMs; takes no lock."""
    query = select(Command).where(Command.state == CommandState.WAITING, Command.llm.in_(aliases))
    return session.scalar(query.where(Command.kind.in_(OF_LLMS)).order_by(Command.id).limit(1))


def wanted(session: Session, aliases: Collection[str]) -> list[str]:
    """Those of some LLMs that must be loaded before a command that waits for anybody can be done."""
    query = select(Command.llm).where(Command.state == CommandState.WAITING, Command.llm.in_(aliases))
    free = (Command.worker_id.is_(None), Command.kind.not_in(OF_LLMS))
    return list(session.scalars(query.where(*free).distinct()))


def take_one(session: Session, command_id: str, worker_id: str, now: datetime) -> bool:
    """Waiting → running for one command, by a worker that stands; False if another has taken it."""
    query = select(Command).where(Command.id == command_id, Command.state == CommandState.WAITING)
    command = session.scalar(query.with_for_update(skip_locked=True))
    if command is not None:
        _taken(command, worker_id, now)
        session.flush()
    return command is not None


def _taken(command: Command, worker_id: str, now: datetime) -> None:
    command.state, command.taken_at, command.taken_by = CommandState.RUNNING, now, worker_id
    command.takes += 1


def finish(
    session: Session, command_id: str, worker_id: str, result: Mapping[str, Any], now: datetime
) -> bool:
    """Running → done; False if the worker does not hold the command any more."""
    command = _held(session, command_id, worker_id)
    if command is not None:
        command.result = dict(result)
        _end(command, CommandState.DONE, now)
        session.flush()
    return command is not None


def fail(session: Session, command_id: str, worker_id: str, error: str, now: datetime) -> bool:
    """Running → failed, for a reason; False as in :func:`finish`."""
    command = _held(session, command_id, worker_id)
    if command is not None:
        command.error = error
        _end(command, CommandState.FAILED, now)
        session.flush()
    return command is not None


def _held(session: Session, command_id: str, worker_id: str) -> Command | None:
    query = select(Command).where(Command.id == command_id, Command.taken_by == worker_id)
    return session.scalar(query.where(Command.state == CommandState.RUNNING).with_for_update())


def _end(command: Command, state: CommandState, now: datetime) -> None:
    command.state, command.ended_at = state, now
    command.args = {name: value for name, value in command.args.items() if name != MESSAGES}


def give_back(session: Session, worker_id: str, now: datetime) -> None:
    """Running → waiting for the commands of a worker that is gone; what was addressed to it is for any now.

    Running → failed for a command that has lost :data:`MOST_TAKES` workers.
    """
    mine = select(Command).where(Command.taken_by == worker_id, Command.state == CommandState.RUNNING)
    for command in session.scalars(mine.order_by(Command.id).with_for_update()):
        if command.takes >= MOST_TAKES:
            command.error = f"each of the {command.takes} workers that took it was lost"
            _end(command, CommandState.FAILED, now)
        else:
            command.state, command.taken_at, command.taken_by = CommandState.WAITING, None, None
    session.flush()
    addressed = update(Command).where(Command.state == CommandState.WAITING, Command.worker_id == worker_id)
    session.execute(addressed.values(worker_id=None))


def waiting(session: Session, tenant_id: str) -> int:
    """How many commands of a tenant wait."""
    query = select(func.count()).where(Command.tenant_id == tenant_id, Command.state == CommandState.WAITING)
    return int(session.scalar(query) or 0)


def find(session: Session, tenant_id: str, command_id: str) -> Command | None:
    """One command of a tenant."""
    return session.scalar(select(Command).where(Command.id == command_id, Command.tenant_id == tenant_id))


def listed(session: Session, tenant_id: str, before: str | None, limit: int) -> list[Command]:
    """Commands of a tenant, newest first, those issued before the one with the id ``before``."""
    query = select(Command).where(Command.tenant_id == tenant_id)
    if before is not None:
        query = query.where(Command.id < before)
    return list(session.scalars(query.order_by(Command.id.desc()).limit(limit)))


def over(session: Session, command_ids: Sequence[str]) -> dict[str, bool]:
    """Whether each of some commands has ended; those that are gone are missing."""
    query = select(Command.id, Command.ended_at.is_not(None)).where(Command.id.in_(command_ids))
    return {command_id: bool(ended) for command_id, ended in session.execute(query)}


def prune(session: Session, before: datetime, limit: int = 1000) -> int:
    """Forget commands that ended long ago; returns how many."""
    old = select(Command.id).where(Command.ended_at < before).limit(limit)
    gone = session.execute(delete(Command).where(Command.id.in_(old)))
    return int(gone.rowcount)  # type: ignore[attr-defined]  # delete gives a CursorResult
