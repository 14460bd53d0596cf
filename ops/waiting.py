"""Waiting at the terminal: a bar where somebody watches, silence where nobody does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from ops.show import console
from ops.wire import ENDED

if TYPE_CHECKING:
    from ops.client import Client
    from ops.wire import Bulk, Job

LOOK_SECONDS = 1.0
"""How often a bar moves while nothing ends."""


@contextmanager
def bar(total: int | None) -> Iterator[Progress]:
    """A progress bar on stderr; invisible when that is no terminal."""
    shown = console(stderr=True)
    columns = [SpinnerColumn(), TextColumn("{task.description}")]
    if total is not None:
        columns += [BarColumn(), MofNCompleteColumn()]
    columns.append(TimeElapsedColumn())
    with Progress(*columns, console=shown, disable=not shown.is_terminal, transient=True) as progress:
        progress.add_task("waiting", total=total)
        yield progress


def wait_for_job(client: Client, job: Job) -> Job:
    """The job when it has ended."""
    with bar(None) as progress:
        row = progress.tasks[0].id
        while job["state"] not in ENDED:
            place = f", place {job['position']}" if job.get("position") else ""
            progress.update(row, description=f"{job['id']} {job['state']}{place}")
            job = client.wait(job["id"], LOOK_SECONDS if not progress.disable else None)
    return job


def wait_for_bulk(client: Client, bulk: Bulk) -> Bulk:
    """The bulk when all its jobs have ended."""
    with bar(bulk["total"]) as progress:
        row = progress.tasks[0].id
        while not bulk["ended"]:
            running = bulk["counts"].get("running", 0)
            progress.update(row, completed=count_ended(bulk), description=f"{running} running")
            bulk = client.bulk_state(bulk["id"], wait=LOOK_SECONDS)
    return bulk


def count_ended(bulk: Bulk) -> int:
    """Jobs of the bulk that have ended, deleted ones among them."""
    return sum(count for state, count in bulk["counts"].items() if state in ENDED or state == "deleted")
