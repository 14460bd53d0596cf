"""The sum of all models: importing this module makes every table known."""

from __future__ import annotations

from models import (
    agents,
    audit,
    bulks,
    costs,
    counters,
    events,
    idempotency,
    job_rows,
    keys,
    live,
    messages,
    tenants,
    workers,
)
from models.base import Base

NOUNS = (
    agents, audit, bulks, costs, counters, events,
    idempotency, job_rows, keys, live, messages, tenants, workers,
)  # fmt: skip
"""The modules that declare tables or indexes."""

metadata = Base.metadata
"""Tables, indexes and constraints as the models want them."""
