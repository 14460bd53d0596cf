"""Files that something happened to: never handed out, set aside, counted, told once."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors

from tests.workers.cache.chains import (
    FINGERPRINT,
    OTHER,
    ROOT,
    block_files,
    close,
    is_right,
    keep,
    look_up,
    nodes,
    open_tier,
    segment,
    tokens,
)
from workers.cache import disk_reader
from workers.cache.disk import DiskTier
from workers.cache.disk_folder import KEPT_DAMAGED
from workers.cache.disk_format import pack
from workers.cache.disk_record import records

SEQUENCE = tokens(1, 256)

BEFORE = tokens(2, 256)


def flip(place: Callable[[bytes], int]) -> Callable[[Path], None]:
    """Change one bit of a file."""

    def damage(file: Path) -> None:
        data = bytearray(file.read_bytes())
        data[place(bytes(data))] ^= 4
        file.write_bytes(data)

    return damage


def cut(length: int) -> Callable[[Path], None]:
    """Leave only so many bytes of a file."""

    def damage(file: Path) -> None:
        os.truncate(file, length if length >= 0 else file.stat().st_size + length)

    return damage


def put(data: bytes) -> Callable[[Path], None]:
    """Write something else into a file."""

    def damage(file: Path) -> None:
        file.write_bytes(data)

    return damage


def become_a_folder(file: Path) -> None:
    """A folder has the file's name, with something in it."""
    file.unlink()
    (file / "within").mkdir(parents=True)


def become_a_pipe(file: Path) -> None:
    """A pipe has the file's name, and who opens it waits for ever."""
    file.unlink()
    os.mkfifo(file)


def be_another_llms(file: Path) -> None:
    """A file of another LLM in the wrong place, under a name that fits it."""
    packed = pack(next(records(segment(SEQUENCE))), OTHER)
    file.unlink()
    (file.parent / f"{packed.digest}.safetensors").write_bytes(packed.header + b"".join(packed.arrays))


def be_another_file(file: Path) -> None:
    """A sound file of this LLM under the name of another."""
    packed = pack(next(records(segment(BEFORE))), FINGERPRINT)
    file.write_bytes(packed.header + b"".join(packed.arrays))


SHOWS_IN_THE_HEADER = {
    "empty": cut(0),
    "seven bytes": cut(7),
    "half a header": cut(500),
    "short by one": cut(-1),
    "zeros": put(bytes(3000)),
    "length": flip(lambda _: 0),
    "metadata": flip(lambda data: data.index(b"fingerprint") + 20),
    "tokens": flip(lambda data: data.index(b'tokens\\"') + 100),
    "foreign": put(safetensors.serialize({}, {"format": "pt"})),
    "folder": become_a_folder,
    "another file": be_another_file,
}

ONLY_AT_THE_START = {"another LLM's": be_another_llms, "pipe": become_a_pipe}

DAMAGES = SHOWS_IN_THE_HEADER | {"arrays": flip(lambda _: -1), "gone": Path.unlink}


def check_is_whole(tier: DiskTier) -> None:
    """What was damaged is not found, all else is, and the same can be saved again."""
    assert tier.find(nodes(BEFORE)[0].name, SEQUENCE).tokens == 0
    assert look_up(tier, BEFORE) == nodes(BEFORE)
    keep(tier, segment(BEFORE + SEQUENCE))
    read = look_up(tier, BEFORE + SEQUENCE)
    assert read is not None
    assert is_right(read)
    assert len(read) == 2
    close(tier)


@pytest.mark.parametrize("what", DAMAGES)
def test_what_breaks_while_it_is_known_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """A load that meets a damaged file brings nothing, the next search ends before it."""
    tier = open_tier(tmp_path)
    keep(tier, segment(BEFORE))
    (other,) = block_files(tmp_path)
    keep(tier, segment(BEFORE + SEQUENCE, skip=1))
    (file,) = {*block_files(tmp_path)} - {other}
    DAMAGES[what](file)
    assert look_up(tier, BEFORE + SEQUENCE) is None
    assert tier.flush(10)
    tier.check_integrity()
    assert tier.stats().damaged == 1
    assert sum("set aside" in record.message for record in caplog.records) == 1
    assert len([*(tmp_path / "damaged").iterdir()]) == (what != "gone")
    check_is_whole(tier)


