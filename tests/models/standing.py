"""What must hold of all jobs together, whatever has happened to them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

from models.costs import Cost
from models.job_rows import Job, Result
from models.states import Priority, State
from models.suspicion import Suspect
from tests.models.desk import Desk
from tests.rows import OFFSETS


class Standing:
    """Looks at a desk again and again, and remembers what has ended."""

    def __init__(self, desk: Desk, limits: Mapping[str, int], trial_jobs: int) -> None:
        self._desk = desk
        self._limits = limits
        self._trial_jobs = trial_jobs
        self._ended: dict[str, dict[str, object]] = {}

    def check(self) -> None:
        """Raise AssertionError if anything is not as it must be."""
        jobs = self._desk.all(Job, staged=False)
        self.what_has_ended_stays([job for job in jobs if job.is_terminal])
        self.there_is_one_result_and_one_bill({job.id for job in jobs if job.state == State.SUCCEEDED})
        self.turns_are_taken([job for job in jobs if not job.is_terminal])
        self.limits_hold([job for job in jobs if job.state == State.RUNNING])
        assert all(job.failures <= job.max_attempts for job in jobs)
        assert all(job.rank == job.share + OFFSETS[Priority(job.priority)] for job in jobs)
        assert all(job.lane == (job.tenant_id if job.tenant_id in self._limits else "") for job in jobs)

    def what_has_ended_stays(self, ended: Sequence[Job]) -> None:
        """No field of an ended job changes."""
        for job in ended:
            row = {name: value for name, value in vars(job).items() if not name.startswith("_")}
            assert self._ended.setdefault(job.id, row) == row

    def there_is_one_result_and_one_bill(self, succeeded: Collection[str]) -> None:
        """One of each for what succeeded, at most one for what ended otherwise, none for what goes on."""
        bills = [cost.job_id for cost in self._desk.all(Cost, billable=True)]
        results = {result.job_id for result in self._desk.all(Result)}
        assert len(bills) == len(set(bills))
        assert set(succeeded) <= results & set(bills)
        assert results | set(bills) <= set(self._ended)

    @staticmethod
    def turns_are_taken(going_on: Sequence[Job]) -> None:
        """Of an agent's jobs at most one runs or may run; if none does, one waits for its time."""
        agents: dict[tuple[str, str], list[Job]] = defaultdict(list)
        for job in going_on:
            if job.agent is not None:
                agents[job.tenant_id, job.agent].append(job)
        for jobs in agents.values():
            active = [job for job in jobs if job.claimable or job.state == State.RUNNING]
            assert len(active) <= 1
            assert active or State.SCHEDULED in {job.state for job in jobs}

    def limits_hold(self, running: Sequence[Job]) -> None:
        """No tenant runs more than it may; no worker more suspects than a group, or one."""
        of_tenant = Counter(job.tenant_id for job in running)
        assert all(of_tenant[tenant_id] <= most for tenant_id, most in self._limits.items())
        of_worker: dict[str | None, list[int]] = defaultdict(list)
        for job in running:
            if job.suspect:
                of_worker[job.worker_id].append(job.suspect)
        most = {Suspect.GROUP: self._trial_jobs, Suspect.ALONE: 1}
        for suspects in of_worker.values():
            assert len(set(suspects)) == 1
            assert len(suspects) <= most[Suspect(suspects[0])]
