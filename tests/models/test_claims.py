"""Claims: the best rows first, a fair share for each tenant, and no row twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import update

from models import claims, tenants
from models.claims import Claim
from models.database import Database, Session
from models.events import Event
from models.states import Priority, State
from models.tenants import Tenant
from tests.models.desk import WORKER, Desk
from tests.rows import LLM, TENANT, at, new_job


def test_a_claim_carries_what_the_engine_needs(desk: Desk) -> None:
    """The claimed job runs under a raised fence, an attempt is open, and the claim tells all of it."""
    asked = new_job("what", agent="ada", timeout_seconds=7.0)
    (job_id,) = desk.submit(asked)
    desk.wait(3)
    (claim,) = desk.claim()
    assert claim == Claim(
        job_id=job_id, tenant_id=TENANT, fence=1, attempt=1, llm=LLM, agent="ada", created_at=at(0),
        started_at=at(3), timeout_seconds=7.0, first=True, request=asked.request, progress=(), rank=1_000,
    )  # fmt: skip
    job = desk.job(job_id)
    assert (job.state, job.claimable, job.worker_id, job.started_at) == (State.RUNNING, False, WORKER, at(3))
    (attempt,) = desk.attempts(job_id)
    assert (attempt.fence, attempt.worker_id, attempt.started_at, attempt.outcome) == (1, WORKER, at(3), None)
    assert [event.type for event in desk.all(Event, job_id=job_id)] == ["state"]


def test_a_claim_says_with_whom_its_prefix_is_shared(desk: Desk) -> None:
    """Each job goes by its own tenant's flag as it is then; a tenant without a row shares nothing."""
    with desk.database.write() as session:
        for tenant_id, shares in (("b", True), ("c", False), ("d", True)):
            tenants.ensure(session, tenant_id, desk.now)
            tenants.change(session, tenant_id, {"shares_prefixes": shares})
    for tenant_id in ("b", "c", "d", "nobody"):
        desk.submit(new_job(tenant_id=tenant_id))
    with desk.database.write() as session:
        tenants.change(session, "d", {"shares_prefixes": False})
    found = {claim.tenant_id: (claim.shares_prefixes, claim.salt) for claim in desk.claim(9)}
    assert found == {"b": (True, ""), "c": (False, "c"), "d": (False, "d"), "nobody": (False, "nobody")}


def test_a_claim_tells_when_and_before_whom_it_runs(desk: Desk) -> None:
    """Expiry, class and rank go along: the engine stops by the one, and parks by the others."""
    (job_id,) = desk.submit(new_job(expires_at=at(9), priority=Priority.BACKGROUND))
    claim = desk.take()
    assert (claim.expires_at, claim.priority) == (at(9), Priority.BACKGROUND)
    assert claim.rank == desk.job(job_id).rank == 100_000


def test_a_second_claim_has_a_higher_fence_and_is_not_the_first(desk: Desk) -> None:
    """``started_at`` tells of the first claim, the fence counts them all."""
    desk.submit()
    (first,) = desk.claim()
    desk.hand_back(first)
    desk.wait(5)
    (second,) = desk.claim()
    assert (second.fence, second.first, second.started_at) == (2, False, at(5))
    assert desk.job(second.job_id).started_at == at(0)


def test_the_best_rank_goes_first(desk: Desk) -> None:
    """Classes go in order, within a class the earlier share, at the same rank the earlier submission."""
    ids = [
        desk.submit(new_job(priority=priority))[0]
        for priority in (Priority.BACKGROUND, Priority.STANDARD, Priority.INTERACTIVE) * 2
    ]
    assert [claim.job_id for claim in desk.claim(4)] == [ids[2], ids[5], ids[1], ids[4]]
    assert [claim.job_id for claim in desk.claim(4)] == [ids[0], ids[3]]


def test_equal_ranks_go_in_order_of_submission(desk: Desk) -> None:
    """Two tenants at the same tag: who came first is first."""
    with desk.database.write() as session:
        tenants.ensure(session, "other", desk.now)
    (first,) = desk.submit(new_job(tenant_id="other"))
    (second,) = desk.submit(new_job())
    assert desk.job(first).rank == desk.job(second).rank
    assert [claim.job_id for claim in desk.claim(2)] == [first, second]


