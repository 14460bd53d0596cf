"""How long one client's submissions take while the worker drains a deep queue, and beside a bulk."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial

from models import counters, keys
from models.base import utcnow
from models.database import Database
from models.states import TERMINAL, WAITING, State
from ops.bench.figure import Effort, Figure
from ops.bench.load import Visitor, request
from ops.bench.statistics import median, percentile
from ops.bench.stock import TENANT, Stock
from ops.bench.submitting import BODY, NO_LIMIT
from ops.client import Client
from ops.complaint import Complaint
from ops.service import Service

P99_TARGET = 0.100
ROUND_SECONDS = 30.0
"""When a round ends with however many submissions there have been."""

FAKE = {"engine.backend": "fake", "llms.pico.path": "fake:reply_tokens=1&context_length=1000000"}
"""An engine that costs next to nothing, so that the worker ends jobs as quickly as the database lets it."""


def measure(store: str, stock: Stock, effort: Effort) -> Iterator[Figure]:
    """Medians of the rounds; the whole service runs, with an engine that costs next to nothing.

    Raises:
        Complaint: the worker ended no job in any round.
    """
    with stock.database.write() as session:
        key = keys.create(session, TENANT, "bench", utcnow())
    settings = stock.settings
    given = {"database.url": settings.database_url, **FAKE, **NO_LIMIT}
    with Service(settings.data_dir, given) as service, Client(service.url, key) as client:
        message = request(service.url, "/v1/jobs", BODY, key)
        lines = "\n".join(json.dumps(BODY) for _ in range(effort.bulk)).encode()
        for name, act in (
            ("while the worker drains", partial(time.sleep, 0.01)),
            (f"while it drains and a bulk of {effort.bulk:,} is stored", partial(client.bulk_lines, lines)),
        ):
            found = [
                _round(stock.database, service.url, message, effort.visits, act) for _ in range(effort.rounds)
            ]
            if not any(one.drained_per_second for one in found):
                raise Complaint("The worker did not end a single job meanwhile.")
            yield Figure(
                f"{store}: submit {name}, {stock.waiting:,} wait, p99", median([one.p99_ms for one in found]),
                "ms", "at most", P99_TARGET * 1000, {"rounds": [vars(one) for one in found]},
            )  # fmt: skip


@dataclass(frozen=True)
class Round:
    """What one round found: waits in milliseconds, how many, jobs ended per second, and jobs left waiting."""

    p50_ms: float
    p99_ms: float
    submissions: int
    drained_per_second: float
    left: int


def _round(database: Database, url: str, message: bytes, visits: int, act: Callable[[], object]) -> Round:
    """So many submissions or more, or fewer where they take long; ``act`` is done over and over meanwhile.

    A round goes on until some job has ended: it is about submissions beside a worker.
    """
    before, begun, drained = _count(database, TERMINAL), time.perf_counter(), 0
    with Visitor(url, message) as seconds:
        while (len(seconds) < visits or not drained) and time.perf_counter() - begun < ROUND_SECONDS:
            act()
            drained = _count(database, TERMINAL) - before
    passed = time.perf_counter() - begun
    p50, p99 = (percentile(seconds, percent) * 1000 for percent in (50, 99))
    return Round(p50, p99, len(seconds), drained / passed, _count(database, WAITING))


def _count(database: Database, wanted: Collection[State]) -> int:
    with database.read() as session:
        return sum(count for (*_, state), count in counters.states(session).items() if state in wanted)
