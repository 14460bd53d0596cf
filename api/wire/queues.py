"""Queues as clients see them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from api.wire.fields import Body, View, shown
from api.wire.job import PriorityName

ModeName = Literal["open", "paused", "draining"]
Mode = Annotated[
    ModeName,
    Field(description="`paused`: jobs are taken in, none is begun; `draining`: none is taken in."),
]

EXAMPLE: dict[str, Any] = {
    "object": "queue",
    "llm": "pico",
    "mode": "open",
    "priority": "standard",
    "queued": 12,
    "scheduled": 3,
    "running": 8,
    "oldest_seconds": 1.25,
}
DRAINING_EXAMPLE: dict[str, Any] = {
    "object": "queue",
    "llm": "pico",
    "mode": "draining",
    "idle": False,
    "window_ms": 10.0,
    "queued": 12,
    "scheduled": 3,
    "running": 8,
    "priorities": [EXAMPLE | {"mode": "draining"}],
}


class QueueChange(Body):
    """What may be changed of a queue."""

    model_config = shown({"window_ms": 25})

    window_ms: Annotated[
        float,
        Field(ge=0, le=10_000, description="How long arrivals are gathered before they are begun together."),
    ]


class QueueView(View):
    """Your jobs of one LLM and priority that have not ended."""

    model_config = shown(EXAMPLE)

    object: Literal["queue"] = "queue"
    llm: str
    mode: Mode
    priority: PriorityName
    queued: int
    scheduled: int
    running: int
    oldest_seconds: Annotated[
        float | None,
        Field(description="Since the oldest queued job was submitted; null too if it is hidden among many."),
    ]


class ModeView(View):
    """What the queue of an LLM does."""

    model_config = shown({"llm": "pico", "mode": "open"})

    llm: str
    mode: Mode


class QueueList(View):
    """All queues that hold jobs of yours, and what the queue of each configured LLM does."""

    model_config = shown(
        {
            "object": "list",
            "data": [EXAMPLE],
            "modes": [{"llm": "pico", "mode": "open"}, {"llm": "large", "mode": "paused"}],
        }
    )

    object: Literal["list"] = "list"
    data: list[QueueView]
    modes: Annotated[list[ModeView], Field(description="Every configured LLM, also where no job waits.")]


class WholeQueueView(View):
    """The queue of one LLM, and your jobs in it that have not ended."""

    model_config = shown(DRAINING_EXAMPLE)

    object: Literal["queue"] = "queue"
    llm: str
    mode: Mode
    idle: Annotated[
        bool,
        Field(description="No job of anybody waits or runs: a queue that was draining has run dry."),
    ]
    window_ms: Annotated[
        float, Field(description="How long arrivals are gathered before they are begun together.")
    ]
    queued: int
    scheduled: int
    running: int
    priorities: Annotated[list[QueueView], Field(description="The same by priority, where there are jobs.")]
