"""What serves the jobs: LLMs, which can be loaded and unloaded by hand, and workers."""

from __future__ import annotations

from starlette.responses import Response

from api.bodies import NoBody, no_body
from api.door import Desk, Seated
from api.openapi import answers, make_router, problems
from api.views import json_answer
from api.wire.commands import CommandView, command_view
from api.wire.fleet import LlmList, LlmView, PriceView, WorkerList, WorkerView
from api.wire.job import decimal_text
from models import audit, commands, workers
from models.base import utcnow
from models.commands import Kind
from models.workers import Llm, Standing, Worker

router = make_router("fleet")


@router.get("/v1/llms", responses=answers(200, LlmList, "All configured LLMs.") | problems())
def list_llms(desk: Seated) -> Response:
    """List the LLMs that jobs may name."""
    with desk.database.read() as session:
        rows = {llm.alias: llm for llm in workers.llms(session)}
        known = workers.standings(workers.alive(session))
    llms = [_llm(desk, alias, rows.get(alias), known.get(alias, Standing())) for alias in desk.settings.llms]
    return json_answer(LlmList(data=llms))


_ISSUED = answers(202, CommandView, "A worker will do it; look at the command for the end.", "Location")


@router.post("/v1/llms/{alias:path}/load", status_code=202, responses=_ISSUED | problems(404, 413, 429))
def load_llm(desk: Seated, alias: str, body: NoBody) -> Response:
    """Load an LLM now, in place of another where there is no other way; it stays for a while."""
    return _issue(desk, alias, Kind.LOAD, body)


@router.post("/v1/llms/{alias:path}/unload", status_code=202, responses=_ISSUED | problems(404, 413, 429))
def unload_llm(desk: Seated, alias: str, body: NoBody) -> Response:
    """Give an LLM's memory back now; its next job loads it again."""
    return _issue(desk, alias, Kind.UNLOAD, body)


def _issue(desk: Desk, alias: str, kind: Kind, body: bytes) -> Response:
    no_body(body)
    desk.check_llm(alias)
    caller, now = desk.caller, utcnow()
    with desk.database.write() as session:
        desk.check_room(session)
        command = commands.issue(session, caller.tenant_id, alias, kind, {}, now)
        act = audit.row(caller.tenant_id, caller.key_id, kind, alias, now, command=command.id)
        audit.record(session, [act])
    return json_answer(command_view(command), 202, {"Location": f"/v1/commands/{command.id}"})


def _llm(desk: Desk, alias: str, row: Llm | None, standing: Standing) -> LlmView:
    price = desk.door.prices.of(alias)
    return LlmView(
        alias=alias,
        default=alias == desk.settings.default_llm,
        ready=standing.is_ready,
        loaded=standing.is_loaded,
        trouble=standing.trouble,
        name=row.name if row else None,
        context_length=row.context_length if row else None,
        vocabulary=row.vocabulary if row else None,
        fingerprint=row.fingerprint if row else None,
        jobs_per_second=row.jobs_per_second if row else None,
        price=PriceView(
            currency=desk.settings.currency,
            prompt=decimal_text(price.prompt),
            cached=decimal_text(price.cached),
            completion=decimal_text(price.completion),
        ),
    )


@router.get("/v1/workers", responses=answers(200, WorkerList, "All workers that live.") | problems())
def list_workers(desk: Seated) -> Response:
    """List the workers."""
    with desk.database.read() as session:
        return json_answer(WorkerList(data=[_worker(worker) for worker in workers.alive(session)]))


def _worker(worker: Worker) -> WorkerView:
    return WorkerView(
        id=worker.id,
        kind=worker.kind,
        host=worker.host,
        pid=worker.pid,
        started_at=worker.started_at,
        seen_at=worker.seen_at,
        figures=worker.figures,
    )
