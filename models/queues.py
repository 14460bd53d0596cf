"""Looking at queues: how deep they are, and how long their oldest job has waited."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.job_rows import Job
from models.states import State


def oldest_claimable(session: Session) -> dict[str, tuple[str, datetime]]:
    """For each LLM with claimable jobs: the id of the first in order, and when it came or became due."""
    found = {}
    for llm in session.scalars(select(Job.llm).where(Job.claimable).distinct()):
        query = select(Job.id, Job.created_at, Job.run_at).where(Job.llm == llm, Job.claimable)
        row = session.execute(query.order_by(Job.rank, Job.seq).limit(1)).first()
        if row is not None:
            found[llm] = (row.id, max(row.created_at, row.run_at or row.created_at))
    return found


def oldest_waiting(session: Session) -> dict[tuple[str, int], datetime]:
    """For each LLM and priority with queued jobs: when the oldest of them was submitted."""
    columns = (Job.llm, Job.priority)
    query = (
        select(*columns, func.min(Job.created_at))
        .where(Job.state == State.QUEUED, Job.staged.is_(False))
        .group_by(*columns)
    )
    return {(llm, priority): since for llm, priority, since in session.execute(query)}
