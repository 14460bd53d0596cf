"""Agents through the door: making and deleting them, what is cached of them, what is done with that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from config.settings import Llm, Requests, Settings
from models import caches, commands, tenants, workers
from models.base import utcnow
from models.caches import Holding, Where
from models.commands import Command
from models.database import Database
from tests.api.conftest import BOTH, FakeWorker
from tests.api.test_access import problem
from tests.api.test_jobs import submit
from tests.rows import new_worker
from tests.workers.backends.llms import save_tiny_llm

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
]
NO_CACHE = {
    "tokens": 0, "where": "none", "llm": None, "at": None, "hits": 0, "hit_tokens": 0, "prompt_tokens": 0,
}  # fmt: skip


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Two LLMs, and conversations of nine messages at the most."""
    llms = {"pico": Llm(path="builtin:pico"), "big": Llm(path="org/big")}
    return settings.model_copy(update={"llms": llms, "requests": Requests(max_messages=9)})


def live(database: Database, worker_id: str, llm: str | None = "pico") -> None:
    """Let a worker live that has loaded an LLM."""
    with database.write() as session:
        session.add(new_worker(id=worker_id, llm=llm))


def hold(
    database: Database, name: str, where: Where = Where.MEMORY, worker_id: str = "w1", llm: str = "pico"
) -> None:
    """Let a worker say that it holds 512 tokens of an agent."""
    with database.write() as session:
        caches.note_held(session, [Holding("default", name, 512, where, llm, worker_id)], utcnow())


def issued(database: Database) -> list[Command]:
    """All commands, in order."""
    with database.read() as session:
        return list(session.scalars(select(Command).order_by(Command.id)))


def cache(client: TestClient, name: str = "ada") -> dict[str, Any]:
    """What is shown of an agent's cache."""
    found: dict[str, Any] = client.get(f"/v1/agents/{name}").json()["cache"]
    return found


