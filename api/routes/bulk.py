"""Bulks: many jobs in one request, all or none."""

from __future__ import annotations

import anyio
import anyio.to_thread
from fastapi import Request
from starlette.responses import Response

from api.bodies import IdempotencyKey, JsonOrLines, NoBody, no_body
from api.bulk_store import BulkStore
from api.door import Desk, Seated
from api.openapi import KEYED, STORED, accepts, answers, empty, make_router, problems
from api.views import ask_again, json_answer, tagged_answer
from api.waiting import Wait, seen
from api.wire.bulk import BulkView, bulk_view
from api.wire.job_body import BulkBody, JobBody
from models import audit, bulks, endings, jobs
from models.base import utcnow
from models.states import WAITING
from workers.broker import wake_all

router = make_router("bulk")

CANCEL_JOBS = 200
"""Jobs that one transaction cancels."""


@router.post(
    "/v1/bulk",
    status_code=202,
    openapi_extra=accepts(BulkBody, lines=JobBody) | KEYED,
    responses=answers(202, BulkView, "All jobs are stored.", *STORED) | problems(400, 413, 415, 429),
)
async def submit_bulk(desk: Seated, body: JsonOrLines, key: IdempotencyKey) -> Response:
    """Submit up to 10,000 jobs together: a JSON object with `jobs`, or one job a line."""
    kind, raw = body
    store = BulkStore(desk, kind, raw, key)
    # Threads of their own, few: bulks must not keep the pool from those who submit one job.
    return await anyio.to_thread.run_sync(store.run, limiter=desk.door.bulk_threads)


@router.get(
    "/v1/bulk/{bulk_id}",
    responses=answers(200, BulkView, "The bulk as it is now.", "ETag", "Retry-After")
    | empty(304, "The client has it already, by If-None-Match.")
    | problems(404),
)
async def get_bulk(desk: Seated, request: Request, bulk_id: str, wait: Wait = 0) -> Response:
    """Count a bulk's jobs by state; with `wait`, as soon as all have ended or the seconds are over."""
    view = await seen(desk, request, bulk_id, wait, _look, lambda view: view.ended)
    return tagged_answer(request, view, ask_again(view.ended, None))


def _look(desk: Desk, bulk_id: str) -> BulkView:
    with desk.database.read() as session:
        bulk = desk.bulk(session, bulk_id)
        return bulk_view(bulk, bulks.counts(session, bulk_id))


@router.post(
    "/v1/bulk/{bulk_id}/cancel",
    responses=answers(200, BulkView, "What waited is cancelled; what runs will stop.") | problems(404, 413),
)
async def cancel_bulk(desk: Seated, bulk_id: str, body: NoBody) -> Response:
    """Cancel all jobs of a bulk that have not ended; a second time changes nothing."""
    no_body(body)
    return await anyio.to_thread.run_sync(_cancel, desk, bulk_id, limiter=desk.door.bulk_threads)


def _cancel(desk: Desk, bulk_id: str) -> Response:
    with desk.database.write() as session:
        bulk, now = desk.bulk(session, bulk_id), utcnow()
        if bulk.cancelled_at is None:
            bulk.cancelled_at = now
            act = audit.row(bulk.tenant_id, desk.caller.key_id, "bulk.cancel", bulk_id, now)
            audit.record(session, [act])
    while _cancel_some(desk, bulk_id):
        pass
    return json_answer(_look(desk, bulk_id))


def _cancel_some(desk: Desk, bulk_id: str) -> bool:
    """Cancel the next few jobs; False when there were none."""
    now = utcnow()
    with desk.database.write() as session:
        found = bulks.unfinished(session, bulk_id, CANCEL_JOBS)
        waiting = [job for job in found if job.state in WAITING]
        released = endings.cancel_all(session, waiting, desk.caller.key_id, now)
        for job in found:
            if not job.is_terminal:
                jobs.request_cancel(session, job, desk.caller.key_id, now)
        wake_all(desk.door.broker, session, released)
    return bool(found)
