"""Room on the disk: a budget, an order in which files go, and a disk that others fill."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.faults import can_fill_disks, full_disk
from tests.workers.cache.chains import (
    OTHER,
    PATIENCE,
    ROOT,
    block_files,
    close,
    is_right,
    keep,
    look_up,
    open_tier,
    segment,
    tokens,
    wait_until,
)
from workers.cache.disk import DiskTier

SIZE = 1 << 16
"""Bytes of a node in these tests, beside which a header is small."""


def budget(files: int) -> int:
    """Bytes for so many files and not one more."""
    return files * SIZE + SIZE // 2


def save(tier: DiskTier, number: int, count: int = 256, owner: str | None = None) -> None:
    """Save a conversation of its own."""
    keep(tier, segment(tokens(number, count), owner=owner, nbytes=SIZE))


def there(tier: DiskTier, *numbers: int) -> list[int]:
    """Which of these conversations have something on disk."""
    return [number for number in numbers if tier.find(ROOT, tokens(number, 2000)).tokens]


def test_the_budget_is_kept(tmp_path: Path) -> None:
    """What was used longest ago goes; reading is a use, also for the next start."""
    tier = open_tier(tmp_path, budget=budget(4))
    for number in range(4):
        save(tier, number)
    for file in block_files(tmp_path):
        os.utime(file, (1, 1))
    assert look_up(tier, tokens(0, 256)) is not None
    save(tier, 4)
    assert there(tier, *range(5)) == [0, 2, 3, 4]
    assert tier.stats().evicted == 1
    assert tier.stats().bytes <= budget(4)
    close(tier)
    later = open_tier(tmp_path, budget=budget(2))
    assert there(later, *range(5)) == [0, 4]
    close(later)


def test_use_is_noted_rarely(tmp_path: Path) -> None:
    """A file that is read again and again is marked as used on disk once an hour."""
    tier = open_tier(tmp_path)
    save(tier, 1)
    (file,) = block_files(tmp_path)
    for expected in (True, False):
        os.utime(file, (1, 1))
        look_up(tier, tokens(1, 256))
        assert (file.stat().st_mtime > 1) == expected
    close(tier)


def test_agents_stay_longer(tmp_path: Path) -> None:
    """Whatever nobody owns goes before what an agent owns, however old that is."""
    tier = open_tier(tmp_path, budget=budget(3))
    save(tier, 1, owner="an agent")
    for number in (2, 3, 4, 5):
        save(tier, number)
    assert there(tier, *range(6)) == [1, 4, 5]
    for number in (6, 7, 8):
        save(tier, number, owner="another")
    assert there(tier, *range(9)) == [6, 7, 8]
    close(tier)


def test_a_beginning_outlives_what_stands_behind_it(tmp_path: Path) -> None:
    """A file that others go on from is never the one to go, though nobody owns it and it is the oldest."""
    tier = open_tier(tmp_path, budget=budget(3))
    save(tier, 1)
    shared = tokens(1, 256)
    for number in (2, 3, 4):
        one = [*shared, *tokens(number, 256)]
        keep(tier, segment(one, skip=1, owner="an agent", nbytes=SIZE))
    assert there(tier, 1) == [1]
    assert [tier.find(ROOT, [*shared, *tokens(number, 256)]).tokens for number in (2, 3, 4)] == [
        256,
        512,
        512,
    ]
    close(tier)


def test_a_conversation_does_not_push_itself_out(tmp_path: Path) -> None:
    """One that is longer than the budget keeps its beginning, and what does not fit is refused."""
    tier = open_tier(tmp_path, budget=budget(3))
    sequence = tokens(1, 4 * 256)
    for place in range(4):
        keep(tier, segment(sequence[: (place + 1) * 256], skip=place, nbytes=SIZE))
    assert tier.find(ROOT, sequence).tokens == 3 * 256
    assert tier.stats().refused == 1
    assert tier.save(segment(tokens(2, 1024), nbytes=SIZE))  # one file, larger than the budget
    assert tier.flush(PATIENCE)
    assert (tier.stats().refused, tier.stats().files) == (2, 3)
    close(tier)


def test_other_llms_files_count_and_go_first(tmp_path: Path) -> None:
    """They are evicted by age before any of ours, without being read, and their folders with them."""
    other = open_tier(tmp_path, OTHER)
    save(other, 1, owner="an agent")
    save(other, 2, owner="an agent")
    close(other)
    old, new = sorted(block_files(tmp_path), key=lambda file: file.stat().st_mtime_ns)
    os.utime(old, (1, 1))
    new.write_bytes(bytes(SIZE))
    tier = open_tier(tmp_path, budget=budget(4))
    assert (tier.stats().files, there(tier, 1, 2)) == (2, [])
    for number in (3, 4, 5):
        save(tier, number)
    assert (old.exists(), new.exists()) == (False, True)
    save(tier, 6)
    assert there(tier, 3, 4, 5, 6) == [3, 4, 5, 6]
    assert not new.parent.parent.exists()
    assert tier.stats().damaged == 0
    close(tier)


def test_a_swap_of_llms_keeps_both(tmp_path: Path) -> None:
    """What one LLM has saved is there when it comes back."""
    for fingerprint, number in ((OTHER, 1), (OTHER[::-1], 2), (OTHER, 3)):
        tier = open_tier(tmp_path, fingerprint)
        save(tier, number)
        close(tier)
    tier = open_tier(tmp_path, OTHER)
    assert there(tier, 1, 2, 3) == [1, 3]
    close(tier)


def test_the_reserve_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is written into the last room that others may need; with more room it goes on by itself."""
    tier = open_tier(tmp_path, reserve_bytes=10 << 20)
    save(tier, 1)
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as others:
        caplog.set_level("INFO")
        others.setattr(shutil, "disk_usage", lambda _: usage._replace(free=(10 << 20) + SIZE - 1))
        for number in (2, 3):
            assert tier.save(segment(tokens(number, 256), nbytes=SIZE)) == (number == 2)
            assert not tier.flush(PATIENCE)
        assert tier.stats().off == "the disk would have less than 10 MiB left"
        assert tier.is_off
        assert look_up(tier, tokens(1, 256)) is not None
        with pytest.raises(TimeoutError):
            wait_until(lambda: not tier.is_off, 0.15)  # it has looked again, and still there is too little
        assert tier.stats().refused == 2
    wait_until(lambda: not tier.is_off)
    save(tier, 2)
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "No blocks are written to disk", "Blocks are written to disk again"
    ]  # fmt: skip
    close(tier)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_write_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Whatever the disk says: no half a file, what waits is dropped, and later it is tried again."""
    tier = open_tier(tmp_path, retry_seconds=0.2)
    tries: list[int] = []
    with monkeypatch.context() as broken:

        def fsync(_descriptor: int) -> None:
            tries.append(code)
            raise OSError(code, os.strerror(code))

        broken.setattr("workers.cache.disk_folder.os.fsync", fsync)
        assert tier.save(segment(tokens(1, 3 * 256 + 1)))  # two files
        assert not tier.flush(PATIENCE)
        assert not tier.save(segment(tokens(3, 256)))
        assert len(tries) == 1
        assert os.strerror(code) in str(tier.stats().off)
        assert [*tmp_path.rglob("*.tmp"), *block_files(tmp_path)] == []
    wait_until(lambda: not tier.is_off)
    assert tier.stats().refused == 3
    save(tier, 1)
    assert look_up(tier, tokens(1, 256)) is not None
    close(tier)


def test_a_folder_that_cannot_be_used_is_tried_again(tmp_path: Path) -> None:
    """As long as something is wrong with it nothing is written, and the service runs."""
    place = tmp_path / "blocks"
    place.touch()
    tier = DiskTier(place, OTHER, 1 << 30, can_be_cut=True, reserve_bytes=0, retry_seconds=0.02)
    tier.start()
    wait_until(lambda: tier.is_off)
    assert not tier.save(segment(tokens(1, 256)))
    place.unlink()
    assert tier.flush(PATIENCE)
    save(tier, 1)
    close(tier)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "penstock-test", tmp_path], check=True)
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


@pytest.mark.skipif(not can_fill_disks(), reason="only root on Linux can make a small file system")
def test_a_full_disk_is_outlived(small_disk: Path) -> None:
    """With no byte left all that was written can be read; when there is room again it goes on."""
    tier = open_tier(small_disk, reserve_bytes=-(1 << 30))  # the disk has the first word
    save(tier, 1)
    with full_disk(small_disk):
        assert tier.save(segment(tokens(2, 256), nbytes=SIZE))
        assert not tier.flush(PATIENCE)
        assert "No space left" in str(tier.stats().off)
        read = look_up(tier, tokens(1, 256))
        assert read is not None
        assert is_right(read)
        tier.check_integrity()
    wait_until(lambda: not tier.is_off)
    save(tier, 2)
    assert there(tier, 1, 2) == [1, 2]
    close(tier)


@pytest.mark.skipif(not can_fill_disks(), reason="only root on Linux can make a small file system")
def test_the_tier_does_not_fill_the_disk(small_disk: Path) -> None:
    """A budget larger than the disk stops at the reserve."""
    tier = open_tier(small_disk, reserve_bytes=1 << 20)
    for number in range(40):
        tier.save(segment(tokens(number, 256), nbytes=SIZE))
        tier.flush(PATIENCE)
    assert (1 << 20) <= shutil.disk_usage(small_disk).free < (1 << 20) + 2 * SIZE
    assert tier.stats().refused > 20
    assert there(tier, 0, 1, 39) == [0, 1]
    close(tier)
