"""The console script itself, and the commands that need no service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import migrations
from config.sources import load
from models import audit, keys
from models.database import Database
from ops.cli import guard
from ops.cli.invocation import alias_of, serving
from ops.supervisor.up import variables
from tests.ops.conftest import Penstock

COMMANDS = ("up", "api", "worker", "migrate", "submit", "jobs", "job", "key", "doctor", "bench", "demo")


def test_help_names_every_command(penstock: Penstock) -> None:
    """`penstock --help` lists all commands, and each has a help of its own."""
    shown = penstock("--help").stdout
    assert all(f" {command} " in shown for command in COMMANDS)


def test_help_is_light() -> None:
    """Help loads none of the libraries that make other commands slow."""
    code = (
        "import sys; sys.argv = ['penstock', '--help']\n"
        "from ops.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'sqlalchemy', 'alembic', 'fastapi', 'httpx2', 'prometheus_client', 'pydantic', 'mlx'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_our_names_lead_to_us() -> None:
    """In this environment every generic name is this project's own folder."""
    assert guard.foreign_rooms() == {}


def test_foreign_names_stop_the_program(tmp_path: Path) -> None:
    """A package of somebody else's under one of our names is told with its place, and nothing runs."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").touch()
    code = "from ops.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{guard.ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert f"models comes from {tmp_path / 'models'}" in done.stderr


def test_migrate(penstock: Penstock, tmp_path: Path) -> None:
    """`migrate` makes a database of the newest schema, says so as JSON, and may be repeated."""
    first = penstock("migrate", "--json", "--data-dir", str(tmp_path))
    assert json.loads(first.stdout) == {"from": None, "to": migrations.head()}
    second = penstock("migrate", "--json", "--data-dir", str(tmp_path))
    assert json.loads(second.stdout) == {"from": migrations.head(), "to": migrations.head()}


def test_keys_without_a_service(penstock: Penstock, tmp_path: Path) -> None:
    """Keys are made, listed and revoked in the database alone, and on record; a revoked one opens nothing."""
    folder = str(tmp_path)
    assert penstock("key", "list", "--data-dir", folder).returncode == 1
    penstock("migrate", "--data-dir", folder)
    made = json.loads(penstock("key", "create", "ada", "--json", "--data-dir", folder).stdout)
    database = Database.connect(f"sqlite:///{tmp_path / 'penstock.db'}")
    try:
        with database.read() as session:
            assert keys.verify(session, made["key"]) is not None
        assert "ada" in penstock("key", "list", "--data-dir", folder).stdout
        assert penstock("key", "revoke", made["key"], "--data-dir", folder).returncode == 0
        with database.read() as session:
            assert keys.verify(session, made["key"]) is None
        assert penstock("key", "revoke", made["id"], "--data-dir", folder).returncode == 1
        with database.read() as session:
            acts = [(act.actor, act.action, act.subject) for act in audit.page(session, "default", None, 10)]
        assert acts == [("console", "key.revoke", made["id"]), ("console", "key.create", made["id"])]
    finally:
        database.close()


@pytest.mark.parametrize(
    ("path", "alias"),
    [
        ("mlx-community/Qwen3-0.6B-4bit", "qwen3-0-6b-4bit"),
        ("builtin:pico", "pico"),
        ("/llms/My LLM/", "my-llm"),
        ("größe", "gr-e"),
        ("...", "llm"),
    ],
)
def test_aliases_of_paths(path: str, alias: str) -> None:
    """An LLM given by path goes by a name that settings and URLs can hold."""
    assert alias_of(path) == alias


def test_serving_another_llm(tmp_path: Path) -> None:
    """--llm becomes the one LLM there is a worker for; a folder is made absolute, a hub id is kept."""
    assert serving(None) == {}
    folder = tmp_path / "llm"
    folder.mkdir()
    alone = {"default_llm": "llm", "worker.llms": ("llm",), "serve": ("llm",)}
    assert serving(str(folder)) == {**alone, "llms.llm": {"path": str(folder)}}
    assert serving("a/b")["llms.b"] == {"path": "a/b"}


def test_an_llm_on_the_command_line_wins_over_the_settings(tmp_path: Path) -> None:
    """--llm is served alone, by a worker and by `up`, whatever the settings say is to be served."""
    (tmp_path / "config").mkdir()
    environ = {
        "PENSTOCK_LLMS__LARGE__PATH": "a/large",
        "PENSTOCK_SERVE": "pico,large",
        "PENSTOCK_WORKER__LLMS": "large",
    }
    found = load({"llms": {"pico": {"path": "builtin:pico"}}, **serving("a/b")}, environ, root=tmp_path)
    assert (found.default_llm, found.served_llms, found.up_serves) == ("b", ("b",), ("b",))
    handed_on = load({}, {**environ, **variables(serving("a/b"))}, root=tmp_path)
    assert (handed_on.default_llm, handed_on.served_llms, handed_on.up_serves) == ("b", ("b",), ("b",))


def test_a_worker_that_lacks_the_fast_blas_starts_anew(
    penstock: Penstock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker started by hand takes its arguments along; one that has the library, or a parent, goes on."""
    started: list[tuple[tuple[str, ...], str]] = []

    def execve(_: str, command: tuple[str, ...], environment: dict[str, str]) -> None:
        started.append((command[4:], environment["LD_PRELOAD"]))

    monkeypatch.setattr("ops.supervisor.up.preloaded", lambda _: {"LD_PRELOAD": "fast.so"})
    monkeypatch.setattr("workers.inference.main", lambda *_: 0)
    monkeypatch.setattr(os, "execve", execve)
    with monkeypatch.context() as parent:
        parent.setattr("ops.cli.processes.is_held", lambda: True)
        penstock("worker", "inference", "--data-dir", str(tmp_path))
    assert started == []
    penstock("worker", "inference", "--data-dir", str(tmp_path))
    assert started == [(("worker", "inference", "--data-dir", str(tmp_path)), "fast.so")]
    monkeypatch.setenv("LD_PRELOAD", "fast.so")
    penstock("worker", "inference", "--data-dir", str(tmp_path))
    assert len(started) == 1
