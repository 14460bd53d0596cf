"""The bill and the audit trail: reading only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

import orjson
from fastapi import Query, Request
from starlette.responses import Response

from api import pages
from api.door import Desk, Seated
from api.openapi import answers, make_router, problems
from api.views import json_answer
from api.wire import queries
from api.wire.job import decimal_text
from api.wire.ledger import AuditEntry, AuditPage, CostEntry, CostPage
from models import audit, costs
from models.audit import Audit
from models.costs import Cost
from models.hooks import Session

router = make_router("ledger")

Row = TypeVar("Row", Cost, Audit)

Page = Annotated[queries.Query, Query()]


@router.get("/v1/costs", responses=answers(200, CostPage, "A page of the bill.", "Link") | problems())
def list_costs(desk: Seated, request: Request, query: Page) -> Response:
    """List what your jobs cost, newest first."""
    found, next_cursor = _page(desk, query, costs.page)
    view = CostPage(data=[_cost(cost) for cost in found], next_cursor=next_cursor)
    return json_answer(view, 200, pages.link(request, next_cursor))


@router.get("/v1/audit", responses=answers(200, AuditPage, "A page of the trail.", "Link") | problems())
def list_audit(desk: Seated, request: Request, query: Page) -> Response:
    """List who did what in your tenant, newest first."""
    found, next_cursor = _page(desk, query, audit.page)
    view = AuditPage(data=[_act(act) for act in found], next_cursor=next_cursor)
    return json_answer(view, 200, pages.link(request, next_cursor))


def _page(
    desk: Desk, query: queries.Query, read: Callable[[Session, str, int | None, int], list[Row]]
) -> tuple[list[Row], str | None]:
    limit = pages.rows(query.limit, desk.settings.server.page_max)
    before = pages.number_of(query.cursor) if query.cursor else None
    with desk.database.read() as session:
        found = read(session, desk.caller.tenant_id, before, limit + 1)
    return pages.cut(found, limit, lambda row: row.id)


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
