"""What becomes of jobs, foretold: the rules of claims and of lost workers once more, over rows in memory.

The models find the same by indexes, lanes and locks; here every job is looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from models.job_rows import Job
from models.states import State
from models.suspicion import Suspect


def running(jobs: Iterable[Job], worker: str) -> list[Job]:
    """What a worker runs, the last in rank first."""
    mine = [job for job in jobs if job.state == State.RUNNING and job.worker_id == worker]
    return sorted(mine, key=lambda job: job.rank, reverse=True)


def outranks(job: Job, other: Job) -> bool:
    """Whether ``other`` may be parked for ``job``: the class is better, and the rank as well."""
    return job.priority < other.priority and job.rank < other.rank


@dataclass
class Oracle:
    """Foretells, of a queue that may be paused, with limits of tenants and a size of groups on trial."""

    limits: Mapping[str, int] = field(default_factory=dict)
    trial_jobs: int = 8
    is_paused: bool = False

    def claim(
        self,
        jobs: Sequence[Job],
        worker: str,
        limit: int,
        now: datetime,
        leaves: Callable[[Job], bool] = lambda _: False,
    ) -> list[str]:
        """The ids that a worker takes of ``jobs``, in order."""
        if self.is_paused:
            return []
        tried: list[Job] = []
        if not any(job.suspect for job in running(jobs, worker)):
            waiting = self._in_order(jobs, now, lambda job: bool(job.suspect) and not leaves(job))[:limit]
            level = waiting[0].suspect if waiting else Suspect.NO
            most = self.trial_jobs if level == Suspect.GROUP else 1
            tried = [job for job in waiting if job.suspect == level][:most]
        may = {job.id for job in tried} | {job.id for job in jobs if not job.suspect and not leaves(job)}
        return [job.id for job in self._in_order(jobs, now, lambda job: job.id in may)[:limit]]

    def claim_ahead(self, jobs: Sequence[Job], worker: str, now: datetime) -> dict[str, Job]:
        """The ids that a full worker takes of ``jobs``, each with the one that is parked for it."""
        places = running(jobs, worker)
        if self.is_paused:
            return {}

        def may(job: Job) -> bool:
            return not job.suspect and any(outranks(job, other) for other in places)

        found = self._in_order(jobs, now, may)[: len(places)]
        pairs: dict[str, Job] = {}
        for job in sorted(found, key=lambda job: job.priority):
            place = next((other for other in places if outranks(job, other)), None)
            if place is not None:
                places.remove(place)
                pairs[job.id] = place
        return pairs

    def _in_order(self, jobs: Sequence[Job], now: datetime, may: Callable[[Job], bool]) -> list[Job]:
        """What can be claimed, the best first; of a limited tenant no more than it may run besides."""
        used = Counter(job.tenant_id for job in jobs if job.state == State.RUNNING)
        found = []
        for job in sorted(jobs, key=lambda job: (job.rank, job.seq)):
            alive = job.expires_at is None or job.expires_at > now
            if not (job.claimable and alive and may(job)):
                continue
            if used[job.tenant_id] < self.limits.get(job.tenant_id, len(jobs)):
                used[job.tenant_id] += 1
                found.append(job)
        return found

    @staticmethod
    def rescue(jobs: Sequence[Job], worker: str) -> dict[str, tuple[int, int]]:
        """Failures and suspicion of what a worker runs, once it is lost."""
        mine = running(jobs, worker)
        suspects = [job for job in mine if job.suspect]
        guilty = mine if not suspects else suspects if len(suspects) == 1 else []
        told: dict[str, tuple[int, int]] = {}
        for job in mine:
            charged = job in guilty and not job.cancel_requested
            near = bool(job.suspect) or len(mine) == 1
            told[job.id] = (job.failures + charged, Suspect.ALONE if near else Suspect.GROUP)
        return told
