"""Storing a bulk: checked whole, stored in chunks that let other writers in between, published at once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import orjson
from starlette.responses import Response

from api.admission import Draft
from api.announce import hint_later
from api.bodies import JSON
from api.door import Desk
from api.explain import parse
from api.once import Once
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
        self._desk.door.depth.check(len(jobs))
        self._stage(jobs, now)
        return self._once.act(lambda session: self._publish(session, jobs))

    def _checked(self, now: datetime) -> list[NewJob]:
        """Every job, or one problem that names what is wrong with each."""
        jobs: list[NewJob] = []
        faults: list[Fault] = []
        malformed = False
        for place, raw in self._items():
            try:
                draft = Draft(self._desk, parse(JobBody, raw, place))
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

    def _items(self) -> list[tuple[str, bytes]]:
        """Each job's JSON and what to call its place."""
        items = list(self._objects()) if self._kind == JSON else list(self._lines())
        most = self._desk.settings.bulk.max_jobs
        if not 1 <= len(items) <= most:
            raise invalid([Fault(field="jobs", message=f"{len(items)} were sent; 1 to {most} are taken")])
        return items

    def _lines(self) -> Iterator[tuple[str, bytes]]:
        for number, line in enumerate(self._raw.splitlines(), 1):
            if line.strip():
                yield f"line {number}", line

    def _objects(self) -> Iterator[tuple[str, bytes]]:
        try:
            found = orjson.loads(self._raw)
        except orjson.JSONDecodeError:
            found = None  # pydantic says where and why
        if not isinstance(found, dict) or found.keys() != {"jobs"} or not isinstance(found["jobs"], list):
            parsed = parse(BulkBody, self._raw)
            found = {"jobs": [job.model_dump(mode="json", exclude_unset=True) for job in parsed.jobs]}
        for index, job in enumerate(found["jobs"]):
            yield f"jobs[{index}]", orjson.dumps(job)

    def _stage(self, jobs: list[NewJob], now: datetime) -> None:
        """Store the jobs out of everybody's sight; what is never published, the sweeper removes."""
        desk, size = self._desk, self._desk.settings.bulk.chunk_jobs
        with desk.database.write() as session:
            bulks.add(session, self._bulk_id, desk.caller.tenant_id, len(jobs), now)
        for first in range(0, len(jobs), size):
            with desk.database.write() as session:
                chunk = jobs[first : first + size]
                submission.submit(session, chunk, desk.door.offsets, desk.caller.key_id, now, staged=True)

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
        self._desk.door.depth.add(len(jobs))
        for job in jobs:
            telemetry.jobs_submitted.labels(job.llm, job.priority.name.lower()).inc()
