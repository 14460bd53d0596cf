"""The supervisor repeats what its children write to their logs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ops.supervisor import logs
from ops.supervisor.logs import LogTail


def tail_of(files: dict[str, Path], write: list[tuple[Path, str]]) -> str:
    """What is shown when ``write`` is appended while the tail runs."""
    out = io.StringIO()
    tail = LogTail(files, out, poll_seconds=0.005)
    tail.start()
    for file, text in write:
        with file.open("a") as stream:
            stream.write(text)
    tail.stop()
    return out.getvalue()


def test_lines_carry_their_childs_name(tmp_path: Path) -> None:
    """Only new lines are shown, whole, each behind the name of who wrote it."""
    api, worker = tmp_path / "api.log", tmp_path / "worker.log"
    api.write_text("from yesterday\n")
    shown = tail_of({"api": api, "worker": worker}, [(api, "one\ntw"), (worker, "three\n"), (api, "o\n")])
    assert sorted(shown.splitlines()) == ["api    | one", "api    | two", "worker | three"]


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
