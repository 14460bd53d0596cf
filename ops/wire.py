"""The service's answers as a client sees them: typed views of the JSON, complaints for refusals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import httpx2

from ops.complaint import Complaint

ENDED = frozenset({"succeeded", "failed", "cancelled", "expired"})
"""States of a job that never change again."""


class Usage(TypedDict):
    """Tokens of a job."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


class Cost(TypedDict):
    """Money as a decimal string."""

    currency: str
    amount: str


class Result(TypedDict):
    """What a job gave."""

    text: str
    json: Any
    finish_reason: str


class Fault(TypedDict):
    """Why a job failed."""

    type: str
    message: str


class Job(TypedDict):
    """A job as ``/v1/jobs`` shows it."""

    id: str
    state: str
    priority: str
    agent: str | None
    llm: str
    created_at: str
    run_at: str | None
    started_at: str | None
    finished_at: str | None
    attempt: int
    max_attempts: int
    position: int | None
    eta_seconds: float | None
    error: Fault | None
    result: Result | None
    usage: Usage
    cost: Cost
    metadata: dict[str, str]
    tags: list[str]
    retry_of: str | None
    bulk: str | None


class Bulk(TypedDict):
    """A handle on many jobs that were sent together; ``counts`` has a number for each state."""

    id: str
    total: int
    counts: dict[str, int]
    ended: bool


class Cache(TypedDict):
    """What is held of an agent's conversation, and what it has saved."""

    tokens: int
    where: str
    llm: str | None
    at: str | None
    hits: int
    hit_tokens: int
    prompt_tokens: int


class Agent(TypedDict):
    """An agent as ``/v1/agents`` shows it."""

    name: str
    created_at: str
    last_used_at: str
    waiting: int
    running: int
    cache: Cache


class Command(TypedDict):
    """Something that a worker is to do; ``finished_at`` tells that it has ended, ``error`` why it failed."""

    id: str
    kind: str
    state: str
    llm: str
    finished_at: str | None
    error: str | None
    result: dict[str, Any] | None


@dataclass(frozen=True)
class Event:
    """One live event of a job."""

    id: str
    type: str
    data: dict[str, Any]


class Unreachable(Complaint):
    """Nothing answers at the service's address."""

    def __init__(self, url: str, error: httpx2.TransportError) -> None:
        reason = str(error) or type(error).__name__
        super().__init__(f"{url} does not answer ({reason}). Is `penstock up` running?")


class Refused(Complaint):
    """The service answered with an error; the message names what is wrong field by field.

    ``retry_after`` are the seconds, one at the least, after which it wants to be asked
    again, if it said so.
    """

    def __init__(self, answer: httpx2.Response) -> None:
        self.status = answer.status_code
        self.retry_after = _seconds(answer.headers.get("Retry-After", ""))
        self.problem = _problem(answer)
        super().__init__("\n".join(_lines(self.status, self.problem)))


def _seconds(text: str) -> float | None:
    return max(1.0, float(text)) if text.isascii() and text.isdigit() else None


def _problem(answer: httpx2.Response) -> dict[str, Any]:
    """The problem document (RFC 9457), or one made of whatever came instead."""
    try:
        found = answer.json()
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    return {"title": answer.reason_phrase or "error", "detail": answer.text[:500]}


def _lines(status: int, problem: dict[str, Any]) -> list[str]:
    head = str(problem.get("detail") or problem.get("title") or "refused")
    if status == 401:
        head += " The key of this data directory's service stands in its api-key; --key gives another."
    faults = [f"  {fault.get('field')}: {fault.get('message')}" for fault in problem.get("errors") or ()]
    return [f"{head} (HTTP {status})", *faults]
