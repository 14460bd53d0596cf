"""Errors as RFC 9457 problems: the kinds there are, and how each reaches the client."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from enum import Enum

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from api.wire.fields import CheckView
from api.wire.problem import Fault, ProblemView

MEDIA_TYPE = "application/problem+json"
REQUEST_ID = "penstock.request_id"
"""Where the scope of a request keeps its id."""

MOST_FAULTS = 100
"""Faults that one problem lists; a bulk can have many more."""

log = logging.getLogger(__name__)


class Kind(Enum):
    """A kind of problem: the end of its ``type``, its status and its title."""

    MALFORMED_HTTP = ("malformed-http", 400, "The request is not HTTP")
    MALFORMED_JSON = ("malformed-json", 400, "The body is not JSON")
    UNAUTHORIZED = ("unauthorized", 401, "A valid key is needed")
    NOT_FOUND = ("not-found", 404, "There is no such thing")
    METHOD_NOT_ALLOWED = ("method-not-allowed", 405, "The method is not allowed here")
    NOT_ENDED = ("not-ended", 409, "The job has not ended")
    ALREADY_RUNNING = ("already-running", 409, "The job runs already")
    ALREADY_ENDED = ("already-ended", 409, "It has already ended")
    TOO_LARGE = ("too-large", 413, "The body is too large")
    UNSUPPORTED_MEDIA_TYPE = ("unsupported-media-type", 415, "The content type is not understood")
    MISDIRECTED = ("misdirected-host", 421, "This service does not answer for that host")
    VALIDATION = ("validation", 422, "The request cannot be accepted as it is")
    IDEMPOTENCY_KEY_REUSED = ("idempotency-key-reused", 422, "The key belongs to another request")
    QUEUE_FULL = ("queue-full", 429, "Too many jobs are waiting")
    TOO_MANY_COMMANDS = ("too-many-commands", 429, "Too many commands are waiting")
    INTERNAL = ("internal", 500, "Something went wrong inside")
    DATABASE_UNAVAILABLE = ("database-unavailable", 503, "The database does not answer")
    QUEUE_DRAINING = ("queue-draining", 503, "The queue takes no jobs in")
    NOT_READY = ("not-ready", 503, "The service is not ready")

    def __init__(self, slug: str, status: int, title: str) -> None:
        self.slug = slug
        self.status = status
        self.title = title

    @property
    def type(self) -> str:
        """The URN that clients may rely on."""
        return f"urn:penstock:problem:{self.slug}"


class Problem(Exception):  # noqa: N818  (it is named for what the client gets)
    """Stops the handling of a request with an answer; ``checks`` are parts of the service."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        errors: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        checks: Mapping[str, CheckView] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.checks = checks

    def response(self, scope: Scope) -> Response:
        """The answer to the request of ``scope``."""
        view = ProblemView(
            type=self.kind.type,
            title=self.kind.title,
            status=self.kind.status,
            detail=self.detail,
            request_id=scope.get(REQUEST_ID, ""),
            errors=self.errors[:MOST_FAULTS] or None,
            checks=None if self.checks is None else dict(self.checks),
        )
        body = view.model_dump_json(exclude_none=True)
        return Response(body, self.kind.status, self.headers, MEDIA_TYPE)


def invalid(faults: Sequence[Fault]) -> Problem:
    """A 422 that names everything that is wrong."""
    detail = "; ".join(f"{fault.field}: {fault.message}" for fault in faults[:3])
    if len(faults) > 3:
        detail += f"; and {len(faults) - 3} more"
    return Problem(Kind.VALIDATION, detail, errors=faults)


def not_found(what: str) -> Problem:
    """A 404 for a thing that is not there, or belongs to another tenant."""
    return Problem(Kind.NOT_FOUND, f"there is no {what} that this key may see")


async def answer_problem(request: Request, error: Exception) -> Response:
    """Exception handler for :class:`Problem`."""
    assert isinstance(error, Problem)  # noqa: S101  (what the handler is registered for)
    return error.response(request.scope)
