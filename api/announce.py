"""Waking the workers for jobs that may now run."""

from __future__ import annotations

from datetime import datetime, timedelta

from api.door import Door
from models.hooks import Session
from models.job_rows import Job
from models.states import State
from workers.broker import wake

FURTHEST = timedelta(days=6)
"""Dramatiq's Redis broker keeps no message longer than seven days; the sweeper sees to later jobs."""

LATE_MS = 5
"""A hint for a scheduled job comes a little after its time, never before."""


def announce_new(door: Door, session: Session, job: Job, now: datetime) -> None:
    """Hint at a job that was just stored: now if it can be claimed, at its time if that is near."""
    if job.claimable:
        wake(door.broker, session, job.llm, [job.id])
    elif job.state == State.SCHEDULED and job.run_at is not None:
        hint_later(door, session, job.llm, job.id, job.run_at, now)


def hint_later(door: Door, session: Session, llm: str, job_id: str, due: datetime, now: datetime) -> None:
    """Hint at a scheduled job when its time has come, if that is near enough for any broker."""
    if due - now < FURTHEST:
        delay_ms = max(0, int((due - now).total_seconds() * 1000)) + LATE_MS
        wake(door.broker, session, llm, [job_id], delay_ms=delay_ms)
