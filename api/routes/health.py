"""Health of the process and its parts, and metrics. No key is needed: nothing of a tenant is shown."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import PlainTextResponse, Response

from api.bodies import JSON
from api.door import Door
from api.metrics import QueueCollector
from api.openapi import Responses, answers, make_router, problems
from api.problems import Kind, Problem
from api.readiness import BEARABLE
from api.views import json_answer
from api.wire.fleet import DEGRADED_EXAMPLE, HealthView
from config import telemetry

router = make_router("health")

RETRY_AFTER = "2"

READY: Responses = answers(200, HealthView, "Jobs are stored and run, perhaps slower.")
READY[200]["content"] = {JSON: {"example": DEGRADED_EXAMPLE}}

METRICS: Responses = {
    200: {
        "description": "All metrics of all processes, in Prometheus's text format.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}


@router.get(
    "/health/live", responses=answers(200, HealthView, "The process answers.") | problems(always=(421,))
)
async def live() -> Response:
    """Say that the process answers."""
    return json_answer(HealthView())


@router.get(
    "/health/startup",
    responses=answers(200, HealthView, "The database answers.") | problems(always=(421, 503)),
)
def startup(request: Request) -> Response:
    """Say whether the service has started: the database answers."""
    door: Door = request.app.state.door
    return _answer(door.readiness.startup())


@router.get(
    "/health/ready",
    responses=READY | problems(always=(421, 503)),
)
def ready(request: Request) -> Response:
    """Say whether jobs are stored and run, and else which part is missing."""
    door: Door = request.app.state.door
    return _answer(door.readiness.check())


def _answer(health: HealthView) -> Response:
    bad = {name: check for name, check in health.checks.items() if not check.ok}
    if bad.keys() <= BEARABLE:
        return json_answer(health, headers={"Cache-Control": "no-store"})
    raise Problem(
        Kind.NOT_READY,
        "; ".join(f"{name}: {check.detail}" for name, check in bad.items()),
        headers={"Retry-After": RETRY_AFTER, "Cache-Control": "no-store"},
        checks=health.checks,
    )


@router.get(
    "/metrics",
    response_class=PlainTextResponse,  # for the document, which would promise JSON too
    responses=METRICS | problems(always=(421, 503)),
)
def metrics(request: Request) -> Response:
    """Give Prometheus the figures of the API and the workers, and of the queues as they are now."""
    door: Door = request.app.state.door
    return Response(
        telemetry.scrape([QueueCollector(door.database, door.offsets)]),
        headers={"Content-Type": telemetry.CONTENT_TYPE},
    )
