"""Queues: how deep they are, how long their jobs have waited, and what each may do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from models import audit, counters, runtime
from models.base import upsert
from models.counters import Counter
from models.job_rows import Job
from models.lanes import SHARED, UNFINISHED, lanes, llms
from models.states import Priority, State
from models.tenants import Draining, Mode, Queue

LOOK = 1_000
"""Rows that one look for the oldest job of a kind goes through at most."""

ACTS = {Mode.OPEN: "queue.resume", Mode.PAUSED: "queue.pause", Mode.DRAINING: "queue.drain"}
"""What the audit trail calls the change to a mode."""


def steer(session: Session, llm: str, mode: Mode, tenant_id: str, actor: str, now: datetime) -> bool:
    """Let a queue do something else, on record; False if it does just that already."""
    if modes(session, [llm])[llm] == mode:
        return False
    row = upsert(session, Queue).values(llm=llm, virtual=0, mode=mode)
    session.execute(row.on_conflict_do_update(index_elements=["llm"], set_={"mode": mode}))
    audit.record(session, [audit.row(tenant_id, actor, ACTS[mode], llm, now)])
    return True


def set_window(
    session: Session, llm: str, window_ms: float, tenant_id: str, actor: str, now: datetime
) -> bool:
    """Let the workers of an LLM gather arrivals for so long, on record; False if they do already."""
    if not runtime.put(session, llm, runtime.WINDOW_MS, window_ms, now):
        return False
    audit.record(session, [audit.row(tenant_id, actor, "queue.window", llm, now, window_ms=window_ms)])
    return True


def window(session: Session, llm: str) -> float | None:
    """What was set by :func:`set_window`; None where the settings hold."""
    found: float | None = runtime.of(session, llm).get(runtime.WINDOW_MS)
    return found


def modes(session: Session, names: Collection[str]) -> dict[str, Mode]:
    """What each of some queues does; one that nobody has steered is open."""
    found = dict.fromkeys(names, Mode.OPEN)
    query = select(Queue.llm, Queue.mode).where(Queue.llm.in_(names))
    return found | {llm: Mode(mode) for llm, mode in session.execute(query)}


def check_open(session: Session, names: Collection[str]) -> None:
    """Do nothing if each of some queues takes jobs in.

    Raises:
        Draining: one does not.
    """
    for llm, mode in sorted(modes(session, names).items()):
        if mode is Mode.DRAINING:
            raise Draining(llm)


def unfinished(session: Session, llm: str) -> int:
    """How many jobs of a queue wait or run, of all tenants."""
    query = select(func.sum(Counter.amount)).where(Counter.name.in_(UNFINISHED), Counter.llm == llm)
    return int(session.scalar(query) or 0)


def oldest_claimable(session: Session) -> dict[str, tuple[str, datetime]]:
    """For each LLM with claimable jobs: the id of the first in order, and when it came or became due."""
    firsts = {llm: first_claimable(session, llm) for llm in llms(session)}
    return {llm: first for llm, first in firsts.items() if first is not None}


def first_claimable(session: Session, llm: str) -> tuple[str, datetime] | None:
    """The same for one LLM."""
    query = select(Job.rank, Job.seq, Job.id, Job.created_at, Job.run_at).order_by(Job.rank, Job.seq).limit(1)
    firsts = [
        row
        for lane in lanes(session, llm)
        for row in session.execute(query.where(Job.llm == llm, Job.lane == lane, Job.claimable))
    ]
    if not firsts:
        return None
    _, _, job_id, came, due = min(firsts, key=lambda row: (row.rank, row.seq))
    return job_id, max(came, due or came)


@dataclass(slots=True)
class Depth:
    """Jobs of one LLM and priority that have not ended; ``oldest`` is when the first queued one came.

    It is None if none is queued, or none was found near the head of a long queue.
    """

    llm: str
    priority: int
    queued: int = 0
    scheduled: int = 0
    running: int = 0
    oldest: datetime | None = None


def depths(
    session: Session, tenant_id: str | None = None, offsets: Mapping[Priority, int] | None = None
) -> list[Depth]:
    """The queues that are not empty, of one tenant or of all.

    ``offsets`` are what priorities add to a rank: with them, the oldest job of a
    class is found though there are few of it among many.
    """
    found: dict[tuple[str, int], Depth] = {}
    for (tenant, llm, priority, state), count in sorted(counters.states(session, tenant_id).items()):
        if state not in UNFINISHED or count <= 0:
            continue
        depth = found.setdefault((llm, priority), Depth(llm, priority))
        setattr(depth, state, getattr(depth, state) + count)
        if state == State.QUEUED:
            came = _oldest(session, tenant, llm, priority, (offsets or {}).get(Priority(priority), 0))
            depth.oldest = min(filter(None, (came, depth.oldest)), default=None)
    return [found[key] for key in sorted(found)]


def _oldest(session: Session, tenant_id: str, llm: str, priority: int, offset: int) -> datetime | None:
    """Looks at a tenant's first jobs in order of submission, then at the first of the class in order of rank.

    Within a tenant, a queue and a class both orders are one, for shares only rise (but for jobs that
    came from another class).
    """
    jobs = select(Job.created_at, Job.tenant_id, Job.llm, Job.priority)
    waiting = (Job.tenant_id == tenant_id, Job.state == State.QUEUED, Job.staged.is_(False))
    looks = [jobs.where(*waiting).order_by(Job.seq)]
    for lane in (SHARED, tenant_id):
        ranked = jobs.where(Job.llm == llm, Job.lane == lane, Job.claimable, Job.rank >= offset)
        looks.append(ranked.order_by(Job.rank, Job.seq))
    for look in looks:
        some = look.limit(LOOK).subquery().c
        fits = (some.tenant_id == tenant_id, some.llm == llm, some.priority == priority)
        came: datetime | None = session.scalar(select(some.created_at).where(*fits).limit(1))
        if came is not None:
            return came
    return None


_JOBS = Job.__table__.c
_AHEAD_OF_NEW = select(func.count()).select_from(
    select(_JOBS.id)
    .where(_JOBS.llm == bindparam("queue"), _JOBS.lane == bindparam("own_lane"), _JOBS.claimable)
    .where(_JOBS.rank <= bindparam("own_rank"), _JOBS.id != bindparam("own_id"))
    .limit(bindparam("at_most"))
    .subquery()
)
"""Built once, for every submission asks it."""


def place_of_new(session: Session, job: Job, at_most: int = 200) -> int | None:
    """The place in its lane of a job that was just stored; None if it cannot be claimed or is further behind.

    Bounded closely, for this is asked while others wait to write: later looks go further.
    """
    if not job.claimable:
        return None
    values = {
        "queue": job.llm,
        "own_lane": job.lane,
        "own_rank": job.rank,
        "own_id": job.id,
        "at_most": at_most,
    }
    count = int(session.scalar(_AHEAD_OF_NEW, values) or 0)
    return count + 1 if count < at_most else None
