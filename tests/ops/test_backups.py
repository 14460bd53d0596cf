"""Copies of a live database, and the way back."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from ops import backups
from ops.complaint import Complaint
from ops.supervisor import preparation
from tests.ops.conftest import Penstock


def rows(file: Path) -> int:
    """How many rows a copy has, after SQLite has checked it."""
    with closing(sqlite3.connect(file)) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(opened.execute("SELECT count(*) FROM notes").fetchone()[0])


def written(file: Path, count: int) -> sqlite3.Connection:
    """A database in WAL mode that somebody has open, with some rows in its log."""
    held = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    held.execute("PRAGMA journal_mode=WAL")
    held.execute("CREATE TABLE notes (text TEXT)")
    held.executemany("INSERT INTO notes VALUES (?)", [("a" * 500,)] * count)
    return held


def test_a_copy_has_what_was_committed_before(tmp_path: Path) -> None:
    """What stands in the write-ahead log alone is in the copy; the copy is one private file."""
    target = tmp_path / "copy.db"
    with closing(written(tmp_path / "a.db", 50)):
        backups.copy(tmp_path / "a.db", target)
    assert rows(target) == 50
    assert target.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.glob("*copy*")) == ["copy.db"]


def test_a_copy_is_sound_while_somebody_writes(tmp_path: Path) -> None:
    """Writers go on, and the copy is of one moment: whole transactions, none by half."""
    held, stop = written(tmp_path / "a.db", 2_000), threading.Event()

    def write() -> None:
        while not stop.is_set():
            held.execute("BEGIN IMMEDIATE")
            held.executemany("INSERT INTO notes VALUES (?)", [("b",)] * 10)
            held.execute("COMMIT")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            backups.copy(tmp_path / "a.db", tmp_path / f"{number}.db")
    finally:
        stop.set()
        writer.join()
        held.close()
    assert [rows(tmp_path / f"{number}.db") % 10 for number in range(3)] == [0, 0, 0]


def test_what_cannot_be_copied_leaves_nothing(tmp_path: Path) -> None:
    """A source that is not there is told, and no draft stays behind."""
    with pytest.raises(Complaint, match="cannot be copied"):
        backups.copy(tmp_path / "nothing.db", tmp_path / "copy.db")
    assert list(tmp_path.iterdir()) == []


def test_there_and_back(penstock: Penstock, tmp_path: Path) -> None:
    """A restored database is what it was at the copy; what stood there is kept; stale logs are gone."""
    data, copy = tmp_path / "data", tmp_path / "copy.db"
    common = ("--data-dir", str(data))
    penstock("migrate", *common)
    penstock("key", "create", "early", *common)
    done = penstock("backup", str(copy), "--json", *common)
    assert json.loads(done.stdout)["file"] == str(copy)
    penstock("key", "create", "late", *common)
    assert penstock("restore", str(copy), *common).returncode == 0
    names = [
        json.loads(line)["name"] for line in penstock("key", "list", "--json", *common).stdout.splitlines()
    ]
    assert names == ["early"]
    (kept,) = (data / "backups").glob("before-restore-*.db")
    assert penstock("restore", str(kept), *common).returncode == 0
    assert "late" in penstock("key", "list", "--json", *common).stdout


def test_a_backup_among_the_others_has_a_name_of_its_own(penstock: Penstock, tmp_path: Path) -> None:
    """Without a file it goes into the data directory's backups, and no migration removes it."""
    penstock("migrate", "--data-dir", str(tmp_path))
    made = Path(penstock("backup", "--data-dir", str(tmp_path)).stdout.strip())
    for number in range(7):
        preparation.back_up(tmp_path / "penstock.db", tmp_path, f"r{number}")
    assert made.parent == tmp_path / "backups"
    assert made.exists()


def test_nothing_is_overwritten(penstock: Penstock, tmp_path: Path) -> None:
    """A file that is there is no place for a backup."""
    penstock("migrate", "--data-dir", str(tmp_path))
    (tmp_path / "precious").write_text("x")
    done = penstock("backup", str(tmp_path / "precious"), "--data-dir", str(tmp_path))
    assert (done.returncode, (tmp_path / "precious").read_text()) == (1, "x")


def test_a_running_service_is_not_restored(penstock: Penstock, tmp_path: Path) -> None:
    """As long as `up` holds the data directory nothing is put in place of its database."""
    common = ("--data-dir", str(tmp_path))
    penstock("migrate", *common)
    penstock("backup", str(tmp_path / "copy.db"), *common)
    with preparation.locked(tmp_path):
        done = penstock("restore", str(tmp_path / "copy.db"), *common)
    assert done.returncode != 0
    assert "Another `penstock up`" in done.stderr


@pytest.mark.parametrize("text", ["", "no database at all" * 100])
def test_only_a_copy_is_restored(penstock: Penstock, tmp_path: Path, text: str) -> None:
    """What is no Penstock database is refused, and the present one stays."""
    penstock("migrate", "--data-dir", str(tmp_path))
    (tmp_path / "other").write_text(text)
    before = (tmp_path / "penstock.db").read_bytes()
    done = penstock("restore", str(tmp_path / "other"), "--data-dir", str(tmp_path))
    assert done.returncode != 0
    assert "holds no Penstock database" in done.stderr
    assert (tmp_path / "penstock.db").read_bytes() == before


def test_postgresql_is_not_copied_by_us(
    penstock: Penstock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the command names the tools that do it."""
    monkeypatch.setenv("PENSTOCK_DATABASE__URL", "postgresql://localhost/x")
    done = penstock("backup", "--data-dir", str(tmp_path))
    assert "pg_dump" in done.stderr
