"""What serves the jobs: LLMs and workers."""

from __future__ import annotations

from starlette.responses import Response

from api.door import Desk, Seated
from api.openapi import answers, make_router, problems
from api.views import json_answer
from api.wire.fleet import LlmList, LlmView, PriceView, WorkerList, WorkerView
from api.wire.job import decimal_text
from models import workers
from models.workers import Llm, Worker

router = make_router("fleet")


@router.get("/v1/llms", responses=answers(200, LlmList, "All configured LLMs.") | problems())
def list_llms(desk: Seated) -> Response:
    """List the LLMs that jobs may name."""
    with desk.database.read() as session:
        rows = {llm.alias: llm for llm in workers.llms(session)}
    return json_answer(LlmList(data=[_llm(desk, alias, rows.get(alias)) for alias in desk.settings.llms]))


def _llm(desk: Desk, alias: str, row: Llm | None) -> LlmView:
    price = desk.door.prices.of(alias)
    return LlmView(
        alias=alias,
        default=alias == desk.settings.default_llm,
        ready=row is not None and row.ready,
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
