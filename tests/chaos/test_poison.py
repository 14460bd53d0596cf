"""A job that kills its process: it fails in the end, and its neighbours do not fail with it."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from sqlalchemy import select

from models.books import check_integrity
from models.job_rows import Job
from models.states import State
from ops.client import Client
from tests.chaos.judge import left
from tests.chaos.rig import Rig, wait_until
from tests.chaos.stores import KINDS, open_store

POISON = "hemlock"
SETTINGS = {"llms.pico.path": f"fake:step_ms=4&kill={POISON}", "queue.max_attempts": 3}


def bodies() -> list[dict[str, object]]:
    """Twenty jobs, the poison in their midst."""
    prompts = [f"job {number}" for number in range(20)]
    prompts.insert(10, f"a cup of {POISON}")
    return [{"prompt": prompt, "max_tokens": 32} for prompt in prompts]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_poison_job_fails_and_its_neighbours_are_tried_apart(kind: str, short_folder: Path) -> None:
    """``worker_lost`` after three attempts of its own; the others lose no more than the crash itself cost."""
    with (
        open_store(kind, short_folder, Random(1)) as store,
        Rig(short_folder, {**store.settings, **SETTINGS}) as rig,
        Client(rig.url, rig.key) as client,
    ):
        wait_until(rig.answers)
        bulk = client.bulk(bodies())
        wait_until(lambda: left(rig.database) == 0)
        with rig.database.read() as session:
            jobs = list(session.scalars(select(Job).where(Job.bulk_id == bulk["id"]).order_by(Job.seq)))
            assert check_integrity(session) == []
        poison = jobs.pop(10)
        assert (poison.state, poison.error_type, poison.failures) == (State.FAILED, "worker_lost", 3)
        assert {job.state for job in jobs} == {State.SUCCEEDED}
        assert max(job.failures for job in jobs) <= 1
        assert rig.actors["inference"].deaths == 4  # in the crowd, in a group of eight, and twice alone
