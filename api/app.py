"""The application: routes, middleware, error handlers, and what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from api import openapi
from api.door import Door
from api.explain import faults
from api.middleware import stack
from api.problems import Kind, Problem, answer_problem, invalid
from api.readiness import reason
from api.routes import agents, bulk, commands, events, fleet, health, jobs, keys, ledger, queues
from api.wire.job_body import BulkBody, JobBody, JobChange
from api.wire.people import AgentBody, KeyBody, WarmBody
from api.wire.queues import QueueChange
from config.prices import Prices
from config.settings import Settings
from models.database import Database, Unavailable
from models.tenants import Draining
from workers.broker import Broker

VERSION = "1"
ROUTERS = (jobs, events, bulk, agents, commands, fleet, queues, keys, ledger, health)
BUSY_RETRY_AFTER = "1"
DRAINING_RETRY_AFTER = "30"

NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,  # config.telemetry has them, for all processes
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,  # nothing leaves the machine because of a variable
}


def create_app(
    settings: Settings,
    database: Database,
    broker: Broker | None = None,
    prices: Prices | None = None,
) -> FastAPI:
    """The service over a database whose schema is current; without ``broker``, the settings choose one."""
    door = Door(settings, database, broker, prices)
    app = FastAPI(
        title="Penstock",
        version=VERSION,
        docs_url=None,  # the pages load their scripts from elsewhere
        redoc_url=None,
        middleware=stack(settings.server),
        lifespan=_lifespan,
        separate_input_output_schemas=False,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )
    app.state.door = door
    for module in ROUTERS:
        app.include_router(module.router)
    _handle_errors(app)
    app.openapi = lambda: openapi.fit(document(), settings)  # type: ignore[method-assign]  # FastAPI's own way
    door.queries = openapi.queries(document())
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    door: Door = app.state.door
    anyio.to_thread.current_default_thread_limiter().total_tokens = door.settings.server.threads
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, door.llms.warm)
        try:
            yield
        finally:
            door.close()


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document for any settings; :func:`api.openapi.fit` adds theirs."""
    routes = [route for module in ROUTERS for route in module.router.routes]
    bodies = (JobBody, JobChange, BulkBody, AgentBody, WarmBody, QueueChange, KeyBody)
    return openapi.document(routes, VERSION, bodies)


def _handle_errors(app: FastAPI) -> None:
    app.add_exception_handler(Problem, answer_problem)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(Unavailable, _answer_unavailable)
    app.add_exception_handler(Draining, _answer_draining)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)


async def _answer_http(request: Request, error: Exception) -> Response:
    """What the router itself refuses: no route, no such method."""
    assert isinstance(error, HTTPException)  # noqa: S101  (what the handler is registered for)
    path = request.url.path[:200]
    if error.status_code == Kind.METHOD_NOT_ALLOWED.status:
        detail = f"{request.method} is not known for {path}"
        problem = Problem(Kind.METHOD_NOT_ALLOWED, detail, headers=error.headers)
    else:
        problem = Problem(Kind.NOT_FOUND, f"there is nothing at {path}; /openapi.json lists what there is")
    return problem.response(request.scope)


async def _answer_validation(request: Request, error: Exception) -> Response:
    """A query, path or header that is not what the route declares."""
    assert isinstance(error, RequestValidationError)  # noqa: S101  (as above)
    return invalid(faults(error.errors())).response(request.scope)


async def _answer_unavailable(request: Request, error: Exception) -> Response:
    """The database is locked, full or gone."""
    assert isinstance(error, Unavailable)  # noqa: S101  (as above)
    door: Door = request.app.state.door
    detail = f"{reason(door.database, error)}; nothing was stored, try again"
    headers = {"Retry-After": BUSY_RETRY_AFTER}
    return Problem(Kind.DATABASE_UNAVAILABLE, detail, headers=headers).response(request.scope)


async def _answer_draining(request: Request, error: Exception) -> Response:
    """The queue of an LLM works off what it has, and takes nothing in."""
    assert isinstance(error, Draining)  # noqa: S101  (as above)
    cure = f"send it when POST /v1/queues/{error.llm}/resume has been called, or name another LLM"
    detail = f"the queue of {error.llm} is draining and takes no jobs in: {cure}; nothing was stored"
    headers = {"Retry-After": DRAINING_RETRY_AFTER}
    return Problem(Kind.QUEUE_DRAINING, detail, headers=headers).response(request.scope)


async def _answer_nobody(_request: Request, _error: Exception) -> Response:
    """The client hung up while sending; nobody reads this."""
    return Response(None, 400)
