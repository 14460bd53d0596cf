"""Tenants and their shares: the formula of start-time fair queueing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from models import tenants
from models.database import Database
from models.tenants import FairShare, Queue, Tenant
from tests.rows import LLM, START, TENANT


@pytest.fixture
def database(database: Database) -> Database:
    """A database with the tenants ``default`` and ``heavy``, which has the weight 4."""
    with database.write() as session:
        tenants.ensure(session, TENANT, START)
        tenants.ensure(session, "heavy", START)
        session.execute(update(Tenant).where(Tenant.id == "heavy").values(weight=4))
    return database


def take(database: Database, *costs: int, tenant_id: str = TENANT, llm: str = LLM) -> list[int]:
    """The tags at which jobs of such costs start."""
    with database.write() as session:
        return tenants.take_shares(session, tenant_id, llm, costs)


def advance(database: Database, share: int, llm: str = LLM) -> int:
    """Move the virtual clock on; where it stands then."""
    with database.write() as session:
        tenants.advance(session, llm, share)
        return session.scalars(select(Queue.virtual).where(Queue.llm == llm)).one()


def test_a_job_starts_where_the_one_before_it_reaches(database: Database) -> None:
    """The start is max(virtual clock, own reach), the reach is start + cost: in one call and over several."""
    assert take(database, 10, 5, 7) == [0, 10, 15]
    assert take(database, 1) == [22]
    assert take(database, 1) == [23]


def test_nobody_starts_behind_the_clock(database: Database) -> None:
    """Who has been away starts at the virtual clock; who is ahead of it at the own reach."""
    take(database, 100)
    advance(database, 60)
    assert take(database, 10) == [100]
    assert take(database, 10, 10, tenant_id="heavy") == [60, 62]
    advance(database, 500)
    assert take(database, 10) == [500]


def test_weight_divides_the_cost(database: Database) -> None:
    """Four times the weight goes a quarter of the way."""
    assert take(database, 100, 8, 2, 2, tenant_id="heavy") == [0, 25, 27, 27]
    assert take(database, 8, tenant_id="heavy") == [28]


def test_no_weight_makes_jobs_free(database: Database) -> None:
    """However little the jobs of a tenant cost, each moves it on by one."""
    assert take(database, 1, 1, 1, tenant_id="heavy") == [0, 1, 2]
    assert take(database, 1, tenant_id="heavy") == [3]


def test_shares_are_kept_for_each_queue(database: Database) -> None:
    """Work for one LLM does not move a tenant on in the queue of another."""
    take(database, 1000)
    advance(database, 900)
    assert take(database, 10, llm="other") == [0]


def test_an_unknown_tenant_has_the_weight_one(database: Database) -> None:
    """A share does not depend on a row of the tenant."""
    assert take(database, 10, 10, tenant_id="nobody") == [0, 10]


def test_the_clock_never_goes_back(database: Database) -> None:
    """The virtual clock is the furthest tag claimed."""
    assert [advance(database, share) for share in (5, 3, 9)] == [5, 5, 9]
    assert advance(database, 0, llm="other") == 0


def test_shares_taken_at_once_do_not_overlap(database: Database) -> None:
    """Submissions of one tenant that race get tags one behind the other."""
    with ThreadPoolExecutor(4) as pool:
        tags = [tag for found in pool.map(lambda _: take(database, 10), range(12)) for tag in found]
    assert sorted(tags) == list(range(0, 120, 10))
    with database.read() as session:
        assert session.scalars(select(FairShare.reach)).one() == 120


def test_a_tenant_is_made_once(database: Database) -> None:
    """Making sure of a tenant leaves one that is there as it is."""
    with database.write() as session:
        tenants.ensure(session, "heavy", START)
        assert session.get_one(Tenant, "heavy").weight == 4
        assert tenants.DEFAULT_TENANT == TENANT