def act(client: TestClient, name: str, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Save or warm an agent; the command."""
    answer = client.post(f"/v1/agents/{name}/{what}", **({} if body is None else {"json": body}))  # type: ignore[arg-type]  # json may be anything
    assert answer.status_code == 202, answer.text
    command: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/v1/commands/{command['id']}"
    return command


@BOTH
def test_agents_are_listed_by_name(client: TestClient, worker: FakeWorker) -> None:
    """Agents come in order of their names, page by page, with what they are at."""
    for name in ("otto", "anna", "team/bert"):
        submit(client, agent=name)
    submit(client, agent="anna")
    worker.claim(3)
    first = client.get("/v1/agents?limit=2").json()
    assert [(a["name"], a["waiting"], a["running"]) for a in first["data"]] == [
        ("anna", 1, 1),
        ("otto", 0, 1),
    ]
    rest = client.get("/v1/agents", params={"cursor": first["next_cursor"]}).json()
    assert [agent["name"] for agent in rest["data"]] == ["team/bert"]
    assert rest["next_cursor"] is None


def test_agent_is_found_by_its_name(client: TestClient) -> None:
    """An agent is reached by its name, a slash in it included; others are not there."""
    submit(client, agent="team/bert")
    assert client.get("/v1/agents/team/bert").json()["name"] == "team/bert"
    assert client.get("/v1/agents/team%2Fbert").json()["name"] == "team/bert"
    assert client.get("/v1/agents/bert").status_code == 404
    assert client.get("/v1/agents/%00").status_code == 404


@BOTH
def test_an_agent_is_made_once(client: TestClient, key: str) -> None:
    """It is made with nothing cached; a second time it is shown as it is. The first is in the trail."""
    made = client.post("/v1/agents", json={"name": "team/ada"})
    assert (made.status_code, made.headers["location"]) == (201, "/v1/agents/team/ada")
    again = client.post("/v1/agents", json={"name": "team/ada"})
    assert (again.status_code, again.headers["location"]) == (200, "/v1/agents/team/ada")
    assert again.json() == made.json() == client.get(made.headers["location"]).json()
    assert (made.json()["waiting"], made.json()["running"], made.json()["cache"]) == (0, 0, NO_CACHE)
    acts = [(act["action"], act["actor"], act["details"]) for act in client.get("/v1/audit").json()["data"]]
    assert acts == [("agent.create", key.split("_")[1], {"name": "team/ada"})]


@pytest.mark.parametrize(
    "body", [{}, {"name": ""}, {"name": "/a"}, {"name": "a" * 129}, {"name": "a", "llm": "pico"}]
)
def test_bad_agents_are_refused(client: TestClient, body: dict[str, Any]) -> None:
    """An agent has a name that a job could give it, and nothing else."""
    problem(client.post("/v1/agents", json=body), 422, "validation")
    assert client.get("/v1/agents").json()["data"] == []


@BOTH
def test_an_agent_shows_its_cache(client: TestClient, worker: FakeWorker, database: Database) -> None:
    """What a worker said last, and what jobs have found so far; memory is lost with its worker."""
    for _ in range(2):
        submit(client, agent="ada")
        worker.run_all()
    live(database, "w1")
    hold(database, "ada")
    shown = cache(client)
    assert shown["at"].endswith("Z")
    assert {**shown, "at": None} == {
        "tokens": 512, "where": "memory", "llm": "pico", "at": None,
        "hits": 2, "hit_tokens": 8, "prompt_tokens": 20,
    }  # fmt: skip
    with database.write() as session:
        workers.end(session, "w1", utcnow())
    (listed,) = client.get("/v1/agents").json()["data"]
    assert (listed["cache"]["tokens"], listed["cache"]["where"], listed["cache"]["hits"]) == (0, "none", 2)
    hold(database, "ada", Where.DISK)
    assert (cache(client)["tokens"], cache(client)["where"]) == (512, "disk")


@BOTH
def test_saving_is_for_who_holds_the_cache(client: TestClient, database: Database, key: str) -> None:
    """The command goes to that worker, with the agent's owner and the tenant's salt; it is in the trail."""
    client.post("/v1/agents", json={"name": "ada"})
    live(database, "w1", "big")
    hold(database, "ada", llm="big")
    told = act(client, "ada", "save")
    assert (told["kind"], told["state"], told["llm"], told["agent"]) == (
        "agent.save",
        "waiting",
        "big",
        "ada",
    )
    assert [told[name] for name in ("worker", "started_at", "finished_at", "error", "result")] == [None] * 5
    (command,) = issued(database)
    assert (command.id, command.llm, command.worker_id) == (told["id"], "big", "w1")
    assert command.args == {"owner": "default/ada", "salt": "default"}
    entry = client.get("/v1/audit").json()["data"][0]
    assert (entry["action"], entry["actor"]) == ("agent.save", key.split("_")[1])
    assert entry["details"] == {"name": "ada", "command": command.id}


def test_saving_is_for_any_where_nobody_holds_the_cache(client: TestClient, database: Database) -> None:
    """Before any job, when the holder is gone, or its LLM is configured no more."""
    client.post("/v1/agents", json={"name": "ada"})
    act(client, "ada", "save")
    hold(database, "ada", Where.DISK, "gone", "big")
    act(client, "ada", "save")
    hold(database, "ada", Where.DISK, "gone", "unknown")
    act(client, "ada", "save")
    assert [(command.llm, command.worker_id) for command in issued(database)] == [
        ("pico", None), ("big", None), ("pico", None),
    ]  # fmt: skip


@BOTH
def test_a_cache_is_warmed(client: TestClient, database: Database) -> None:
    """Without messages the agent's own; with some, these, for the LLM that is named by alias or id."""
    with database.write() as session:
        tenants.change(session, "default", {"shares_prefixes": True})
    client.post("/v1/agents", json={"name": "ada"})
    live(database, "w1")
    hold(database, "ada")
    act(client, "ada", "warm")
    act(client, "ada", "warm", {})
    told = act(client, "ada", "warm", {"messages": MESSAGES, "llm": "org/big"})
    assert "Be brief" not in str(told)
    first, second, third = issued(database)
    assert (first.kind, first.llm, first.worker_id) == ("agent.warm", "pico", "w1")
    assert first.args == second.args == {"owner": "default/ada", "salt": "", "messages": []}
    assert (third.llm, third.worker_id) == ("big", None)
    assert third.args["messages"] == [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    ]


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        ({"llm": "bigg"}, "llm", "'bigg' is not configured; there is: big"),
        ({"llm": "bigg", "messages": MESSAGES}, "llm", "'bigg' is not configured; there is: big"),
        ({"messages": []}, "messages", "at least 1 item"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content", "at least 1 character"),
        ({"messages": [MESSAGES[0]] * 10}, "messages", "at most 9 are taken"),
        ({"massages": MESSAGES}, "massages", "did you mean messages?"),
        ({"max_tokens": 5}, "max_tokens", "leave it out"),
    ],
)
def test_what_cannot_be_warmed_is_refused(
    client: TestClient, database: Database, body: dict[str, Any], field: str, says: str
) -> None:
    """The conversation must be one that a job could have; the fault names its field and the cure."""
    client.post("/v1/agents", json={"name": "ada"})
    found = problem(client.post("/v1/agents/ada/warm", json=body), 422, "validation")
    assert found["errors"][0]["field"] == field
    assert says in found["errors"][0]["message"]
    assert issued(database) == []


