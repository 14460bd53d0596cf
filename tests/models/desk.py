"""A desk at which jobs are submitted, claimed and ended, with the books checked after each change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy import or_, select, update

from models import bulks, claims, counters, endings, jobs, priority, queues, tenants
from models.audit import Audit
from models.bulks import Bulk
from models.claims import Claim, Place
from models.costs import Cost
from models.database import Database, Session
from models.endings import Ended
from models.job_rows import Attempt, Job, Payload, Result
from models.states import TERMINAL, WAITING, Priority, State
from models.submission import NewJob, submit
from models.tenants import Mode, Tenant
from tests import rows
from tests.rows import Held

Outcome = TypeVar("Outcome")
WORKER = "worker_1"
CLIENT = "key_1"


class Desk:
    """What may be done to jobs, at the time ``now``.

    ``moves`` lists each change of state: the function called, the job, before and after.
    A desk that is not ``careful`` is quicker, notes nothing and leaves the check to others. At one that
    is ``tampered`` with, the books need not balance in the end.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = rows.START
        self.careful = True
        self.is_tampered = False
        self.moves: list[tuple[str, str, State, State]] = []
        with database.write() as session:
            tenants.ensure(session, rows.TENANT, self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def do(self, name: str, change: Callable[[Session], Outcome]) -> Outcome:
        """Run one change in a transaction of its own, note what it moved, and check the books."""
        if not self.careful:
            with self.database.write() as session:
                return change(session)
        with self.database.write() as session:
            before = _states(session)
            outcome = change(session)
            session.flush()
            after = _states(session)
        self.moves += [
            (name, job_id, state, after[job_id])
            for job_id, state in before.items()
            if job_id in after and after[job_id] != state
        ]
        self.check()
        return outcome

    def check(self) -> None:
        """Counters equal rows, and each row agrees with its state."""
        ended = Job.state.in_(TERMINAL)
        odd = or_(
            Job.claimable & (Job.state != State.QUEUED),
            ended & Job.finished_at.is_(None),
            ~ended & Job.finished_at.is_not(None),
            (Job.state == State.RUNNING) & Job.worker_id.is_(None),
            Job.state.in_(WAITING) & Job.worker_id.is_not(None),
        )
        with self.database.read() as session:
            assert counters.drift(session) == {}
            assert session.scalars(select(Job.id).where(odd)).all() == []

    def limit(self, tenant_id: str, max_running: int | None) -> None:
        """Let a tenant, made if need be, run so many jobs at once; where its jobs wait stays as it is."""

        def put(session: Session) -> None:
            tenants.ensure(session, tenant_id, self.now)
            session.execute(update(Tenant).where(Tenant.id == tenant_id).values(max_running=max_running))

        self.do("limit", put)

    def steer(self, mode: Mode, llm: str = rows.LLM) -> bool:
        """Let a queue do something else."""
        return self.do("steer", lambda s: queues.steer(s, llm, mode, rows.TENANT, CLIENT, self.now))

    def submit(self, *new: NewJob) -> list[str]:
        """Store jobs; their ids."""
        stored = self.do(
            "submit", lambda s: submit(s, new or [rows.new_job()], rows.OFFSETS, CLIENT, self.now)
        )
        return [job.id for job in stored]

    def stage(self, *new: NewJob) -> Bulk:
        """Store jobs as a bulk that is not published."""
        bulk = rows.new_bulk(len(new), tenant_id=new[0].tenant_id, created_at=self.now)

        def store(session: Session) -> None:
            session.add(bulk)
            mine = [replace(job, bulk_id=bulk.id) for job in new]
            submit(session, mine, rows.OFFSETS, CLIENT, self.now, staged=True)

        self.do("stage", store)
        return bulk

    def publish(self, bulk: Bulk) -> list[str]:
        """Publish a bulk; the LLMs that have work."""
        return self.do("publish", lambda s: bulks.publish(s, bulk, CLIENT, self.now))

    def prioritise(self, job_id: str, to: Priority) -> bool:
        """Put a waiting job into another class."""
        return self.do(
            "prioritise",
            lambda s: _changed(
                priority.prioritise(s, _get(s, job_id).tenant_id, job_id, to, rows.OFFSETS, CLIENT, self.now)
            ),
        )

    def promote(self) -> list[str]:
        """Queue what is due; the ids that can be claimed."""
        return self.do("promote_due", lambda s: jobs.promote_due(s, self.now))

    def claim(self, limit: int = 1, worker: str = WORKER, llm: str = rows.LLM, **how: Any) -> list[Claim]:
        """Take the best jobs."""
        return self.do("claim", lambda s: claims.claim(s, worker, llm, limit, self.now, **how))

    def claim_ahead(self, *parkable: Place, worker: str = WORKER) -> list[Claim]:
        """Take jobs for which others are to be parked."""
        return self.do("claim_ahead", lambda s: claims.claim_ahead(s, worker, rows.LLM, parkable, self.now))

    def take(self, worker: str = WORKER) -> Claim:
        """Take the best job, the only one or one of many."""
        (claim,) = self.claim(1, worker)
        return claim

    def finish(self, *claims: Claim | Held, state: State = State.SUCCEEDED, **fields: Any) -> Ended:
        """End claimed jobs."""
        said = [rows.ending(claim, state, **fields) for claim in claims]
        return self.do("finish", lambda s: endings.finish(s, said, WORKER, self.now))

    def fail(self, claim: Claim | Held, pause: float | None = 5, **fields: Any) -> Ended:
        """Fail an attempt; ``pause`` is seconds before the next (None: no other)."""
        at_most = 0 if pause is None else 1_000
        return self.fail_at_most(at_most, claim, pause or 0, **fields)

    def fail_at_most(self, at_most: int, claim: Claim | Held, pause: float = 5, **fields: Any) -> Ended:
        """Fail an attempt for a reason for which a job may fail so many times and be tried again."""
        said = rows.ending(claim, State.FAILED, **fields)

        def wait(failures: int) -> timedelta:
            return timedelta(seconds=pause * failures)

        return self.do(
            "fail_attempt", lambda s: endings.fail_attempt(s, said, wait, WORKER, self.now, at_most)
        )

    def hand_back(
        self, claim: Claim | Held, tokens: Sequence[int] = (), outcome: str = "handed_back"
    ) -> list[str]:
        """Give a claimed job back with its tokens so far."""
        kept = [(claim.job_id, claim.fence, tokens)]
        return self.do("hand_back", lambda s: jobs.hand_back(s, kept, outcome, self.now))

    def rescue(self, worker: str = WORKER) -> Ended:
        """Take the jobs of a lost worker away from it."""
        return self.do("rescue", lambda s: endings.rescue(s, worker, "EUR", self.now))

    def cancel(self, job_id: str) -> list[str]:
        """Cancel a waiting job."""
        return self.do(
            "cancel_waiting", lambda s: endings.cancel_waiting(s, _get(s, job_id), CLIENT, self.now)
        )

    def request_cancel(self, job_id: str) -> None:
        """Raise the flag of a running job."""
        self.do("request_cancel", lambda s: jobs.request_cancel(s, _get(s, job_id), CLIENT, self.now))

    def expire(self) -> list[str]:
        """End what waited too long."""
        return self.do("expire_due", lambda s: endings.expire_due(s, self.now))

    def remove(self, job_id: str) -> None:
        """Delete an ended job."""
        self.do("remove", lambda s: jobs.remove(s, _get(s, job_id), CLIENT, self.now))

    def job(self, job_id: str) -> Job:
        """A job as it stands."""
        with self.database.read() as session:
            return _get(session, job_id)

    def states(self, *job_ids: str) -> list[State]:
        """The states of some jobs."""
        with self.database.read() as session:
            known = _states(session)
        return [known[job_id] for job_id in job_ids]

    def all(self, entity: type[Outcome], **columns: Any) -> list[Outcome]:
        """All rows of a table, narrowed by columns."""
        with self.database.read() as session:
            return list(session.scalars(select(entity).filter_by(**columns)))

    def costs(self, job_id: str) -> list[Cost]:
        """Cost entries of a job, in order of its fences."""
        return sorted(self.all(Cost, job_id=job_id), key=lambda cost: cost.fence)

    def attempts(self, job_id: str) -> list[Attempt]:
        """Tries at a job, in order."""
        return sorted(self.all(Attempt, job_id=job_id), key=lambda attempt: attempt.fence)

    def acts(self, subject: str) -> list[tuple[str, str]]:
        """(actor, action) of all that the audit trail says of a thing."""
        found = sorted(self.all(Audit, subject=subject), key=lambda act: act.id)
        return [(act.actor, act.action) for act in found]

    def result(self, job_id: str) -> Result | None:
        """The result of a job, if it has one."""
        found = self.all(Result, job_id=job_id)
        return found[0] if found else None

    def progress(self, job_id: str) -> list[int] | None:
        """The tokens that are kept of a job that has not ended."""
        return self.all(Payload, job_id=job_id)[0].progress


def _get(session: Session, job_id: str) -> Job:
    return session.scalars(select(Job).where(Job.id == job_id)).one()


def _states(session: Session) -> dict[str, State]:
    return {job_id: State(state) for job_id, state in session.execute(select(Job.id, Job.state))}


def _changed(found: tuple[Job, bool] | None) -> bool:
    return found is not None and found[1]
