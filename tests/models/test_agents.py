"""Agents: their jobs run one at a time, in order of submission, whatever happens to the others."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from models import agents, endings, jobs, tenants
from models.agents import Agent
from models.audit import Audit
from models.database import Database
from models.endings import Usage
from models.job_rows import Job
from models.states import Priority, State
from models.submission import NewJob
from tests.models.desk import CLIENT, Desk
from tests.rows import TENANT, Held, at, new_job


def turn(**fields: Any) -> NewJob:
    """A job of the agent ``ada``."""
    return new_job(**{"agent": "ada", **fields})


def ready(desk: Desk) -> list[str]:
    """The jobs that may be claimed, in order."""
    found = desk.all(Job, claimable=True)
    return [job.id for job in sorted(found, key=lambda job: (job.rank, job.seq))]


def test_turns_wait_for_the_one_before(desk: Desk) -> None:
    """Of jobs submitted together or one by one only the first can be claimed; each end frees the next."""
    ids = desk.submit(turn(), turn(priority=Priority.INTERACTIVE)) + desk.submit(turn())
    for here, job_id in enumerate(ids):
        (claim,) = desk.claim(10)
        assert claim.job_id == job_id
        assert desk.finish(claim).released == ids[here + 1 : here + 2]
    assert desk.claim(10) == []


def test_agents_do_not_wait_for_each_other(desk: Desk) -> None:
    """Names are of a tenant: another name, and the same name of another tenant, are others."""
    with desk.database.write() as session:
        tenants.ensure(session, "b", desk.now)
    ids = desk.submit(turn(), turn(agent="bob"), new_job()) + desk.submit(turn(tenant_id="b"))
    assert sorted(claim.job_id for claim in desk.claim(10)) == sorted(ids)
    desk.submit(turn())
    (theirs,) = desk.submit(turn(tenant_id="b"))
    assert desk.finish(Held(ids[-1], 1)).released == [theirs]


def test_a_first_turn_to_come_holds_the_others(desk: Desk) -> None:
    """Nothing overtakes a scheduled first turn; once it has run the next may."""
    first, second = desk.submit(turn(run_at=at(10)), turn())
    assert desk.claim(10) == []
    desk.now = at(10)
    assert desk.promote() == [first]
    (claim,) = desk.claim(10)
    assert (claim.job_id, desk.finish(claim).released) == (first, [second])


def test_a_later_turn_that_falls_due_waits_for_the_first(desk: Desk) -> None:
    """A promoted job of a busy agent is queued but not claimable."""
    first, second = desk.submit(turn(), turn(run_at=at(10)))
    claim = desk.take()
    desk.now = at(10)
    assert (desk.promote(), desk.states(second)) == ([], [State.QUEUED])
    assert (claim.job_id, desk.finish(claim).released) == (first, [second])


def test_a_retry_holds_the_turns_behind_it(desk: Desk) -> None:
    """While a failed attempt waits for another, the agent's next job does not start, whatever ends."""
    first, second, third = desk.submit(turn(), turn(), turn())
    desk.fail(desk.take())
    assert desk.cancel(third) == []
    assert desk.claim(10) == []
    desk.wait(5)
    assert desk.promote() == [first]
    (claim,) = desk.claim(10)
    assert (claim.job_id, desk.finish(claim, state=State.FAILED).released) == (first, [second])


@pytest.mark.parametrize("give", [Desk.hand_back, lambda desk, _: desk.rescue()], ids=["parked", "rescued"])
def test_a_job_given_back_stays_first(desk: Desk, give: Callable[[Desk, object], object]) -> None:
    """Parking and rescue do not let the next turn overtake."""
    first, _ = desk.submit(turn(), turn())
    give(desk, desk.take())
    assert ready(desk) == [first]


@pytest.mark.parametrize("way", ["cancelled", "expired"])
def test_an_end_without_a_run_frees_the_next(desk: Desk, way: str) -> None:
    """Cancelling or expiring the first turn, or one in the middle, leaves just one that can run."""
    ids = desk.submit(*(turn(expires_at=at(1) if n < 2 and way == "expired" else None) for n in range(4)))
    desk.wait(1)
    if way == "expired":
        assert desk.expire() == [ids[2]]
    else:
        assert (desk.cancel(ids[1]), desk.cancel(ids[0])) == ([], [ids[2]])
    assert ready(desk) == [ids[2]]


def test_cancelling_a_later_turn_does_not_start_a_second(desk: Desk) -> None:
    """While one of the agent's jobs runs, the end of another frees nothing."""
    _, second, third = desk.submit(turn(), turn(), turn())
    claim = desk.take()
    assert desk.cancel(second) == []
    assert ready(desk) == []
    assert desk.finish(claim).released == [third]


