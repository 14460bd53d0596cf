"""Events of a job: as JSON, or as they happen by server-sent events."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from typing import Annotated, NamedTuple

import orjson
from fastapi import Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from api.door import Desk, Seated
from api.openapi import answers, empty, make_router, problems
from api.problems import Problem
from api.sightings import EVENTS
from api.views import json_answer
from api.wire.event import EventPage, EventView
from models.database import Unavailable
from models.job_rows import Job
from models.states import State

log = logging.getLogger(__name__)
router = make_router("jobs")

AT_ONCE = 1_000
"""Events that one answer, or one look of a stream, holds."""

KEEP_ALIVE_SECONDS = 15.0
KEEP_ALIVE = b": keep-alive\n\n"
OUTAGE_SECONDS = 1.0
"""How soon the database is asked again when it did not answer."""

BEGINNING = "0"
"""The id of a job's first event, its submission, which is no row of its own."""

STREAM = {
    "content": {
        "text/event-stream": {
            "schema": {"type": "string"},
            "example": 'id: 41\nevent: tokens\ndata: {"text": "{\\"host", "tokens": 2, "attempt": 1}\n\n',
        }
    }
}


class Look(NamedTuple):
    """What a look at a job found: events, whether no others can follow, and when to look again unasked."""

    events: list[EventView]
    is_last: bool
    pause_seconds: float


LastId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        pattern=r"^[0-9]{1,18}(\.[0-9]{1,18}-[0-9]{1,18})?$",
        description="The id of the last event seen: go on behind it.",
    ),
]


@router.get(
    "/v1/jobs/{job_id}/events",
    responses={200: answers(200, EventPage, "Events so far, or a stream until the job ends.")[200] | STREAM}
    | empty(204, "The stream is over: the job has ended and the client has seen it all.")
    | problems(404),
)
async def get_events(
    desk: Seated,
    request: Request,
    job_id: str,
    stream: Annotated[
        bool, Query(description="Server-sent events, as with Accept: text/event-stream.")
    ] = False,
    last_id: LastId = None,
) -> Response:
    """See what happened to a job, and go on seeing it."""
    found = await run_in_threadpool(_look, desk, job_id, last_id)
    if not stream and "text/event-stream" not in request.headers.get("accept", ""):
        has_more = len(found.events) > AT_ONCE
        return json_answer(EventPage(data=found.events[:AT_ONCE], has_more=has_more))
    if not found.events and found.is_last:
        return Response(None, 204)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(desk, job_id, found, last_id), 200, headers, "text/event-stream")


async def _stream(desk: Desk, job_id: str, found: Look, last_id: str | None) -> AsyncIterator[bytes]:
    """Events until none can follow, with comments in quiet times."""
    with desk.door.watcher.watch(EVENTS + job_id) as watch:
        yield KEEP_ALIVE
        spoke = time.monotonic()
        while True:
            for event in found.events:
                yield _format(event)
                last_id, spoke = event.id, time.monotonic()
            if found.is_last or desk.door.watcher.closed:
                return
            if len(found.events) <= AT_ONCE:
                left = KEEP_ALIVE_SECONDS - (time.monotonic() - spoke)
                await watch.change(min(left, found.pause_seconds))
                if time.monotonic() - spoke >= KEEP_ALIVE_SECONDS:
                    yield KEEP_ALIVE
                    spoke = time.monotonic()
            try:
                found = await run_in_threadpool(_look, desk, job_id, last_id)
            except Problem:
                return  # the job was deleted
            except Unavailable as error:
                log.warning("the stream of %s waits for the database: %s", job_id, error)
                found = Look([], is_last=False, pause_seconds=OUTAGE_SECONDS)


def _look(desk: Desk, job_id: str, last_id: str | None) -> Look:
    """The state first, the events after it: an end that comes in between is seen by the next look."""
    with desk.database.read() as session:
        job = desk.job(session, job_id)
    found = desk.door.live.read(job_id, last_id, AT_ONCE + 1)
    views = [EventView(id=event.id, type=event.type, at=event.at, data=event.data) for event in found]
    if not last_id:
        views.insert(0, _submission(job, views))
    return Look(views, job.is_terminal and len(views) <= AT_ONCE, _pause(desk, job))


def _pause(desk: Desk, job: Job) -> float:
    """The watcher tells of rows. Tokens in Redis it does not see: those of a running job are asked for."""
    if desk.settings.live.kind == "redis" and job.state == State.RUNNING:
        return desk.settings.live.flush_ms / 1000
    return KEEP_ALIVE_SECONDS


def _submission(job: Job, views: list[EventView]) -> EventView:
    """The state in which the job came; a retry overwrites ``run_at``, but then it was promoted before."""
    later = job.run_at is not None and job.run_at > job.created_at
    if job.failures:
        later = (
            views[:1] != [] and views[0].data.get("state") == State.QUEUED and not views[0].data.get("fence")
        )
    state = State.SCHEDULED if later else State.QUEUED
    return EventView(
        id=BEGINNING, type="state", at=job.created_at, data={"state": state.value, "attempt": 1, "fence": 0}
    )


def _format(event: EventView) -> bytes:
    data = orjson.dumps({"at": event.at, **event.data}, option=orjson.OPT_UTC_Z)
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event.id.encode(), event.type.encode(), data)
