"""A walk along all routes: who gets in, who sees what, and what the log holds of it."""

from __future__ import annotations

import logging
import re
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from api.app import ROUTERS, document
from models.database import Database
from tests.api.conftest import make_key

HI = {"prompt": "hello"}
OPERATIONS = sorted(
    (method, route.path)
    for module in ROUTERS
    for route in module.router.routes
    if isinstance(route, APIRoute) and route.path.startswith("/v1/")
    for method in route.methods or ()
)
ROUTES = pytest.mark.parametrize(("method", "path"), OPERATIONS)
OF_ONE = pytest.mark.parametrize(
    ("method", "path"),
    [op for op in OPERATIONS if "{" in op[1] and not op[1].startswith(("/v1/queues/", "/v1/llms/"))],
)
"""Operations on a thing that belongs to one tenant; queues and LLMs belong to all."""


def problem(answer: httpx2.Response, status: int, slug: str) -> dict[str, Any]:
    """The problem that an answer must be."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert (found["type"], found["status"]) == (f"urn:penstock:problem:{slug}", status)
    assert found["request_id"] == answer.headers["x-request-id"]
    return found


def ask(client: httpx2.Client, method: str, path: str, **headers: str) -> httpx2.Response:
    """A request that says as little as the route allows."""
    body = b"" if method in {"GET", "DELETE"} or path.count("/") > 2 else b'{"prompt": "hello"}'
    body = b'{"priority": "standard"}' if method == "PATCH" else body
    kind = {"Content-Type": "application/json"} if body else {}
    return client.request(method, path, content=body, headers=kind | headers)


def test_all_routes_are_walked() -> None:
    """The walks below meet every operation that the document lists under ``/v1``."""
    listed = {
        (method.upper(), path)
        for path, operations in document()["paths"].items()
        for method in operations
        if path.startswith("/v1/")
    }
    assert {(method, path.replace(":path}", "}")) for method, path in OPERATIONS} == listed


@ROUTES
def test_no_route_works_without_a_key(app: FastAPI, method: str, path: str) -> None:
    """Without a key every route says 401 and how to show one; with a wrong one, that it is wrong."""
    client = TestClient(app, base_url="http://localhost")
    missing = ask(client, method, path)
    problem(missing, 401, "unauthorized")
    assert missing.headers["www-authenticate"] == 'Bearer realm="penstock"'
    wrong = ask(client, method, path, Authorization=f"Bearer pk_0123456789ab_{'x' * 43}")
    problem(wrong, 401, "unauthorized")
    assert wrong.headers["www-authenticate"] == 'Bearer realm="penstock", error="invalid_token"'


@pytest.fixture
def names(client: TestClient, key: str) -> dict[str, str]:
    """One thing of each kind that the tenant of ``client`` has."""
    bulk = client.post("/v1/bulk", json={"jobs": [{**HI, "agent": "team/a"}]}).json()["id"]
    job = client.get("/v1/jobs").json()["data"][0]["id"]
    command = client.post("/v1/agents/team/a/save").json()["id"]
    return {
        "job_id": job, "bulk_id": bulk, "name:path": "team/a", "command_id": command,
        "key_id": key.split("_")[1],
    }  # fmt: skip


@OF_ONE
def test_things_of_others_are_not_there(
    client: TestClient, stranger: TestClient, names: dict[str, str], method: str, path: str
) -> None:
    """To another tenant everything is a 404 that does not differ from that of what never was."""
    place = re.sub(r"\{(.+?)\}", lambda found: names[found[1]], path)
    never = re.sub(r"\{(.+?)\}", lambda found: re.sub("[0-9a-f]{12}$", "0" * 12, names[found[1]]), path)
    theirs = problem(ask(stranger, method, place), 404, "not-found")
    nobodys = problem(ask(stranger, method, never), 404, "not-found")
    assert theirs["detail"] == nobodys["detail"]
    assert ask(client, method, place).status_code != 404


def test_lists_show_ones_own(client: TestClient, stranger: TestClient, names: dict[str, str]) -> None:
    """No list of another tenant shows anything of ours, not even when it asks for our bulk."""
    client.post(f"/v1/jobs/{names['job_id']}/cancel")
    lists = [path for method, path in OPERATIONS if method == "GET" and "{" not in path]
    shown = {path: stranger.get(path).text for path in lists}
    shown["bulk"] = stranger.get("/v1/jobs", params={"bulk": names["bulk_id"]}).text
    for path, text in shown.items():
        assert not [name for name in names.values() if name in text], path


@pytest.mark.parametrize(
    "path", ["/v1/x%0d%0aGET%20/forged", "/v1/%1b%5b31m%07", "/v1/%c2%9b%e2%80%a8", "/v1/%ff"]
)
def test_access_log_holds_no_control_characters(
    client: TestClient, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """A path is logged as one line that no terminal obeys, and not at any length."""
    caplog.set_level(logging.INFO, "penstock.access")
    client.get(path)
    client.get(path + "a" * 5000)
    lines = [record.getMessage() for record in caplog.records if record.name == "penstock.access"]
    assert len(lines) == 2
    for line in lines:
        assert line.isascii()
        assert line.isprintable()
        assert len(line) < 300
        assert line.startswith("GET /v1/")


def test_access_log_names_no_key(client: TestClient, key: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither header nor query reach the log."""
    caplog.set_level(logging.DEBUG)
    client.get("/v1/jobs", params={"key": key})
    mine = [record.getMessage() for record in caplog.records if not record.name.startswith("httpx")]
    assert mine
    assert not [line for line in mine if key in line]


def test_keys_stay_with_their_tenants(client: TestClient, stranger: TestClient, database: Database) -> None:
    """A list of keys shows one's own and never a key itself."""
    made = make_key(database, "other")
    shown = stranger.get("/v1/keys").text
    assert made.split("_")[1] in shown
    assert made not in shown
    assert made.split("_")[1] not in client.get("/v1/keys").text
