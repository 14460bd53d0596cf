"""Whether memory stays flat: the service under a steady load, its processes watched all the while."""

from __future__ import annotations

import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import linear_regression

from ops.bench.figure import Effort, Figure
from ops.bench.load import Visitor, question, request
from ops.bench.pressure import FAKE
from ops.bench.submitting import BODY, NO_LIMIT
from ops.service import Service

SLOPE_TARGET = 5.0
"""MB per hour: thirty bytes for each job of the load."""

JUDGED_MINUTES = 30.0
"""From so long a soak on its slope is held against the target; what is shorter is told for comparison."""

WARM_UP = 0.25
"""The part of the time whose samples are left out: caches fill and threads start."""

SAMPLES = 240
PAUSE_SECONDS = 0.02
KIB_PER_MB = 1_000_000 / 1_024

Sample = tuple[float, float]
"""Hours since the start, and resident memory in MB."""


def measure(effort: Effort, folder: Path) -> Iterator[Figure]:
    """The slope of each process: jobs are submitted, done, listed and counted some fifty times a second."""
    with Service(folder / "service-soak", {**FAKE, **NO_LIMIT}) as service:
        key = (service.folder / "api-key").read_text(encoding="utf-8").strip()
        messages = [
            request(service.url, "/v1/jobs", BODY, key),
            *(question(service.url, path, key) for path in ("/v1/jobs", "/v1/queues", "/metrics")),
        ]
        with ExitStack() as stack:
            waits = [stack.enter_context(Visitor(service.url, one, PAUSE_SECONDS)) for one in messages]
            found = watch(service.pid, effort.soak_minutes * 60)
    for process, samples in sorted(found.items()):
        yield _figure(process, samples, effort.soak_minutes, len(waits[0]))


def _figure(process: str, samples: Sequence[Sample], minutes: float, jobs: int) -> Figure:
    name = f"memory of {process}, {minutes:g} min"
    details = {"hours_and_mb": samples, "jobs": jobs, "warm_up": WARM_UP}
    value = slope(samples)
    if minutes < JUDGED_MINUTES:
        return Figure(name, value, "MB/h", details=details)
    return Figure(name, value, "MB/h", "at most", SLOPE_TARGET, details)


def watch(parent: int, seconds: float) -> dict[str, list[Sample]]:
    """Samples of the memory of each child of ``up``, by what it does."""
    found: defaultdict[str, list[Sample]] = defaultdict(list)
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < seconds:
        for process, mb in resident(parent).items():
            found[process].append((passed / 3600, mb))
        time.sleep(seconds / SAMPLES)
    return dict(found)


def resident(parent: int) -> dict[str, float]:
    """MB of memory that each child of a process has, by the last words of its command line."""
    command = ("ps", "-axwwo", "ppid=,rss=,args=")  # ww: not cut at the width of a terminal
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return {
        args.partition("ops.cli ")[2]: int(kib) / KIB_PER_MB
        for ppid, kib, args in rows
        if int(ppid) == parent
    }


def slope(samples: Sequence[Sample]) -> float:
    """MB per hour by least squares, without the warm-up."""
    after = samples[-1][0] * WARM_UP
    hours, mb = zip(*(sample for sample in samples if sample[0] >= after), strict=True)
    return linear_regression(hours, mb).slope