def test_an_asked_again_turn_goes_last(desk: Desk) -> None:
    """The retry of an ended job is a new job behind those that wait."""
    first, second = desk.submit(turn(), turn())
    desk.cancel(first)
    (again,) = desk.submit(turn(retry_of=first))
    assert ready(desk) == [second]
    assert desk.finish(desk.take()).released == [again]


def test_a_bulk_waits_for_turns_before_it(desk: Desk) -> None:
    """Published jobs of a busy agent wait; those of an idle one begin with the first."""
    (first,) = desk.submit(turn())
    bulk = desk.stage(turn(), turn(agent="bob"), turn(agent="bob"), new_job())
    mine = [job.id for job in sorted(desk.all(Job, bulk_id=bulk.id), key=lambda job: job.seq)]
    assert desk.publish(bulk) == ["pico"]
    assert sorted(ready(desk)) == sorted([first, mine[1], mine[3]])
    assert desk.finish(desk.take()).released == [mine[0]]


@pytest.mark.parametrize("then", ["finish", "retry", "cancel", "expire"])
def test_a_turn_submitted_while_a_bulk_is_stored_never_runs_beside_it(desk: Desk, then: str) -> None:
    """A job that came before the publication goes on; the bulk's earlier rows start after it, one by one."""
    bulk = desk.stage(turn(expires_at=at(3)), turn())
    one, two = [job.id for job in sorted(desk.all(Job, bulk_id=bulk.id), key=lambda job: job.seq)]
    (between,) = desk.submit(turn())
    claim = desk.take()
    desk.publish(bulk)
    assert ready(desk) == []
    if then == "finish":
        assert desk.finish(claim).released == [one]
    elif then == "retry":
        desk.fail(claim, pause=1)
        desk.wait(1)
        assert desk.promote() == [one]
        assert desk.finish(*desk.claim(10)).released == [two]
        assert desk.finish(*desk.claim(10)).released == [between]
    elif then == "cancel":
        assert desk.cancel(one) == []
        assert desk.finish(claim).released == [two]
    else:
        desk.wait(3)
        assert desk.expire() == []
        assert desk.finish(claim).released == [two]


def test_a_staged_turn_that_falls_due_never_runs_beside_another(desk: Desk) -> None:
    """A scheduled row of a bulk, though stored earlier, waits for the job that was claimed meanwhile."""
    bulk = desk.stage(turn(run_at=at(10)))
    (staged,) = desk.all(Job, bulk_id=bulk.id)
    desk.submit(turn())
    claim = desk.take()
    desk.publish(bulk)
    desk.now = at(10)
    assert desk.promote() == []
    assert desk.finish(claim).released == [staged.id]


def test_the_database_refuses_a_second_job_that_may_run(desk: Desk) -> None:
    """Even code that forgets the order cannot let two jobs of an agent run at once."""
    _, second = desk.submit(turn(), turn())
    desk.claim()
    with pytest.raises(IntegrityError):
        desk.do("hurry", lambda s: s.execute(update(Job).where(Job.id == second).values(claimable=True)))


def test_an_agent_is_made_at_its_first_job(desk: Desk) -> None:
    """The name is known from then on, and each job notes that it was used."""
    desk.submit(turn(), turn(agent="bob"))
    desk.wait(5)
    desk.submit(turn())
    with desk.database.read() as session:
        found = agents.find(session, TENANT, "ada")
        assert found is not None
        assert (found.created_at, found.last_used_at) == (at(0), at(5))
        assert agents.find(session, "other", "ada") is None
        assert [agent.name for agent in agents.listed(session, TENANT, "", 10)] == ["ada", "bob"]
        assert [agent.name for agent in agents.listed(session, TENANT, "ada", 10)] == ["bob"]


def counts(desk: Desk, name: str = "ada") -> tuple[int, int, int]:
    """Hits of an agent, what they found, and what all its jobs read."""
    (agent,) = desk.all(Agent, name=name)
    return agent.hits, agent.hit_tokens, agent.prompt_tokens


def test_what_jobs_find_in_caches_adds_up(desk: Desk) -> None:
    """Each end that counts tokens counts once for its agent; a try that is not the last one does not."""
    desk.submit(*(turn() for _ in range(5)), turn(agent="bob"), new_job())
    assert counts(desk) == (0, 0, 0)
    desk.finish(*desk.claim(3), usage=Usage(prompt_tokens=100, cached_tokens=60))
    assert (counts(desk), counts(desk, "bob")) == ((1, 60, 100), (1, 60, 100))
    desk.finish(desk.take(), usage=Usage(prompt_tokens=40))
    assert counts(desk) == (1, 60, 140)
    claim = desk.take()
    desk.fail(claim, usage=Usage(prompt_tokens=5, cached_tokens=5))
    desk.finish(claim, usage=Usage(prompt_tokens=7, cached_tokens=7))
    desk.wait(9)
    desk.promote()
    claim = desk.take()
    desk.finish(claim, state=State.CANCELLED, usage=Usage(prompt_tokens=9, cached_tokens=8))
    desk.cancel(desk.submit(turn())[0])
    desk.submit(turn())
    assert counts(desk) == (2, 68, 149)


