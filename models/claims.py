"""Queued → running: who takes which jobs of a queue, and who must wait.

The best rows are found by one step into an index for each lane, however many
wait. A claim passes by: queues that are paused, tenants that run as many jobs
as they may, agents that another worker remembers. Jobs that may have brought a
worker down are taken a few at a time (:mod:`models.suspicion`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    ColumnExpressionArgument,
    and_,
    false,
    func,
    insert,
    literal_column,
    or_,
    select,
)
from sqlalchemy.orm import Session

from models import events, queues, suspicion, tenants
from models.counters import Deltas
from models.job_rows import Attempt, Job, Payload
from models.jobs import state_event
from models.lanes import SHARED, lanes
from models.states import Priority, State
from models.tenants import Mode, Queue, Tenant

Place = tuple[int, int]
"""Priority and rank of a job; lower goes first in both."""

NO_LIMIT = 1 << 31

# Spelled as the condition of their partial index: SQLite does not look into parameters.
SUSPECT = Job.suspect > literal_column("0")
FREE = Job.suspect == literal_column("0")

REMEMBERED = 64
"""Jobs that are looked at behind those that are left to other workers."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job taken by a worker under a fence, with all that the engine needs."""

    job_id: str
    tenant_id: str
    fence: int
    attempt: int
    llm: str
    agent: str | None
    created_at: datetime
    started_at: datetime
    timeout_seconds: float
    first: bool
    request: str
    progress: tuple[int, ...]
    run_at: datetime | None = None
    bulk_id: str | None = None
    expires_at: datetime | None = None
    priority: Priority = Priority.STANDARD
    rank: int = 0
    spent_seconds: float = 0.0
    shares_prefixes: bool = False

    @property
    def salt(self) -> str:
        """What the names of the job's caches are salted with: see :func:`models.tenants.salt`."""
        return tenants.salt(self.tenant_id, shares_prefixes=self.shares_prefixes)

    @property
    def ready_at(self) -> datetime | None:
        """Since when the job could be claimed; None where it may have waited for something that is not known.

        That is so for later attempts, for an agent's turns, and for jobs of a bulk.
        """
        if not self.first or self.agent is not None or self.bulk_id is not None:
            return None
        return max(self.created_at, self.run_at or self.created_at)


def claim(
    session: Session,
    worker_id: str,
    llm: str,
    limit: int,
    now: datetime,
    *,
    trial_jobs: int = suspicion.TRIAL_JOBS,
    leaves: Callable[[Job], bool] | None = None,
) -> list[Claim]:
    """Take the best ``limit`` jobs of a queue, under raised fences; of suspects at most a group at a time.

    ``leaves`` says of a job whether it is left to another worker, for now.
    """
    state = _look(session, worker_id, llm)
    if limit <= 0 or state.mode == Mode.PAUSED:
        return []
    rooms = _rooms(session, llm, limit)
    suspects = [] if state.on_trial else _first(session, llm, rooms, leaves, _goes_on(now), SUSPECT)
    found = suspicion.group(suspects, trial_jobs) + _first(session, llm, rooms, leaves, _goes_on(now), FREE)
    return _take(session, _within(rooms, found)[:limit], worker_id, now)


def claim_ahead(
    session: Session, worker_id: str, llm: str, parkable: Sequence[Place], now: datetime
) -> list[Claim]:
    """Take jobs for which running ones are to be parked: of a better class, and ahead of them in rank.

    ``parkable`` are the places of what the worker runs, the last in rank first;
    each job taken stands for one of them, and the best class chooses first.
    """
    state = _look(session, worker_id, llm)
    if state.mode == Mode.PAUSED or not parkable:
        return []
    ahead, free = [], list(parkable)
    rooms = _rooms(session, llm, len(parkable))
    found = _first(session, llm, rooms, None, _goes_on(now), *_ahead_of(parkable))
    for job in sorted(_within(rooms, found), key=lambda job: job.priority):
        place = next((place for place in free if job.priority < place[0] and job.rank < place[1]), None)
        if place is not None:
            free.remove(place)
            ahead.append(job)
    return _take(session, ahead, worker_id, now)


def any_claimable(session: Session, llm: str) -> bool:
    """Whether a job of one queue may be claimed."""
    query = select(Job.seq).where(Job.llm == llm, Job.claimable)
    return session.scalar(query.limit(1)) is not None


def wanted(session: Session, llms: Collection[str]) -> list[str]:
    """Those of some LLMs of whose jobs a worker could claim one now; takes no lock.

    What is in a paused queue cannot be claimed, nor what is of a tenant that runs as many as it may.
    """
    modes = queues.modes(session, llms)
    open_ = [llm for llm in llms if modes[llm] != Mode.PAUSED]
    return [llm for llm in open_ if any(_room(session, lane) > 0 for lane in lanes(session, llm))]


def any_ahead(session: Session, llm: str, parkable: Sequence[Place]) -> bool:
    """Whether :func:`claim_ahead` may find a job; takes no lock."""
    if not parkable or queues.modes(session, [llm])[llm] == Mode.PAUSED:
        return False
    return any(
        session.scalar(select(Job.seq).where(*_lane(llm, lane), *_ahead_of(parkable)).limit(1)) is not None
        for lane in lanes(session, llm)
    )


def _ahead_of(parkable: Sequence[Place]) -> tuple[ColumnElement[bool], ...]:
    """Who could have one of these places; a suspect waits for its turn to be tried instead.

    Bounded by rank, so that what waits behind all that runs is never walked through.
    """
    last = {better: [rank for priority, rank in parkable if priority > better] for better in Priority}
    could = (and_(Job.priority == better, Job.rank < max(ranks)) for better, ranks in last.items() if ranks)
    return Job.rank < parkable[0][1], FREE, or_(false(), *could)


