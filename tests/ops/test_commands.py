"""The commands of the console script that talk to a service."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.ops.conftest import Penstock, Served


def test_submit_and_wait(penstock: Penstock, served: Served) -> None:
    """The result's text alone stands on stdout; options reach the job."""
    folder = str(served.folder)
    done = penstock("submit", "hi", "--wait", "--max-tokens", "3", "--tag", "cli", "--data-dir", folder)
    assert (done.returncode, done.stderr) == (0, "")
    with served.client() as client:
        (job,) = client.jobs(tag="cli")
    assert job["result"] is not None
    assert done.stdout == job["result"]["text"] + "\n"
    assert job["usage"]["completion_tokens"] == 3


def test_submit_from_standard_input_with_a_system_message(penstock: Penstock, served: Served) -> None:
    """A piped prompt is taken, and --json gives the whole job; shared options may stand first."""
    done = penstock(
        "--data-dir", str(served.folder), "--json", "submit",
        "--system", "Be brief.", "--metadata", "a=b=c", "--agent", "ada", "--priority", "interactive",
        stdin="how are you?",
    )  # fmt: skip
    job = json.loads(done.stdout)
    assert (job["metadata"], job["agent"], job["priority"]) == ({"a": "b=c"}, "ada", "interactive")


def test_submit_many_lines(penstock: Penstock, served: Served, tmp_path: Path) -> None:
    """JSON lines go as one bulk, and their results come back in the order of the lines."""
    file = tmp_path / "jobs.jsonl"
    lines = [json.dumps({"prompt": f"p{n}", "max_tokens": 2, "metadata": {"n": str(n)}}) for n in range(5)]
    file.write_text("\n".join(lines))
    done = penstock("submit", "--jsonl", str(file), "--wait", "--json", "--data-dir", str(served.folder))
    assert done.returncode == 0
    jobs = [json.loads(line) for line in done.stdout.splitlines()]
    assert [job["metadata"]["n"] for job in jobs] == ["0", "1", "2", "3", "4"]


def test_a_failed_job_fails_the_command(penstock: Penstock, served: Served) -> None:
    """Waiting for a job that fails says why and leaves with status 1."""
    done = penstock("submit", "poison", "--wait", "--data-dir", str(served.folder))
    assert done.returncode == 1
    assert "failed: row_error" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["submit", "x", "--file", "y"], "not both"),
        (["submit", "--file", "does-not-exist"], "cannot be read"),
        (["submit", "x", "--metadata", "nothing"], "K=V"),
        (["submit", "x", "--jsonl", "-"], "leave the other options out"),
        (["submit", "x", "--nonsense"], "No such option"),
        (["bench", "nonsense"], "no section nonsense"),
    ],
)
def test_wrong_use_is_told_plainly(
    penstock: Penstock, served: Served, arguments: list[str], says: str
) -> None:
    """A mistake on the command line gives a sentence and status 2."""
    done = penstock(*arguments, "--data-dir", str(served.folder))
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_service_refuses(penstock: Penstock, served: Served) -> None:
    """The service's own words reach the terminal, field by field."""
    done = penstock("submit", "x", "--max-tokens", "0", "--data-dir", str(served.folder))
    assert done.returncode == 1
    assert "max_tokens" in done.stderr


def test_a_service_that_is_away(penstock: Penstock, served: Served) -> None:
    """Where nothing listens, the cure is named without a traceback."""
    done = penstock("jobs", "--url", "http://127.0.0.1:9", "--data-dir", str(served.folder))
    assert done.returncode == 1
    assert "Is `penstock up` running?" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_key(penstock: Penstock, tmp_path: Path) -> None:
    """Without a service in the data directory, the cure is named."""
    done = penstock("jobs", "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert "There is no API key" in done.stderr


def test_a_key_from_a_file(penstock: Penstock, served: Served, tmp_path: Path) -> None:
    """--key @FILE keeps the key out of the list of processes."""
    (tmp_path / "key").write_text(served.key + "\n")
    given = ("--url", served.url, "--key", f"@{tmp_path / 'key'}", "--data-dir", str(tmp_path))
    assert penstock("jobs", *given).returncode == 0


def test_wrong_settings(penstock: Penstock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that does not exist is told with the nearest name, and that is status 2."""
    monkeypatch.setenv("PENSTOCK_SERVER__PROT", "1")
    done = penstock("jobs", "--data-dir", str(tmp_path))
    assert done.returncode == 2
    assert "PENSTOCK_SERVER__PORT" in done.stderr


def test_looking_at_jobs(penstock: Penstock, served: Served) -> None:
    """The list is a table or JSON lines, newest first; one job is shown whole."""
    folder = str(served.folder)
    with served.client() as client:
        ids = [client.submit({"prompt": "hi", "tags": ["look"], "max_tokens": 1})["id"] for _ in range(3)]
    listed = penstock("jobs", "--tag", "look", "--json", "--limit", "2", "--data-dir", folder)
    assert [json.loads(line)["id"] for line in listed.stdout.splitlines()] == ids[:0:-1]
    table = penstock("jobs", "--tag", "look", "--data-dir", folder).stdout
    assert all(job_id in table for job_id in ids)
    assert ids[0] in penstock("job", "show", ids[0], "--data-dir", folder).stdout
    shown = penstock("job", "show", ids[0], "--json", "--data-dir", folder)
    assert json.loads(shown.stdout)["id"] == ids[0]


def test_changing_jobs(penstock: Penstock, served: Served) -> None:
    """Cancel, retry and delete do what they say, in words or as JSON."""
    folder = str(served.folder)
    with served.client() as client:
        job_id = client.submit({"prompt": "hi", "run_at": "2999-01-01T00:00:00Z"})["id"]
    assert penstock("job", "cancel", job_id, "--data-dir", folder).stdout == f"{job_id} cancelled\n"
    again = json.loads(penstock("job", "retry", job_id, "--json", "--data-dir", folder).stdout)
    assert again["retry_of"] == job_id
    assert "deleted" in penstock("job", "delete", job_id, "--data-dir", folder).stderr
    assert penstock("job", "show", job_id, "--data-dir", folder).returncode == 1


def test_following_a_job(penstock: Penstock, served: Served) -> None:
    """The events of a job give its text on stdout and its states on stderr."""
    with served.client() as client:
        job = client.wait(client.submit({"prompt": "hi", "max_tokens": 5})["id"], 30)
    done = penstock("job", "events", job["id"], "--data-dir", str(served.folder))
    assert job["result"] is not None
    assert done.stdout == job["result"]["text"] + "\n"
    assert "[succeeded]" in done.stderr


def test_verify_reads_the_books(penstock: Penstock, served: Served) -> None:
    """Sound books give status 0; what breaks a rule is named, with status 1."""
    penstock("submit", "hi", "--wait", "--max-tokens", "3", "--data-dir", str(served.folder))
    done = penstock("verify", "--data-dir", str(served.folder))
    assert (done.returncode, done.stderr) == (0, "The books balance.\n")
    with sqlite3.connect(served.folder / "penstock.db") as tampered:
        tampered.execute("DELETE FROM results")
    done = penstock("verify", "--json", "--data-dir", str(served.folder))
    found = json.loads(done.stdout)
    assert (done.returncode, found["ok"]) == (1, False)
    assert found["breaches"][0]["rule"] == "a job that succeeded has a result"