def test_a_conversation_that_does_not_fit_is_not_warmed(
    client: TestClient, worker: FakeWorker, tmp_path: Path
) -> None:
    """With a tokenizer at hand it is told how much is too much."""
    worker.publish(context_length=64, tokenizer=str(save_tiny_llm(tmp_path / "tiny", weights=False)))
    client.post("/v1/agents", json={"name": "ada"})
    for words, status in ((2, 202), (1_000, 422)):
        messages = [{"role": "user", "content": "x" * words}]
        answer = client.post("/v1/agents/ada/warm", json={"messages": messages})
        assert answer.status_code == status
    assert "are more than the 64 that pico takes: shorten the prompt" in answer.json()["detail"]


def test_bodies_are_what_they_must_be(client: TestClient) -> None:
    """Saving takes none; warming may take one, which is JSON."""
    client.post("/v1/agents", json={"name": "ada"})
    problem(client.post("/v1/agents/ada/save", json={"llm": "big"}), 422, "validation")
    problem(client.post("/v1/agents/ada/warm", content=b"{"), 415, "unsupported-media-type")
    as_json = {"Content-Type": "application/json"}
    problem(client.post("/v1/agents/ada/warm", content=b"{", headers=as_json), 400, "malformed-json")


def test_an_agent_may_be_called_like_an_act(client: TestClient, database: Database) -> None:
    """An agent with such an end to its name is shown, saved and deleted like any other."""
    for name in ("x", "x/save", "save"):
        client.post("/v1/agents", json={"name": name})
        assert client.get(f"/v1/agents/{name}").json()["name"] == name
    for name in ("x", "x/save", "save", "x%2Fsave"):
        act(client, name, "save")
    assert [command.agent for command in issued(database)] == ["x", "x/save", "save", "x/save"]
    assert client.delete("/v1/agents/x/save").status_code == 204
    assert [agent["name"] for agent in client.get("/v1/agents").json()["data"]] == ["save", "x"]


def test_agents_that_are_not_there_are_told(client: TestClient) -> None:
    """Nothing can be done with a name that no job and nobody has made an agent of, or that none can have."""
    for name in ("nobody", "%00", "a//b"):
        for answer in (
            client.delete(f"/v1/agents/{name}"),
            client.post(f"/v1/agents/{name}/save"),
            client.post(f"/v1/agents/{name}/warm"),
        ):
            problem(answer, 404, "not-found")


def test_commands_do_not_pile_up(
    client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where too many of a tenant wait for a worker, more are refused; a deletion is not."""
    monkeypatch.setattr("api.door.MOST_WAITING", 2)
    client.post("/v1/agents", json={"name": "ada"})
    for _ in range(2):
        act(client, "ada", "save")
    refused = client.post("/v1/agents/ada/warm")
    problem(refused, 429, "too-many-commands")
    assert refused.headers["retry-after"] == "10"
    assert client.delete("/v1/agents/ada").status_code == 204
    with database.write() as session:
        commands.take(session, "w1", "pico", utcnow())
    client.post("/v1/agents", json={"name": "ada"})
    act(client, "ada", "save")


@BOTH
def test_a_deleted_agent_is_forgotten_by_all(
    client: TestClient, worker: FakeWorker, database: Database, key: str
) -> None:
    """Each living worker is told, and for an LLM that none has loaded whoever comes; it is in the trail."""
    job = submit(client, agent="ada")
    live(database, "w1")
    live(database, "w2")
    live(database, "loading", None)
    problem(client.delete("/v1/agents/ada"), 409, "not-ended")
    assert (issued(database), len(client.get("/v1/agents").json()["data"])) == ([], 1)
    worker.run_all()
    assert client.delete("/v1/agents/ada").status_code == 204
    assert client.get("/v1/agents/ada").status_code == 404
    assert client.get(f"/v1/jobs/{job['id']}").json()["agent"] == "ada"
    told = [(c.kind, c.llm, c.worker_id, c.args) for c in issued(database)]
    about = {"owner": "default/ada", "salt": "default"}
    assert told == [
        ("agent.forget", "pico", "w1", about), ("agent.forget", "pico", "w2", about),
        ("agent.forget", "big", None, about),
    ]  # fmt: skip
    entry = client.get("/v1/audit").json()["data"][0]
    assert (entry["action"], entry["actor"], entry["details"]) == (
        "agent.delete",
        key.split("_")[1],
        {"name": "ada"},
    )
    assert client.delete("/v1/agents/ada").status_code == 404
