"""Starting, stopping and breaking: what was taken is written, and nobody waits in vain."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workers.cache.chains import (
    FINGERPRINT,
    OTHER,
    PATIENCE,
    ROOT,
    block_files,
    close,
    keep,
    look_up,
    nodes,
    open_tier,
    segment,
    tokens,
    wait_until,
)
from workers.cache.disk import DiskTier, Found
from workers.cache.disk_entry import Entry
from workers.cache.disk_folder import File
from workers.cache.disk_keeper import Keeper

SEQUENCE = tokens(1, 600)


def test_the_queue_is_bounded(tmp_path: Path) -> None:
    """What would be too much is refused and counted, nothing waits; a first one is never too much."""
    tier = DiskTier(tmp_path, FINGERPRINT, 1 << 30, can_be_cut=True, queue_bytes=1000, reserve_bytes=0)
    assert tier.save(segment(tokens(1, 256), nbytes=5000))
    assert not tier.save(segment(tokens(2, 256)))
    assert not tier.is_stored(nodes(tokens(2, 256))[0].name)
    assert tier.save(segment(tokens(1, 256), nbytes=5000))  # it is queued already
    assert tier.stats().refused == 1
    tier.start()
    assert tier.flush(PATIENCE)
    keep(tier, segment(tokens(2, 256)))
    close(tier)


def test_stopping_writes_what_is_queued(tmp_path: Path) -> None:
    """What was taken is on disk when the tier has stopped; what is asked of it later brings nothing."""
    tier = open_tier(tmp_path)
    for number in range(20):
        assert tier.save(segment(tokens(number, 256)))
    close(tier)
    assert tier.stats().files == 20
    assert tier.is_off
    assert not tier.save(segment(tokens(99, 256)))
    assert look_up(tier, tokens(1, 256)) is None
    assert isinstance(tier.forget("an agent").exception(PATIENCE), RuntimeError)


def test_stopping_gives_up_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs does not hold up the end; what it has not written counts as refused."""
    tier = open_tier(tmp_path)
    go_on = threading.Event()
    monkeypatch.setattr("workers.cache.disk_folder.os.fsync", lambda _: go_on.wait(PATIENCE))
    for number in range(3):
        assert tier.save(segment(tokens(number, 256)))
    assert not tier.flush(0.05)
    assert not tier.stop(0.05)
    assert tier.stats().refused == 2
    go_on.set()
    assert tier.stop(PATIENCE)
    assert len(block_files(tmp_path)) == 1


def test_a_tier_that_never_started_can_be_stopped(tmp_path: Path) -> None:
    """Then nothing is read or written, and nobody waits for ever."""
    tier = DiskTier(tmp_path, FINGERPRINT, 1 << 30, can_be_cut=True)
    answer = tier.forget("an agent")
    brought: list[object] = []
    tier.load(Found(), brought.append)
    assert tier.stop(PATIENCE)
    assert isinstance(answer.exception(0), RuntimeError)
    assert isinstance(tier.forget("an agent").exception(0), RuntimeError)
    assert brought == [None]
    assert not list(tmp_path.iterdir())


