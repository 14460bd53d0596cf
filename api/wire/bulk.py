"""A bulk as clients see it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from api.wire.fields import Moment, View, shown
from models.bulks import Bulk
from models.states import TERMINAL, State

EXAMPLE: dict[str, Any] = {
    "id": "bulk_019b1c3a5f0a7c1e9d8b1a2c3d4e5f60",
    "object": "bulk",
    "total": 2,
    "counts": {
        "scheduled": 0,
        "queued": 1,
        "running": 0,
        "succeeded": 1,
        "failed": 0,
        "cancelled": 0,
        "expired": 0,
        "deleted": 0,
    },
    "ended": False,
    "created_at": "2026-11-20T08:30:00.120000Z",
    "cancelled_at": None,
}


class CountsView(View):
    """Jobs of a bulk by state; `deleted` ones are gone."""

    scheduled: int = 0
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    deleted: int = 0


class BulkView(View):
    """A handle on jobs that came together; `GET /v1/jobs?bulk=` lists them."""

    model_config = shown(EXAMPLE)

    id: str
    object: Literal["bulk"] = "bulk"
    total: Annotated[int, Field(description="Jobs that were sent.")]
    counts: CountsView
    ended: Annotated[bool, Field(description="Whether every job has ended.")]
    created_at: Moment
    cancelled_at: Moment | None


def bulk_view(bulk: Bulk, counts: dict[str, int]) -> BulkView:
    """A bulk with its jobs counted by state."""
    counted = sum(counts.values())
    return BulkView(
        id=bulk.id,
        total=bulk.total,
        counts=CountsView(**counts, deleted=bulk.total - counted),
        ended=not any(count for state, count in counts.items() if State(state) not in TERMINAL),
        created_at=bulk.created_at,
        cancelled_at=bulk.cancelled_at,
    )
