"""Rows for tests: new jobs, endings and moments, with sensible values for whatever is not said."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from models.base import utcnow
from models.bulks import Bulk
from models.claims import Claim
from models.endings import Ending, Usage
from models.ids import new_id
from models.requests import CompletionRequest, Message, Sampling, TextPart
from models.states import Priority, State
from models.submission import NewJob
from models.workers import Llm, Worker

START = utcnow()
"""When tests that set the clock themselves begin."""

TENANT = "default"
LLM = "pico"
OFFSETS = {Priority.INTERACTIVE: 0, Priority.STANDARD: 1_000, Priority.BACKGROUND: 100_000}
"""What the classes add to a rank."""

USAGE = Usage(10, 4, 6, Decimal("0.0000010"), Decimal("0.0000001"), Decimal("0.0000060"))
"""Tokens and amounts of a job that succeeded."""


def at(seconds: float) -> datetime:
    """A moment so many seconds after :data:`START`."""
    return START + timedelta(seconds=seconds)


def completion(text: str = "hello", **sampling: Any) -> CompletionRequest:
    """A request with one user message; ``max_tokens`` is 16 unless given."""
    message = Message(role="user", content=(TextPart(text=text),))
    return CompletionRequest(messages=(message,), sampling=Sampling(**{"max_tokens": 16, **sampling}))


def new_job(text: str = "hello", **fields: Any) -> NewJob:
    """A job of the default tenant for the LLM ``pico`` with three attempts; 10 estimated tokens."""
    known = {
        "tenant_id": TENANT,
        "llm": LLM,
        "request": completion(text).model_dump_json(),
        "estimated_tokens": 10,
        "timeout_seconds": 30.0,
        "max_attempts": 3,
    }
    return NewJob(**{**known, **fields})


def new_bulk(total: int = 1, **fields: Any) -> Bulk:
    """A bulk that is not published yet."""
    known = {"id": new_id("bulk"), "tenant_id": TENANT, "total": total, "created_at": START}
    return Bulk(**{**known, **fields})


class Held(NamedTuple):
    """A job and the fence under which somebody believes to hold it."""

    job_id: str
    fence: int


def ending(claim: Claim | Held, state: State = State.SUCCEEDED, **fields: Any) -> Ending:
    """What a worker says of a claimed job: text and bill if it succeeded or was stopped, else an error."""
    kept = {"text": "hello back", "usage": USAGE, "billable": True}
    reasons = {State.SUCCEEDED: "stop", State.CANCELLED: "cancelled"}
    broken = {"usage": Usage(), "billable": False, "error_type": "row_error", "error_message": "it broke"}
    said = {**kept, "finish_reason": reasons[state]} if state in reasons else broken
    return Ending(
        **{"job_id": claim.job_id, "fence": claim.fence, "state": state, "currency": "EUR", **said, **fields}
    )


def new_worker(**fields: Any) -> Worker:
    """A living worker."""
    known = {
        "id": new_id("worker"),
        "kind": "inference",
        "host": "here",
        "pid": 1,
        "beats": 0,
        "started_at": START,
        "seen_at": START,
        "figures": {},
    }
    return Worker(**{**known, **fields})


def new_llm(**fields: Any) -> Llm:
    """An LLM that a worker serves as ``pico``."""
    known = {
        "alias": LLM,
        "name": "pico",
        "context_length": 4096,
        "vocabulary": 384,
        "fingerprint": "f" * 64,
        "tokenizer": "pico",
        "updated_at": START,
    }
    return Llm(**{**known, **fields})
