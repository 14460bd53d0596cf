"""Changing the priority of a job that waits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy.orm import Session

from models import audit, jobs, tenants
from models.counters import Deltas
from models.job_rows import Job
from models.states import WAITING, Priority, State


def prioritise(
    session: Session,
    tenant_id: str,
    job_id: str,
    priority: Priority,
    offsets: Mapping[Priority, int],
    actor: str,
    now: datetime,
) -> tuple[Job, bool] | None:
    """Put a waiting job into another class; the job, locked, and whether anything changed. None: no such job.

    Its place is that of a job submitted in this class now, and its tenant is
    charged for that: the change is no way past others. A job that does not
    wait, or is in that class already, is left as it is.
    """
    job = jobs.find(session, tenant_id, job_id)
    if job is None:
        return None
    share = None
    if State(job.state) in WAITING and job.priority != priority:
        # Before the job is locked: submissions too lock shares before agents and jobs.
        taken = tenants.take_shares(session, tenant_id, job.llm, priority, [job.estimated_tokens])
        share = taken.starts[0]
    job = jobs.find(session, tenant_id, job_id, lock=True)
    if job is None:
        return None
    if share is None or State(job.state) not in WAITING or job.priority == priority:
        return job, False
    told = {"before": Priority(job.priority).name.lower(), "after": priority.name.lower()}
    _move(session, job, priority, share, offsets)
    audit.record(session, [audit.row(job.tenant_id, actor, "job.priority", job.id, now, **told)])
    return job, True


def _move(
    session: Session, job: Job, priority: Priority, share: int, offsets: Mapping[Priority, int]
) -> None:
    state, deltas = State(job.state), Deltas()
    deltas.move(job, state, None)
    job.priority, job.share, job.rank = int(priority), share, share + offsets[priority]
    job.version += 1
    deltas.move(job, None, state)
    session.flush()
    deltas.write(session)
