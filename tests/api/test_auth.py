"""Keys: which are taken, and for how long one is remembered."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from api.keyring import Keyring
from models import keys
from models.base import utcnow
from models.database import Database
from tests.api.conftest import make_key


@pytest.mark.parametrize(
    "header",
    [
        "Bearer pk_abc_def",
        "Bearer x",
        "Bearer pk__",
        "Basic cGs6eA==",
        "Bearer",
        "pk_a_b",
        "Bearer pk_ä_\xff",
    ],
)
def test_wrong_keys_are_refused(client: TestClient, header: str) -> None:
    """A key that is malformed, unknown or sent in another way is a 401."""
    answer = client.get("/v1/jobs", headers={b"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401


def test_changed_secret_is_refused(client: TestClient, key: str) -> None:
    """The id of a key alone opens nothing."""
    answer = client.get(
        "/v1/jobs", headers={"Authorization": f"Bearer {key[:-1]}{'a' if key[-1] != 'a' else 'b'}"}
    )
    assert (answer.status_code, answer.headers["www-authenticate"][-15:]) == (401, '"invalid_token"')


def test_revoked_key_is_refused_at_once(client: TestClient, key: str) -> None:
    """A key that was revoked through this process opens nothing any more."""
    assert client.delete(f"/v1/keys/{key.split('_')[1]}").status_code == 204
    assert client.get("/v1/jobs").status_code == 401


class TestKeyring:
    """The memory for verified keys."""

    def test_known_key_needs_no_database(self, database: Database) -> None:
        """A key is verified once and then recalled until its seconds are over."""
        now = [100.0]
        keyring = Keyring(database, seconds=3, clock=lambda: now[0])
        key = make_key(database, "default")
        assert keyring.recall(key) is None
        caller = keyring.verify(key)
        assert caller is not None
        now[0] = 102.9
        assert keyring.recall(key) == caller
        now[0] = 103.0
        assert keyring.recall(key) is None

    def test_revocation_elsewhere_is_noticed(self, database: Database) -> None:
        """A key revoked by another process is refused as soon as it was forgotten here."""
        keyring = Keyring(database)
        key = make_key(database, "default")
        keyring.verify(key)
        with database.write() as session:
            keys.revoke(session, "default", key.split("_")[1], utcnow())
        keyring.forget()
        assert keyring.recall(key) is None
        assert keyring.verify(key) is None

    def test_memory_is_bounded(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        """However many keys come, only so many are remembered, and none as it is."""
        monkeypatch.setattr("api.keyring.MOST", 2)
        keyring = Keyring(database)
        made = [make_key(database, "default") for _ in range(5)]
        assert all(keyring.verify(key) for key in made)
        assert len(keyring._known) <= 2
        assert not any(key.encode() in digest for key in made for digest in keyring._known)
