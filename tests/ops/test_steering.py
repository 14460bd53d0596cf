"""The commands that steer: queues and priorities through the service, tenants in the database alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from models import audit, lanes, submission, tenants
from models.books import check_integrity
from models.database import Database
from models.job_rows import Job
from models.messages import pending
from models.tenants import Tenant
from tests.ops.conftest import Penstock, Served
from tests.rows import LLM, OFFSETS, START, new_job
from workers.broker.hints import hint_queue


def test_a_queue_is_steered(penstock: Penstock, served: Served) -> None:
    """Pause, drain and resume say what the queue then does; a second time they say the same."""
    folder = str(served.folder)
    assert penstock("queue", "pause", "pico", "--data-dir", folder).stdout == "pico paused idle\n"
    assert penstock("queue", "pause", "pico", "--data-dir", folder).stdout == "pico paused idle\n"
    with served.client() as client:
        job_id = client.submit({"prompt": "hi", "max_tokens": 1})["id"]
    assert penstock("queue", "list", "--data-dir", folder).stdout.splitlines()[1].split()[:4] == [
        "pico", "paused", "standard", "1",
    ]  # fmt: skip
    refused = penstock("queue", "drain", "pico", "--json", "--data-dir", folder)
    assert json.loads(refused.stdout)["mode"] == "draining"
    done = penstock("submit", "x", "--data-dir", folder)
    assert (done.returncode, "POST /v1/queues/pico/resume" in done.stderr) == (1, True)
    assert penstock("queue", "resume", "pico", "--data-dir", folder).stdout.startswith("pico open")
    with served.client() as client:
        assert client.wait(job_id, 30)["state"] == "succeeded"


def test_a_window_is_set(penstock: Penstock, served: Served) -> None:
    """The command says what holds then; the service's refusal of another reaches the terminal."""
    folder = str(served.folder)
    done = penstock("queue", "window", "pico", "2.5", "--data-dir", folder)
    assert (done.returncode, done.stdout) == (0, "pico open window 2.5 ms\n")
    told = json.loads(penstock("queue", "window", "pico", "2", "--json", "--data-dir", folder).stdout)
    assert (told["object"], told["window_ms"]) == ("queue", 2)
    wrong = penstock("queue", "window", "pico", "10001", "--data-dir", folder)
    assert (wrong.returncode, "window_ms" in wrong.stderr) == (1, True)


def test_queues_are_listed(penstock: Penstock, served: Served) -> None:
    """A queue without jobs has a line too, and --json gives what the service answers."""
    folder = str(served.folder)
    listed = json.loads(penstock("queue", "list", "--json", "--data-dir", folder).stdout)
    assert listed["modes"] == [{"llm": "pico", "mode": "open"}]
    table = penstock("queue", "list", "--data-dir", folder).stdout
    assert table.splitlines()[1].split() == ["pico", "open", "0", "0", "0"]
    unknown = penstock("queue", "pause", "big", "--data-dir", folder)
    assert (unknown.returncode, "'big' is not configured; there is: pico" in unknown.stderr) == (1, True)


def test_a_job_changes_its_priority(penstock: Penstock, served: Served) -> None:
    """The command says where the job is now; the service's refusal reaches the terminal."""
    folder = str(served.folder)
    with served.client() as client:
        job_id = client.submit({"prompt": "hi", "run_at": "2999-01-01T00:00:00Z"})["id"]
    done = penstock("job", "priority", job_id, "interactive", "--data-dir", folder)
    assert done.stdout == f"{job_id} scheduled interactive\n"
    again = penstock("job", "priority", job_id, "background", "--json", "--data-dir", folder)
    assert json.loads(again.stdout)["priority"] == "background"
    wrong = penstock("job", "priority", job_id, "urgent", "--data-dir", folder)
    assert (wrong.returncode, "priority" in wrong.stderr) == (1, True)
    penstock("job", "cancel", job_id, "--data-dir", folder)
    late = penstock("job", "priority", job_id, "standard", "--data-dir", folder)
    assert (late.returncode, "cancelled" in late.stderr) == (1, True)


@pytest.fixture
def folder(penstock: Penstock, tmp_path: Path) -> str:
    """A data directory with a database and nothing else."""
    penstock("migrate", "--data-dir", str(tmp_path))
    return str(tmp_path)


@pytest.fixture
def database(folder: str) -> Iterator[Database]:
    """Its database, with the tenants ``default`` and ``b``; the books balance at the end."""
    database = Database.connect(f"sqlite:///{folder}/penstock.db")
    with database.write() as session:
        tenants.ensure(session, "default", START)
        tenants.ensure(session, "b", START)
    yield database
    with database.read() as session:
        assert check_integrity(session) == []
    database.close()


def submit(database: Database, count: int, tenant_id: str = "default") -> None:
    """Store jobs of a tenant."""
    with database.write() as session:
        submission.submit(session, [new_job(tenant_id=tenant_id)] * count, OFFSETS, "key", START)


def lanes_of(database: Database, tenant_id: str = "default") -> set[str]:
    """Where the jobs of a tenant are."""
    with database.read() as session:
        return set(session.scalars(select(Job.lane).where(Job.tenant_id == tenant_id)))