def test_only_what_may_run_is_claimed(desk: Desk) -> None:
    """Scheduled and expired jobs, those of another LLM and those that run already stay where they are."""
    desk.submit(new_job(run_at=at(99)))
    desk.submit(new_job(expires_at=at(5)))
    desk.submit(new_job(llm="other"))
    (ready,) = desk.submit(new_job(expires_at=at(50)))
    desk.wait(5)
    assert [claim.job_id for claim in desk.claim(10)] == [ready]
    assert desk.claim(10) == []


def test_a_flood_does_not_keep_others_waiting(desk: Desk) -> None:
    """A tenant with three jobs is served among the first of another's hundred."""
    with desk.database.write() as session:
        tenants.ensure(session, "b", desk.now)
    desk.submit(*(new_job() for _ in range(100)))
    theirs = desk.submit(*(new_job(tenant_id="b") for _ in range(3)))
    order = [claim.job_id for _ in range(8) for claim in desk.claim()]
    assert set(theirs) <= set(order[:6])


def test_who_comes_late_has_no_credit_for_having_been_away(desk: Desk) -> None:
    """A tenant's share starts at the queue's present place: latecomers take turns."""
    with desk.database.write() as session:
        tenants.ensure(session, "b", desk.now)
    desk.submit(*(new_job() for _ in range(20)))
    desk.claim(10)
    desk.submit(*(new_job(tenant_id="b") for _ in range(5)))
    order = [claim.tenant_id for _ in range(10) for claim in desk.claim()]
    assert order.count("b") == 5
    assert order[:3].count("b") < 3
    assert order[:4].count("b") >= 1


def test_a_tenant_with_twice_the_weight_gets_twice_the_share(desk: Desk) -> None:
    """Weights hold within one submission and over several."""
    with desk.database.write() as session:
        tenants.ensure(session, "b", desk.now)
        session.execute(update(Tenant).where(Tenant.id == "b").values(weight=2))
    desk.submit(*(new_job() for _ in range(30)))
    desk.submit(*(new_job(tenant_id="b") for _ in range(15)))
    desk.submit(*(new_job(tenant_id="b") for _ in range(15)))
    order = [claim.tenant_id for claim in desk.claim(30)]
    assert 19 <= order.count("b") <= 21


def test_the_lowest_class_does_not_starve(desk: Desk) -> None:
    """However many urgent jobs keep coming, a background job is claimed after a bounded number of them."""
    (patient,) = desk.submit(new_job(priority=Priority.BACKGROUND))
    served = []
    for _ in range(8):
        desk.submit(*(new_job(priority=Priority.INTERACTIVE, estimated_tokens=20_000) for _ in range(2)))
        served += [claim.job_id for claim in desk.claim(2)]
    assert patient in served


def test_claimers_at_once_never_get_the_same_job(desk: Desk) -> None:
    """Four workers that claim at the same time share the jobs out: each goes to exactly one."""
    ids = desk.submit(*(new_job() for _ in range(60)))
    with ThreadPoolExecutor(4) as pool:
        taken = [
            job_id for found in pool.map(lambda n: drain(desk, f"worker_{n}"), range(4)) for job_id in found
        ]
    assert sorted(taken) == sorted(ids)
    desk.check()
    assert {job.fence for job in map(desk.job, ids)} == {1}


def drain(desk: Desk, worker: str) -> list[str]:
    """Claim three at a time until nothing is left."""
    taken: list[str] = []
    while True:
        with desk.database.write() as session:
            found = claims.claim(session, worker, LLM, 3, desk.now)
        if not found:
            return taken
        taken += [claim.job_id for claim in found]


def test_a_claim_under_way_is_passed_by(postgres_database: Database) -> None:
    """On PostgreSQL a claimer skips the rows another holds, without waiting, and takes the next best."""
    desk = Desk(postgres_database)
    ids = desk.submit(*(new_job() for _ in range(4)))

    def best(session: Session) -> list[str]:
        return [claim.job_id for claim in claims.claim(session, "worker_2", LLM, 2, desk.now)]

    with ThreadPoolExecutor(1) as pool:
        with postgres_database.write() as session:
            first = [claim.job_id for claim in claims.claim(session, WORKER, LLM, 2, desk.now)]
            second = pool.submit(desk.do, "claim", best)
        assert [first, second.result(10)] == [ids[:2], ids[2:]]
