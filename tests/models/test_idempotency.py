"""Idempotency keys: the same request twice gets the first answer twice."""

from __future__ import annotations

import pytest

from models import idempotency
from models.database import Database
from models.idempotency import Answer, KeyReused, KeyTaken, fingerprint
from tests.rows import TENANT, at

PRINT = fingerprint("POST /v1/jobs", b'{"prompt": "x"}')
ANSWER = Answer(202, "/v1/jobs/job_1", '{"id": "job_1"}')


def remember(database: Database, key: str, seconds: float = 0, tenant_id: str = TENANT) -> None:
    """Keep an answer for a key."""
    with database.write() as session:
        idempotency.remember(session, tenant_id, key, PRINT, ANSWER, at(seconds))


def recall(database: Database, key: str, print_: str = PRINT, tenant_id: str = TENANT) -> Answer | None:
    """The answer kept for a key."""
    with database.read() as session:
        return idempotency.recall(session, tenant_id, key, print_)


def test_the_first_answer_is_given_again(database: Database) -> None:
    """A known key with the same request gets the whole first answer; a new key gets nothing."""
    remember(database, "k")
    assert recall(database, "k") == ANSWER
    assert recall(database, "other") is None


def test_a_key_belongs_to_its_tenant(database: Database) -> None:
    """Two tenants may use the same key for different things."""
    remember(database, "k")
    assert recall(database, "k", tenant_id="other") is None
    remember(database, "k", tenant_id="other")


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("POST /v1/jobs", b"{}"),
        ("POST /v1/bulk", b'{"prompt": "x"}'),
        ("POST /v1/job", b's{"prompt": "x"}'),
    ],
)
def test_another_request_under_the_key_is_refused(database: Database, route: str, body: bytes) -> None:
    """The key cannot be used again with another body or at another route."""
    remember(database, "k")
    with pytest.raises(KeyReused):
        recall(database, "k", fingerprint(route, body))


def test_of_two_at_once_one_wins(database: Database) -> None:
    """The second transaction with a key fails, so that its job is not stored either."""
    remember(database, "k")
    with pytest.raises(KeyTaken):
        remember(database, "k")


def test_old_keys_are_forgotten(database: Database) -> None:
    """What is older than the time given goes, in bounded steps; newer keys stay."""
    for n in range(5):
        remember(database, f"k{n}", seconds=n)
    with database.write() as session:
        assert idempotency.prune(session, at(3), limit=2) == 2
        assert idempotency.prune(session, at(3), limit=2) == 1
        assert idempotency.prune(session, at(3)) == 0
    assert [recall(database, f"k{n}") is not None for n in range(5)] == [False, False, False, True, True]
