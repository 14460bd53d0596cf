"""Tenants and their shares: the formula of start-time fair queueing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event, select, text, update

from models import tenants
from models.database import Database, Unavailable
from models.states import Priority
from models.tenants import FairShare, Mode, Queue, Shares, Tenant
from tests.rows import LLM, START, TENANT


@pytest.fixture
def database(database: Database) -> Database:
    """A database with the tenants ``default`` and ``heavy``, which has the weight 4."""
    with database.write() as session:
        tenants.ensure(session, TENANT, START)
        tenants.ensure(session, "heavy", START)
        session.execute(update(Tenant).where(Tenant.id == "heavy").values(weight=4))
    return database


def take(
    database: Database,
    *costs: int,
    tenant_id: str = TENANT,
    llm: str = LLM,
    priority: Priority = Priority.STANDARD,
) -> list[int]:
    """The tags at which jobs of such costs start."""
    with database.write() as session:
        return tenants.take_shares(session, tenant_id, llm, priority, costs).starts


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


def test_a_limit_names_a_lane(database: Database) -> None:
    """Who may run only so many at once, and be it none, waits in a lane of its own; others share one."""
    for most, lane in ((None, ""), (0, "heavy"), (3, "heavy")):
        with database.write() as session:
            tenant = tenants.change(session, "heavy", {"max_running": most})
            assert tenant is not None
            assert tenants.lane_of(tenant) == lane
            assert tenants.take_shares(session, "heavy", f"llm {most}", Priority.STANDARD, [4, 4]) == Shares(
                [0, 1], lane
            )


def test_shares_tell_what_the_queue_does(database: Database) -> None:
    """Whoever takes a share learns in the same statement whether the queue is open, paused or drained."""
    with database.write() as session:
        session.add(Queue(llm="dry", virtual=0, mode=Mode.DRAINING))
        session.add(Queue(llm="held", virtual=7, mode=Mode.PAUSED))
        for llm, start, mode in (("dry", 0, Mode.DRAINING), ("held", 7, Mode.PAUSED), ("new", 0, Mode.OPEN)):
            shares = tenants.take_shares(session, TENANT, llm, Priority.STANDARD, [10])
            assert (shares.starts, shares.mode) == ([start], mode)


def test_the_clock_leaves_the_mode_alone(database: Database) -> None:
    """A claim moves the clock of a queue that drains on, and nothing else of it."""
    with database.write() as session:
        session.add(Queue(llm=LLM, virtual=0, mode=Mode.DRAINING))
    assert advance(database, 5) == 5
    with database.read() as session:
        assert session.scalars(select(Queue.mode)).one() == Mode.DRAINING


def test_only_what_is_named_changes(database: Database) -> None:
    """A tenant keeps what is not named; one that is not there is not made."""
    with database.write() as session:
        tenants.change(session, "heavy", {"max_running": 3, "max_waiting": 9})
        tenants.change(session, "heavy", {"max_running": None})
        assert tenants.change(session, "nobody", {"weight": 2}) is None
    with database.read() as session:
        found = [(t.id, t.weight, t.max_running, t.max_waiting) for t in tenants.listed(session)]
    assert found == [(TENANT, 1, None, None), ("heavy", 4, None, 9)]


def test_only_those_that_share_have_a_salt_in_common(database: Database) -> None:
    """A tenant shares nothing before it says so, and nothing any more once it says so."""
    salts = []
    for shares in (False, True, False):
        with database.write() as session:
            tenants.change(session, "heavy", {"shares_prefixes": shares})
            salts.append(tenants.salt_of(session, "heavy"))
    with database.read() as session:
        assert [tenant.shares_prefixes for tenant in tenants.listed(session)] == [False, False]
        assert (tenants.salt_of(session, TENANT), tenants.salt_of(session, "nobody")) == (TENANT, "nobody")
    assert salts == ["heavy", "", "heavy"]


def test_settling_waits_for_submissions_under_way(postgres_database: Database) -> None:
    """One that may not know of a new limit holds its share; when it is over, nothing is waited for."""
    take(postgres_database, 10)
    with postgres_database.write() as under_way:
        tenants.take_shares(under_way, TENANT, LLM, Priority.STANDARD, [10])
        with pytest.raises(Unavailable, match="lock timeout"):
            settle(postgres_database)
    settle(postgres_database)


def test_settling_follows_the_order_of_submissions(postgres_database: Database) -> None:
    """Shares are locked in the order of Python's sorted(), whatever the database would sort by."""
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    event.listen(postgres_database.engine, "before_cursor_execute", note)
    settle(postgres_database)
    assert 'ORDER BY fair_shares.llm COLLATE "C", fair_shares.priority FOR UPDATE' in asked[-1]


def settle(database: Database) -> None:
    """Wait for submissions, but not for long."""
    with database.write() as session:
        session.execute(text("SET LOCAL lock_timeout = '20ms'"))
        tenants.settle(session, TENANT)


def test_a_class_does_not_wait_behind_another_of_its_tenant(database: Database) -> None:
    """However much a tenant has sent to the background, its interactive job starts at the queue's clock."""
    take(database, *[1000] * 50, priority=Priority.BACKGROUND)
    assert take(database, 10, priority=Priority.INTERACTIVE) == [0]
    advance(database, 300)
    assert take(database, 10, 10, priority=Priority.INTERACTIVE) == [300, 310]
