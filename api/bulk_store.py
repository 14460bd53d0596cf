"""Storing a bulk: checked whole, stored in chunks that let other writers in between, published at once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from io import BytesIO
from itertools import islice
from typing import Any

from starlette.responses import Response

from api.admission import Draft
from api.announce import hint_later
from api.bodies import JSON
from api.door import Desk
from api.explain import check, read
from api.once import REPLAYED, Once
from api.problems import Kind, Problem, invalid
from api.wire.bulk import bulk_view
from api.wire.job_body import BulkBody, JobBody
from api.wire.problem import Fault
from config import telemetry
from models import bulks, submission
from models.base import utcnow
from models.bulks import Bulk
from models.hooks import Session, after_commit
from models.idempotency import Answer
from models.ids import new_id
from models.submission import NewJob
from workers.broker import wake

ENOUGH = 100
"""Jobs with faults after which the rest is not looked at."""


class BulkStore:
    """One request for a bulk, worked off in one thread."""

    def __init__(self, desk: Desk, kind: str, raw: bytes, key: str | None) -> None:
        self._desk = desk
        self._kind = kind
        self._raw = raw
        self._once = Once(desk, key, f"POST /v1/bulk {kind}", raw)
        self._bulk_id = new_id("bulk")

    def run(self) -> Response:
        """Check all, store all, answer."""
        if (earlier := self._once.earlier()) is not None:
            return earlier
        now = utcnow()
        jobs = self._checked(now)
        with self._desk.door.depth.held(self._desk.caller.tenant_id, len(jobs)):
            self._stage(jobs, now)
            answer = self._once.act(lambda session: self._publish(session, jobs))
        if REPLAYED in answer.headers:  # another request under the same key was faster
            self._unstage()
        return answer

    def _checked(self, now: datetime) -> list[NewJob]:
        """Every job, or one problem that names what is wrong with each."""
        jobs: list[NewJob] = []
        faults: list[Fault] = []
        malformed = False
        for place, item in self._items():
            try:
                value = read(item, place) if isinstance(item, bytes) else item
                draft = Draft(self._desk, check(JobBody, value, place))
                wrong = [Fault(field=f"{place}.{f.field}", message=f.message) for f in draft.faults(now)]
            except Problem as problem:
                malformed |= problem.kind is Kind.MALFORMED_JSON
                wrong = problem.errors or [Fault(field=place, message=problem.detail)]
            if not wrong:
                jobs.append(draft.job(self._bulk_id))
            faults += wrong
            if len(faults) >= ENOUGH:
                break
        if malformed:
            bad = next(fault for fault in faults if fault.message.startswith(fault.field))
            raise Problem(Kind.MALFORMED_JSON, bad.message, errors=faults)
        if faults:
            raise invalid(faults)
        return jobs

    def _items(self) -> list[tuple[str, Any]]:
        """Each job, as JSON has it or as a line still to be read, and what to call its place."""
        most = self._desk.settings.bulk.max_jobs
        items = list(islice(self._objects() if self._kind == JSON else self._lines(), most + 1))
        if not 1 <= len(items) <= most:
            sent = f"more than {most}" if items else "none"
            raise invalid([Fault(field="jobs", message=f"{sent} were sent; 1 to {most} are taken")])
        return items

    def _lines(self) -> Iterator[tuple[str, bytes]]:
        for number, line in enumerate(BytesIO(self._raw), 1):
            if line.strip():
                yield f"line {number}", line

    def _objects(self) -> Iterator[tuple[str, Any]]:
        found = read(self._raw)
        if not isinstance(found, dict) or found.keys() != {"jobs"} or not isinstance(found["jobs"], list):
            check(BulkBody, found)  # tells what it is instead
        for index, job in enumerate(found["jobs"]):
            yield f"jobs[{index}]", job

    def _stage(self, jobs: list[NewJob], now: datetime) -> None:
        """Store the jobs out of everybody's sight; what is never published, the sweeper removes."""
        desk, size = self._desk, self._desk.settings.bulk.chunk_jobs
        with desk.database.write() as session:
            bulks.add(session, self._bulk_id, desk.caller.tenant_id, len(jobs), now)
        for first in range(0, len(jobs), size):
            with desk.database.write() as session:
                chunk = jobs[first : first + size]
                submission.submit(session, chunk, desk.door.offsets, desk.caller.key_id, now, staged=True)

    def _unstage(self) -> None:
        """Remove what was stored in vain, a chunk at a time."""
        size = self._desk.settings.bulk.chunk_jobs
        more = True
        while more:
            with self._desk.database.write() as session:
                more = bulks.drop(session, self._bulk_id, size) == size

    def _publish(self, session: Session, jobs: list[NewJob]) -> Answer:
        """Show all at once, hint, count."""
        door, now = self._desk.door, utcnow()
        bulk = session.get_one(Bulk, self._bulk_id)
        for llm in bulks.publish(session, bulk, self._desk.caller.key_id, now):
            wake(door.broker, session, llm, bulks.some_claimable(session, self._bulk_id, llm))
        for llm, due, job_id in bulks.due_times(session, self._bulk_id):
            hint_later(door, session, llm, job_id, due, now)
        view = bulk_view(bulk, bulks.counts(session, self._bulk_id))
        after_commit(session, lambda: self._count(jobs))
        return Answer(202, f"/v1/bulk/{bulk.id}", view.model_dump_json())

    def _count(self, jobs: list[NewJob]) -> None:
        self._desk.door.depth.add(self._desk.caller.tenant_id, len(jobs))
        for job in jobs:
            telemetry.jobs_submitted.labels(job.llm, job.priority.name.lower()).inc()
