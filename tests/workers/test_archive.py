"""Ended jobs in files: whole, private, readable whatever happened to the writer."""

from __future__ import annotations

import errno
import gzip
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from models import archive
from models.archive import Record
from models.database import Database
from models.job_rows import Job
from models.states import State
from tests.models.desk import Desk
from tests.rows import at, new_job
from workers.archive import Archive

NOVEMBER = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


def record(number: int, ended: datetime = NOVEMBER) -> Record:
    """A line that is easy to recognise."""
    return Record(ended, b'{"id":%d}\n' % number)


def files(data_dir: Path) -> list[str]:
    """The names of the archive's files."""
    return sorted(file.name for file in (data_dir / "archive").iterdir())


def kept(data_dir: Path) -> list[Any]:
    """What can be read of all files, those with half a member at the end included."""
    found = []
    for file in sorted((data_dir / "archive").iterdir()):
        text = b""
        with gzip.open(file) as stream:
            try:
                while more := stream.read1():
                    text += more
            except EOFError:
                text = text[: text.rfind(b"\n") + 1]
        found += [json.loads(line)["id"] for line in text.splitlines()]
    return found


def test_a_line_holds_all_of_a_job(database: Database) -> None:
    """Columns, request, result, attempts, costs and tags make one object, times and money as the API's."""
    desk = Desk(database)
    (job_id,) = desk.submit(new_job("hello", tags=("a", "b"), metadata={"line": "17"}))
    desk.fail(desk.take())
    desk.wait(10)
    desk.promote()
    desk.finish(desk.take())
    with database.read() as session:
        (found,) = archive.records(session, [job.seq for job in desk.all(Job)])
    job = json.loads(found.line)
    assert found.ended == desk.now
    assert (job["id"], job["state"], job["tags"], job["metadata"]) == (
        job_id, "succeeded", ["a", "b"], {"line": "17"}
    )  # fmt: skip
    assert job["finished_at"] == desk.now.isoformat().replace("+00:00", "Z")
    assert job["request"]["messages"][0]["content"][0]["text"] == "hello"
    assert (job["result"]["text"], job["result"]["finish_reason"]) == ("hello back", "stop")
    assert [attempt["outcome"] for attempt in job["attempts"]] == ["failed", "succeeded"]
    assert [cost["amount"] for cost in job["costs"]] == ["0.000000000000", "0.000007100000"]
    assert set(Job.__table__.c.keys()) < job.keys()


def test_only_ended_jobs_are_recorded(database: Database) -> None:
    """A job that goes on, or is gone, has no line; one without a result says so."""
    desk = Desk(database)
    first, _second = desk.submit(new_job(), new_job(run_at=at(99)))
    desk.cancel(first)
    with database.read() as session:
        (found,) = archive.records(session, [*(job.seq for job in desk.all(Job)), 999])
    job = json.loads(found.line)
    assert (job["id"], job["state"], job["result"], job["attempts"]) == (first, State.CANCELLED, None, [])


def test_jobs_stand_in_the_file_of_their_month(tmp_path: Path) -> None:
    """One file a month, to which every call appends, for its owner alone."""
    kept_here = Archive(tmp_path)
    kept_here.keep([record(1), record(2, DECEMBER)])
    kept_here.keep([record(3)])
    assert files(tmp_path) == ["jobs-2026-11.jsonl.gz", "jobs-2026-12.jsonl.gz"]
    assert kept(tmp_path) == [1, 3, 2]
    folder = tmp_path / "archive"
    modes = [path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())]
    assert modes == [0o700, 0o600, 0o600]


@pytest.mark.parametrize("cut", [1, 9, 20])
def test_half_a_member_spoils_nothing_but_itself(tmp_path: Path, cut: int) -> None:
    """After a crash in the middle of a write all else is readable: what is earlier and what is later."""
    crashed = Archive(tmp_path)
    crashed.keep([record(1)])
    crashed.keep([record(2)])
    (file,) = (tmp_path / "archive").iterdir()
    os.truncate(file, file.stat().st_size - cut)
    torn = file.read_bytes()
    Archive(tmp_path).keep([record(2), record(3)])
    assert [number for number in kept(tmp_path) if number != 2] in ([1, 3], [3, 1])
    assert 2 in kept(tmp_path)
    assert file.read_bytes() == torn


def test_processes_do_not_share_a_file(tmp_path: Path) -> None:
    """Two that write in the same folder at the same time keep out of each other's files."""
    one, other = Archive(tmp_path), Archive(tmp_path)
    for number in range(3):
        one.keep([record(number)])
        other.keep([record(10 + number)])
    assert files(tmp_path) == ["jobs-2026-11.2.jsonl.gz", "jobs-2026-11.jsonl.gz"]
    assert kept(tmp_path) == [10, 11, 12, 0, 1, 2]


@pytest.mark.parametrize("change", ["moved", "changed"])
def test_a_file_that_somebody_touched_is_left_alone(tmp_path: Path, change: str) -> None:
    """Whoever moves or rewrites a file meanwhile finds it as he left it."""
    here = Archive(tmp_path)
    here.keep([record(1)])
    file = tmp_path / "archive" / "jobs-2026-11.jsonl.gz"
    if change == "moved":
        file.rename(tmp_path / "elsewhere.gz")
    else:
        file.write_bytes(b"")
    here.keep([record(2)])
    assert kept(tmp_path) == [2]
    assert change == "moved" or file.read_bytes() == b""


def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk nothing half remains, and the same file goes on when there is room."""
    here = Archive(tmp_path)
    here.keep([record(1)])
    with monkeypatch.context() as full:

        def fsync(_descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        full.setattr("workers.archive.os.fsync", fsync)
        with pytest.raises(OSError, match="No space"):
            here.keep([record(2)])
    assert kept(tmp_path) == [1]
    here.keep([record(2)])
    assert kept(tmp_path) == [1, 2]
    assert files(tmp_path) == ["jobs-2026-11.jsonl.gz"]
