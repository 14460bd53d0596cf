"""Two LLMs that take turns in one process, as real processes: nothing is lost, whoever is killed and when."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import httpx2
import pytest
from sqlalchemy import func, select

from models.books import check_integrity
from models.job_rows import Attempt, Job
from models.states import State
from models.workers import Worker
from ops.client import Client
from tests.chaos.judge import left
from tests.chaos.rig import Rig, wait_until
from tests.chaos.stores import open_store

SETTINGS = {
    "llms.pico.path": "fake:step_ms=4&endless=1", "llms.large.path": "fake:step_ms=4&endless=1",
    "serve": ("pico", "large"), "worker.swap_wait_seconds": 0.3, "worker.swap_grace_seconds": 0.1,
}  # fmt: skip
JOBS = 200
KILLS = 4


@contextmanager
def sharing(folder: Path, kind: str) -> Iterator[tuple[Rig, Client]]:
    """A service whose one inference worker serves both LLMs and has loaded one."""
    with (
        open_store(kind, folder, Random(1)) as store,
        Rig(folder, {**store.settings, **SETTINGS}, serves=("pico,large",)) as rig,
        Client(rig.url, rig.key) as client,
    ):
        wait_until(lambda: rig.answers() and len(rig.serving()) == 1)
        yield rig, client


def submit(client: Client, turn: int = 0) -> None:
    """Hundreds of jobs for both LLMs, some of them of agents that talk to both."""
    bodies = [
        {"prompt": f"{turn} {n}", "max_tokens": 128, "llm": "large" if n % 2 else "pico"}
        | ({"agent": f"agent-{n // 8}"} if n % 8 < 2 else {})
        for n in range(JOBS)
    ]
    client.bulk(bodies)


def check(rig: Rig, jobs: int) -> None:
    """Every job has succeeded, each attempt was made where the job's LLM is, and the books balance."""
    with rig.database.read() as session:
        counted = session.execute(select(Job.state, func.count()).group_by(Job.state))
        states = {state: int(count) for state, count in counted}
        query = select(Job.llm, Worker.llm).join(Attempt, Attempt.job_id == Job.id)
        ran = session.execute(query.join(Worker, Worker.id == Attempt.worker_id))
        where = {(llm, loaded) for llm, loaded in ran}
        assert check_integrity(session) == []
    assert states == {State.SUCCEEDED: jobs}
    assert where == {("pico", "pico"), ("large", "large")}


def exchanges(rig: Rig) -> int:
    """How many workers have loaded an LLM so far."""
    with rig.database.read() as session:
        return session.scalar(select(func.count()).where(Worker.llm.is_not(None))) or 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgres+redis"])
def test_the_service_stays_ready_and_costs_no_attempt(kind: str, short_folder: Path) -> None:
    """While LLMs come and go in the midst of batches, the service is ready at every look."""
    with sharing(short_folder, kind) as (rig, client):
        submit(client)
        looks = set()
        while left(rig.database):
            looks.add(httpx2.get(f"{rig.url}/health/ready", timeout=10, trust_env=False).status_code)
            time.sleep(0.02)
        check(rig, JOBS)
        assert looks == {200}
        assert exchanges(rig) >= 3
        with rig.database.read() as session:
            assert session.scalar(select(func.max(Job.failures))) == 0


@pytest.mark.slow
def test_kills_between_and_during_exchanges(short_folder: Path) -> None:
    """Wherever the process dies, its jobs go on with another, each with its own LLM, and end once."""
    rng = Random(20_261_126)
    with sharing(short_folder, "sqlite") as (rig, client):
        for turn in range(KILLS):
            submit(client, turn)
            wait_until(lambda: bool(rig.serving()))
            time.sleep(rng.random() * 2)
            rig.actors["inference"].kill()
        wait_until(lambda: left(rig.database) == 0)
        check(rig, KILLS * JOBS)
        assert rig.kills.total() == KILLS
