"""The sum of all models: importing this module makes every table known."""

from __future__ import annotations

from typing import Any

from models import (
    agents,
    audit,
    bulks,
    commands,
    costs,
    counters,
    documents,
    events,
    idempotency,
    job_rows,
    keys,
    live,
    messages,
    runtime,
    tenants,
    workers,
)
from models.base import Base

NOUNS = (
    agents, audit, bulks, commands, costs, counters, documents, events,
    idempotency, job_rows, keys, live, messages, runtime, tenants, workers,
)  # fmt: skip
"""The modules that declare tables or indexes."""

metadata = Base.metadata
"""Tables, indexes and constraints as the models want them."""

FULL_TEXT = "fts_"
"""How names begin in the full-text index, which is another thing on each database: no model describes it."""


def is_of_the_models(_item: Any, name: str | None, _kind: str, reflected: bool, _other: Any) -> bool:
    """Whether a comparison should look at something; Alembic's ``include_object``."""
    return not (reflected and name is not None and name.startswith(FULL_TEXT))
