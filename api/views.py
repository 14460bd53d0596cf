"""Rows into answers: JSON, entity tags, and when to ask again."""

from __future__ import annotations

import hashlib
import math

from starlette.requests import Request
from starlette.responses import Response

from api.door import Desk
from api.wire.fields import View
from api.wire.job import JobView, job_view
from models import listing
from models.hooks import Session
from models.job_rows import Job
from models.listing import Details

SOONEST, LATEST = 1, 30
"""Seconds after which a client may ask again for a job that has not ended."""


def show_job(desk: Desk, session: Session, job: Job) -> JobView:
    """A job with result, bill and place in the queue."""
    (details,) = listing.details(session, [job])
    return job_view(details, desk.settings.currency)


def show_jobs(desk: Desk, session: Session, jobs: list[Job]) -> list[JobView]:
    """Several jobs, in the same order."""
    return [job_view(details, desk.settings.currency) for details in listing.details(session, jobs)]


def show_new_job(desk: Desk, details: Details) -> JobView:
    """A job that was stored a moment ago."""
    return job_view(details, desk.settings.currency)


def json_answer(view: View, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A view as JSON."""
    return Response(view.model_dump_json(), status, headers, "application/json")


def tagged_answer(request: Request, view: View, headers: dict[str, str]) -> Response:
    """A view under the entity tag of its text, or 304 for a client that has just that."""
    body = view.model_dump_json()
    tag = f'"{hashlib.blake2b(body.encode(), digest_size=12).hexdigest()}"'
    headers |= {"ETag": tag, "Cache-Control": "private, no-cache"}
    known = {
        known.strip().removeprefix("W/") for known in request.headers.get("if-none-match", "").split(",")
    }
    if tag in known or "*" in known:
        return Response(None, 304, headers)
    return Response(body, 200, headers, "application/json")


def ask_again(ended: bool, eta_seconds: float | None) -> dict[str, str]:
    """The header Retry-After for what has not ended."""
    if ended:
        return {}
    seconds = SOONEST if eta_seconds is None else math.ceil(eta_seconds / 2)
    return {"Retry-After": str(min(max(seconds, SOONEST), LATEST))}
