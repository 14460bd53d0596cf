"""Many jobs that begin alike, as a bulk through the service: with the pool, and without it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ops.bench.figure import Figure
from ops.bench.statistics import alternate
from ops.bench.subjects import Bench
from ops.bench.texts import Texts
from ops.client import WAIT_SECONDS, Client
from ops.complaint import Complaint
from ops.service import Service

TARGET = 3.0
ROUNDS_ON_CPU = 3
SHARED, OWN, OUT = 1_800, 200, 32


def measure(bench: Bench) -> Iterator[Figure]:
    """Seconds until all have ended, without the pool ÷ with it."""
    subject, jobs, texts = bench.light, bench.effort.jobs, Texts()
    llm = {"llms.pico.path": str(subject.folder)}
    with (
        Service(bench.place("sharing-on"), llm) as on,
        Service(bench.place("sharing-off"), {**llm, "engine.pool_bytes": 0}) as off,
        on.client() as with_pool,
        off.client() as without,
    ):
        for client in (with_pool, without):
            makespan(client, texts, 2)
        pair = alternate(
            bench.rounds(ROUNDS_ON_CPU),
            lambda: makespan(without, texts, jobs),
            lambda: makespan(with_pool, texts, jobs),
        )
    yield Figure(
        f"{jobs} jobs with {SHARED} shared and {OWN} own tokens, pool off ÷ on",
        pair.ratio, "", "at least", TARGET,
        {"llm": subject.name, "device": bench.device, "tokens": OUT,
         "seconds": {"off": pair.ours, "on": pair.yardstick}},
    )  # fmt: skip


def makespan(client: Client, texts: Texts, jobs: int) -> float:
    """Seconds from the submission of a bulk to its end."""
    system = {"role": "system", "content": texts.take(SHARED)}
    bodies = [
        {"messages": [system, {"role": "user", "content": texts.take(OWN)}], "max_tokens": OUT}
        for _ in range(jobs)
    ]
    begun = time.perf_counter()
    bulk = client.bulk(bodies)
    while not bulk["ended"]:
        bulk = client.bulk_state(bulk["id"], wait=WAIT_SECONDS)
    seconds = time.perf_counter() - begun
    made = sum(job["usage"]["completion_tokens"] for job in client.jobs(bulk=bulk["id"]))
    if made != jobs * OUT:
        raise Complaint(f"{made} tokens were generated where {jobs * OUT} were wanted.")
    return seconds
