"""API keys: who holds one is known, and what is stored helps nobody to make one."""

from __future__ import annotations

import re

import pytest

from models import keys
from models.database import Database
from models.keys import ApiKey, Caller
from tests.rows import START, TENANT, at


def make(database: Database, name: str = "mine", tenant_id: str = TENANT) -> str:
    """A new key, as its holder gets it."""
    with database.write() as session:
        return keys.create(session, tenant_id, name, START)


def verified(database: Database, presented: str) -> Caller | None:
    """Whom a presented key stands for."""
    with database.read() as session:
        return keys.verify(session, presented)


def test_a_key_stands_for_its_tenant(database: Database) -> None:
    """A key is a prefix, an id and a secret; it tells the tenant and which key it is."""
    key = make(database)
    shape = re.fullmatch(r"pk_([0-9a-f]{12})_[\w-]{43}", key)
    assert shape is not None
    assert verified(database, key) == Caller(shape[1], TENANT)


def test_only_a_hash_is_stored(database: Database) -> None:
    """Neither the key nor its secret is anywhere in the row."""
    key = make(database)
    secret = key.split("_", 2)[2]
    with database.read() as session:
        (row,) = keys.listed(session, TENANT)
        stored = [getattr(row, column.key) for column in ApiKey.__table__.columns]
    assert all(secret not in str(value) for value in stored)
    assert (row.name, len(row.hash)) == ("mine", 64)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: key + "x",
        lambda key: key[:-1],
        lambda key: key[:-1] + ("a" if key[-1] != "a" else "b"),
        lambda key: key.rsplit("_", 1)[0] + "_",
        lambda key: key.upper(),
        lambda key: " " + key,
        lambda key: key.replace("pk_", "sk_"),
        lambda _: "pk_000000000000_" + "a" * 43,
        lambda _: "pk_\0_secret",
        lambda _: "pk_\udcff_secret",
        lambda key: key[:16] + "\udcff\0",
        lambda _: "pk__",
        lambda _: "pk",
        lambda _: "",
    ],
)
def test_anything_else_stands_for_nobody(database: Database, spoil: object) -> None:
    """A wrong secret, an unknown id or what is no key at all gets no answer but no, on any database."""
    assert callable(spoil)
    assert verified(database, spoil(make(database))) is None


def test_a_revoked_key_is_worth_nothing(database: Database) -> None:
    """From the revocation on the key is refused; others go on; it cannot be revoked twice or by strangers."""
    key, other = make(database), make(database)
    caller = verified(database, key)
    assert caller is not None
    with database.write() as session:
        assert not keys.revoke(session, "other", caller.key_id, at(1))
        assert keys.revoke(session, TENANT, caller.key_id, at(1))
        assert not keys.revoke(session, TENANT, caller.key_id, at(2))
        assert not keys.revoke(session, TENANT, "none", at(2))
    assert verified(database, key) is None
    assert verified(database, other) is not None


def test_keys_are_listed_by_tenant(database: Database) -> None:
    """A tenant sees its own keys, oldest first; whether there is any key at all is known too."""
    with database.read() as session:
        assert not keys.any_exist(session)
    for name in ("first", "second"):
        make(database, name)
    make(database, "theirs", "other")
    with database.read() as session:
        assert sorted(key.name for key in keys.listed(session, TENANT)) == ["first", "second"]
        assert keys.any_exist(session)
