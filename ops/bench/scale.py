"""How many databases and workers a rate of jobs takes, by simulation on what ``bench queue`` has measured.

``python -m ops.bench.scale bench.json`` prints the table of the page on scale. A partition is a database
of its own with workers of its own: a month's tables do not count, a cell or a queue with its own file does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.bench.cycles import AT_ONCE, STORED_AT_ONCE
from ops.bench.simulation import Cost, Outcome, Plant, simulate
from ops.complaint import Complaint
from ops.show import table

RATES = (10.0, 1_000.0, 100_000.0)
SECONDS, FEWEST = 20.0, 2_000
"""How long one simulation lasts, and how many jobs must have come in it."""

HEADROOM = 1.25
"""How many times its share a partition must bear."""

LONGEST_WAIT = 1.0
"""Seconds from arrival to claim that one job of a hundred may exceed."""

WORKERS_BUSY = 0.8
"""The share of their rows that workers have in use on average."""

GROWTH = 1.2
"""By how much more partitions are tried when there were too few."""

STORES = {"SQLite": 1, "PostgreSQL": 4}
"""Databases, and how many transactions they run at once: of PostgreSQL that is an assumption."""

File = Annotated[Path, typer.Argument(help="What `penstock bench queue` has written.")]
JobSeconds = Annotated[float, typer.Option("--job-seconds", min=0.01, help="How long a job runs.")]


@dataclass(frozen=True)
class Need:
    """What one rate takes on one kind of database, and what the simulation of one partition saw."""

    store: str
    rate: float
    partitions: int
    workers: int
    outcome: Outcome


def cost(one_a_second: float, many_a_second: float, many: int) -> Cost:
    """The cost of a transaction from two rates: of jobs one by one, and of ``many`` in each.

    ``1 / one = fixed + each`` and ``many / rate = fixed + many * each``.
    """
    alone, together = 1 / one_a_second, many / many_a_second
    each = max(0.0, (together - alone) / (many - 1))
    return Cost(max(0.0, alone - each), each)


def calibrated(store: str, figures: Mapping[str, float]) -> Plant:
    """A plant at the greatest depth that was measured on a store.

    Raises:
        Complaint: the figures are not there.
    """

    def deepest(what: str) -> float:
        pattern = re.compile(re.escape(f"{store}: {what}, ") + r"([\d,]+) wait")
        found = {int(m[1].replace(",", "")): name for name in figures if (m := pattern.fullmatch(name))}
        if not found:
            raise Complaint(f"There is no figure “{store}: {what}”: run `penstock bench queue` first.")
        return figures[found[max(found)]]

    cycle = cost(deepest("claim + finish, 1 at once"), deepest(f"claim + finish, {AT_ONCE} at once"), AT_ONCE)
    half = Cost(cycle.fixed / 2, cycle.each / 2)  # the two were timed together
    store_cost = cost(
        deepest("store, 1 at once"), deepest(f"store, {STORED_AT_ONCE} at once"), STORED_AT_ONCE
    )
    together = 1 if store == "PostgreSQL" else Plant.together
    return Plant(store_cost, half, half, writers=STORES[store], together=together)


def need(store: str, plant: Plant, rate: float) -> Need:
    """The fewest partitions, about, that bear a quarter more without long waits."""
    most = plant.rows / plant.job_seconds * WORKERS_BUSY
    # Fewer cannot do, were all transactions so large that their fixed costs vanish.
    partitions = ceil(rate * (plant.store.each + plant.claim.each + plant.finish.each) / plant.writers) or 1
    while True:
        share = rate / partitions
        sized = replace(plant, workers=ceil(share / most))
        if _during(sized, share * HEADROOM).wait(99) <= LONGEST_WAIT:
            return Need(store, rate, partitions, sized.workers * partitions, _during(sized, share))
        partitions = max(partitions + 1, ceil(partitions * GROWTH))


def _during(plant: Plant, rate: float) -> Outcome:
    return simulate(plant, rate, max(FEWEST, round(rate * SECONDS)))


def main(file: File, job_seconds: JobSeconds = 1.0) -> None:
    """Print how many partitions and workers each rate takes."""
    found = json.loads(file.read_text(encoding="utf-8"))["figures"]
    figures = {figure["name"]: figure["value"] for figure in found}
    rows = []
    for store in STORES:
        if not any(name.startswith(f"{store}:") for name in figures):
            continue
        plant = replace(calibrated(store, figures), job_seconds=job_seconds)
        rows += [_row(need(store, plant, rate)) for rate in RATES]
    table(
        None,
        ("database", ">jobs/s", ">partitions", ">workers", ">database busy", ">wait p50", ">wait p99"),
        rows,
    )


def _row(needed: Need) -> tuple[Any, ...]:
    waits = (f"{needed.outcome.wait(percent) * 1000:.0f} ms" for percent in (50, 99))
    counts = (f"{number:,.0f}" for number in (needed.rate, needed.partitions, needed.workers))
    return needed.store, *counts, f"{needed.outcome.utilisation:.0%}", *waits


if __name__ == "__main__":
    typer.run(main)
