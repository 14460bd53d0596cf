"""What must hold of the rows at every moment, asked of a live database.

Each rule is a query for rows that break it, so a sound database answers with
nothing. All are asked within one transaction, which sees one moment; on a
large database that takes a while and keeps nobody from writing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Select, and_, case, exists, func, or_, select, text
from sqlalchemy.orm import Session, aliased

from models import counters
from models.bulks import Bulk
from models.commands import Command, CommandState
from models.costs import Cost
from models.events import Event
from models.job_rows import Attempt, Job, Payload, Result
from models.states import TERMINAL, State
from models.workers import Worker

SAMPLES = 5
"""Offenders that are named for each rule that is broken."""

STATE_EVENT = "state"

_ENDED = tuple(state.value for state in TERMINAL)


@dataclass(frozen=True)
class Breach:
    """A rule that does not hold: how many rows break it, and some of them."""

    rule: str
    count: int
    samples: tuple[str, ...]


def check_integrity(session: Session) -> list[Breach]:
    """Every rule that is broken; an empty list for sound books."""
    found = [breach for rule, query in _rules() if (breach := _ask(session, rule, query)) is not None]
    if drift := counters.drift(session):
        names = tuple(f"{'/'.join(map(str, key))}: {amount:+}" for key, amount in sorted(drift.items()))
        found.append(Breach("counters equal rows", len(drift), names[:SAMPLES]))
    return found + list(_file(session))


def _ask(session: Session, rule: str, query: Select[Any]) -> Breach | None:
    samples = tuple(str(sample) for sample in session.scalars(query.limit(SAMPLES)))
    if not samples:
        return None
    count = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    return Breach(rule, int(count), samples)


def _rules() -> Iterator[tuple[str, Select[Any]]]:
    yield from _of_jobs()
    yield from _of_ends()
    yield from _of_attempts()
    yield from _of_order()
    yield from _of_commands()
    over = select(Bulk.id).where(
        Bulk.total < select(func.count()).where(Job.bulk_id == Bulk.id).scalar_subquery()
    )
    yield "a bulk has no more jobs than were sent", over


def _of_jobs() -> Iterator[tuple[str, Select[Any]]]:
    ids = select(Job.id)
    yield (
        "a job has a time of its end if and only if it has ended",
        ids.where(Job.state.in_(_ENDED) != Job.finished_at.is_not(None)),
    )
    yield "a job asks something", ids.where(~exists().where(Payload.job_id == Job.id))
    yield "a job has no more failures than attempts", ids.where(Job.failures > Job.max_attempts)
    yield (
        "only queued jobs that are published can be claimed",
        ids.where(Job.claimable, or_(Job.state != State.QUEUED, Job.staged)),
    )
    yield (
        "a job runs under a worker, and no other does",
        ids.where((Job.state == State.RUNNING) != Job.worker_id.is_not(None), Job.finished_at.is_(None)),
    )


def _of_ends() -> Iterator[tuple[str, Select[Any]]]:
    ids = select(Job.id)
    has_result = exists().where(Result.job_id == Job.id)
    is_billed = exists().where(Cost.job_id == Job.id, Cost.billable)
    an_end = or_(*(Event.data.startswith(f'{{"state":"{state}"') for state in _ENDED))
    ends = select(func.count()).where(Event.job_id == Job.id, Event.type == STATE_EVENT, an_end)
    wanted = case((Job.finished_at.is_not(None), 1), else_=0)
    yield "a job that succeeded has a result", ids.where(Job.state == State.SUCCEEDED, ~has_result)
    yield "a job that succeeded is billed", ids.where(Job.state == State.SUCCEEDED, ~is_billed)
    yield "only jobs that ended have a result", ids.where(Job.finished_at.is_(None), has_result)
    yield "only jobs that ended are billed", ids.where(Job.finished_at.is_(None), is_billed)
    yield "a job ends once", ids.where(ends.scalar_subquery() != wanted)
    yield (
        "what is not billed costs nothing",
        select(Cost.job_id).where(~Cost.billable, Cost.amount != Decimal(0)),
    )
    twice = select(Cost.job_id).where(Cost.billable).group_by(Cost.job_id).having(func.count() > 1)
    yield "a job is billed once", twice


def _of_attempts() -> Iterator[tuple[str, Select[Any]]]:
    here = and_(Job.id == Attempt.job_id, Job.state == State.RUNNING, Job.fence == Attempt.fence)
    yield (
        "an attempt goes on only while its job runs under its fence",
        select(Attempt.job_id).where(Attempt.ended_at.is_(None), ~exists().where(here)),
    )
    open_ = exists().where(Attempt.job_id == Job.id, Attempt.fence == Job.fence, Attempt.ended_at.is_(None))
    yield "a running job has an attempt", select(Job.id).where(Job.state == State.RUNNING, ~open_)


def _of_order() -> Iterator[tuple[str, Select[Any]]]:
    queued = select(Job.id).where(Job.state == State.QUEUED, Job.claimable.is_(False), Job.staged.is_(False))
    yield "a queued job of no agent can be claimed", queued.where(Job.agent.is_(None))
    before = aliased(Job)
    earlier = exists().where(
        before.tenant_id == Job.tenant_id,
        before.agent == Job.agent,
        before.finished_at.is_(None),
        before.staged.is_(False),
        or_(before.seq < Job.seq, before.claimable, before.state == State.RUNNING),
        before.seq != Job.seq,
    )
    yield "an agent's first job can be claimed", queued.where(Job.agent.is_not(None), ~earlier)


def _of_commands() -> Iterator[tuple[str, Select[Any]]]:
    ids, waits = select(Command.id), Command.state == CommandState.WAITING
    ended = Command.state.in_((CommandState.DONE, CommandState.FAILED))
    yield (
        "a command has a time of its end if and only if it has ended",
        ids.where(ended != Command.ended_at.is_not(None)),
    )
    yield "a command is taken, and no longer waits", ids.where(waits != Command.taken_by.is_(None))
    gone = ~exists().where(Worker.id == Command.taken_by, Worker.ended_at.is_(None))
    yield "a command runs only on a worker that lives", ids.where(Command.state == CommandState.RUNNING, gone)


def _file(session: Session) -> Iterator[Breach]:
    """What SQLite itself says of its file; PostgreSQL checks its own."""
    if session.get_bind().dialect.name != "sqlite":
        return
    wrong = [str(row[0]) for row in session.execute(text("PRAGMA quick_check")) if row[0] != "ok"]
    if wrong:
        yield Breach("the file is sound", len(wrong), tuple(wrong[:SAMPLES]))
    astray = [f"{row[0]} {row[1]}" for row in session.execute(text("PRAGMA foreign_key_check"))]
    if astray:
        yield Breach("what refers to a row finds it", len(astray), tuple(astray[:SAMPLES]))
