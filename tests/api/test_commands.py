"""Commands through the door: how one stands, waiting for its end, and all of a tenant."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx2
from starlette.testclient import TestClient

from models import commands
from models.base import utcnow
from models.database import Database
from tests.api.conftest import BOTH


def save(client: TestClient | httpx2.Client, name: str = "ada") -> dict[str, Any]:
    """A command that waits."""
    client.post("/v1/agents", json={"name": name})
    command: dict[str, Any] = client.post(f"/v1/agents/{name}/save").json()
    return command


def end(database: Database, command_id: str, error: str | None = None) -> None:
    """Let a worker take all that waits and end one of it."""
    with database.write() as session:
        commands.take(session, "w1", "pico", utcnow())
        if error is None:
            commands.finish(session, command_id, "w1", {"tokens": 7}, utcnow())
        else:
            commands.fail(session, command_id, "w1", error, utcnow())


@BOTH
def test_a_command_shows_how_it_stands(client: TestClient, database: Database) -> None:
    """From its issue to its end: who does it, since when, and what came of it."""
    first, second = save(client), save(client)
    shown = client.get(f"/v1/commands/{first['id']}")
    assert (shown.json(), shown.headers["retry-after"]) == (first, "1")
    end(database, first["id"])
    done = client.get(f"/v1/commands/{first['id']}")
    assert (done.json()["state"], done.json()["worker"], done.json()["result"]) == (
        "done",
        "w1",
        {"tokens": 7},
    )
    assert first["created_at"] <= done.json()["started_at"] <= done.json()["finished_at"]
    assert "retry-after" not in done.headers
    again = {"If-None-Match": done.headers["etag"]}
    assert client.get(f"/v1/commands/{first['id']}", headers=again).status_code == 304
    assert client.get(f"/v1/commands/{second['id']}").json()["state"] == "running"
    end(database, second["id"], "the disk is full")
    failed = client.get(f"/v1/commands/{second['id']}").json()
    assert (failed["state"], failed["error"], failed["result"]) == ("failed", "the disk is full", None)


@BOTH
def test_an_end_is_waited_for(remote: httpx2.Client, database: Database) -> None:
    """The answer comes with the end of the command, at once where it has ended, late where it does not."""
    first, second = save(remote), save(remote)
    ending = threading.Timer(0.2, end, (database, first["id"]))
    ending.start()
    since = time.monotonic()
    assert remote.get(f"/v1/commands/{first['id']}?wait=30").json()["state"] == "done"
    ending.join()
    assert remote.get(f"/v1/commands/{first['id']}?wait=30").json()["state"] == "done"
    assert remote.get(f"/v1/commands/{second['id']}?wait=0.1").json()["state"] == "running"
    assert 0.3 <= time.monotonic() - since < 20


def test_unknown_commands_are_not_found(client: TestClient) -> None:
    """Neither what is no id, nor one that nobody has; a wait that is too long is refused."""
    never = "cmd_" + "0" * 32
    for command_id in (never, "cmd_1", "%00", never.replace("cmd", "job")):
        assert client.get(f"/v1/commands/{command_id}").status_code == 404
    assert client.get(f"/v1/commands/{never}?wait=61").status_code == 422


@BOTH
def test_commands_are_listed(client: TestClient, stranger: TestClient) -> None:
    """Newest first, page by page; another tenant sees none of them."""
    ids = [save(client)["id"] for _ in range(3)]
    page = client.get("/v1/commands?limit=2")
    assert [command["id"] for command in page.json()["data"]] == [ids[2], ids[1]]
    assert 'rel="next"' in page.headers["link"]
    rest = client.get("/v1/commands", params={"cursor": page.json()["next_cursor"]}).json()
    assert ([command["id"] for command in rest["data"]], rest["next_cursor"]) == ([ids[0]], None)
    assert stranger.get("/v1/commands").json()["data"] == []
    assert client.get("/v1/commands?cursor=x").status_code == 422
