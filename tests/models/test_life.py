"""The life of jobs as a state machine driven by Hypothesis: whatever the order of events, the books hold."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from migrations.metadata import metadata
from models.books import check_integrity
from models.database import Database
from models.job_rows import Job
from models.states import TERMINAL, WAITING, Priority, State
from models.submission import NewJob
from models.tenants import Draining, Mode
from tests.models import oracle
from tests.models.desk import Desk
from tests.models.oracle import Oracle
from tests.models.standing import Standing
from tests.rows import TENANT, USAGE, Held, new_job

WORKERS = ("worker_1", "worker_2")
LIMITS = {"small": 2}
TRIAL_JOBS = 2

NEW = st.fixed_dictionaries(
    {
        "tenant_id": st.sampled_from([TENANT, TENANT, *LIMITS]),
        "agent": st.sampled_from([None, None, None, "ada", "bob"]),
        "priority": st.sampled_from(Priority),
        "delay": st.sampled_from([None, None, 3]),
        "patience": st.sampled_from([None, None, 4]),
        "max_attempts": st.integers(1, 3),
    }
)
"""What a client may ask for: ``delay`` and ``patience`` are seconds until a job may and may no longer run."""

LAPSED = {"text": "hello", "usage": USAGE, "billable": True, "error_type": None, "error_message": None}
"""What a worker says of a job whose time ran out while it ran: its tokens are kept, and paid for."""


class Life(RuleBasedStateMachine):
    """Clients, two workers and a sweeper at one desk; every rule is something that one of them does."""

    database: Database
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.empty()
        self.desk = Desk(self.database)
        for tenant_id, most in LIMITS.items():
            self.desk.limit(tenant_id, most)
        self.desk.careful = False  # the invariant looks after each step
        self.standing = Standing(self.desk, LIMITS, TRIAL_JOBS)
        self.mode = Mode.OPEN

    def empty(self) -> None:
        """Leave no rows: that is quicker than a database anew."""
        with self.database.write() as session:
            for table in reversed(metadata.sorted_tables):
                session.execute(table.delete())

    def teardown(self) -> None:
        """Let everything come to its end, in as many rounds as there are jobs: none may be stuck."""
        self.books_balance()
        self.steer(Mode.OPEN)
        for worker in WORKERS:
            self.lose(worker, 0)
        for _ in self.unfinished():
            self.desk.wait(10)
            self.desk.promote()
            self.desk.expire()
            self.desk.finish(*self.claim_some("worker_3", 99))
        stuck = [(job.id, job.state, job.claimable, job.lane, job.suspect) for job in self.unfinished()]
        assert not stuck, f"jobs are stuck: {stuck}"
        self.all_is_well()
        self.books_balance()

    @initialize(new=st.lists(NEW, min_size=2, max_size=5), count=st.integers(1, 3))
    def begin(self, new: list[dict[str, Any]], count: int) -> None:
        """There is work from the start."""
        for fields in new:
            self.submit(fields, count)

    @rule(new=NEW, count=st.integers(1, 3))
    def submit(self, new: dict[str, Any], count: int) -> None:
        """A client submits a few jobs at once."""
        if self.takes_jobs_in():
            self.desk.submit(*(self._job(**new) for _ in range(count)))

    @rule(first=NEW, second=NEW, between=NEW)
    def bulk(self, first: dict[str, Any], second: dict[str, Any], between: dict[str, Any]) -> None:
        """A client sends a bulk; another client submits while it is stored."""
        if self.takes_jobs_in():
            bulk = self.desk.stage(
                self._job(**first), self._job(**{**second, "tenant_id": first["tenant_id"]})
            )
            self.desk.submit(self._job(**between))
            self.claim_some("worker_2", 1)
            self.desk.publish(bulk)

    @rule(target=claims, worker=st.sampled_from(WORKERS), limit=st.integers(1, 4))
    def claim(self, worker: str, limit: int) -> object:
        """A worker takes what it can."""
        return multiple(*self.claim_some(worker, limit))

    @rule(target=claims, worker=st.sampled_from(WORKERS), new=st.lists(NEW, min_size=1, max_size=3))
    def claim_ahead(self, worker: str, new: list[dict[str, Any]]) -> object:
        """Jobs come to a full worker; it parks others for those that are better."""
        held = self.claim_some(worker, 3)
        for fields in new:
            self.submit(fields, 1)
        before = self.unfinished()
        pairs = self.oracle().claim_ahead(before, worker, self.desk.now)
        places = [(job.priority, job.rank) for job in oracle.running(before, worker)]
        took = self.desk.claim_ahead(*places, worker=worker)
        assert sorted(claim.job_id for claim in took) == sorted(pairs)
        for job in pairs.values():
            assert self.desk.hand_back(Held(job.id, job.fence), [7], "parked") == [job.id]
        return multiple(*held, *(Held(claim.job_id, claim.fence) for claim in took))

    @rule(held=claims, state=st.sampled_from(sorted(TERMINAL)))
    def finish(self, held: Held, state: State) -> None:
        """A worker ends a job, perhaps one that it lost or has ended already."""
        self.desk.finish(held, state=state, **(LAPSED if state == State.EXPIRED else {}))

    @rule(held=claims, other=claims)
    def finish_together(self, held: Held, other: Held) -> None:
        """Two jobs, or one and the same, end in one step."""
        self.desk.finish(held, other)

    @rule(held=claims, at_most=st.sampled_from([0, 1, 1_000]), billable=st.booleans())
    def fail(self, held: Held, at_most: int, *, billable: bool) -> None:
        """An attempt breaks, for a reason for which no attempt, or one, or any may follow."""
        before = self.desk.job(held.job_id)
        self.desk.fail_at_most(at_most, held, pause=1, billable=billable)
        if before.is_held(held.fence):
            goes_on = before.failures < at_most and before.failures + 1 < before.max_attempts
            after = State.CANCELLED if before.cancel_requested else State.SCHEDULED
            assert self.desk.job(held.job_id).state == (after if goes_on else State.FAILED)

    @rule(held=claims, tokens=st.lists(st.integers(0, 9), max_size=3))
    def hand_back(self, held: Held, tokens: list[int]) -> None:
        """A worker gives a job back; another may take it before the first says that it has ended."""
        self.desk.hand_back(held, tokens)
        self.claim_some("worker_2", 4)
        assert self.desk.finish(held).late == [held.job_id]

    @rule(worker=st.sampled_from(WORKERS), limit=st.integers(0, 4))
    def lose(self, worker: str, limit: int) -> None:
        """A worker dies, perhaps of what it has just taken, and the sweeper finds it lost."""
        self.claim_some(worker, limit)
        foretold = Oracle.rescue(self.unfinished(), worker)
        self.desk.rescue(worker)
        for job_id, (failures, suspect) in foretold.items():
            job = self.desk.job(job_id)
            assert (job.failures, job.suspect) == (failures, suspect)

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.desk.wait(seconds)

    @rule(first=st.booleans())
    def sweep(self, *, first: bool) -> None:
        """The sweeper queues what is due, or ends what waited too long."""
        if first:
            self.desk.promote()
        else:
            self.desk.expire()

    @rule(mode=st.sampled_from(Mode))
    def steer(self, mode: Mode) -> None:
        """Somebody pauses, drains or resumes the queue."""
        assert self.desk.steer(mode) == (mode != self.mode)
        self.mode = mode

    @rule(pick=st.integers(0, 99), to=st.sampled_from(Priority))
    def prioritise(self, pick: int, to: Priority) -> None:
        """A client puts a waiting job into another class."""
        waiting = [job for job in self.unfinished() if job.state in WAITING]
        if waiting:
            self.desk.prioritise(waiting[pick % len(waiting)].id, to)

    @rule(pick=st.integers(0, 99))
    def cancel(self, pick: int) -> None:
        """A client cancels some job: it ends, or is flagged."""
        jobs = self.unfinished()
        if not jobs:
            return
        job = jobs[pick % len(jobs)]
        if job.state == State.RUNNING:
            self.desk.request_cancel(job.id)
        else:
            self.desk.cancel(job.id)

    @invariant()
    def all_is_well(self) -> None:
        """What is checked after each step."""
        self.desk.check()
        self.standing.check()

    def books_balance(self) -> None:
        """Every rule of the books holds."""
        with self.database.read() as session:
            breaches = check_integrity(session)
        assert not breaches, breaches

    def takes_jobs_in(self) -> bool:
        """Whether the queue does; one that drains refuses a job, and nothing of it is stored."""
        if self.mode != Mode.DRAINING:
            return True
        before = len(self.desk.all(Job))
        with pytest.raises(Draining):
            self.desk.submit(new_job())
        assert len(self.desk.all(Job)) == before
        return False

    def unfinished(self) -> list[Job]:
        """Jobs that have not ended, in order of submission."""
        return sorted(self.desk.all(Job, finished_at=None, staged=False), key=lambda job: job.seq)

    def oracle(self) -> Oracle:
        """Who knows what claims must find now."""
        return Oracle(LIMITS, TRIAL_JOBS, is_paused=self.mode == Mode.PAUSED)

    def claim_some(self, worker: str, limit: int) -> list[Held]:
        """Claim, and check the order: nothing better was passed over, no turn taken out of turn."""
        before = self.unfinished()
        foretold = self.oracle().claim(before, worker, limit, self.desk.now)
        took = self.desk.claim(limit, worker, trial_jobs=TRIAL_JOBS)
        assert [claim.job_id for claim in took] == foretold
        for job in before:
            if job.id in foretold and job.agent is not None and job.started_at is None:
                # What was submitted while a bulk was stored was seen first, and may go first.
                mine = [
                    other for other in before if (other.tenant_id, other.agent) == (job.tenant_id, job.agent)
                ]
                assert job.seq == min(other.seq for other in mine if job.bulk_id or not other.bulk_id)
        return [Held(claim.job_id, claim.fence) for claim in took]

    def _job(self, delay: int | None, patience: int | None, **fields: Any) -> NewJob:
        return new_job(
            run_at=self.desk.now + timedelta(seconds=delay) if delay else None,
            expires_at=self.desk.now + timedelta(seconds=patience) if patience else None,
            **fields,
        )


@pytest.mark.slow
def test_the_books_hold_whatever_happens(database: Database) -> None:
    """No order of events breaks the books, the fence, the turns of agents, or leaves a job stuck."""
    Life.database = database
    few = settings(max_examples=15, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow])
    run_state_machine_as_test(Life, settings=few)