def _goes_on(now: datetime) -> ColumnElement[bool]:
    return Job.expires_at.is_(None) | (Job.expires_at > now)


def _lane(llm: str, lane: str) -> tuple[ColumnExpressionArgument[bool], ...]:
    return Job.llm == llm, Job.lane == lane, Job.claimable


@dataclass(frozen=True, slots=True)
class _State:
    """What keeps a worker from claiming: the mode of the queue, and whether it runs suspects."""

    mode: str | None
    suspect: int | None

    @property
    def on_trial(self) -> bool:
        return bool(self.suspect)


def _look(session: Session, worker_id: str, llm: str) -> _State:
    mode = select(Queue.mode).where(Queue.llm == llm).scalar_subquery()
    mine = select(func.max(Job.suspect)).where(Job.worker_id == worker_id, Job.state == State.RUNNING)
    row = session.execute(select(mode, mine.scalar_subquery())).one()
    return _State(*row)


def _rooms(session: Session, llm: str, limit: int) -> dict[str, int]:
    """How many jobs of each lane may be taken: of a limited one no more than may run."""
    rooms = {lane: min(limit, _room(session, lane, lock=True)) for lane in lanes(session, llm)}
    return {lane: room for lane, room in rooms.items() if room > 0}


def _first(
    session: Session,
    llm: str,
    rooms: Mapping[str, int],
    leaves: Callable[[Job], bool] | None,
    *where: ColumnElement[bool],
) -> list[Job]:
    """The first jobs of each lane in order of rank, locked, but for those that are left to others."""
    found: list[Job] = []
    for lane, room in rooms.items():
        query = select(Job).where(*_lane(llm, lane), *where).order_by(Job.rank, Job.seq)
        some = query.limit(room + (REMEMBERED if leaves else 0))
        # A foreign key's lock on the row (a document, an event) does not keep it from being claimed.
        jobs = session.scalars(some.with_for_update(skip_locked=True, key_share=True))
        found += [job for job in jobs if leaves is None or not leaves(job)][:room]
    return sorted(found, key=lambda job: (job.rank, job.seq))


def _within(rooms: Mapping[str, int], jobs: Sequence[Job]) -> list[Job]:
    """The best of ``jobs``, in order, as far as there is room in their lanes."""
    left = dict(rooms)
    taken = []
    for job in sorted(jobs, key=lambda job: (job.rank, job.seq)):
        if left[job.lane] > 0:
            left[job.lane] -= 1
            taken.append(job)
    return taken


def _room(session: Session, lane: str, *, lock: bool = False) -> int:
    """How many more jobs of a lane may run.

    With ``lock`` the row of its tenant stays locked, so that no two workers count at once.
    """
    if lane == SHARED:
        return NO_LIMIT
    query = select(Tenant.max_running).where(Tenant.id == lane, Tenant.max_running.is_not(None))
    most = session.scalar(query.with_for_update() if lock else query)
    if most is None:
        return NO_LIMIT
    running = select(func.count()).where(Job.tenant_id == lane, Job.state == State.RUNNING)
    return most - int(session.scalar(running) or 0)


def _take(session: Session, jobs: Sequence[Job], worker_id: str, now: datetime) -> list[Claim]:
    if not jobs:
        return []
    deltas = Deltas()
    firsts = {job.id: job.started_at is None for job in jobs}
    for job in jobs:
        job.state, job.claimable, job.worker_id = State.RUNNING, False, worker_id
        job.fence += 1
        job.version += 1
        job.started_at = job.started_at or now
        deltas.move(job, State.QUEUED, State.RUNNING)
    session.flush()
    deltas.write(session)
    session.execute(insert(Attempt), [_attempt(job, worker_id, now) for job in jobs])
    events.record(session, [state_event(job, now) for job in jobs])
    tenants.advance(session, jobs[0].llm, max(job.share for job in jobs))
    return _claims(session, jobs, firsts, now)


def _attempt(job: Job, worker_id: str, now: datetime) -> dict[str, object]:
    return {
        "job_id": job.id,
        "tenant_id": job.tenant_id,
        "fence": job.fence,
        "worker_id": worker_id,
        "started_at": now,
    }


def _claims(session: Session, jobs: Sequence[Job], firsts: dict[str, bool], now: datetime) -> list[Claim]:
    query = select(Payload, Tenant.shares_prefixes).outerjoin(Tenant, Tenant.id == Payload.tenant_id)
    rows = session.execute(query.where(Payload.job_id.in_([job.id for job in jobs]))).all()
    payloads = {payload.job_id: payload for payload, _ in rows}
    sharing = {payload.tenant_id for payload, shares in rows if shares}
    return [
        Claim(
            job_id=job.id,
            tenant_id=job.tenant_id,
            fence=job.fence,
            attempt=job.attempt,
            llm=job.llm,
            agent=job.agent,
            created_at=job.created_at,
            started_at=now,
            timeout_seconds=job.timeout_seconds,
            first=firsts[job.id],
            request=payloads[job.id].request,
            progress=tuple(payloads[job.id].progress or ()),
            run_at=job.run_at,
            bulk_id=job.bulk_id,
            expires_at=job.expires_at,
            priority=Priority(job.priority),
            rank=job.rank,
            spent_seconds=payloads[job.id].spent_seconds,
            shares_prefixes=job.tenant_id in sharing,
        )
        for job in jobs
    ]
