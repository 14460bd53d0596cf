"""The bill and the audit trail as clients see them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from api.wire.fields import Amount, Moment, View, listed, shown

COST_EXAMPLE: dict[str, Any] = {
    "object": "cost",
    "job": "job_019b1c3a5f0a7c1e9d8b1a2c3d4e5f60",
    "billable": True,
    "llm": "pico",
    "agent": None,
    "prompt_tokens": 612,
    "cached_tokens": 512,
    "completion_tokens": 17,
    "currency": "EUR",
    "amount": "0.0000412",
    "at": "2026-11-20T08:30:00.934000Z",
}
AUDIT_EXAMPLE: dict[str, Any] = {
    "object": "act",
    "at": "2026-11-20T08:30:00.120000Z",
    "actor": "0123456789ab",
    "action": "job.submit",
    "subject": "job_019b1c3a5f0a7c1e9d8b1a2c3d4e5f60",
    "details": {},
}


class CostEntry(View):
    """Tokens of one attempt and their price; what nobody pays for stands at 0."""

    model_config = shown(COST_EXAMPLE)

    object: Literal["cost"] = "cost"
    job: str
    billable: bool
    llm: str
    agent: str | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    currency: str
    amount: Amount
    at: Moment


class CostPage(View):
    """Cost entries, newest first."""

    model_config = listed(COST_EXAMPLE, next_cursor=None)

    object: Literal["list"] = "list"
    data: list[CostEntry]
    next_cursor: str | None


class AuditEntry(View):
    """Who did what to which thing, and when."""

    model_config = shown(AUDIT_EXAMPLE)

    object: Literal["act"] = "act"
    at: Moment
    actor: Annotated[str, Field(description="Id of a key or a worker, or `system`.")]
    action: str
    subject: str
    details: dict[str, Any]


class AuditPage(View):
    """Acts, newest first."""

    model_config = listed(AUDIT_EXAMPLE, next_cursor=None)

    object: Literal["list"] = "list"
    data: list[AuditEntry]
    next_cursor: str | None