def test_an_agent_is_made_before_its_first_job(desk: Desk) -> None:
    """It is made once, on record; one that is there already stays as it is."""

    def make(name: str) -> bool:
        return desk.do("create", lambda s: agents.create(s, TENANT, name, CLIENT, desk.now))

    desk.submit(turn())
    desk.wait(5)
    assert [make(name) for name in ("ada", "bob", "bob")] == [False, True, False]
    found = {agent.name: agent for agent in desk.all(Agent)}
    assert {name: agent.created_at for name, agent in found.items()} == {"ada": at(0), "bob": at(5)}
    made = [(act.subject, act.actor) for act in desk.all(Audit, action="agent.create")]
    assert made == [(found["bob"].id, CLIENT)]


def test_an_agent_without_jobs_to_do_is_deleted(desk: Desk) -> None:
    """Not while one waits or runs; the name may be used again, and the jobs that ended are there still."""
    (job_id,) = desk.submit(turn())

    def remove() -> str:
        with desk.database.write() as session:
            agent = agents.find(session, TENANT, "ada", lock=True)
            assert agent is not None
            agents.remove(session, agent, CLIENT, desk.now)
        return agent.id

    with pytest.raises(ValueError, match="ada has not ended"):
        remove()
    desk.finish(desk.take())
    assert desk.acts(remove()) == [(CLIENT, "agent.delete")]
    assert desk.all(Agent) == []
    assert desk.job(job_id).agent == "ada"
    desk.submit(turn())
    assert counts(desk) == (0, 0, 0)


def test_an_agent_is_not_deleted_under_a_submission(postgres_database: Database) -> None:
    """On PostgreSQL a job that comes meanwhile waits, and makes the agent anew."""
    desk = Desk(postgres_database)
    desk.careful = False
    desk.finish(*[desk.take() for _ in desk.submit(turn())])
    with ThreadPoolExecutor(1) as pool:
        with postgres_database.write() as session:
            agent = agents.find(session, TENANT, "ada", lock=True)
            assert agent is not None
            submission = pool.submit(desk.submit, turn())
            with pytest.raises(TimeoutError):
                submission.result(0.2)
            agents.remove(session, agent, CLIENT, desk.now)
        submission.result(10)
    assert [made.id for made in desk.all(Agent)] != [agent.id]
    assert len(desk.claim(9)) == 1


def test_no_two_agents_have_an_owner_in_common() -> None:
    """A slash in a tenant's name is not taken for the one before an agent's."""
    assert agents.owner("default", "team/ada") == "default/team/ada"
    assert agents.owner("a/b", "c") != agents.owner("a", "b/c")
    assert agents.owner("a%2Fb", "c") != agents.owner("a/b", "c")


def test_clients_at_once_make_one_agent_and_one_first_turn(desk: Desk) -> None:
    """Submissions that race for a new agent all succeed, and just one of their jobs can be claimed."""
    with ThreadPoolExecutor(4) as pool:
        ids = [job_id for (job_id,) in pool.map(lambda _: desk.submit(turn()), range(12))]
    assert len(desk.all(Agent)) == 1
    order = [job.id for job in sorted(desk.all(Job), key=lambda job: job.seq)]
    assert sorted(order) == sorted(ids)
    for job_id in order:
        (claim,) = desk.claim(20)
        assert claim.job_id == job_id
        desk.finish(claim)


def test_a_cancel_and_an_end_do_not_wait_for_each_other(postgres_database: Database) -> None:
    """On PostgreSQL, who cancels the next turn and who ends the one before lock in the same order."""
    desk = Desk(postgres_database)
    desk.careful = False
    _, second, third = desk.submit(turn(), turn(), turn())
    claim = desk.take()
    with ThreadPoolExecutor(1) as pool:
        with postgres_database.write() as session:
            job = jobs.find(session, TENANT, second, lock=True)
            assert job is not None
            end = pool.submit(desk.finish, claim)
            with pytest.raises(TimeoutError):
                end.result(0.2)  # it waits for this transaction, holding nothing that is wanted here
            endings.cancel_waiting(session, job, CLIENT, desk.now)
        assert end.result(10).released == [third]
    desk.check()
