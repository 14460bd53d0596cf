"""The bill and the audit trail: reading only."""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import Query, Request
from starlette.responses import Response

from api import pages
from api.door import Seated
from api.openapi import answers, make_router, problems
from api.views import json_answer
from api.wire import queries
from api.wire.job import decimal_text
from api.wire.ledger import AuditEntry, AuditPage, CostEntry, CostPage
from models import audit, costs
from models.audit import Audit
from models.costs import Cost

router = make_router("ledger")

Page = Annotated[queries.Query, Query()]


@router.get("/v1/costs", responses=answers(200, CostPage, "A page of the bill.", "Link") | problems())
def list_costs(desk: Seated, request: Request, query: Page) -> Response:
    """List what your jobs cost, newest first."""
    limit, before = _window(desk.settings.server.page_max, query)
    with desk.database.read() as session:
        found = costs.page(session, desk.caller.tenant_id, before, limit + 1)
    next_cursor = pages.cursor(found[limit - 1].id) if len(found) > limit else None
    view = CostPage(data=[_cost(cost) for cost in found[:limit]], next_cursor=next_cursor)
    return json_answer(view, 200, pages.link(request, next_cursor))


@router.get("/v1/audit", responses=answers(200, AuditPage, "A page of the trail.", "Link") | problems())
def list_audit(desk: Seated, request: Request, query: Page) -> Response:
    """List who did what in your tenant, newest first."""
    limit, before = _window(desk.settings.server.page_max, query)
    with desk.database.read() as session:
        found = audit.page(session, desk.caller.tenant_id, before, limit + 1)
    next_cursor = pages.cursor(found[limit - 1].id) if len(found) > limit else None
    view = AuditPage(data=[_act(act) for act in found[:limit]], next_cursor=next_cursor)
    return json_answer(view, 200, pages.link(request, next_cursor))


def _window(most: int, query: queries.Query) -> tuple[int, int | None]:
    return pages.rows(query.limit, most), pages.number_of(query.cursor) if query.cursor else None


def _cost(cost: Cost) -> CostEntry:
    return CostEntry(
        job=cost.job_id,
        billable=cost.billable,
        llm=cost.llm,
        agent=cost.agent,
        prompt_tokens=cost.prompt_tokens,
        cached_tokens=cost.cached_tokens,
        completion_tokens=cost.completion_tokens,
        currency=cost.currency,
        amount=decimal_text(cost.amount),
        at=cost.created_at,
    )


def _act(act: Audit) -> AuditEntry:
    return AuditEntry(
        at=act.at, actor=act.actor, action=act.action, subject=act.subject, details=orjson.loads(act.details)
    )
