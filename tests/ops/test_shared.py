"""Figures of processes that have ended: what still counts, what goes, and what room they take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from config import telemetry
from tests.ops.conftest import Penstock
from tests.repository import PROJECT

COUNT = """
import os
from config import telemetry
telemetry.sweeps.labels("rescued").inc()
telemetry.engine_batch_rows.labels("pico").set(3)
print(os.getpid())
"""
TIDY = """
import json, pathlib, sys
from ops.supervisor.shared import tidy
from config import telemetry
folder = pathlib.Path(sys.argv[1])
tidy(folder)
text = telemetry.scrape().decode()
print(json.dumps({
    "sweeps": 'penstock_sweeps_total{action="rescued"} 1.0' in text,
    "rows": 'penstock_engine_batch_rows{llm="pico"} 3.0' in text,
}))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for shared figures."""
    made = tmp_path / "metrics"
    made.mkdir()
    return made


def python(code: str, folder: Path) -> str:
    """What a process prints that shares its figures in ``folder``."""
    environment = {**os.environ, telemetry.DIRECTORY_VARIABLE: str(folder)}
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def files(folder: Path, pid: str) -> dict[str, int]:
    """The files of a process with their sizes."""
    return {file.stem: file.stat().st_size for file in folder.glob(f"*_{pid}.db")}


def test_a_service_that_starts_anew_counts_anew(folder: Path) -> None:
    """Where no process lives, the first that starts by itself finds nothing of the dead."""
    pid = python(COUNT, folder).strip()
    assert len(files(folder, pid)) == 4
    assert json.loads(python(TIDY, folder)) == {"sweeps": False, "rows": False}
    assert files(folder, pid) == {}


def test_a_process_that_is_started_beside_others(folder: Path) -> None:
    """Beside one that lives, counters of the dead go on counting, gauges do not, and their files are cut."""
    pid = python(COUNT, folder).strip()
    (folder / f"counter_{os.getpid()}.db").write_bytes(bytes(64))
    assert json.loads(python(TIDY, folder)) == {"sweeps": True, "rows": False}
    left = files(folder, pid)
    assert f"gauge_livesum_{pid}" not in left
    assert sum(left.values()) < telemetry.FILE_BYTES / 10
    assert list(folder.glob("*.draft")) == []


@pytest.mark.parametrize("has_parent", [False, True])
def test_who_tidies(
    penstock: Penstock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_parent: bool
) -> None:
    """A process that was started by itself does; for one with a parent, that one sees to it."""
    tidied: list[Path] = []
    monkeypatch.setattr("ops.supervisor.shared.tidy", tidied.append)
    monkeypatch.setattr("ops.cli.processes.is_held", lambda: has_parent)
    monkeypatch.setattr("workers.errands.main", lambda *_: 0)
    assert penstock("worker", "errands", "--data-dir", str(tmp_path)).returncode == 0
    assert tidied == ([] if has_parent else [tmp_path / "metrics"])
