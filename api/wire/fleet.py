"""LLMs, workers and health as clients see them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from api.wire.fields import Amount, CheckView, Moment, View, listed, shown

LLM_EXAMPLE: dict[str, Any] = {
    "object": "llm",
    "alias": "pico",
    "default": True,
    "ready": True,
    "loaded": True,
    "trouble": None,
    "name": "penstock-pico",
    "context_length": 4096,
    "vocabulary": 384,
    "fingerprint": "7c1e9d8b1a2c3d4e",
    "jobs_per_second": 11.5,
    "price": {"currency": "EUR", "prompt": "0.05", "cached": "0.01", "completion": "0.2"},
}
WORKER_EXAMPLE: dict[str, Any] = {
    "id": "worker_019b1c3a5f0a7c1e9d8b1a2c3d4e5f60",
    "object": "worker",
    "kind": "inference",
    "host": "studio",
    "pid": 4711,
    "started_at": "2026-11-20T08:00:00Z",
    "seen_at": "2026-11-20T08:30:00Z",
    "figures": {"rows": 12},
}

DEGRADED_EXAMPLE: dict[str, Any] = {
    "status": "degraded",
    "checks": {
        "database": {"ok": True, "detail": "it answers"},
        "worker": {"ok": True, "detail": "1 inference worker"},
        "llm": {"ok": True, "detail": "pico is ready"},
        "broker": {
            "ok": False,
            "detail": "Redis does not answer (ConnectionError): hints are missing,"
            " so jobs are found by looking every few seconds",
        },
    },
}


class PriceView(View):
    """Money for a million tokens of each kind."""

    currency: str
    prompt: Amount
    cached: Amount
    completion: Amount


class LlmView(View):
    """A configured LLM; what only a worker knows is null until one has told."""

    model_config = shown(LLM_EXAMPLE)

    object: Literal["llm"] = "llm"
    alias: Annotated[str, Field(description="What a job's `llm` names.")]
    default: Annotated[bool, Field(description="Used when a job names none.")]
    ready: Annotated[
        bool, Field(description="Whether its jobs will run: a worker has loaded it, or can load it.")
    ]
    loaded: Annotated[bool, Field(description="Whether a worker has it in memory now.")]
    trouble: Annotated[str | None, Field(description="Why a worker could not load it when it tried last.")]
    name: str | None
    context_length: int | None
    vocabulary: int | None
    fingerprint: str | None
    jobs_per_second: float | None
    price: PriceView


class LlmList(View):
    """All configured LLMs."""

    model_config = listed(LLM_EXAMPLE)

    object: Literal["list"] = "list"
    data: list[LlmView]


class WorkerView(View):
    """A process that does the work."""

    model_config = shown(WORKER_EXAMPLE)

    id: str
    object: Literal["worker"] = "worker"
    kind: str
    host: str
    pid: int
    started_at: Moment
    seen_at: Moment
    figures: Annotated[dict[str, Any], Field(description="What the worker tells of itself.")]


class WorkerList(View):
    """All workers that live."""

    model_config = listed(WORKER_EXAMPLE)

    object: Literal["list"] = "list"
    data: list[WorkerView]


class HealthView(View):
    """Whether the service works, and each part of it."""

    model_config = shown({"status": "ok", "checks": {"database": {"ok": True, "detail": "it answers"}}})

    status: Annotated[
        Literal["ok", "degraded"],
        Field(description="`degraded`: jobs are stored and run, but slower; `checks` tells why."),
    ] = "ok"
    checks: dict[str, CheckView] = Field(default_factory=dict)
