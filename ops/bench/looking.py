"""How long the API takes to show a queue in which a great many jobs wait, over HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx2

from api import pages
from models import keys
from models.base import utcnow
from ops.bench.figure import Effort, Figure
from ops.bench.statistics import percentile
from ops.bench.stock import OTHER, TENANT, Stock
from ops.bench.submitting import door
from ops.complaint import Complaint

TARGET = 0.100


@dataclass(frozen=True)
class Look:
    """One question; where its answer is a page, the next ones are asked for too."""

    name: str
    path: str = "/v1/jobs"
    params: Mapping[str, Any] = field(default_factory=dict)
    tenant: str = TENANT


def looks(waiting: int, middle: datetime) -> Iterator[Look]:
    """What is asked, each filter alone: common and rare, found and not found, near and far."""
    for name, params in (
        ("all", {}),
        ("all, from the middle on", {"cursor": pages.cursor(waiting // 2)}),
        ("by state, common", {"state": "queued"}),
        ("by state, rare", {"state": "failed"}),
        ("by states", {"state": ["succeeded", "failed"]}),
        ("by agent", {"agent": f"agent-{waiting // 100}"}),
        ("by agent, unknown", {"agent": "nobody"}),
        ("by tag, common", {"tag": "nightly"}),
        ("by tag, rare", {"tag": "rare"}),
        ("by tag and state", {"tag": "nightly", "state": "failed"}),
        ("by priority and state", {"priority": "interactive", "state": "succeeded"}),
        ("by time, after", {"created_after": middle.isoformat()}),
        ("by time, before", {"created_before": middle.isoformat()}),
        ("by text, common", {"text": "status"}),
        ("by text, rare", {"text": f"{waiting // 2} "}),
        ("by text, not there", {"text": "unheard-of"}),  # "of" begins a word of every job
        ("by text, in every job", {"text": "of"}),
        ("by text and state", {"text": "status", "state": "failed"}),
    ):
        yield Look(f"list {name}", params=params)
    yield Look("list of a small tenant", tenant=OTHER)
    yield Look("list of a small tenant by state, rare", params={"state": "failed"}, tenant=OTHER)
    yield Look("counts of states", "/v1/queues")
    for name, params in (
        ("all", {}),
        ("by tag, common", {"tag": "nightly"}),
        ("by text, common", {"text": "status"}),
        ("by text, rare", {"text": f"{waiting // 2} "}),
        ("by text, in every job", {"text": "of"}),
        ("by text and state", {"text": "status", "state": "failed"}),
    ):
        yield Look(f"count {name}", "/v1/jobs/count", params)


def measure(store: str, stock: Stock, effort: Effort) -> Iterator[Figure]:
    """The 95th percentile of each look at the API in a process of its own."""
    with stock.database.write() as session:
        known = {tenant: keys.create(session, tenant, "bench", utcnow()) for tenant in (TENANT, OTHER)}
    settings = stock.settings
    with door(settings.data_dir, {"database.url": settings.database_url}) as url:
        for look in looks(stock.waiting, stock.middle or utcnow()):
            with httpx2.Client(
                base_url=url,
                headers={"Authorization": f"Bearer {known[look.tenant]}"},
                trust_env=False,
                timeout=60,
            ) as client:
                client.get(look.path)  # the connection is there, and the key has been seen
                taken = [seconds * 1000 for seconds in _walk(client, look, effort.looks)]
            yield Figure(
                f"{store}: {look.name}, {stock.waiting:,} wait, p95", percentile(taken, 95), "ms",
                "at most", TARGET * 1000, {"p50": percentile(taken, 50), "milliseconds": taken},
            )  # fmt: skip


def _walk(client: httpx2.Client, look: Look, count: int) -> Iterator[float]:
    """Seconds of each request, from the first page on, and from it again behind the last."""
    cursor = None
    for _ in range(count):
        params = {**look.params, **({"cursor": cursor} if cursor else {})}
        begun = time.perf_counter()
        answer = client.get(look.path, params=params)
        yield time.perf_counter() - begun
        if answer.is_error:
            raise Complaint(f"{look.name} was refused: {answer.text[:500]}")
        cursor = answer.json().get("next_cursor")
