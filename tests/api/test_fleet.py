"""LLMs, workers, keys, the bill and the trail."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient

from api.app import create_app
from config.prices import Price, Prices
from config.settings import Llm, Settings
from models import commands, workers
from models.database import Database
from models.tenants import FairShare
from tests.api.conftest import BOTH, FakeWorker
from tests.api.test_bulk import jobs, send
from tests.api.test_jobs import submit


class TestLlms:
    """Two configured LLMs, one of them served."""

    @pytest.fixture
    def app(self, settings: Settings, database: Database) -> FastAPI:
        """A service with two LLMs and a price."""
        llms = {"pico": Llm(path="builtin:pico"), "big": Llm(path="hub/big")}
        price = Price(prompt=Decimal("0.05"), cached=Decimal("0.010"), completion=Decimal(2))
        prices = Prices(default=price)
        return create_app(settings.model_copy(update={"llms": llms}), database, prices=prices)

    def test_configured_llms_are_listed(self, client: TestClient, worker: FakeWorker) -> None:
        """Each alias is shown with its price, and with what a worker has told of it."""
        worker.publish()
        pico, big = client.get("/v1/llms").json()["data"]
        assert (pico["alias"], pico["default"], pico["ready"], pico["context_length"]) == (
            "pico",
            True,
            True,
            4096,
        )
        assert (big["alias"], big["default"], big["ready"], big["context_length"]) == (
            "big",
            False,
            False,
            None,
        )
        assert big["price"] == {"currency": "EUR", "prompt": "0.05", "cached": "0.01", "completion": "2"}

    def test_what_sleeps_is_ready_and_what_failed_says_why(
        self, client: TestClient, worker: FakeWorker, database: Database
    ) -> None:
        """Loaded, loadable and neither are told apart."""
        worker.publish()

        def shown() -> list[tuple[bool, bool, str | None]]:
            return [
                (llm["ready"], llm["loaded"], llm["trouble"]) for llm in client.get("/v1/llms").json()["data"]
            ]

        with database.write() as session:
            workers.tell(session, ["wrk_1"], {"pico": None, "big": None})
        assert shown() == [(True, True, None), (True, False, None)]
        with database.write() as session:
            workers.tell(session, ["wrk_1"], {"pico": None, "big": "ValueError: no memory"})
        assert shown() == [(True, True, None), (False, False, "ValueError: no memory")]

    @pytest.mark.parametrize("act", ["load", "unload"])
    def test_an_llm_is_loaded_and_unloaded_by_hand(
        self, client: TestClient, database: Database, key: str, act: str
    ) -> None:
        """The command is for whoever can load the LLM, is shown to its tenant, and is in the trail."""
        answer = client.post(f"/v1/llms/big/{act}")
        told = answer.json()
        assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/commands/{told['id']}")
        assert [told[name] for name in ("kind", "state", "llm", "agent", "worker")] == [
            f"llm.{act}", "waiting", "big", None, None,
        ]  # fmt: skip
        with database.read() as session:
            command = commands.about_llms(session, ["big"])
        assert command is not None
        assert (command.id, command.worker_id, command.args) == (told["id"], None, {})
        assert client.get("/v1/commands").json()["data"] == [told]
        (entry,) = client.get("/v1/audit").json()["data"]
        assert (entry["action"], entry["actor"], entry["subject"]) == (f"llm.{act}", key.split("_")[1], "big")
        assert entry["details"] == {"command": told["id"]}

    def test_what_cannot_be_loaded_by_hand(self, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        """An LLM that is not configured; more than may wait; a body."""
        assert client.post("/v1/llms/bug/load").json()["detail"] == "'bug' is not configured; there is: big"
        assert client.post("/v1/llms/big/load", json={"now": True}).status_code == 422
        monkeypatch.setattr("api.door.MOST_WAITING", 1)
        answers = [client.post("/v1/llms/big/unload") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [202, 429]
        assert answers[1].headers["retry-after"] == "10"

    def test_unknown_llm_is_told_its_neighbours(self, client: TestClient) -> None:
        """A name that nothing resembles is answered with all there are."""
        answer = client.post("/v1/jobs", json={"prompt": "a", "llm": "zzz"})
        assert answer.json()["errors"][0]["message"] == "'zzz' is not configured; there is: big, pico"

    def test_bulk_may_name_several_llms(
        self, client: TestClient, worker: FakeWorker, database: Database
    ) -> None:
        """Jobs of one bulk go to the queues they name, and take their shares of those."""
        send(client, *jobs(2), *jobs(3, llm="big"), *jobs(1))
        assert len(worker.claim(llm="big")) == 3
        assert len(worker.claim(llm="pico")) == 3
        with database.read() as session:
            reach = {share.llm: share.reach for share in session.scalars(select(FairShare))}
        assert reach["big"] == reach["pico"] > 0


def test_living_workers_are_listed(client: TestClient, worker: FakeWorker) -> None:
    """A worker that lives is shown with what it tells of itself."""
    worker.publish()
    (shown,) = client.get("/v1/workers").json()["data"]
    assert (shown["kind"], shown["host"], shown["pid"], shown["figures"]) == (
        "inference",
        "here",
        1,
        {"rows": 3},
    )


@BOTH
def test_key_is_made_used_and_revoked(client: TestClient) -> None:
    """A new key works, its secret is shown once, and it can be revoked once; all that is in the trail."""
    made = client.post("/v1/keys", json={"name": "laptop"})
    assert made.status_code == 201
    own = {"Authorization": f"Bearer {made.json()['key']}"}
    assert client.get("/v1/jobs", headers=own).status_code == 200
    listed = client.get("/v1/keys").json()["data"]
    assert [entry["name"] for entry in listed] == ["test", "laptop"]
    assert all("key" not in entry for entry in listed)
    path = f"/v1/keys/{made.json()['id']}"
    assert [client.delete(path).status_code for _ in range(2)] == [204, 404]
    assert client.get("/v1/jobs", headers=own).status_code == 401
    acts = [(act["action"], act["subject"]) for act in client.get("/v1/audit").json()["data"]]
    assert acts == [("key.revoke", made.json()["id"]), ("key.create", made.json()["id"])]


@pytest.mark.parametrize(
    "body", [{}, {"name": ""}, {"name": "x" * 201}, {"name": "a\0"}, {"name": "a", "role": "x"}]
)
def test_bad_key_requests_are_refused(client: TestClient, body: dict[str, Any]) -> None:
    """A key needs a name that can be kept, and nothing else."""
    assert client.post("/v1/keys", json=body).status_code == 422


def test_odd_key_ids_are_not_found(client: TestClient) -> None:
    """An id that no key can have is a 404."""
    assert client.delete("/v1/keys/%00").status_code == 404
    assert client.delete("/v1/keys/nope!").status_code == 404


@BOTH
def test_bill_lists_what_each_job_cost(client: TestClient, worker: FakeWorker) -> None:
    """Costs come newest first, page by page, with tokens and a plain decimal."""
    made = [submit(client)["id"] for _ in range(3)]
    worker.run_all()
    page = client.get("/v1/costs?limit=2").json()
    rest = client.get("/v1/costs", params={"cursor": page["next_cursor"]}).json()
    entries = page["data"] + rest["data"]
    assert [entry["job"] for entry in entries] == made[::-1]
    assert {(entry["prompt_tokens"], entry["amount"], entry["billable"]) for entry in entries} == {
        (10, "0.0000104", True)
    }


@BOTH
def test_trail_lists_who_did_what(client: TestClient, worker: FakeWorker, key: str) -> None:
    """Acts come newest first with their actor: a key's id or a worker."""
    job = submit(client)
    worker.run_all()
    client.delete(f"/v1/jobs/{job['id']}")
    acts = client.get("/v1/audit").json()["data"]
    mine = key.split("_")[1]
    assert [(act["action"], act["actor"]) for act in acts] == [
        ("job.delete", mine), ("job.succeeded", "worker"), ("job.submit", mine),
    ]  # fmt: skip
