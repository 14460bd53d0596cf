"""A job as clients see it."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from api.wire.fields import Amount, Moment, View, listed, shown
from models.listing import MOST_COUNTED, Details
from models.states import Priority

StateName = Literal["scheduled", "queued", "running", "succeeded", "failed", "cancelled", "expired"]
PriorityName = Literal["interactive", "standard", "background"]

EXAMPLE: dict[str, Any] = {
    "id": "job_019b1c3a5f0a7c1e9d8b1a2c3d4e5f60",
    "object": "job",
    "state": "succeeded",
    "priority": "standard",
    "agent": "log-reader",
    "llm": "pico",
    "created_at": "2026-11-20T08:30:00.120000Z",
    "run_at": None,
    "started_at": "2026-11-20T08:30:00.161000Z",
    "finished_at": "2026-11-20T08:30:00.934000Z",
    "attempt": 1,
    "max_attempts": 3,
    "position": None,
    "eta_seconds": None,
    "error": None,
    "result": {
        "text": '{"host": "10.0.0.7", "status": "200"}',
        "json": None,
        "finish_reason": "stop",
        "constrained": None,
    },
    "usage": {"prompt_tokens": 612, "cached_tokens": 512, "completion_tokens": 17},
    "cost": {"currency": "EUR", "amount": "0.0000412"},
    "metadata": {"line": "17"},
    "tags": ["demo"],
    "retry_of": None,
    "bulk": None,
}


class ErrorView(View):
    """Why a job failed."""

    type: str
    message: str


class ConstrainedView(View):
    """How the answer was held to a grammar."""

    rung: str
    closed_by_budget: bool


class ResultView(View):
    """What a job gave."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    text: str
    json_: Annotated[Any | None, Field(alias="json")] = None
    finish_reason: str
    constrained: ConstrainedView | None = None


class UsageView(View):
    """Tokens of a job, 0 until it has ended."""

    prompt_tokens: Annotated[int, Field(description="All tokens of the prompt.")]
    cached_tokens: Annotated[int, Field(description="Those of them found in a cache.")]
    completion_tokens: Annotated[int, Field(description="Tokens generated.")]


class CostView(View):
    """What a job costs, 0 until it has ended."""

    currency: str
    amount: Amount


class JobView(View):
    """A job with everything known of it."""

    model_config = shown(EXAMPLE)

    id: str
    object: Literal["job"] = "job"
    state: StateName
    priority: PriorityName
    agent: str | None
    llm: str
    created_at: Moment
    run_at: Annotated[
        Moment | None, Field(description="Earliest start; after a failure, of the next attempt.")
    ]
    started_at: Moment | None
    finished_at: Moment | None
    attempt: Annotated[int, Field(description="Number of the present attempt, from 1.")]
    max_attempts: int
    position: Annotated[
        int | None,
        Field(
            description="Place in the queue from 1; null when not in line, or when 1,000 are ahead"
            " (200 in the answer to the submission)."
        ),
    ]
    eta_seconds: Annotated[float | None, Field(description="Estimated seconds until it starts.")]
    error: ErrorView | None
    result: ResultView | None
    usage: UsageView
    cost: CostView
    metadata: dict[str, str]
    tags: list[str]
    retry_of: str | None
    bulk: str | None


class JobPage(View):
    """Jobs, newest first, and where the next page begins."""

    model_config = listed(EXAMPLE, next_cursor="MTo0MTI")

    object: Literal["list"] = "list"
    data: list[JobView]
    next_cursor: Annotated[
        str | None,
        Field(
            description="Give it as `cursor`; null on the last page. With several filters, or with `text`,"
            " other pages may be short or empty."
        ),
    ]


class CountView(View):
    """How many jobs pass some filters."""

    model_config = shown({"object": "count", "count": 10_000, "capped": True})

    object: Literal["count"] = "count"
    count: int
    capped: Annotated[
        bool,
        Field(
            description="Whether there may be more. By state, LLM and priority alone the count is always"
            f" exact; otherwise it ends at {MOST_COUNTED:,}, or earlier where jobs are hard to find."
        ),
    ]


def job_view(details: Details, currency: str) -> JobView:
    """A job as clients see it; ``currency`` names what a job without a bill cost nothing of."""
    job, cost = details.job, details.cost
    return JobView(
        id=job.id,
        state=job.state,  # type: ignore[arg-type]  # pydantic checks the name
        priority=Priority(job.priority).name.lower(),  # type: ignore[arg-type]  # as above
        agent=job.agent,
        llm=job.llm,
        created_at=job.created_at,
        run_at=job.run_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        position=details.position,
        eta_seconds=None if details.eta_seconds is None else round(details.eta_seconds, 3),
        error=_error(details),
        result=_result(details),
        usage=UsageView(
            prompt_tokens=job.prompt_tokens or 0,
            cached_tokens=job.cached_tokens or 0,
            completion_tokens=job.completion_tokens or 0,
        ),
        cost=CostView(
            currency=cost.currency if cost else currency,
            amount=decimal_text(cost.amount if cost else Decimal(0)),
        ),
        metadata=job.extra,
        tags=job.tags,
        retry_of=job.retry_of,
        bulk=job.bulk_id,
    )


def _error(details: Details) -> ErrorView | None:
    job = details.job
    if job.error_type is None:
        return None
    return ErrorView(type=job.error_type, message=job.error_message or "")


def _result(details: Details) -> ResultView | None:
    result = details.result
    if result is None:
        return None
    return ResultView(text=result.text, json_=result.json, finish_reason=result.finish_reason)


def decimal_text(amount: Decimal) -> str:
    """An amount without exponent and without idle zeros: ``0.0000412``, ``3``, ``0``."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
