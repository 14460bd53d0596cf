"""A worker that was killed is known to be gone at once, and no living one is ever taken for dead."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import Broker, Settings
from models import claims, workers
from models.base import utcnow
from models.database import Database
from models.states import State
from tests.repository import PROJECT
from tests.service import Service, new_job, running_service
from workers.broker import make_live_log
from workers.identity import Identity
from workers.presence import Presence, gone
from workers.sweeper import Sweeper

VICTIM = """
import sys, time
from pathlib import Path
from models.database import Database
from workers.identity import Identity
identity = Identity(Database.connect(sys.argv[1]), "inference", Path(sys.argv[2]))
identity.register()
print(identity.worker_id, flush=True)
time.sleep(600)
"""


@pytest.fixture
def service(settings: Settings, sqlite_url: str) -> Iterator[Service]:
    """A database and a broker without any worker."""
    with running_service(settings, sqlite_url, Broker()) as made:
        yield made


@pytest.fixture
def sweeper(service: Service) -> Sweeper:
    """A sweeper for which no lease ever runs out: its clock stands still."""
    live = make_live_log(service.settings, service.database)
    return Sweeper(service.database, service.broker, live, service.settings, lambda: 1000.0)


@pytest.fixture
def victim(service: Service) -> Iterator[subprocess.Popen[str]]:
    """Another process that is a worker and does nothing."""
    command = [sys.executable, "-c", VICTIM, service.settings.database_url, str(service.settings.data_dir)]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    with process:
        yield process
        process.kill()


def claim(service: Service, worker_id: str) -> str:
    """Let a worker take a job."""
    (job,) = service.submit(new_job(), hint=False)
    with service.database.write() as session:
        assert claims.claim(session, worker_id, "pico", 1, utcnow())
    return job.id


def alive(service: Service) -> list[str]:
    """The workers that count as living."""
    with service.database.read() as session:
        return [worker.id for worker in workers.alive(session)]


def test_a_killed_worker_is_lost_at_once(
    service: Service, sweeper: Sweeper, victim: subprocess.Popen[str]
) -> None:
    """Its jobs go on before its lease has run out, with a failure more; while it lived they were its own."""
    assert victim.stdout is not None
    worker_id = victim.stdout.readline().strip()
    job_id = claim(service, worker_id)
    sweeper.sweep()
    assert service.job(job_id).job.state == State.RUNNING
    victim.kill()
    victim.wait()
    sweeper.sweep()
    found = service.job(job_id).job
    assert (found.state, found.failures, found.claimable) == (State.QUEUED, 1, True)
    assert (alive(service), gone(service.settings.data_dir)) == ([], [])
    assert service.drift() == {}


def test_a_worker_that_leaves_is_not_lost(service: Service, sweeper: Sweeper) -> None:
    """Its file goes with its row, and what it held goes back without a failure."""
    identity = Identity(service.database, "inference", service.settings.data_dir)
    identity.register()
    job_id = claim(service, identity.worker_id)
    with service.database.write() as session:
        assert identity.leave(session, "EUR", [(job_id, 1)]) == [job_id]
    assert list((service.settings.data_dir / "workers").iterdir()) == []
    assert service.job(job_id).job.failures == 0


def test_a_worker_under_a_new_id_shows_that_one(service: Service) -> None:
    """Whoever registers anew is looked for by its new name only."""
    identity = Identity(service.database, "inference", service.settings.data_dir)
    identity.register()
    identity.register()
    (file,) = (service.settings.data_dir / "workers").iterdir()
    assert file.name == identity.worker_id


def test_a_worker_elsewhere_is_not_judged(tmp_path: Path) -> None:
    """A file of another machine, on whose locks nothing is known here, is left alone."""
    presence = Presence.show(tmp_path, "worker_1")
    assert presence is not None
    assert gone(tmp_path) == []
    (tmp_path / "workers" / "worker_1").write_text("elsewhere")
    presence.end()
    (tmp_path / "workers" / "worker_2").write_text("elsewhere")
    assert gone(tmp_path) == []


def test_a_damaged_file_is_no_worker_of_this_machine(tmp_path: Path) -> None:
    """Bytes that are no text are judged as another machine's, and break no sweep."""
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "worker_1").write_bytes(b"\xff\xfe\x00")
    assert gone(tmp_path) == []


@pytest.mark.parametrize("fails", ["fcntl.flock", "os.write", "Path.rename"])
def test_what_cannot_be_locked_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """When locking, writing or renaming fails, the file and its descriptor go."""
    made: list[int] = []
    open_ = os.open

    def note(path: Path, *rest: int) -> int:
        made.append(open_(path, *rest))
        return made[-1]

    def refuse(*_: object) -> None:
        raise OSError("no locks here")

    with monkeypatch.context() as patch:
        patch.setattr("workers.presence.os.open", note)
        patch.setattr(f"workers.presence.{fails}", refuse)
        assert Presence.show(tmp_path, "worker_1") is None
    assert list((tmp_path / "workers").iterdir()) == []
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(made[0])


def test_drafts_of_the_killed_are_removed(tmp_path: Path) -> None:
    """Who was killed before its file could be found leaves one; the next worker removes it when it is old."""
    folder = tmp_path / "workers"
    folder.mkdir()
    for name, mtime in ((".worker_old", 0), (".worker_new", time.time())):
        (folder / name).touch()
        os.utime(folder / name, (mtime, mtime))
    presence = Presence.show(tmp_path, "worker_1")
    assert presence is not None
    assert sorted(file.name for file in folder.iterdir()) == [".worker_new", "worker_1"]
    presence.end()


def test_a_worker_that_cannot_show_itself_works_all_the_same(
    sqlite_database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no file can be locked its lease must do."""
    (tmp_path / "workers").write_text("in the way")
    identity = Identity(sqlite_database, "inference", tmp_path)
    identity.register()
    assert identity.beat({})
    assert "seen late" in caplog.text
    with sqlite_database.write() as session:
        identity.leave(session, "EUR")
