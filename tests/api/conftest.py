"""What the tests of the door share: an application, keys, a client, and a worker of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from api.serve import Protocol, Server
from config.settings import Settings
from models import claims, endings, keys, tenants, workers
from models.base import utcnow
from models.claims import Claim
from models.database import Database
from models.endings import Ended, Ending, Usage
from models.states import State
from models.workers import Llm, Worker

BOTH = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
"""Runs a test once over each database; without it, SQLite must do."""


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Database:
    """A migrated, empty database."""
    kind = getattr(request, "param", "sqlite")
    made: Database = request.getfixturevalue("sqlite_database" if kind == "sqlite" else "postgres_database")
    return made


@pytest.fixture
def key(database: Database) -> str:
    """A key of the default tenant."""
    return make_key(database, "default")


def make_key(database: Database, tenant_id: str) -> str:
    """A key of a tenant, which is made too."""
    with database.write() as session:
        tenants.ensure(session, tenant_id, utcnow())
        return keys.create(session, tenant_id, "test", utcnow())


@pytest.fixture
def app(settings: Settings, database: Database) -> FastAPI:
    """The application over the test's database."""
    return create_app(settings, database)


@pytest.fixture
def client(app: FastAPI, key: str) -> Iterator[TestClient]:
    """A client that sends the key."""
    with TestClient(app, base_url="http://localhost", headers={"Authorization": f"Bearer {key}"}) as client:
        yield client


@pytest.fixture
def stranger(app: FastAPI, client: TestClient, database: Database) -> TestClient:
    """A client of another tenant of the same service."""
    headers = {"Authorization": f"Bearer {make_key(database, 'other')}"}
    return TestClient(app, base_url="http://localhost", headers=headers)


@pytest.fixture
def address(app: FastAPI) -> Iterator[str]:
    """The address of a real server in a thread, for what only sockets show."""
    config = uvicorn.Config(app, port=0, log_config=None, ws="none", http=Protocol, loop="uvloop")
    server = Server(config, app.state.door)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def remote(address: str, key: str) -> Iterator[httpx2.Client]:
    """A client of the real server."""
    with httpx2.Client(base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        yield client


class FakeWorker:
    """Moves jobs as a worker would, without an engine."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def claim(self, limit: int = 1000, llm: str = "pico") -> list[Claim]:
        """Take the best jobs."""
        with self.database.write() as session:
            return claims.claim(session, "worker", llm, limit, utcnow())

    def finish(self, claim: Claim, text: str = "done", state: State = State.SUCCEEDED, **more: Any) -> Ended:
        """End one job, at a price."""
        usage = Usage(10, 4, 2, Decimal("0.000006"), Decimal("0.0000004"), Decimal("0.000004"))
        ending = Ending(claim.job_id, claim.fence, state, usage, "EUR", billable=True, text=text, **more)
        with self.database.write() as session:
            return endings.finish(session, [ending], "worker", utcnow())

    def run_all(self) -> int:
        """End everything that can be claimed; returns how many that were."""
        claims = self.claim()
        for claim in claims:
            self.finish(claim)
        return len(claims)

    def publish(
        self, *, context_length: int = 4096, ready: bool = True, alias: str = "pico", tokenizer: str = ""
    ) -> None:
        """Live, and serve an LLM once it is ready."""
        now = utcnow()
        llm = Llm(
            alias=alias, name="penstock-pico", context_length=context_length, vocabulary=384, fingerprint="f",
            tokenizer=tokenizer, jobs_per_second=2.0, updated_at=now,
        )  # fmt: skip
        with self.database.write() as session:
            workers.publish_llm(session, llm)
            session.merge(
                Worker(
                    id="wrk_1" if alias == "pico" else f"wrk_{alias}", kind="inference", host="here", pid=1,
                    beats=1, started_at=now, seen_at=now, figures={"rows": 3}, llm=alias if ready else None,
                )
            )  # fmt: skip


@pytest.fixture
def worker(database: Database) -> FakeWorker:
    """A worker in the test's own hands."""
    return FakeWorker(database)
