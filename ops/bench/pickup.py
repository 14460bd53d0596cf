"""Idle pick-up: from the moment a client submits to the first step of the engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from ops.bench.figure import Effort, Figure
from ops.bench.statistics import percentile
from ops.client import Client
from ops.complaint import Complaint
from ops.figures import Totals, totals
from ops.service import Service
from ops.show import moment

P50_TARGET, P95_TARGET = 0.060, 0.150
REST_SECONDS = 0.12
"""Time between two jobs, in which the service comes to rest."""


def measure(effort: Effort, folder: Path) -> Iterator[Figure]:
    """Median and 95th percentile of single jobs on a service that has nothing else to do."""
    with Service(folder / "service-pickup") as service, service.client() as client:
        for _ in range(3):
            one(client)
        found = [one(client) for _ in range(effort.pickups)]
    details = {"jobs": len(found), "milliseconds": [round(seconds * 1000, 2) for seconds in found]}
    for percent, target in ((50, P50_TARGET), (95, P95_TARGET)):
        value = percentile(found, percent) * 1000
        yield Figure(f"idle pick-up, p{percent}", value, "ms", "at most", target * 1000, details)


def one(client: Client) -> float:
    """Seconds from before the request is sent to the first engine step of its job.

    The worker measures from the job's creation on; what passed before that,
    by the clock of the same machine, is added.
    """
    before = totals(client.metrics())
    sent = time.time()
    job = client.submit({"prompt": "Hello", "max_tokens": 4})
    created = moment(job["created_at"])
    client.wait(job["id"], 60)
    picked = _difference(before, client)
    time.sleep(REST_SECONDS)
    assert created is not None  # noqa: S101 - every job has been created
    return max(0.0, created.timestamp() - sent) + picked


def _difference(before: Totals, client: Client) -> float:
    after = totals(client.metrics())
    if after.pickups - before.pickups != 1:
        raise Complaint("Another client uses the service that is measured.")
    return after.pickup_seconds - before.pickup_seconds