@pytest.mark.parametrize("what", [*SHOWS_IN_THE_HEADER, *ONLY_AT_THE_START])
def test_what_broke_before_the_start_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """The start looks into each file, and goes on behind one that says nothing sensible."""
    first = open_tier(tmp_path)
    keep(first, segment(BEFORE))
    (other,) = block_files(tmp_path)
    keep(first, segment(BEFORE + SEQUENCE, skip=1))
    close(first)
    (file,) = {*block_files(tmp_path)} - {other}
    (SHOWS_IN_THE_HEADER | ONLY_AT_THE_START)[what](file)
    tier = open_tier(tmp_path)
    tier.check_integrity()
    assert tier.stats().damaged == 1
    assert sum("set aside" in record.message for record in caplog.records) == 1
    assert block_files(tmp_path) == [other]
    check_is_whole(tier)


def test_arrays_that_broke_before_the_start_are_found_out_when_they_are_read(tmp_path: Path) -> None:
    """The start reads headers only; a load reads all, and notices."""
    first = open_tier(tmp_path)
    keep(first, segment(SEQUENCE))
    close(first)
    flip(lambda _: -1)(block_files(tmp_path)[0])
    tier = open_tier(tmp_path)
    assert tier.find(ROOT, SEQUENCE).tokens == 256
    assert look_up(tier, SEQUENCE) is None
    assert tier.flush(10)
    assert (tier.stats().damaged, block_files(tmp_path)) == (1, [])
    close(tier)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_what_cannot_be_read_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """No permission, or a bad place on the disk: the same as a damaged file."""
    tier = open_tier(tmp_path)
    keep(tier, segment(SEQUENCE))
    with monkeypatch.context() as unreadable:
        unreadable.setattr(disk_reader, "read_header", fail(OSError(code, os.strerror(code))))
        assert look_up(tier, SEQUENCE) is None
    assert tier.flush(10)
    assert (tier.stats().damaged, block_files(tmp_path)) == (1, [])
    close(tier)


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), MemoryError()])
def test_a_process_in_need_blames_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Without descriptors or memory a load brings nothing, and the file stays where it is."""
    tier = open_tier(tmp_path)
    keep(tier, segment(SEQUENCE))
    with monkeypatch.context() as poor:
        poor.setattr(disk_reader, "read_header", fail(error))
        assert look_up(tier, SEQUENCE) is None
    assert look_up(tier, SEQUENCE) == nodes(SEQUENCE)
    assert tier.stats().damaged == 0
    close(tier)


def fail(error: Exception) -> Callable[..., object]:
    """A function that raises."""

    def failing(*_: object) -> object:
        raise error

    return failing


def test_only_some_damaged_files_are_kept(tmp_path: Path) -> None:
    """The oldest of them go, whatever they are, and the books know it."""
    tier = open_tier(tmp_path)
    for number in range(KEPT_DAMAGED + 3):
        keep(tier, segment(tokens(number, 256)))
        (file,) = block_files(tmp_path)
        (become_a_folder if number % 2 else cut(100))(file)
        assert look_up(tier, tokens(number, 256)) is None
        assert tier.flush(10)
        tier.check_integrity()
    assert len([*(tmp_path / "damaged").iterdir()]) == tier.stats().files == KEPT_DAMAGED
    close(tier)


def test_a_file_that_cannot_be_moved_is_ignored(tmp_path: Path) -> None:
    """It stays where it is and is never looked at again, until it is written anew."""
    tier = open_tier(tmp_path)
    keep(tier, segment(SEQUENCE))
    (tmp_path / "damaged").touch()  # no folder of that name can be made
    cut(300)(block_files(tmp_path)[0])
    assert look_up(tier, SEQUENCE) is None
    assert tier.flush(10)
    assert look_up(tier, SEQUENCE) == ()
    keep(tier, segment(SEQUENCE))
    assert look_up(tier, SEQUENCE) == nodes(SEQUENCE)
    close(tier)


def test_what_a_crash_left_half_written_is_removed(tmp_path: Path) -> None:
    """And what is none of our files is left alone."""
    first = open_tier(tmp_path)
    keep(first, segment(SEQUENCE))
    close(first)
    (file,) = block_files(tmp_path)
    half = file.with_suffix(".tmp")
    half.write_bytes(file.read_bytes()[:300])
    note = tmp_path / "note.txt"
    note.write_text("not ours", encoding="utf-8")
    tier = open_tier(tmp_path)
    assert (half.exists(), note.exists(), tier.stats().damaged) == (False, True, 0)
    close(tier)


def test_a_copy_of_a_file_is_removed(tmp_path: Path) -> None:
    """Of two files that hold the same only one takes room."""
    first = open_tier(tmp_path)
    keep(first, segment(SEQUENCE))
    close(first)
    (file,) = block_files(tmp_path)
    shutil.copy(file, file.with_name(file.name.replace(".", ".0123456789abcdef.")))
    tier = open_tier(tmp_path)
    assert len(block_files(tmp_path)) == 1
    assert look_up(tier, SEQUENCE) == nodes(SEQUENCE)
    close(tier)
