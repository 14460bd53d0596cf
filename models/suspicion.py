"""Which job brings its worker down? Those that were lost with one are tried apart until it is known.

The loss of a worker costs each job that it ran an attempt, and makes all of
them suspects. Of suspects a worker runs one small group at a time. If it is lost
again, that costs nobody else anything: the members of the group run one at a
time from then on, and who was no suspect becomes one. The one suspect of a
worker that is lost is charged with it. So the neighbours of a job that kills its
process lose one attempt, the crash's own, and it alone runs out of them; and
nobody waits for a trial but suspects.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from models.job_rows import Job

TRIAL_JOBS = 8
"""Suspects in a group, unless the settings say."""


class Suspect(IntEnum):
    """How near the suspicion has come: what ``jobs.suspect`` holds."""

    NO = 0
    GROUP = 1
    ALONE = 2


def group(suspects: Sequence[Job], trial_jobs: int) -> list[Job]:
    """Those of waiting suspects, in order of rank, that may be tried together now."""
    if not suspects:
        return []
    most = trial_jobs if suspects[0].suspect == Suspect.GROUP else 1
    return [job for job in suspects if job.suspect == suspects[0].suspect][:most]


def accuse(jobs: Sequence[Job]) -> list[Job]:
    """Raise the suspicion of jobs that one worker was lost with; returns those whom it costs an attempt."""
    suspects = [job for job in jobs if job.suspect]
    accused = suspects or jobs
    for job in jobs:
        near = job.suspect or (len(accused) == 1 and job in accused)
        job.suspect = Suspect.ALONE if near else Suspect.GROUP
    return list(accused) if not suspects or len(suspects) == 1 else []