def test_a_start_waits_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the folder is looked through, who asks gets an answer at once, and loads are served."""
    first = open_tier(tmp_path)
    keep(first, segment(SEQUENCE[:256]), segment(tokens(2, 256)))
    close(first)
    go_on, seen = threading.Event(), threading.Semaphore(0)
    monkeypatch.setattr(Keeper, "_look_into", hold_second(go_on, seen))
    tier = DiskTier(tmp_path, FINGERPRINT, 1 << 30, can_be_cut=True, reserve_bytes=0)
    tier.start()
    assert seen.acquire(timeout=PATIENCE)
    assert seen.acquire(timeout=PATIENCE)
    first_found = look_up(tier, SEQUENCE[:256])
    second_found = look_up(tier, tokens(2, 256))
    assert sorted(len(one) for one in (first_found, second_found) if one is not None) == [0, 1]
    assert tier.save(segment(tokens(2, 256)))
    assert tier.save(segment(SEQUENCE[:256]))
    go_on.set()
    assert tier.flush(PATIENCE)
    assert (tier.stats().files, tier.stats().writes) == (2, 0)
    close(tier)


def hold_second(go_on: threading.Event, seen: threading.Semaphore) -> Callable[[Keeper, File], Entry]:
    """A look into a file that stops at the second until it may go on."""
    look, count = Keeper._look_into, iter(range(9))

    def held(keeper: Keeper, file: File) -> Entry:
        seen.release()
        if next(count):
            assert go_on.wait(PATIENCE)
        return look(keeper, file)

    return held


def test_stopping_at_the_start_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was taken while the folder was still looked through is written, and nothing twice."""
    first = open_tier(tmp_path)
    keep(first, segment(SEQUENCE[:256]), segment(tokens(2, 256)), segment(tokens(4, 256)))
    close(first)
    go_on, seen = threading.Event(), threading.Semaphore(0)
    monkeypatch.setattr(Keeper, "_look_into", hold_second(go_on, seen))
    tier = DiskTier(tmp_path, FINGERPRINT, 1 << 30, can_be_cut=True, reserve_bytes=0)
    tier.start()
    assert all(seen.acquire(timeout=PATIENCE) for _ in range(2))
    for number in (3, 4):
        assert tier.save(segment(tokens(number, 256)))
    threading.Timer(0.05, go_on.set).start()
    close(tier)
    assert (tier.stats().files, tier.stats().writes) == (4, 1)


def test_a_start_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has no descriptor left looks through the folder later, and takes nothing for a copy."""
    first = open_tier(tmp_path)
    keep(first, segment(SEQUENCE[:256]), segment(tokens(2, 256)))
    close(first)
    look, looks = Keeper._look_into, iter(range(99))

    def poorly(keeper: Keeper, file: File) -> Entry:
        if next(looks) == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return look(keeper, file)

    monkeypatch.setattr(Keeper, "_look_into", poorly)
    tier = open_tier(tmp_path)
    assert next(looks) == 4
    assert (tier.stats().files, tier.stats().damaged) == (2, 0)
    assert tier.find(ROOT, SEQUENCE).tokens == tier.find(ROOT, tokens(2, 256)).tokens == 256
    close(tier)


def test_one_process_uses_a_folder(tmp_path: Path) -> None:
    """A second tier says why it writes nothing, touches nothing, and takes over when the first has gone."""
    first = open_tier(tmp_path)
    keep(first, segment(SEQUENCE))
    half = tmp_path / "half.tmp"
    half.touch()
    second = DiskTier(tmp_path, OTHER, 1, can_be_cut=True, reserve_bytes=0, retry_seconds=0.02)
    second.start()
    wait_until(lambda: second.is_off)
    assert not second.flush(0.05)
    assert second.stats().off == "another process uses the folder"
    assert not second.save(segment(SEQUENCE))
    assert half.exists()
    half.unlink()
    close(first)
    assert second.flush(PATIENCE)
    assert second.stats().off is None
    assert block_files(tmp_path) == []  # there is room for one byte
    close(second)


def test_a_writer_that_breaks_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a mistake of ours nothing is written any more, nobody waits in vain, and reading goes on."""
    tier = open_tier(tmp_path)
    keep(tier, segment(SEQUENCE))

    def fall_over(_keeper: Keeper, _owner: str) -> int:
        raise ValueError("our mistake")

    monkeypatch.setattr(Keeper, "forget", fall_over)
    answers = [tier.forget("an agent"), tier.forget("another")]
    assert isinstance(answers[0].exception(PATIENCE), ValueError)
    assert isinstance(answers[1].exception(PATIENCE), RuntimeError)
    assert not tier.flush(PATIENCE)
    assert not tier.save(segment(tokens(2, 10)))
    assert tier.stats().off == "it broke: ValueError('our mistake')"
    assert "nothing is written any more" in caplog.text
    assert look_up(tier, SEQUENCE) == nodes(SEQUENCE)
    close(tier)
