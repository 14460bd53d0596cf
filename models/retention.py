"""What is thrown away when it is old enough, in small batches."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from models import ids
from models.counters import Deltas
from models.job_rows import Job
from models.states import State


def drop_ended(session: Session, before: datetime, limit: int = 500) -> int:
    """Delete jobs that ended before a time, and count them out; returns how many.

    What ended before it was also made before it, and ids tell when: so an index
    finds the few rows to look at, and the end of a job need not keep another.
    """
    query = select(Job).where(Job.id < ids.first("job", before), Job.finished_at < before).limit(limit)
    old = session.scalars(query.with_for_update(skip_locked=True)).all()
    deltas = Deltas()
    for job in old:
        deltas.move(job, State(job.state), None)
    deltas.write(session)
    session.execute(delete(Job).where(Job.seq.in_([job.seq for job in old])))
    return len(old)