def test_tenants_are_listed(penstock: Penstock, folder: str, database: Database) -> None:
    """Each tenant shows its share, its limits and what counts against them."""
    submit(database, 3)
    penstock("tenant", "set", "b", "--weight", "4", "--max-waiting", "50", "--data-dir", folder)
    listed = penstock("tenant", "list", "--json", "--data-dir", folder).stdout
    known = {"max_running": None, "shares_prefixes": False, "running": 0}
    assert [json.loads(line) for line in listed.splitlines()] == [
        {"tenant": "b", "weight": 4, "max_waiting": 50, "waiting": 0, **known},
        {"tenant": "default", "weight": 1, "max_waiting": None, "waiting": 3, **known},
    ]
    table = penstock("tenant", "list", "--data-dir", folder).stdout.splitlines()
    assert [row.split() for row in table[1:]] == [
        ["b", "4", "–", "50", "no", "0", "0"], ["default", "1", "–", "–", "no", "3", "0"],
    ]  # fmt: skip


def test_a_limit_gives_a_tenant_a_lane_of_its_own(
    penstock: Penstock, folder: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits moves in several batches, what comes goes there at once, and none takes it all back."""
    monkeypatch.setattr(lanes.astray, "__defaults__", (0, 2))
    submit(database, 5)
    submit(database, 1, "b")
    done = penstock("tenant", "set", "default", "--max-running", "2", "--data-dir", folder)
    told = "default: weight 1, max running 2, max waiting none, shares prefixes no.\n"
    assert (done.returncode, done.stderr) == (0, told)
    submit(database, 1)
    assert (lanes_of(database), lanes_of(database, "b")) == ({"default"}, {""})
    done = penstock("tenant", "set", "default", "--max-running", "none", "--json", "--data-dir", folder)
    assert json.loads(done.stdout) == {
        "tenant": "default", "weight": 1, "max_running": None, "max_waiting": None, "shares_prefixes": False,
    }  # fmt: skip
    assert lanes_of(database) == {""}


def test_a_limit_wakes_workers_and_is_on_record(penstock: Penstock, folder: str, database: Database) -> None:
    """Workers are told that other jobs may run; the trail names the console and what was set."""
    submit(database, 1)
    penstock("tenant", "set", "default", "--max-running", "3", "--data-dir", folder)
    with database.read() as session:
        assert pending(session, hint_queue(LLM)) == 1
        (act, _) = audit.page(session, "default", None, 10)
    told = (act.actor, act.action, act.subject, json.loads(act.details))
    assert told == ("console", "tenant.set", "default", {"max_running": 3})


def test_a_tenant_shares_its_prefixes(penstock: Penstock, folder: str, database: Database) -> None:
    """It is asked for and taken back by name, stays when something else is set, and is on record."""
    penstock("tenant", "set", "b", "--share-prefixes", "--data-dir", folder)
    penstock("tenant", "set", "b", "--weight", "3", "--data-dir", folder)
    with database.read() as session:
        assert tenants.salt_of(session, "b") == ""
    table = penstock("tenant", "list", "--data-dir", folder).stdout.splitlines()
    assert table[1].split() == ["b", "3", "–", "–", "yes", "0", "0"]
    done = penstock("tenant", "set", "b", "--no-share-prefixes", "--data-dir", folder)
    assert done.stderr.endswith("shares prefixes no.\n")
    with database.read() as session:
        assert tenants.salt_of(session, "b") == "b"
        acts = audit.page(session, "b", None, 10)
    assert [json.loads(act.details) for act in acts] == [
        {"shares_prefixes": False}, {"weight": 3}, {"shares_prefixes": True},
    ]  # fmt: skip


def test_what_is_not_named_stays(penstock: Penstock, folder: str, database: Database) -> None:
    """One option changes one thing, and a share alone moves no job and wakes nobody."""
    submit(database, 1)
    penstock("tenant", "set", "b", "--max-waiting", "7", "--max-running", "0", "--data-dir", folder)
    before = lanes_of(database)
    with database.read() as session:
        hints = pending(session, hint_queue(LLM))
    penstock("tenant", "set", "b", "--weight", "2", "--data-dir", folder)
    with database.read() as session:
        tenant = session.get_one(Tenant, "b")
        assert (tenant.weight, tenant.max_waiting, tenant.max_running) == (2, 7, 0)
        assert pending(session, hint_queue(LLM)) == hints
    assert lanes_of(database) == before


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["nobody", "--weight", "2"], 1, "penstock key create --tenant nobody"),
        (["default"], 2, "say what to set"),
        (["default", "--max-running", "-1"], 2, "neither a number nor none"),
        (["default", "--max-waiting", "many"], 2, "neither a number nor none"),
        (["default", "--weight", "0"], 2, "--weight"),
    ],
)
def test_wrong_limits_are_told(
    penstock: Penstock, folder: str, database: Database, arguments: list[str], status: int, says: str
) -> None:
    """A tenant that is not there, or a limit that is none, changes nothing and names the cure."""
    done = penstock("tenant", "set", *arguments, "--data-dir", folder)
    assert (done.returncode, says in done.stderr) == (status, True)
    with database.read() as session:
        assert [tenant.max_running for tenant in tenants.listed(session)] == [None, None]
