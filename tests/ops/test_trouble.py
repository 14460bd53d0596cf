"""What a person reads when disk, database or key are not as they should be: one sentence, no traceback."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import telemetry
from ops.complaint import Complaint
from ops.supervisor import preparation
from tests.ops.conftest import Penstock, Served
from tests.repository import PROJECT

AWAY = "postgresql://127.0.0.1:9/none"


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A process that shares its figures in ``folder``/metrics."""
    environment = {**os.environ, telemetry.DIRECTORY_VARIABLE: str(folder / "metrics")}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)


def test_shared_figures_have_their_room_on_the_disk(tmp_path: Path) -> None:
    """Every file that is mapped has all its blocks, so that a disk that fills up later cannot refuse one."""
    (tmp_path / "metrics").mkdir()
    assert python("from config import telemetry as t; t.sweeps.labels('x').inc()", tmp_path).returncode == 0
    files = [file.stat() for file in (tmp_path / "metrics").iterdir()]
    assert [file.st_size for file in files] == [telemetry.FILE_BYTES] * 4
    assert all(file.st_blocks * 512 >= file.st_size for file in files)


def test_a_process_without_room_for_its_figures(tmp_path: Path) -> None:
    """It says so and leaves, and gives back what room it had taken."""
    code = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({telemetry.FILE_BYTES // 2},) * 2)\n"
        f"sys.argv = ['penstock', 'worker', 'errands', '--data-dir', {str(tmp_path)!r}]\n"
        "from ops.cli import main; main()"
    )
    done = python(code, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"penstock: The data directory {tmp_path} cannot be written (File too large)"
    )
    assert list((tmp_path / "metrics").iterdir()) == []


def test_a_full_disk_is_told_by_its_name(tmp_path: Path) -> None:
    """What the system calls an error becomes a sentence with the place and the cure."""
    with pytest.raises(Complaint, match=f"The disk is full: {tmp_path}"), preparation.writing(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_nothing_starts_on_a_disk_that_is_nearly_full(
    penstock: Penstock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The little room that is left is not filled with files of a start that must fail."""
    usage = shutil.disk_usage(tmp_path)._replace(free=preparation.LEAST_FREE_BYTES - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    for command in (("up", "--port", "0"), ("migrate",)):
        done = penstock(*command, "--data-dir", str(tmp_path))
        assert done.returncode == 1
        assert done.stderr.startswith(f"penstock: The disk is full: {tmp_path} ")
    assert not (tmp_path / "penstock.db").exists()


@pytest.mark.parametrize("command", [("up", "--port", "0"), ("migrate",), ("key", "list")])
def test_a_file_that_is_no_database(penstock: Penstock, tmp_path: Path, command: tuple[str, ...]) -> None:
    """It is named with what to do, is left as it is, and nothing starts."""
    file = tmp_path / "penstock.db"
    file.write_text("this was never a database" * 100)
    done = penstock(*command, "--data-dir", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith(f"penstock: sqlite:///{file} cannot be read (file is not a database): put ")
    assert file.read_text() == "this was never a database" * 100


@pytest.mark.parametrize("command", [("up", "--port", "0"), ("migrate",), ("key", "list"), ("key", "create")])
def test_a_database_that_is_away(
    penstock: Penstock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """A server that does not answer is told with its own words and the cure."""
    monkeypatch.setenv("PENSTOCK_DATABASE__URL", AWAY)
    done = penstock(*command, "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert re.match(r"penstock: The database cannot be used: .*refused.* Start it, .*doctor", done.stderr)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "occupied"), [(("up", "--port", "0"), "lock/x"), (("worker", "errands"), "metrics")]
)
def test_a_folder_that_cannot_be_written(
    penstock: Penstock, tmp_path: Path, command: tuple[str, ...], occupied: str
) -> None:
    """A data directory in which a file cannot be made is named, and nothing starts."""
    (tmp_path / occupied).parent.mkdir(exist_ok=True)
    (tmp_path / occupied).touch()
    done = penstock(*command, "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith(f"penstock: The data directory {tmp_path} cannot be written (")
    assert len(done.stderr.splitlines()) == 1


def test_a_copy_that_cannot_be_made(tmp_path: Path) -> None:
    """A database that cannot be saved before it is migrated is left alone, and no half of a copy stays."""
    (tmp_path / "penstock.db").write_text("this was never a database" * 100)
    with pytest.raises(Complaint, match="cannot be copied to"):
        preparation.back_up(tmp_path / "penstock.db", tmp_path, "0001")
    assert list((tmp_path / "backups").iterdir()) == []


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_key_file_without_a_key(
    penstock: Penstock, served: Served, tmp_path: Path, content: str | None
) -> None:
    """--key @FILE that names no file, or an empty one, is told by that file's name."""
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    done = penstock("jobs", "--key", f"@{file}", "--data-dir", str(served.folder))
    assert done.returncode == 1
    assert done.stderr.startswith(f"penstock: There is no key in {file}: ")


def test_times_are_written_as_the_api_writes_them(penstock: Penstock, served: Served) -> None:
    """`key list --json` and GET /v1/keys show the same key with the same times."""
    (listed,) = penstock("key", "list", "--json", "--data-dir", str(served.folder)).stdout.splitlines()
    with served.client() as client:
        (told,) = client._json("GET", "/v1/keys")["data"]
    assert json.loads(listed)["created_at"] == told["created_at"]
    assert re.fullmatch(r"[\d-]{10}T[\d:]{8}(\.\d+)?Z", told["created_at"])
