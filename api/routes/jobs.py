"""Jobs: submit, look, list, delete, cancel, retry."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Query, Request
from starlette.responses import Response

from api import pages
from api.admission import Draft
from api.announce import announce_new
from api.bodies import IdempotencyKey, JsonBody, NoBody, no_body
from api.door import Desk, Seated
from api.explain import parse
from api.once import Once
from api.openapi import KEYED, STORED, accepts, answers, empty, make_router, problems
from api.problems import Kind, Problem, invalid
from api.views import ask_again, json_answer, show_job, show_jobs, show_new_job, tagged_answer
from api.waiting import Wait, seen
from api.wire.job import CountView, JobPage, JobView
from api.wire.job_body import JobBody, JobChange
from api.wire.problem import Fault
from api.wire.queries import JobFilters, JobQuery
from config import telemetry
from models import endings, jobs, listing, queues, submission
from models.base import utcnow
from models.finding import Filters
from models.hooks import Session, after_commit
from models.idempotency import Answer
from models.priority import prioritise
from models.states import WAITING, Priority, State
from models.submission import NewJob
from workers.broker import wake_all

router = make_router("jobs")


@router.post(
    "/v1/jobs",
    status_code=202,
    openapi_extra=accepts(JobBody) | KEYED,
    responses=answers(202, JobView, "Stored: the job survives a power cut.", *STORED)
    | problems(400, 413, 415, 429),
)
def submit_job(desk: Seated, body: JsonBody, key: IdempotencyKey) -> Response:
    """Submit a job."""
    once = Once(desk, key, "POST /v1/jobs", body)
    if (earlier := once.earlier()) is not None:
        return earlier
    draft, now = Draft(desk, parse(JobBody, body)), utcnow()
    if faults := draft.faults(now):
        raise invalid(faults)
    new = draft.job()
    with desk.door.depth.held(desk.caller.tenant_id, 1):
        return once.act(lambda session: store(desk, session, new, now))


def store(desk: Desk, session: Session, new: NewJob, now: datetime) -> Answer:
    """Store one job, hint at it, and say what the client is told."""
    (job,) = submission.submit(session, [new], desk.door.offsets, desk.caller.key_id, now)
    announce_new(desk.door, session, job, now)
    rate = desk.door.llms.rate(job.llm)
    details = listing.new_details(job, queues.place_of_new(session, job), rate)
    after_commit(session, lambda: _count(desk, new))
    return Answer(202, f"/v1/jobs/{job.id}", show_new_job(desk, details).model_dump_json())


def _count(desk: Desk, new: NewJob) -> None:
    desk.door.depth.add(desk.caller.tenant_id, 1)
    telemetry.jobs_submitted.labels(new.llm, new.priority.name.lower()).inc()


@router.get("/v1/jobs", responses=answers(200, JobPage, "A page of jobs.", "Link") | problems())
def list_jobs(desk: Seated, request: Request, query: Annotated[JobQuery, Query()]) -> Response:
    """List jobs, newest first."""
    limit = pages.rows(query.limit, desk.settings.server.page_max)
    before = pages.number_of(query.cursor) if query.cursor else None
    with desk.database.read() as session:
        found = listing.page(session, desk.caller.tenant_id, _filters(query), before, limit)
        shown = show_jobs(desk, session, found.jobs)
    next_cursor = None if found.last is None else pages.cursor(found.last)
    return json_answer(JobPage(data=shown, next_cursor=next_cursor), 200, pages.link(request, next_cursor))


@router.get("/v1/jobs/count", responses=answers(200, CountView, "How many.") | problems())
def count_jobs(desk: Seated, query: Annotated[JobFilters, Query()]) -> Response:
    """Count jobs that pass the filters of a list."""
    with desk.database.read() as session:
        found = listing.count(session, desk.caller.tenant_id, _filters(query))
    return json_answer(CountView(count=found.count, capped=found.capped))


def _filters(query: JobFilters) -> Filters:
    return Filters(
        states=tuple(State(name) for name in query.state),
        agent=query.agent,
        llm=query.llm,
        tag=query.tag,
        priority=Priority[query.priority.upper()] if query.priority else None,
        bulk_id=query.bulk,
        created_after=query.created_after,
        created_before=query.created_before,
        text=query.text,
    )


@router.get(
    "/v1/jobs/{job_id}",
    responses=answers(200, JobView, "The job as it is now.", "ETag", "Retry-After")
    | empty(304, "The client has it already, by If-None-Match.")
    | problems(404),
)
async def get_job(desk: Seated, request: Request, job_id: str, wait: Wait = 0) -> Response:
    """Look at a job; with `wait`, as soon as it has ended or the seconds are over."""
    view = await seen(desk, request, job_id, wait, _look, lambda view: view.finished_at is not None)
    return tagged_answer(request, view, ask_again(view.finished_at is not None, view.eta_seconds))


def _look(desk: Desk, job_id: str) -> JobView:
    with desk.database.read() as session:
        return show_job(desk, session, desk.job(session, job_id))


@router.patch(
    "/v1/jobs/{job_id}",
    openapi_extra=accepts(JobChange),
    responses=answers(200, JobView, "The job as it is now.") | problems(400, 404, 409, 413, 415),
)
def change_job(desk: Seated, job_id: str, body: JsonBody) -> Response:
    """Change the priority of a job that waits; the one it has already changes nothing."""
    wanted, now = Priority[parse(JobChange, body).priority.upper()], utcnow()
    with desk.database.write() as session:
        caller = desk.caller
        found = prioritise(session, caller.tenant_id, job_id, wanted, desk.door.offsets, caller.key_id, now)
        job, changed = found or (desk.job(session, job_id), False)  # which says that there is none
        if job.is_terminal:
            raise Problem(Kind.ALREADY_ENDED, f"it has {job.state}: only a job that waits has a priority")
        if job.state == State.RUNNING:
            raise Problem(Kind.ALREADY_RUNNING, "it is running: its priority counts only while it waits")
        if changed and job.claimable:
            wake_all(desk.door.broker, session, [job.id])
        view = show_job(desk, session, job)
    return json_answer(view)


@router.delete(
    "/v1/jobs/{job_id}",
    status_code=204,
    responses=empty(204, "Gone; its bill and audit trail stay.") | problems(404, 409),
)
def delete_job(desk: Seated, job_id: str) -> Response:
    """Delete an ended job with all that it asked and gave."""
    with desk.database.write() as session:
        job = desk.job(session, job_id, lock=True)
        if not job.is_terminal:
            raise Problem(Kind.NOT_ENDED, f"it is {job.state}: cancel it first")
        jobs.remove(session, job, desk.caller.key_id, utcnow())
    return Response(None, 204)


@router.post(
    "/v1/jobs/{job_id}/cancel",
    responses=answers(200, JobView, "Cancelled, now or before.")
    | answers(202, JobView, "It is running and will stop at the next step of the engine.")
    | problems(404, 409, 413),
)
def cancel_job(desk: Seated, job_id: str, body: NoBody) -> Response:
    """Cancel a job; a second time changes nothing."""
    no_body(body)
    with desk.database.write() as session:
        job, now = desk.job(session, job_id, lock=True), utcnow()
        if job.state in WAITING:
            released = endings.cancel_waiting(session, job, desk.caller.key_id, now)
            wake_all(desk.door.broker, session, released)
        elif job.state == State.RUNNING:
            jobs.request_cancel(session, job, desk.caller.key_id, now)
        elif job.state != State.CANCELLED:
            raise Problem(Kind.ALREADY_ENDED, f"it has {job.state}: there is nothing to cancel")
        view = show_job(desk, session, job)
    return json_answer(view, 202 if view.state == "running" else 200)


@router.post(
    "/v1/jobs/{job_id}/retry",
    status_code=202,
    openapi_extra=KEYED,
    responses=answers(202, JobView, "A new job that asks the same.", *STORED) | problems(404, 409, 413, 429),
)
def retry_job(desk: Seated, job_id: str, body: NoBody, key: IdempotencyKey) -> Response:
    """Submit an ended job again, as a new job with `retry_of`."""
    no_body(body)
    once = Once(desk, key, f"POST /v1/jobs/{job_id}/retry", b"")
    if (earlier := once.earlier()) is not None:
        return earlier
    with desk.door.depth.held(desk.caller.tenant_id, 1):
        return once.act(lambda session: _store_again(desk, session, job_id))


def _store_again(desk: Desk, session: Session, job_id: str) -> Answer:
    job = desk.job(session, job_id, lock=True)
    if not job.is_terminal:
        raise Problem(Kind.NOT_ENDED, f"it is {job.state}: only an ended job can be submitted again")
    if desk.door.llms.resolve(job.llm) is None:
        raise invalid([Fault(field="llm", message=f"{job.llm!r} is not configured any more")])
    return store(desk, session, submission.again(session, job), utcnow())
