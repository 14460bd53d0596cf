"""How quickly jobs are taken in: one by one, many at once, and both together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from ops.addresses import claim_port
from ops.bench.figure import Effort, Figure
from ops.bench.load import Visitor, rate, request
from ops.bench.statistics import alternate, median, percentile
from ops.client import Client
from ops.complaint import Complaint
from ops.lifeline import Lifeline
from ops.service import Service, alone
from ops.supervisor.child import ROOT, Child, Program, penstock
from ops.supervisor.up import variables

RATIO_TARGET, BULK_TARGET, P99_TARGET = 0.4, 3_000.0, 0.100
CONNECTIONS = 8
BODY = {"prompt": "Hello", "max_tokens": 16}
NO_LIMIT = {"queue.max_depth": 10_000_000, "queue.max_tenant_depth": 10_000_000}
"""The settings of a queue that takes in whatever comes."""


def measure(effort: Effort, folder: Path) -> Iterator[Figure]:
    """Single submissions against the yardstick, then bulks with another client beside them.

    Workers have told of the LLM and are stopped: jobs are stored and hinted
    at, prompts are counted, but what running them costs is measured elsewhere.
    """
    place = folder / "service-submit"
    with Service(place) as service:
        key = (service.folder / "api-key").read_text(encoding="utf-8").strip()
    with door(place) as url:
        single = request(url, "/v1/jobs", BODY, key)
        yield _single(effort, url, place / "penstock.db", single)
        with Client(url, key) as client:
            yield from _bulk(effort, client, single)


def _single(effort: Effort, url: str, database: Path, message: bytes) -> Figure:
    with bare_app(database) as bare_url:
        plain = request(bare_url, "/rows", BODY)
        rate(url, message, effort.submissions // 5, CONNECTIONS)
        rate(bare_url, plain, effort.submissions // 5, CONNECTIONS)
        pair = alternate(
            effort.rounds,
            lambda: rate(url, message, effort.submissions, CONNECTIONS),
            lambda: rate(bare_url, plain, effort.submissions, CONNECTIONS),
        )
    details = {"per_second": {"service": pair.ours, "bare": pair.yardstick}, "connections": CONNECTIONS}
    return Figure("submit rate ÷ bare insert", pair.ratio, "", "at least", RATIO_TARGET, details)


def _bulk(effort: Effort, client: Client, message: bytes) -> Iterator[Figure]:
    lines = "\n".join(json.dumps(BODY) for _ in range(effort.bulk)).encode()
    rates, waits = [], []
    for _ in range(effort.rounds):
        with Visitor(client.url, message) as seconds:
            begun = time.perf_counter()
            client.bulk_lines(lines)
            rates.append(effort.bulk / (time.perf_counter() - begun))
        waits.append(percentile(seconds, 99) * 1000)
    yield Figure(
        "/v1/bulk on SQLite", median(rates), "jobs/s", "at least", BULK_TARGET,
        {"jobs": effort.bulk, "jobs_per_second": rates},
    )  # fmt: skip
    yield Figure(
        "single submit beside a bulk, p99", median(waits), "ms", "at most", P99_TARGET * 1000,
        {"milliseconds": waits},
    )  # fmt: skip


@contextmanager
def door(folder: Path, more: Mapping[str, Any] | None = None) -> Iterator[str]:
    """The API alone on a data directory, with settings of one's own; gives its address.

    The database is there, migrated and with a key: a whole service has left it, or whoever filled it.
    """
    port = claim_port("127.0.0.1", 0)
    lifeline = Lifeline()
    settings = variables({**alone(folder), "server.port": port, **NO_LIMIT, **(more or {})})
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    child = Child(Program("api", penstock("api"), settings), logs / "api.log", lifeline)
    child.start()
    url = f"http://127.0.0.1:{port}"
    try:
        _await(f"{url}/health/live", lambda: child.lives)
        yield url
    finally:
        child.terminate()
        child.wait(10)
        lifeline.close()


@contextmanager
def bare_app(database: Path) -> Iterator[str]:
    """The yardstick in a process of its own; gives its address."""
    port = claim_port("127.0.0.1", 0)
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "ops.bench.bare_app", str(database), str(port)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        _await(f"{url}/openapi.json", lambda: process.poll() is None)
        yield url
    finally:
        process.terminate()
        process.wait()


def _await(url: str, lives: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and lives():
        try:
            httpx2.get(url, trust_env=False)
        except httpx2.TransportError:
            time.sleep(0.05)
        else:
            return
    raise Complaint(f"Nothing answers at {url}; the reason stands in the log.")
