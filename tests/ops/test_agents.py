"""The commands about agents, with a service whose worker does what they ask."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.ops.conftest import Penstock, Served


@pytest.fixture
def folder(served: Served) -> str:
    """The service's data directory; its agent ``team/ada`` has had a job."""
    with served.client() as client:
        client.wait(client.submit({"prompt": "hi", "max_tokens": 3, "agent": "team/ada"})["id"], 30)
    return str(served.folder)


def test_agents_are_listed(penstock: Penstock, folder: str) -> None:
    """A line an agent with what it is at; --json gives what the service answers."""
    line = penstock("agent", "list", "--data-dir", folder).stdout.splitlines()[1]
    assert line.split()[0] == "team/ada"
    assert line.split()[3:5] == ["0", "0"]
    (found,) = penstock("agent", "list", "--json", "--data-dir", folder).stdout.splitlines()
    assert (json.loads(found)["name"], json.loads(found)["running"]) == ("team/ada", 0)


def test_an_agent_is_shown(penstock: Penstock, folder: str) -> None:
    """All that is known of it and its cache, a line each."""
    told = penstock("agent", "show", "team/ada", "--data-dir", folder).stdout
    words = {line.split()[0] for line in told.splitlines() if line.strip()}
    assert words >= {"name", "waiting", "running", "reused", "cache"}
    found = json.loads(penstock("agent", "show", "team/ada", "--json", "--data-dir", folder).stdout)
    assert found["cache"]["prompt_tokens"] > 0
    gone = penstock("agent", "show", "bob", "--data-dir", folder)
    assert (gone.returncode, "there is no agent" in gone.stderr) == (1, True)


def test_a_command_is_given_and_waited_for(penstock: Penstock, folder: str, tmp_path: Path) -> None:
    """Its id and state are told at once; with --wait also what came of it."""
    told = penstock("agent", "save", "team/ada", "--data-dir", folder)
    assert (told.returncode, told.stdout[:4], told.stdout.split()[1]) == (0, "cmd_", "waiting")
    messages = tmp_path / "messages.json"
    messages.write_text(json.dumps([{"role": "system", "content": "Be brief."}]))
    for arguments in (["save"], ["warm"], ["warm", "--llm", "pico", "--messages", str(messages)]):
        act, *options = arguments
        done = penstock("agent", act, "team/ada", *options, "--wait", "--json", "--data-dir", folder)
        command = json.loads(done.stdout)
        assert (command["kind"], command["agent"]) == (f"agent.{act}", "team/ada")
        assert (done.returncode, command["state"]) == (0, "done"), command


def test_a_command_that_fails_fails_the_console(penstock: Penstock, folder: str) -> None:
    """Waiting for one that the worker cannot do says why, and leaves with status 1."""
    text = json.dumps([{"role": "user", "content": "poison"}])
    done = penstock(
        "agent", "warm", "team/ada", "--messages", "-", "--wait", "--data-dir", folder, stdin=text
    )
    assert (done.returncode, done.stdout.split()[1]) == (1, "failed")
    assert done.stderr.strip()


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["save", "nobody"], 1, "there is no agent"),
        (["warm", "team/ada", "--llm", "pica"], 1, "'pica' is not configured; there is: pico"),
        (["warm", "team/ada", "--messages", "does-not-exist"], 2, "cannot be read"),
        (["delete", "nobody"], 1, "there is no agent"),
    ],
)
def test_what_cannot_be_done_is_told(
    penstock: Penstock, folder: str, arguments: list[str], status: int, says: str
) -> None:
    """The service's words, or the console's own, and no traceback."""
    done = penstock("agent", *arguments, "--data-dir", folder)
    assert (done.returncode, says in done.stderr) == (status, True)


def test_messages_may_come_by_standard_input(penstock: Penstock, folder: str) -> None:
    """What is no JSON is told as such; what is none of messages the service refuses by field."""
    broken = penstock("agent", "warm", "team/ada", "--messages", "-", "--data-dir", folder, stdin="[")
    assert (broken.returncode, "no JSON list of messages" in broken.stderr) == (2, True)
    wrong = penstock("agent", "warm", "team/ada", "--messages", "-", "--data-dir", folder, stdin='[{"a": 1}]')
    assert (wrong.returncode, "messages[0].role" in wrong.stderr) == (1, True)


def test_an_agent_is_deleted(penstock: Penstock, served: Served, folder: str) -> None:
    """Not while a job of it waits; then it is no longer there."""
    with served.client() as client:
        job = client.submit({"prompt": "hi", "agent": "bob", "run_at": "2999-01-01T00:00:00Z"})
        busy = penstock("agent", "delete", "bob", "--data-dir", folder)
        assert (busy.returncode, "cancel them" in busy.stderr) == (1, True)
        client.cancel(job["id"])
        assert penstock("agent", "delete", "bob", "--data-dir", folder).stderr == "bob is deleted.\n"
        assert [agent["name"] for agent in client.agents()] == ["team/ada"]
