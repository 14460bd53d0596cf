"""Claims past those who may not run now: paused queues, tenants at their limit, agents of other workers."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from sqlalchemy import func, select, text

from models import claims
from models.claims import Claim
from models.database import Database, Session
from models.job_rows import Job
from models.states import Priority, State
from models.tenants import Mode
from tests.models.desk import WORKER, Desk
from tests.rows import LLM, new_job

SMALL = "small"


def flood(desk: Desk, count: int, **fields: Any) -> list[str]:
    """Jobs of the tenant that is limited, ahead of all standard ones."""
    urgent = {"tenant_id": SMALL, "priority": Priority.INTERACTIVE, **fields}
    return desk.submit(*(new_job(**urgent) for _ in range(count)))


def took(desk: Desk, limit: int, **how: Any) -> list[str]:
    """The ids that a claim takes, in order."""
    return [claim.job_id for claim in desk.claim(limit, **how)]


def test_a_paused_queue_gives_nothing(desk: Desk) -> None:
    """Its jobs wait as they are while those of other queues run; draining or resumed, it gives again."""
    first, second, other = desk.submit(new_job(), new_job(), new_job(llm="other"))
    desk.steer(Mode.PAUSED)
    assert (took(desk, 5), took(desk, 5, llm="other")) == ([], [other])
    assert desk.job(first).claimable
    desk.steer(Mode.DRAINING)
    assert took(desk, 1) == [first]
    desk.steer(Mode.OPEN)
    assert took(desk, 1) == [second]


def test_what_runs_goes_on_while_its_queue_is_paused(desk: Desk) -> None:
    """A pause takes nothing back: the running job succeeds."""
    (job_id,) = desk.submit()
    claim = desk.take()
    desk.steer(Mode.PAUSED)
    desk.finish(claim)
    assert desk.states(job_id) == [State.SUCCEEDED]


def test_a_tenant_at_its_limit_is_passed_by(desk: Desk) -> None:
    """A thousand jobs in front do not keep the next tenant waiting; each that ends lets another in."""
    desk.limit(SMALL, 2)
    theirs = flood(desk, 1_000)
    mine = desk.submit(new_job(), new_job())
    running = desk.claim(3)
    assert [claim.job_id for claim in running] == [*theirs[:2], mine[0]]
    assert took(desk, 3) == mine[1:]
    desk.finish(running[1])
    assert took(desk, 3, worker="worker_2") == theirs[2:3]


def test_only_what_can_be_claimed_is_wanted(desk: Desk) -> None:
    """Not an LLM without jobs, nor one whose queue is paused or whose tenants run as many as they may."""
    desk.limit(SMALL, 1)
    desk.submit(new_job(llm="a"), new_job(llm="b"))
    flood(desk, 2, llm="c")
    desk.steer(Mode.PAUSED, "b")

    def wanted() -> list[str]:
        with desk.database.read() as session:
            return claims.wanted(session, ["a", "b", "c", "d"])

    assert wanted() == ["a", "c"]
    (claim,) = desk.claim(9, llm="c")
    assert wanted() == ["a"]
    desk.finish(claim)
    assert wanted() == ["a", "c"]


def test_a_limit_counts_what_runs_anywhere(desk: Desk) -> None:
    """Jobs of other queues and of other workers use the limit up as well."""
    desk.limit(SMALL, 2)
    flood(desk, 1, llm="other")
    (first, _) = flood(desk, 2)
    assert len(took(desk, 5, llm="other", worker="worker_2")) == 1
    assert took(desk, 5) == [first]


def test_a_tenant_without_a_limit_has_no_lane(desk: Desk) -> None:
    """Its jobs stand in the lane of all, and as many run as there is room for."""
    ids = flood(desk, 5)
    assert {job.lane for job in desk.all(Job)} == {""}
    assert took(desk, 5) == ids


def test_a_limit_that_is_gone_limits_no_more(desk: Desk) -> None:
    """Jobs that still stand in their tenant's lane run like all others once it has no limit."""
    desk.limit(SMALL, 1)
    ids = flood(desk, 4)
    desk.limit(SMALL, None)
    assert {job.lane for job in desk.all(Job)} == {SMALL}
    assert took(desk, 3) == ids[:3]


def test_lanes_share_the_order(desk: Desk) -> None:
    """The best of all lanes go first, by rank, and in order of submission at the same rank."""
    desk.limit(SMALL, 9)
    desk.limit("other", 9)
    ids = [desk.submit(new_job(tenant_id=name))[0] for name in ("other", "default", SMALL) * 2]
    assert took(desk, 4) == ids[:4]
    assert took(desk, 4) == ids[4:]


def test_a_limit_holds_for_claims_at_once(postgres_database: Database) -> None:
    """On PostgreSQL a worker waits until another has said how many of the tenant's jobs it takes."""
    desk = Desk(postgres_database)
    desk.limit(SMALL, 2)
    flood(desk, 6)

    def claim(session: Session, worker: str = "worker_2") -> list[Claim]:
        return claims.claim(session, worker, LLM, 2, desk.now)

    with ThreadPoolExecutor(1) as pool:
        with postgres_database.write() as session:
            assert len(claim(session, WORKER)) == 2
            second = pool.submit(desk.do, "claim", claim)
            wait_for_lock(postgres_database, second)
        assert second.result(10) == []
    with postgres_database.read() as session:
        assert session.scalar(select(func.count()).where(Job.state == State.RUNNING)) == 2


def wait_for_lock(database: Database, claim: Future[list[Claim]]) -> None:
    """Until somebody waits for a lock, or a claim that should is over."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    for _ in range(1_000):
        with database.read() as session:
            if claim.done() or session.scalar(waiting):
                return
        time.sleep(0.01)
    raise AssertionError("the claim neither waits nor ends")


def is_of_ada(job: Job) -> bool:
    """Says of an agent's jobs that they are left to another worker."""
    return job.agent == "ada"


def test_jobs_that_are_left_stay_as_they_are(desk: Desk) -> None:
    """They are passed by, and the claim is filled from behind them; another worker takes them."""
    (left,) = desk.submit(new_job(agent="ada"))
    mine = desk.submit(new_job(), new_job(agent="bob"), new_job())
    before = desk.job(left)
    assert took(desk, 2, leaves=is_of_ada) == mine[:2]
    after = desk.job(left)
    assert (after.state, after.claimable, after.fence, after.version) == (
        before.state, before.claimable, before.fence, before.version,
    )  # fmt: skip
    assert took(desk, 1, worker="worker_2") == [left]


def test_the_look_behind_what_is_left_is_bounded(desk: Desk) -> None:
    """So many jobs that are left are looked past, and no more."""
    desk.submit(*(new_job(agent=f"agent {number}") for number in range(claims.REMEMBERED)))
    mine = desk.submit(new_job(), new_job())
    assert took(desk, 1, leaves=lambda job: job.agent is not None) == mine[:1]
    desk.submit(new_job(agent="one more", priority=Priority.INTERACTIVE))
    assert took(desk, 1, leaves=lambda job: job.agent is not None) == []


def test_what_is_left_takes_nothing_of_a_tenants_limit(desk: Desk) -> None:
    """Behind an agent's job that waits for its own worker another one of the limited tenant runs here."""
    desk.limit(SMALL, 1)
    flood(desk, 1, agent="ada")
    (behind, _) = flood(desk, 2)
    assert took(desk, 2, leaves=is_of_ada) == [behind]
