"""Old jobs go, in the order in which they came and in small steps; what is archived is written before."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.settings import Retention, Settings
from models import retention
from models.books import check_integrity
from models.database import Database, Session
from models.job_rows import Job
from models.retention import Page
from models.states import State
from models.tenants import ensure
from tests.models.desk import Desk
from tests.rows import START, new_job
from workers.pace import Pace
from workers.pruner import Pruner

DAY = 86_400
MONTH = Retention(succeeded_days=30, cancelled_days=30)


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    """A desk a hundred days ago; the books balance at the end."""
    desk = Desk(database)
    desk.wait(-100 * DAY)
    yield desk
    with database.read() as session:
        assert check_integrity(session) == []


def pruner(desk: Desk, settings: Settings, kept: Retention = MONTH) -> Pruner:
    """One that keeps what ended within the last thirty days."""
    pace = Pace(desk.database, 0.05, rest=lambda _seconds: None)
    return Pruner(desk.database, settings.model_copy(update={"retention": kept}), pace)


def go(made: Pruner) -> int:
    """A whole round; how many steps it took."""
    return sum(1 for _ in made.round())


def end(desk: Desk, count: int = 1, **fields: Any) -> list[str]:
    """Jobs that come and end now."""
    made = desk.submit(*(new_job(**fields) for _ in range(count)))
    desk.finish(*desk.claim(count))
    return made


def left(desk: Desk) -> set[str]:
    """The jobs that there are."""
    return {job.id for job in desk.all(Job)}


def lines(folder: Path) -> list[str]:
    """The ids of all archived jobs."""
    found = []
    for file in sorted(folder.glob("archive/*.gz")):
        with gzip.open(file) as stream:
            found += [json.loads(line)["id"] for line in stream]
    return found


def test_each_state_is_kept_as_long_as_it_says(desk: Desk, settings: Settings) -> None:
    """What is older goes, of every tenant; what is younger or ended in a state without a time stays."""
    end(desk)
    (failed,) = desk.submit()
    desk.fail(desk.take(), pause=None)
    with desk.database.write() as session:
        ensure(session, "other", START)
    end(desk, tenant_id="other")
    desk.cancel(*desk.submit())
    desk.wait(95 * DAY)
    (young,) = end(desk)
    go(pruner(desk, settings))
    assert left(desk) == {failed, young}


def test_nothing_is_looked_for_when_all_is_kept(desk: Desk, settings: Settings) -> None:
    """Zero days, as built in, keep jobs for ever."""
    made = end(desk)
    assert go(pruner(desk, settings, Retention())) == 0
    assert left(desk) == set(made)


def test_steps_are_as_small_as_the_pace_says(
    desk: Desk, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each deletes a batch no heavier than the size, and one job at the least."""
    end(desk, 5)
    end(desk, 1, estimated_tokens=5 * retention.TOKENS)
    seen: list[int] = []
    drop = retention.drop

    def counted(session: Session, seqs: list[int]) -> int:
        seen.append(len(seqs))
        return drop(session, seqs)

    monkeypatch.setattr(retention, "drop", counted)
    # It may hold the lock for no time at all, so it never grows.
    pace = Pace(desk.database, 1e-9, first=2, least=2, rest=lambda _seconds: None)
    go(Pruner(desk.database, settings.model_copy(update={"retention": MONTH}), pace))
    assert seen == [2, 2, 1, 1]
    assert left(desk) == set()


def test_what_hides_behind_younger_jobs_is_found_too(
    desk: Desk, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that came early and ended late do not keep the old ones behind them, and a round stays short."""
    monkeypatch.setattr(retention, "PAGE", 2)
    late = desk.submit(*(new_job() for _ in range(6)))
    claims = desk.claim(6)
    hidden = end(desk)
    desk.wait(95 * DAY)
    desk.finish(*claims)
    made = pruner(desk, settings, Retention(succeeded_days=30))
    looks: list[object] = []
    look = retention.look

    def counted(session: Session, tenant_id: str, state: State, *rest: object) -> Page:
        looks.append(rest[-1])
        return look(session, tenant_id, state, *rest)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(retention, "look", counted)
    assert left(desk) == {*late, *hidden}
    found = []
    for _ in range(3):
        looks.clear()
        go(made)
        found.append((len(looks), left(desk) == set(late)))
    assert found == [(2, False), (2, False), (2, True)]


def test_jobs_are_archived_before_they_go(desk: Desk, settings: Settings) -> None:
    """With ``retention.archive`` each deleted job has a line, in order, and others have none."""
    made = end(desk, 3)
    desk.wait(95 * DAY)
    end(desk)
    go(pruner(desk, settings, MONTH.model_copy(update={"archive": True})))
    assert lines(settings.data_dir) == made
    assert len(left(desk)) == 1


def test_what_cannot_be_archived_is_not_deleted(
    desk: Desk, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says why, and the next round does it when it can."""
    made = end(desk, 3)
    folder = settings.data_dir / "archive"
    folder.write_text("in the way")
    archiving = pruner(desk, settings, MONTH.model_copy(update={"archive": True}))
    go(archiving)
    assert left(desk) == set(made)
    assert "the archive cannot be written" in caplog.text
    folder.unlink()
    go(archiving)
    assert (left(desk), lines(settings.data_dir)) == (set(), made)


def test_a_crash_between_archive_and_deletion_loses_nothing(
    desk: Desk, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is still there, and is archived once more with the same line."""
    made = end(desk)
    archiving = MONTH.model_copy(update={"archive": True})

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    first = pruner(desk, settings, archiving)
    with monkeypatch.context() as patched:
        patched.setattr(retention, "drop", killed)
        with pytest.raises(KeyboardInterrupt):
            go(first)
    assert left(desk) == set(made)
    go(pruner(desk, settings, archiving))
    assert left(desk) == set()
    assert lines(settings.data_dir) == made * 2
    one, other = (gzip.decompress(file.read_bytes()) for file in settings.data_dir.glob("archive/*.gz"))
    assert one == other


def test_no_transaction_is_open_while_the_archive_is_written(
    sqlite_database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow disk keeps nobody from writing, and no connection from the pool."""
    desk = Desk(sqlite_database)
    desk.wait(-100 * DAY)
    end(desk)
    seen: list[str] = []
    pool = sqlite_database.engine.pool
    monkeypatch.setattr("workers.pruner.Archive.keep", lambda *_: seen.append(pool.status()))
    go(pruner(desk, settings, MONTH.model_copy(update={"archive": True})))
    assert ["Current Checked out connections: 0" in status for status in seen] == [True]
