"""What workers say of agents' caches, and whose word counts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from models import agents, caches, workers
from models.agents import Agent
from models.caches import Holding, Where
from models.database import Database
from tests.models.desk import WORKER, Desk
from tests.rows import LLM, TENANT, at, new_job, new_worker

OTHER = "worker_2"
ADA = Holding(TENANT, "ada", 512, Where.MEMORY, LLM, WORKER)


@pytest.fixture
def desk(desk: Desk) -> Desk:
    """A desk with the agents ``ada`` and ``bob``, and two workers that live."""
    desk.submit(new_job(agent="ada"), new_job(agent="bob"))
    with desk.database.write() as session:
        session.add_all([new_worker(id=WORKER, llm=LLM), new_worker(id=OTHER, llm=LLM)])
    return desk


def note(desk: Desk, *holdings: Holding) -> None:
    """Let workers say what they hold."""
    with desk.database.write() as session:
        caches.note_held(session, holdings, desk.now)


def held(desk: Desk, name: str = "ada") -> tuple[int, str, str | None]:
    """Tokens, place and worker of an agent's cache."""
    (agent,) = desk.all(Agent, name=name)
    return agent.held_tokens, agent.held_where, agent.held_by


def test_nothing_is_held_of_a_new_agent(desk: Desk) -> None:
    """Before a worker has said anything there is no cache, and nobody holds it."""
    (agent,) = desk.all(Agent, name="ada")
    assert (agent.held_tokens, agent.held_where) == (0, "none")
    assert (agent.held_llm, agent.held_by, agent.held_at) == (None, None, None)


def test_workers_say_what_they_hold(desk: Desk) -> None:
    """Several agents at once, whatever their order; of those that are gone nothing is kept."""
    desk.wait(3)
    bob = Holding(TENANT, "bob", 256, Where.DISK, "large", OTHER)
    note(desk, bob, replace(ADA, name="gone"), replace(ADA, tenant_id="b"), ADA)
    (agent,) = desk.all(Agent, name="bob")
    assert (agent.held_tokens, agent.held_where, agent.held_llm) == (256, "disk", "large")
    assert (agent.held_by, agent.held_at) == (OTHER, at(3))
    assert held(desk) == (512, "memory", WORKER)
    assert len(desk.all(Agent)) == 2
    note(desk)


def test_an_older_copy_does_not_count(desk: Desk) -> None:
    """What one worker drops or writes to disk says nothing of the cache that another has made since."""
    note(desk, ADA)
    note(desk, replace(ADA, worker_id=OTHER, tokens=768))
    for where in (Where.DISK, Where.NONE):
        note(desk, replace(ADA, where=where))
        assert held(desk) == (768, "memory", OTHER)
    note(desk, replace(ADA, worker_id=OTHER, tokens=700, where=Where.DISK))
    assert held(desk) == (700, "disk", OTHER)
    note(desk, replace(ADA, worker_id=OTHER, tokens=0, where=Where.NONE))
    assert held(desk) == (0, "none", OTHER)


def test_the_word_of_a_worker_that_is_gone_counts_no_more(desk: Desk) -> None:
    """The next one that finds the cache on disk says so."""
    note(desk, replace(ADA, worker_id=OTHER))
    with desk.database.write() as session:
        workers.end(session, OTHER, desk.now)
    note(desk, replace(ADA, tokens=300, where=Where.DISK))
    assert held(desk) == (300, "disk", WORKER)


def test_memory_goes_with_its_worker(desk: Desk) -> None:
    """A cache in the memory of a worker that is gone is lost; one on disk, or of a living worker, is not."""
    with desk.database.write() as session:
        agents.touch(session, TENANT, "eve", desk.now)
    note(
        desk,
        ADA,
        Holding(TENANT, "bob", 1, Where.DISK, LLM, WORKER),
        replace(ADA, name="eve", worker_id=OTHER),
    )
    with desk.database.write() as session:
        found = agents.listed(session, TENANT, "", 9)
        assert caches.lost(session, found) == set()
        workers.end(session, WORKER, desk.now)
        assert caches.lost(session, found) == {found[0].id}
        assert caches.lost(session, found[1:]) == set()


def test_a_command_is_for_who_holds_the_cache(desk: Desk) -> None:
    """As long as it lives, and serves the LLM that the command is about."""
    note(desk, ADA)
    with desk.database.write() as session:
        ada, bob = (agents.find(session, TENANT, name) for name in ("ada", "bob"))
        assert ada is not None
        assert bob is not None
        assert caches.keeper(session, ada, LLM) == WORKER
        assert caches.keeper(session, ada, "large") is None
        assert caches.keeper(session, bob, LLM) is None
        workers.end(session, WORKER, desk.now)
        assert caches.keeper(session, ada, LLM) is None


def test_who_notes_agents_locks_them_in_order(postgres_database: Database) -> None:
    """On PostgreSQL a note that waits for one agent holds none that comes behind it, as everywhere."""
    desk = Desk(postgres_database)
    desk.submit(new_job(agent="ada"), new_job(agent="bob"))
    with ThreadPoolExecutor(1) as pool:
        with postgres_database.write() as session:
            assert agents.find(session, TENANT, "ada", lock=True) is not None
            noted = pool.submit(note, desk, replace(ADA, name="bob"), ADA)
            with pytest.raises(TimeoutError):
                noted.result(0.2)
            assert agents.find(session, TENANT, "bob", lock=True) is not None
        noted.result(10)
    assert {agent.held_tokens for agent in desk.all(Agent)} == {512}
