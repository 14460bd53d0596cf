"""What the inference worker does to the database, with nothing in between: its engine is empty."""

from __future__ import annotations

import os
from collections.abc import Sequence
from decimal import Decimal

from config.settings import Settings
from models import claims, endings, jobs, workers
from models.base import utcnow
from models.claims import Claim
from models.database import Database
from models.endings import Ended, Ending, Usage
from models.ids import new_id
from models.states import State
from ops.complaint import Complaint
from workers.broker import make_broker, wake

LLM = "pico"

_USAGE = Usage(70, 40, 16, Decimal("0.0000070"), Decimal("0.0000004"), Decimal("0.0000160"))
"""Tokens and amounts of each job that succeeds."""


class Hands:
    """A worker's hands: its row, its claims, and what it writes of jobs that are over."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._broker = make_broker(settings, database)
        now = utcnow()
        worker = workers.Worker(
            id=new_id("worker"), kind="inference", host="bench", pid=os.getpid(),
            beats=0, started_at=now, seen_at=now, figures={},
        )  # fmt: skip
        with database.write() as session:
            session.add(worker)
        self._worker_id = worker.id

    def claim(self, limit: int) -> list[Claim]:
        """One transaction, as in the dispatcher."""
        now = utcnow()
        with self._database.write() as session:
            if not workers.stands(session, self._worker_id):
                raise Complaint("Another process uses the database that is measured.")
            jobs.promote_due(session, now)
            endings.expire_due(session, now)
            return claims.claim(session, self._worker_id, LLM, limit, now)

    def finish(self, taken: Sequence[Claim], state: State = State.SUCCEEDED) -> Ended:
        """One transaction, as in the recorder, for jobs that ended in the same step."""
        with self._database.write() as session:
            over = [_ending(claim, state) for claim in taken]
            ended = endings.finish(session, over, self._worker_id, utcnow())
            wake(self._broker, session, LLM, ended.released)
        return ended

    def leave(self) -> None:
        """Say that this worker has stopped, so that nobody takes it for lost."""
        with self._database.write() as session:
            workers.end(session, self._worker_id, utcnow())
        self._broker.close()


def _ending(claim: Claim, state: State) -> Ending:
    if state == State.FAILED:
        return Ending(
            claim.job_id, claim.fence, state, Usage(), "EUR", billable=False,
            error_type="row_error", error_message="the row could not be decoded",
        )  # fmt: skip
    return Ending(claim.job_id, claim.fence, state, _USAGE, "EUR", billable=True, text='{"level": "INFO"}')
