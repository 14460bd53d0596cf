"""The supervisor repeats what its children write to their logs."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import pytest

from ops.supervisor import logs
from ops.supervisor.logs import LogTail
from tests.ops.conftest import wait_until


def append(file: Path, text: str) -> None:
    """Write as a child does."""
    with file.open("a") as stream:
        stream.write(text)


def test_lines_carry_their_childs_name(tmp_path: Path) -> None:
    """Only new lines are shown, whole, each behind the name of who wrote it."""
    api, worker, out = tmp_path / "api.log", tmp_path / "worker.log", io.StringIO()
    append(api, "from yesterday\n")
    tail = LogTail({"api": api, "worker": worker}, out, poll_seconds=0.005)
    tail.start()
    append(api, "one\ntw")
    append(worker, "two\n")
    wait_until(lambda: out.getvalue().count("\n") == 2)
    append(api, "o\n")
    tail.stop()
    assert sorted(out.getvalue().splitlines()) == ["api    | one", "api    | two", "worker | two"]


def test_a_full_log_is_turned_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that has grown too large is copied and emptied; its writer goes on at the new beginning."""
    monkeypatch.setattr(logs, "KEEP_BYTES", 10)
    file = tmp_path / "api.log"
    with file.open("a") as writer:
        tail = LogTail({"api": file}, io.StringIO(), poll_seconds=60)
        tail.start()
        writer.write("long enough\n")
        writer.flush()
        tail.stop()
        writer.write("after\n")
    assert (tmp_path / "api.log.1").read_text() == "long enough\n"
    assert file.read_text() == "after\n"


def test_a_reader_that_has_gone_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the terminal is closed logs go on being turned over, and the stream can be closed in peace."""
    monkeypatch.setattr(logs, "KEEP_BYTES", 10)
    file = tmp_path / "api.log"
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as out:
        tail = LogTail({"api": file}, out, poll_seconds=0.005)
        os.close(reader)
        tail.start()
        append(file, "nobody reads this\n")
        wait_until(lambda: file.stat().st_size == 0)
        tail.stop()
    assert (tmp_path / "api.log.1").read_text() == "nobody reads this\n"


def test_a_log_is_let_go_where_its_copy_has_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk a log that has grown too large is emptied all the same, and its lines were shown."""

    def full(_: Path, to: Path) -> None:
        to.write_text("half a")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(logs, "KEEP_BYTES", 10)
    monkeypatch.setattr(shutil, "copyfile", full)
    file, out = tmp_path / "api.log", io.StringIO()
    tail = LogTail({"api": file}, out, poll_seconds=60)
    tail.start()
    append(file, "a long line\n")
    tail.stop()
    assert out.getvalue() == "api | a long line\n"
    assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] == [("api.log", 0)]
