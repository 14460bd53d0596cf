"""Types that all tables share: money, times, and inserts that may find the row there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, insert, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import StatementError

from models.base import Money, UtcDateTime, upsert, utcnow
from models.costs import Cost
from models.database import Database
from models.tenants import Tenant
from tests.rows import START

SQLITE = sqlite.dialect()
amounts = st.decimals(0, 10_000, places=12)


def price(amount: Decimal, job_id: str = "job_1") -> dict[str, object]:
    """The values of a cost entry."""
    return {
        "tenant_id": "default", "job_id": job_id, "fence": 1, "billable": True, "llm": "pico",
        "prompt_tokens": 1, "cached_tokens": 0, "completion_tokens": 1, "currency": "EUR",
        "prompt_amount": amount, "cached_amount": amount, "completion_amount": amount,
        "amount": amount, "created_at": START,
    }  # fmt: skip


@given(st.lists(amounts, max_size=30))
def test_money_adds_up_exactly(values: list[Decimal]) -> None:
    """The stored whole numbers add up to what the decimals add up to, to the last digit."""
    money = Money()
    stored = [money.process_bind_param(value, SQLITE) or 0 for value in values]
    assert money.process_result_value(sum(stored), SQLITE) == sum(values)


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ("0.0000000000005", "0"),
        ("0.0000000000015", "0.000000000002"),
        ("0.0000000000025", "0.000000000002"),
        ("0.00000000000251", "0.000000000003"),
    ],
)
def test_more_digits_are_rounded_half_to_even(given_: str, kept: str) -> None:
    """What is finer than a millionth of a millionth is rounded without a bias."""
    stored = Money().process_bind_param(Decimal(given_), SQLITE)
    assert Money().process_result_value(stored, SQLITE) == Decimal(kept)


def test_sums_in_the_database_are_exact(database: Database) -> None:
    """A thousand small amounts, summed by the database, come back as a decimal without an error."""
    with database.write() as session:
        session.execute(insert(Cost), [price(Decimal("0.000000000001"), f"job_{n}") for n in range(999)])
        session.execute(insert(Cost).values(price(Decimal("1234567.1"), "job_1000")))
        total = session.scalar(select(func.sum(Cost.amount)))
    assert total == Decimal("1234567.100000000999")


def test_times_are_utc_whatever_zone_they_come_in(database: Database) -> None:
    """A time is stored as the moment it means, to the microsecond, and comes back aware, in UTC."""
    given_ = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=timezone(timedelta(hours=9)))
    with database.write() as session:
        session.add(Tenant(id="a", name="a", weight=1, created_at=given_))
    with database.read() as session:
        kept = session.get_one(Tenant, "a").created_at
        assert session.scalar(select(Tenant.id).where(Tenant.created_at == given_)) == "a"
    assert (kept, kept.tzinfo) == (given_, UTC)


def test_naive_times_are_refused(database: Database) -> None:
    """A time without a zone is a mistake, not a guess."""
    naive = datetime(2026, 2, 3)  # noqa: DTZ001  (the point of the test)
    with pytest.raises(StatementError, match="without a zone"), database.write() as session:
        session.add(Tenant(id="a", name="a", weight=1, created_at=naive))
    with pytest.raises(ValueError, match="without a zone"):
        UtcDateTime().process_bind_param(naive, SQLITE)


def test_now_is_aware() -> None:
    """The clock used everywhere says its zone."""
    assert utcnow().tzinfo is UTC


def test_an_upsert_finds_what_is_there(database: Database) -> None:
    """The second insert changes the row instead of failing."""
    for name in ("first", "second"):
        with database.write() as session:
            values = {"id": "a", "name": name, "weight": 1, "created_at": START}
            change = upsert(session, Tenant).values(values)
            session.execute(change.on_conflict_do_update(index_elements=["id"], set_={"name": name}))
    with database.read() as session:
        assert [tenant.name for tenant in session.scalars(select(Tenant))] == ["second"]
