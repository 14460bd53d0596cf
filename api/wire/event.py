"""Events of a job as clients see them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from api.wire.fields import Moment, View, shown

EXAMPLE: dict[str, Any] = {
    "object": "list",
    "data": [
        {
            "id": "0",
            "type": "state",
            "at": "2026-11-20T08:30:00.120000Z",
            "data": {"state": "queued", "attempt": 1},
        },
        {
            "id": "41",
            "type": "tokens",
            "at": "2026-11-20T08:30:00.361000Z",
            "data": {"text": '{"host', "tokens": 2, "attempt": 1},
        },
    ],
    "has_more": False,
}


class EventView(View):
    """A change of state, or tokens as they came."""

    id: Annotated[str, Field(description="Send it as `Last-Event-ID` to go on behind this event.")]
    type: Annotated[str, Field(description="`state` or `tokens`; more may come.")]
    at: Moment
    data: dict[str, Any]


class EventPage(View):
    """Events of a job, oldest first."""

    model_config = shown(EXAMPLE)

    object: Literal["list"] = "list"
    data: list[EventView]
    has_more: Annotated[bool, Field(description="Ask again with the last id for the rest.")]
