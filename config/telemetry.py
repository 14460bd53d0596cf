"""Every metric of the service, in one place, and one scrape that covers all its processes.

The processes share figures through files in the folder that
``PROMETHEUS_MULTIPROC_DIR`` names. It must be set before this module is first
imported; without it each process answers for itself alone. Depth and age of the
queues are no counters: the API reads them from the database at each scrape.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
FILE_BYTES = 1 << 20
"""Size of each shared file: room for some five thousand series, a few hundred are in use."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_WAITS = (0.01, 0.02, 0.04, 0.06, 0.1, 0.15, 0.25, 0.5, 1, 5, 15, 60, 300, 1800, 7200)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_KINDS = ("counter", "histogram", "gauge_livesum", "gauge_mostrecent")


def _allocate(folder: Path) -> None:
    """Write this process's files out before they are mapped.

    prometheus-client maps files that have a length and no blocks. When the disk
    is full, the first write to such a page ends the process by SIGBUS. A file
    of zeros has its blocks, and is taken as it is.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    files = [folder / f"{kind}_{os.getpid()}.db" for kind in _KINDS]
    try:
        for file in files:
            with file.open("ab") as stream:
                stream.write(bytes(max(0, FILE_BYTES - stream.tell())))
    except OSError:
        for file in files:
            file.unlink(missing_ok=True)  # what little room there is belongs to the database
        raise


if DIRECTORY_VARIABLE in os.environ:
    _allocate(Path(os.environ[DIRECTORY_VARIABLE]))

http_requests = Counter(
    "penstock_http_requests_total", "Requests answered, by route template.", ["method", "route", "status"]
)
"""Counts answers; ``route`` is the template, never a path with ids in it."""

http_request_seconds = Histogram(
    "penstock_http_request_seconds", "Time to answer a request.", ["method", "route"], buckets=_FAST
)
"""Seconds from a request's first byte to the answer's last; waiting and streaming count."""

jobs_submitted = Counter("penstock_jobs_submitted_total", "Jobs stored.", ["llm", "priority"])
"""Counts jobs once their transaction has committed."""

jobs_ended = Counter("penstock_jobs_ended_total", "Jobs that reached a final state.", ["llm", "state"])
"""Counts changes into a state that never changes again."""

late_results = Counter("penstock_late_results_total", "Results that came after their fence had passed.")
"""Counts results that changed nothing."""

pickup_seconds = Histogram(
    "penstock_pickup_seconds",
    "Time from submission or run_at to the first engine step; no later attempts, agents or bulks.",
    ["llm"],
    buckets=_WAITS,
)
"""Seconds for which a job could have run and did not; observed only of jobs that waited for nothing else."""

hints = Counter("penstock_hints_total", "Hints to the workers, by what became of them.", ["outcome"])
"""Counts hints; ``outcome`` is sent, failed or received."""

sweeps = Counter("penstock_sweeps_total", "Rows the sweeper put right, by what it did.", ["action"])
"""Counts repairs; ``action`` is rescued, moved_on or hinted."""

worker_heartbeats = Counter("penstock_worker_heartbeats_total", "Heartbeats of the workers.", ["kind"])
"""Counts raised heartbeats; a rate of zero means that no worker of the kind lives."""

worker_heartbeat_seconds = Gauge(
    "penstock_worker_heartbeat_timestamp_seconds",
    "Wall time of the last heartbeat.",
    ["kind"],
    multiprocess_mode="mostrecent",
)
"""Unix time; of several workers of one kind, the last that beat."""

engine_steps = Counter("penstock_engine_steps_total", "Steps of the engine that decoded.", ["llm"])
"""Counts decode steps: decoded tokens divided by these is the mean batch."""

engine_decoded_tokens = Counter("penstock_engine_decoded_tokens_total", "Tokens generated.", ["llm"])
"""Counts every token a step yielded, kept or not."""

engine_prefill_tokens = Counter("penstock_engine_prefill_tokens_total", "Prompt tokens computed.", ["llm"])
"""Counts prompt tokens that were not found in a cache."""

engine_cached_tokens = Counter("penstock_engine_cached_tokens_total", "Prompt tokens from a cache.", ["llm"])
"""Counts prompt tokens that needed no computing."""

engine_restored_tokens = Counter(
    "penstock_engine_restored_tokens_total", "Tokens whose keys and values were read back from disk.", ["llm"]
)
"""Counts tokens of blocks that came from disk into the pool."""

engine_batch_rows = Gauge(
    "penstock_engine_batch_rows", "Sequences decoding together now.", ["llm"], multiprocess_mode="livesum"
)
"""The rows of the live batch, summed over living workers."""

engine_live_bytes = Gauge(
    "penstock_engine_live_bytes", "Cache bytes of the live batch.", ["llm"], multiprocess_mode="livesum"
)
"""Bytes as the backend measures them, summed over living workers."""

engine_pool_bytes = Gauge(
    "penstock_engine_pool_bytes", "Bytes of the blocks kept for reuse.", ["llm"], multiprocess_mode="livesum"
)
"""Bytes as the backend measures them, summed over living workers."""

engine_window_admissions = Histogram(
    "penstock_engine_window_admissions", "Jobs that one window admitted together.", ["llm"], buckets=_ROWS
)
"""Jobs a window, empty windows left out."""


def prepare_directory(path: Path) -> None:
    """Make the folder for shared figures and empty it of an earlier service's files.

    Called once, by the process that starts the others, before any of them.
    """
    path.mkdir(parents=True, exist_ok=True)
    for file in path.glob("*.db"):
        file.unlink(missing_ok=True)


def forget_process(pid: int) -> None:
    """Drop the gauges of a process that has ended; its counters go on counting."""
    if DIRECTORY_VARIABLE in os.environ:
        mark_process_dead(pid)  # type: ignore[no-untyped-call]  # prometheus-client leaves it unannotated


def scrape(also: Iterable[Collector] = ()) -> bytes:
    """All metrics of all processes, and those that ``also`` collects now, in Prometheus's text format."""
    registry = CollectorRegistry()
    if DIRECTORY_VARIABLE in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # as above
    else:
        registry.register(REGISTRY)
    for collector in also:
        registry.register(collector)
    return generate_latest(registry)
