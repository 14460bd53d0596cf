"""Which worker an agent comes back to: the one whose cache knows its conversation.

Rendezvous hashing (Thaler and Ravishankar, 1998): of all living workers that
serve the LLM, an agent's home is the one with the highest hash of both names.
When a worker comes or goes, only the agents move whose home it is. A home is a
preference, not a promise: who has waited for it for long enough runs anywhere.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

from models.job_rows import Job

FORGOTTEN = 10
"""Waits after which a job that was left to others has surely been taken."""

SHORTEST_LOOK = 0.05
"""Seconds between two looks that no hint asked for."""


class Homes:
    """Says which jobs are left to other workers, and for how long they were."""

    def __init__(self, wait_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._wait = wait_seconds
        self._clock = clock
        self._me = ""
        self._workers: tuple[str, ...] = ()
        self._since: dict[str, float] = {}

    @property
    def look_seconds(self) -> float | None:
        """How often to look without a hint, for hints may reach others; None for a worker that is alone."""
        return max(SHORTEST_LOOK, self._wait / 8) if len(self._workers) > 1 else None

    def know(self, me: str, workers: Sequence[str]) -> None:
        """Take note of who lives."""
        self._me, self._workers = me, tuple(workers)
        horizon = self._clock() - FORGOTTEN * self._wait
        self._since = {job_id: since for job_id, since in self._since.items() if since > horizon}

    def leaves(self, job: Job) -> bool:
        """Whether a job is left to its agent's home for now; the time runs from the first such answer."""
        if (
            job.agent is None
            or len(self._workers) < 2
            or home(job.tenant_id, job.agent, self._workers) == self._me
        ):
            return False
        now = self._clock()
        return now - self._since.setdefault(job.id, now) < self._wait


def home(tenant_id: str, agent: str, workers: Sequence[str]) -> str:
    """The worker, of at least one, that an agent of a tenant belongs to."""
    return max(workers, key=lambda worker: hashlib.sha256(f"{worker}/{tenant_id}/{agent}".encode()).digest())
