"""What `up` prepares: a private folder held by one process, a migrated schema, a first key."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import migrations
from config.settings import Engine, Llm, Settings, Worker
from config.sources import load
from models import audit, keys
from models.database import Database
from ops.complaint import Complaint
from ops.supervisor import preparation
from ops.supervisor.child import penstock
from ops.supervisor.up import programs


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty SQLite database."""
    made = Database.connect(f"sqlite:///{tmp_path / 'penstock.db'}")
    yield made
    made.close()


def test_the_folder_is_private(tmp_path: Path) -> None:
    """The data directory, the folders in it and what is made later are closed to others."""
    folder = tmp_path / "deep" / "data"
    preparation.make_folder(folder)
    (folder / "later").touch()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
    assert not any(mode & 0o077 for mode in modes.values()), modes


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A plain sentence names the folder."""
    (tmp_path / "file").touch()
    with pytest.raises(Complaint, match="cannot be written"):
        preparation.make_folder(tmp_path / "file" / "data")


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    """A second holder is told who holds the folder; when the first is killed, the folder is free."""
    code = f"""
import pathlib, time
from ops.supervisor.preparation import locked
with locked(pathlib.Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Complaint, match=f"process {holder.pid}"), preparation.locked(tmp_path):
            pass
        holder.kill()
    with preparation.locked(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_an_empty_database_is_migrated_without_a_backup(database: Database, tmp_path: Path) -> None:
    """There is nothing to save from a database that has no schema."""
    assert preparation.migrate(database, tmp_path) is None
    assert migrations.current(database) == migrations.head()
    assert not (tmp_path / "backups").exists()


def test_a_current_database_is_left_alone(database: Database, tmp_path: Path) -> None:
    """No migration is pending, so nothing is copied."""
    migrations.upgrade(database)
    assert preparation.migrate(database, tmp_path) == migrations.head()
    assert not (tmp_path / "backups").exists()


def test_an_old_database_is_saved_before_it_is_migrated(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a migration pending, a whole copy with all rows is made first."""
    migrations.upgrade(database)
    preparation.first_key(database, tmp_path / "api-key")
    monkeypatch.setattr(migrations, "head", lambda: "9999")
    monkeypatch.setattr(migrations, "upgrade", lambda _: None)
    preparation.migrate(database, tmp_path)
    (copy,) = (tmp_path / "backups").iterdir()
    assert copy.name.startswith(f"penstock-{migrations.current(database)}-")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with closing(sqlite3.connect(copy)) as saved:
        assert saved.execute("SELECT count(*) FROM api_keys").fetchone() == (1,)


def test_a_newer_schema_is_refused(database: Database, tmp_path: Path) -> None:
    """A revision that this version does not know is neither migrated nor saved."""
    migrations.upgrade(database)
    with closing(sqlite3.connect(tmp_path / "penstock.db")) as raw:
        raw.execute("UPDATE alembic_version SET version_num = 'from-the-future'")
        raw.commit()
    with pytest.raises(migrations.NewerSchemaError, match="newer version"):
        preparation.migrate(database, tmp_path)
    assert not (tmp_path / "backups").exists()


def test_five_copies_are_kept(tmp_path: Path) -> None:
    """The oldest copies go, the newest stay."""
    sqlite3.connect(tmp_path / "a.db").close()
    made = [preparation.back_up(tmp_path / "a.db", tmp_path, f"r{number}") for number in range(7)]
    assert sorted((tmp_path / "backups").iterdir()) == sorted(made[2:])


def test_the_first_key(database: Database, tmp_path: Path) -> None:
    """The key in the file opens the service, is private, is made only once, and that is on record."""
    migrations.upgrade(database)
    file = tmp_path / "api-key"
    assert preparation.first_key(database, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text().strip()
    with database.read() as session:
        assert keys.verify(session, text) is not None
        (act,) = audit.page(session, "default", None, 10)
    assert (act.actor, act.action, act.subject) == ("console", "key.create", text.split("_")[1])
    assert not preparation.first_key(database, file)
    assert file.read_text().strip() == text


def test_a_lost_key_file_is_told(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """When keys exist but the file is gone, the cure is named and no key is made in secret."""
    migrations.upgrade(database)
    preparation.first_key(database, tmp_path / "api-key")
    (tmp_path / "api-key").unlink()
    assert not preparation.first_key(database, tmp_path / "api-key")
    assert "penstock key create" in capsys.readouterr().err


def test_each_llm_has_a_worker_of_its_own_name(tmp_path: Path) -> None:
    """Whatever its alias, each worker's name makes a file of its own, also where case does not count."""
    aliases = ("pico", "qwen/qwen3", "qwen_2f_qwen3", "Pico", "größe", "llama3.1", "../up")
    llms = {alias: Llm(path="builtin:pico") for alias in aliases}
    settings = Settings(data_dir=tmp_path, llms=llms, serve=aliases, engine=Engine(backend="fake"))
    inference = [made for made in programs(settings, {}) if made.command == penstock("worker", "inference")]
    assert [made.environment["PENSTOCK_WORKER__LLMS"] for made in inference] == [*aliases]
    names = [made.name for made in inference]
    assert (names[0], names[1]) == ("inference-pico", "inference-qwen_2f_qwen3")
    assert len({name.lower() for name in names}) == len(aliases)
    assert all(Path(name).name == name for name in names)


def test_llms_may_share_a_worker(tmp_path: Path) -> None:
    """Then there is one for all that are served, and it is told of all."""
    llms = {alias: Llm(path="builtin:pico") for alias in ("pico", "large", "spare")}
    settings = Settings(
        data_dir=tmp_path, llms=llms, serve=("pico", "large"), engine=Engine(backend="fake"),
        worker=Worker(share=True),
    )  # fmt: skip
    _, inference, _ = programs(settings, {})
    assert (inference.name, inference.environment["PENSTOCK_WORKER__LLMS"]) == ("inference", "pico,large")
    assert load({}, {"PENSTOCK_LLMS__LARGE__PATH": "x", **inference.environment}).served_llms == (
        "pico", "large",
    )  # fmt: skip
