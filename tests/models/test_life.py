"""The life of jobs as a state machine driven by Hypothesis: whatever the order of events, the books hold."""

from __future__ import annotations

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from models.costs import Cost
from models.database import Database
from models.job_rows import Job, Result
from models.states import Priority, State
from models.submission import NewJob
from tests.databases import without_fsync
from tests.models.desk import Desk
from tests.rows import Held, new_job

AGENTS = (None, None, "ada", "bob")
WORKERS = ("worker_1", "worker_2")


class Life(RuleBasedStateMachine):
    """Clients, two workers and a sweeper at one desk; every rule is something that one of them does."""

    template: Path
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        shutil.copyfile(self.template, self.folder / "life.db")
        self.database = Database.connect(f"sqlite:///{self.folder / 'life.db'}", pool_size=1)
        without_fsync(self.database)
        self.desk = Desk(self.database)
        self.desk.careful = False  # the invariant looks after each step
        self.ended: dict[str, dict[str, object]] = {}

    def teardown(self) -> None:
        """Let everything come to its end: no job may be stuck. Then leave nothing behind."""
        try:
            for worker in WORKERS:
                self.desk.rescue(worker)
            while unfinished := self.desk.all(Job, finished_at=None):
                self.desk.wait(10)
                self.desk.promote()
                self.desk.expire()
                took = self.claim_some("worker_3", 99)
                self.desk.finish(*took)
                self.all_is_well()
                assert took or len(unfinished) > len(self.desk.all(Job, finished_at=None)), "jobs are stuck"
        finally:
            self.database.close()
            shutil.rmtree(self.folder)

    @rule(
        agent=st.sampled_from(AGENTS),
        priority=st.sampled_from(Priority),
        delay=st.sampled_from([None, None, 3]),
        patience=st.sampled_from([None, None, 4]),
        attempts=st.integers(1, 3),
        count=st.integers(1, 3),
    )
    def submit(
        self,
        agent: str | None,
        priority: Priority,
        delay: int | None,
        patience: int | None,
        attempts: int,
        count: int,
    ) -> None:
        """A client submits a few jobs at once."""
        self.desk.submit(*(self._job(agent, priority, delay, patience, attempts) for _ in range(count)))

    @rule(agent=st.sampled_from(AGENTS), delay=st.sampled_from([None, 3]), between=st.sampled_from(AGENTS))
    def bulk(self, agent: str | None, delay: int | None, between: str | None) -> None:
        """A client sends a bulk; another client submits while it is stored."""
        first = self._job(agent, Priority.STANDARD, delay, None, 2)
        bulk = self.desk.stage(first, self._job(agent, Priority.STANDARD, None, None, 2))
        self.desk.submit(self._job(between, Priority.STANDARD, None, None, 2))
        self.claim_some("worker_2", 1)
        self.desk.publish(bulk)

    @rule(target=claims, worker=st.sampled_from(WORKERS), limit=st.integers(1, 3))
    def claim(self, worker: str, limit: int) -> object:
        """A worker takes what it can."""
        return multiple(*self.claim_some(worker, limit))

    @rule(held=claims, state=st.sampled_from([State.SUCCEEDED, State.FAILED, State.CANCELLED]))
    def finish(self, held: Held, state: State) -> None:
        """A worker ends a job, perhaps one that it lost or has ended already."""
        self.desk.finish(held, state=state)

    @rule(held=claims, other=claims)
    def finish_together(self, held: Held, other: Held) -> None:
        """Two jobs, or one and the same, end in one step."""
        self.desk.finish(held, other)

    @rule(held=claims, again=st.booleans())
    def fail(self, held: Held, again: bool) -> None:
        """An attempt breaks."""
        self.desk.fail(held, pause=1 if again else None, billable=again)

    @rule(held=claims, tokens=st.lists(st.integers(0, 9), max_size=3))
    def hand_back(self, held: Held, tokens: list[int]) -> None:
        """A worker parks a job."""
        self.desk.hand_back(held, tokens)

    @rule(worker=st.sampled_from(WORKERS))
    def rescue(self, worker: str) -> None:
        """The sweeper finds a worker lost."""
        self.desk.rescue(worker)

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.desk.wait(seconds)

    @rule()
    def promote(self) -> None:
        """The sweeper queues what is due."""
        self.desk.promote()

    @rule()
    def expire(self) -> None:
        """The sweeper ends what waited too long."""
        self.desk.expire()

    @rule(pick=st.integers(0, 99))
    def cancel(self, pick: int) -> None:
        """A client cancels some job: it ends, is flagged, or has ended."""
        jobs = self.desk.all(Job, staged=False)
        if not jobs:
            return
        job = jobs[pick % len(jobs)]
        if job.state == State.RUNNING:
            self.desk.request_cancel(job.id)
        elif not job.is_terminal:
            self.desk.cancel(job.id)

    @invariant()
    def all_is_well(self) -> None:
        """What is checked after each step."""
        self.desk.check()
        jobs = sorted(self.desk.all(Job, staged=False), key=lambda job: job.seq)
        self.what_has_ended_stays([job for job in jobs if job.is_terminal])
        self.there_is_one_result_and_one_bill([job.id for job in jobs if job.state == State.SUCCEEDED])
        for agent in ("ada", "bob"):
            self.turns_are_taken([job for job in jobs if job.agent == agent and not job.is_terminal])
        assert all(job.failures <= job.max_attempts for job in jobs)

    def what_has_ended_stays(self, ended: list[Job]) -> None:
        """No field of an ended job changes."""
        for job in ended:
            row = {name: value for name, value in vars(job).items() if not name.startswith("_")}
            assert self.ended.setdefault(job.id, row) == row

    def there_is_one_result_and_one_bill(self, succeeded: list[str]) -> None:
        """One of each for what succeeded, at most one for what ended otherwise, none for what goes on."""
        bills = [cost.job_id for cost in self.desk.all(Cost, billable=True)]
        results = {result.job_id for result in self.desk.all(Result)}
        assert len(bills) == len(set(bills))
        assert set(succeeded) <= results & set(bills)
        assert results | set(bills) <= set(self.ended)

    @staticmethod
    def turns_are_taken(jobs: list[Job]) -> None:
        """Of an agent's jobs at most one runs or may run; if none does, one waits for its time."""
        active = [job for job in jobs if job.claimable or job.state == State.RUNNING]
        assert len(active) <= 1
        if jobs and not active:
            assert State.SCHEDULED in {job.state for job in jobs}

    def claim_some(self, worker: str, limit: int) -> list[Held]:
        """Claim, and check the order: nothing better was passed over, no turn taken out of turn."""
        before = self.desk.all(Job, finished_at=None, staged=False)
        took = self.desk.claim(limit, worker)
        alive = [j for j in before if j.claimable and (j.expires_at is None or j.expires_at > self.desk.now)]
        best = sorted(alive, key=lambda job: (job.rank, job.seq))[:limit]
        assert [claim.job_id for claim in took] == [job.id for job in best]
        for job in best:
            if job.agent is not None and job.started_at is None:
                # What was submitted while a bulk was stored was seen first, and may go first.
                earlier = [o for o in before if o.agent == job.agent and (job.bulk_id or not o.bulk_id)]
                assert job.seq == min(other.seq for other in earlier)
        return [Held(claim.job_id, claim.fence) for claim in took]

    def _job(
        self, agent: str | None, priority: Priority, delay: int | None, patience: int | None, attempts: int
    ) -> NewJob:
        return new_job(
            agent=agent,
            priority=priority,
            run_at=self.desk.now + timedelta(seconds=delay) if delay else None,
            expires_at=self.desk.now + timedelta(seconds=patience) if patience else None,
            max_attempts=attempts,
        )


@pytest.mark.slow
def test_the_books_hold_whatever_happens(migrated_file: Path) -> None:
    """No order of events breaks the books, the fence, the turns of agents, or leaves a job stuck."""
    Life.template = migrated_file
    few = settings(max_examples=15, stateful_step_count=30, suppress_health_check=[HealthCheck.too_slow])
    run_state_machine_as_test(Life, settings=few)
