"""Several workers, as on several hosts: each job runs where its LLM is, each agent where its cache is."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import select

from models.books import check_integrity
from models.job_rows import Attempt, Job
from models.states import State
from models.workers import Worker
from ops.client import Client
from tests.chaos.judge import left
from tests.chaos.rig import Rig, wait_until
from tests.chaos.stores import open_store
from workers.homes import home

LLMS = ("pico", "large")
SETTINGS = {"llms.large.path": "fake:step_ms=4", "worker.home_wait_ms": 8_000}
AGENTS = [f"{llm}-agent-{number}" for llm in LLMS for number in range(6)]


def bodies(turn: int) -> list[dict[str, Any]]:
    """One turn of each agent with each LLM, and as many jobs of nobody."""
    anonymous = [{"prompt": f"turn {turn}", "max_tokens": 8, "llm": llm} for llm in LLMS for _ in range(6)]
    return [body | {"agent": agent} for body, agent in zip(anonymous, AGENTS, strict=True)] + anonymous


def ran(rig: Rig) -> list[tuple[str, str | None, str, str | None]]:
    """Of each attempt: the job's LLM and agent, the worker, and the LLM that this worker serves."""
    with rig.database.read() as session:
        query = select(Job.llm, Job.agent, Attempt.worker_id, Worker.llm).where(
            Attempt.job_id == Job.id, Worker.id == Attempt.worker_id
        )
        return [(llm, agent, worker, served) for llm, agent, worker, served in session.execute(query)]


def agents_at(rig: Rig) -> dict[str, set[str]]:
    """The workers that served each agent."""
    found: dict[str, set[str]] = {}
    for _, agent, worker_id, _ in ran(rig):
        if agent is not None:
            found.setdefault(agent, set()).add(worker_id)
    return found


def home_of(agent: str, fleet: dict[str, str]) -> str:
    """Where an agent belongs, among the workers that serve the LLM it is named after."""
    return home("default", agent, [worker for worker, llm in fleet.items() if agent.startswith(llm)])


def finish(client: Client, rig: Rig, *turns: int) -> None:
    """Submit some turns of all and wait until they have ended well."""
    for turn in turns:
        client.bulk(bodies(turn))
    wait_until(lambda: left(rig.database) == 0)
    with rig.database.read() as session:
        assert set(session.scalars(select(Job.state))) == {State.SUCCEEDED}
        assert check_integrity(session) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgres", "postgres+redis"])
def test_four_workers_and_two_llms(kind: str, short_folder: Path) -> None:
    """Jobs go only to workers of their LLM; agents return to theirs while it lives, then to another."""
    with (
        open_store(kind, short_folder, Random(1)) as store,
        Rig(short_folder, {**store.settings, **SETTINGS}, inference=4, serves=LLMS) as rig,
        Client(rig.url, rig.key) as client,
    ):
        wait_until(lambda: rig.answers() and len(rig.serving()) == 4)
        fleet = rig.serving()
        finish(client, rig, 1, 2, 3)
        assert {llm == served for llm, _, _, served in ran(rig)} == {True}
        assert agents_at(rig) == {agent: {home_of(agent, fleet)} for agent in AGENTS}
        assert {worker_id for _, _, worker_id, _ in ran(rig)} == set(fleet)
        rig.actors["inference"].kill()
        wait_until(lambda: len(rig.serving()) == 4 and rig.serving().keys() != fleet.keys())
        finish(client, rig, 4)
        assert {llm == served for llm, _, _, served in ran(rig)} == {True}
