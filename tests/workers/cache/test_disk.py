"""The disk tier: what is saved once is found and read, by this process and the next, and written once."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISDIR

import pytest

from tests.workers.cache.chains import (
    FINGERPRINT,
    PATIENCE,
    ROOT,
    block_files,
    close,
    is_right,
    keep,
    load,
    look_up,
    nodes,
    open_tier,
    segment,
    tokens,
)
from workers.cache import disk_reader
from workers.cache.chain import link
from workers.cache.disk import DiskTier, Found
from workers.cache.disk_entry import Read
from workers.cache.parcel import Parcel
from workers.cache.segment import Node, Segment

SEQUENCE = tokens(1, 600)


@pytest.fixture
def tier(tmp_path: Path) -> Iterator[DiskTier]:
    """A tier with nothing in it, in which nothing is wrong at the end."""
    tier = open_tier(tmp_path)
    yield tier
    close(tier)


def test_what_is_saved_is_found_again(tier: DiskTier) -> None:
    """All nodes of a sequence come back in order with their contents, as far as they are wanted."""
    keep(tier, segment(SEQUENCE))
    for count, whole in ((600, 3), (512, 2), (300, 2), (10, 1)):
        found = tier.find(ROOT, SEQUENCE[:count])
        assert (found.tokens, found.nbytes) == (count, whole * 64)
        read = load(tier, found)
        assert read is not None
        assert read == nodes(SEQUENCE)[:whole]
    assert tier.find(ROOT, tokens(2, 600)) == Found()
    assert tier.find(bytes(32), SEQUENCE) == Found()


def test_a_search_may_begin_anywhere(tier: DiskTier) -> None:
    """Behind any node that is known elsewhere, what follows on disk is found."""
    keep(tier, segment(SEQUENCE, skip=1))
    assert look_up(tier, SEQUENCE) == ()
    found = tier.find(nodes(SEQUENCE)[0].name, SEQUENCE[256:])
    assert found.tokens == 344
    assert load(tier, found) == nodes(SEQUENCE)[1:]


def test_a_conversation_that_goes_another_way_shares_its_beginning(tier: DiskTier) -> None:
    """The node that has most in common with the wanted tokens is read whole."""
    keep(tier, segment(SEQUENCE), segment([*SEQUENCE[:530], 7, 8, 9]))
    other = [*SEQUENCE[:520], *tokens(2, 50)]
    found = tier.find(ROOT, other)
    assert found.tokens == 520
    read = load(tier, found)
    assert read is not None
    assert is_right(read)
    assert read[2].tokens[:8] == tuple(SEQUENCE[512:520])


def test_the_next_process_finds_it(tmp_path: Path) -> None:
    """A tier that is made anew knows everything, and would not write it again."""
    close_kept = open_tier(tmp_path)
    keep(close_kept, segment(SEQUENCE, owner="an agent"))
    close(close_kept)
    later = open_tier(tmp_path)
    assert look_up(later, SEQUENCE) == nodes(SEQUENCE)
    keep(later, segment(SEQUENCE, owner="an agent"))
    assert later.stats().writes == 0
    close(later)


def test_states_are_found_where_they_stand(tmp_path: Path) -> None:
    """An LLM that cannot be cut gets the last node with its state there, and of the states only that one."""
    tier = open_tier(tmp_path, can_be_cut=False)
    keep(tier, segment(SEQUENCE, [200, 512, 590]))
    for count, at, whole in ((600, 590, 3), (589, 512, 2), (512, 512, 2), (511, 200, 1), (199, 0, 0)):
        found = tier.find(ROOT, SEQUENCE[:count])
        assert (found.tokens, found.nbytes) == (at, (whole + 1) * 64 if at else 0)
        read = load(tier, found)
        assert read is not None
        assert is_right(read)
        assert [list(node.snapshots) for node in read] == [[]] * (whole - 1) + [[at - (whole - 1) * 256]] * (
            at > 0
        )
    close(tier)


def test_a_state_can_be_added_to_a_node(tmp_path: Path) -> None:
    """A node that is stored is not written again when a state in it is new; the state alone is."""
    tier = open_tier(tmp_path, can_be_cut=False)
    keep(tier, segment(SEQUENCE[:256]))
    name = nodes(SEQUENCE)[0].name
    assert tier.is_stored(name)
    assert not tier.is_stored(name, [100])
    before = tier.stats().written_bytes
    keep(tier, segment(SEQUENCE[:256], [100], nbytes=1 << 16))
    assert (1 << 16) < tier.stats().written_bytes - before < (1 << 17)
    assert tier.is_stored(name, [100])
    assert not tier.is_stored(name, [100, 101])
    assert tier.find(ROOT, SEQUENCE[:256]).tokens == 100
    close(tier)


def test_layers_without_keys_need_none(tmp_path: Path) -> None:
    """Nodes without a parcel hold a chain together, at no bytes."""
    tier = open_tier(tmp_path, can_be_cut=False)
    bare = tuple(Node(node.name, node.tokens, None, node.snapshots) for node in nodes(SEQUENCE, [600]))
    keep(tier, Segment(ROOT, 0, bare))
    found = tier.find(ROOT, SEQUENCE)
    assert (found.tokens, found.nbytes) == (600, 64)
    assert load(tier, found) == bare
    close(tier)


def test_no_block_is_written_twice(tier: DiskTier) -> None:
    """Of a conversation that goes on only what is new is written, whether the rest is on disk or queued."""
    whole = segment(SEQUENCE[:512])
    for _ in range(3):
        assert tier.save(whole)
    assert tier.is_stored(whole.nodes[0].name)  # while it is queued, too
    assert tier.flush(PATIENCE)
    once = tier.stats().written_bytes
    keep(tier, segment([*SEQUENCE[:512], *tokens(3, 256)], owner="an agent"))
    stats = tier.stats()
    assert (stats.writes, stats.files, stats.refused) == (2, 2, 0)
    assert stats.written_bytes - once < once
    assert [tier.find(ROOT, SEQUENCE[:512]).tokens, stats.off] == [512, None]


def test_a_turn_replaces_the_end_of_the_last(tier: DiskTier) -> None:
    """The node that was not full is deleted with its file when a longer one holds its tokens."""
    keep(tier, segment(SEQUENCE[:300], owner="an agent"))
    assert tier.stats().files == 2
    keep(tier, segment(SEQUENCE[:400], owner="an agent"))
    assert tier.stats().files == 2
    assert not tier.is_stored(nodes(SEQUENCE[:300])[1].name)
    keep(tier, segment(SEQUENCE[:300]))  # its tokens are there already
    assert (tier.stats().files, tier.stats().writes) == (2, 3)
    read = look_up(tier, SEQUENCE[:300])
    assert read is not None
    assert is_right(read)


def test_another_agents_end_stays(tier: DiskTier) -> None:
    """A longer node of somebody else takes nothing away."""
    keep(tier, segment(SEQUENCE[:300], owner="one"), segment(SEQUENCE[:400], owner="two"))
    assert tier.is_stored(nodes(SEQUENCE[:300])[1].name)


def test_files_are_private_and_say_nothing(tier: DiskTier, tmp_path: Path) -> None:
    """Only their owner may read them, and no name tells whose conversation it is."""
    keep(tier, segment(SEQUENCE, owner="an agent"))
    files = block_files(tmp_path)
    assert {file.stat().st_mode & 0o777 for file in [*files, tmp_path / "lock"]} == {0o600}
    folders = {file.parent for file in files} | {file.parent.parent for file in files}
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}
    assert {folder.parent.parent for folder in folders if len(folder.name) == 2} == {tmp_path}
    assert {file.parent.parent.name for file in files} == {f"{FINGERPRINT[:16]}-1"}
    assert not any("agent" in str(file.relative_to(tmp_path)) for file in files)


def test_a_file_has_its_name_when_it_is_on_disk(
    tier: DiskTier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut finds a whole file or none: it is synced, then named, then its folder is synced."""
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        is_folder = S_ISDIR(os.fstat(descriptor).st_mode)
        calls.append("folder" if is_folder else f"file without its name: {not block_files(tmp_path)}")
        fsync(descriptor)

    def note_replace(path: Path, target: Path) -> Path:
        calls.append("name")
        return replace(path, target)

    monkeypatch.setattr("workers.cache.disk_folder.os.fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    keep(tier, segment(SEQUENCE[:256]))
    assert calls[-3:] == ["file without its name: True", "name", "folder"]


def test_what_was_evicted_since_it_was_found_is_nobodys_fault(tmp_path: Path) -> None:
    """It brings nothing, and counts as no damage."""
    tier = open_tier(tmp_path)
    keep(tier, segment(SEQUENCE[:256], owner="an agent"))
    found = tier.find(ROOT, SEQUENCE)
    assert tier.forget("an agent").result(PATIENCE) == 1
    assert load(tier, found) is None
    assert tier.flush(PATIENCE)
    assert tier.stats().damaged == 0
    close(tier)


def test_a_file_may_change_hands_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that gets another owner, and so another name, is read all the same."""
    tier = open_tier(tmp_path)
    keep(tier, segment(SEQUENCE[:256], owner="one"), segment(SEQUENCE, owner="two"))
    contents = disk_reader._contents

    def late(path: Path, read: Read) -> list[Parcel | None]:
        tier.forget("one").result(PATIENCE)
        return contents(path, read)

    monkeypatch.setattr(disk_reader, "_contents", late)
    assert look_up(tier, SEQUENCE) == nodes(SEQUENCE)
    assert tier.stats().damaged == 0
    close(tier)


def test_how_long_reading_takes_is_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate follows what reading takes, and counts what waits."""
    tier = open_tier(tmp_path)
    keep(tier, segment(SEQUENCE[:256], nbytes=1 << 21))
    guess = tier.seconds_for(100 << 20)
    with monkeypatch.context() as slow:
        contents = disk_reader._contents

        def slowly(path: Path, read: Read) -> list[Parcel | None]:
            threading.Event().wait(0.05)
            return contents(path, read)

        slow.setattr(disk_reader, "_contents", slowly)
        for _ in range(3):
            look_up(tier, SEQUENCE[:256])
        learnt = tier.seconds_for(100 << 20)
        assert learnt > 1.5 * guess
        found = tier.find(ROOT, SEQUENCE[:256])
        waiting = threading.Semaphore(0)
        for _ in range(3):
            tier.load(found, lambda _: waiting.release())
        assert tier.seconds_for(100 << 20) > learnt
        assert all(waiting.acquire(timeout=PATIENCE) for _ in range(3))
    close(tier)


def test_figures_tell_what_happened(tier: DiskTier) -> None:
    """Files, bytes, loads and hits are counted."""
    keep(tier, segment(SEQUENCE))
    look_up(tier, SEQUENCE)
    look_up(tier, tokens(2, 10))
    stats = tier.stats()
    assert (stats.files, stats.writes, stats.reads, stats.read_bytes) == (2, 2, 2, 192)
    assert (stats.hits, stats.refused, stats.damaged, stats.off) == (1, 0, 0, None)
    assert stats.bytes == stats.written_bytes > 192


def test_a_callback_that_raises_ends_reading_alone(tier: DiskTier, caplog: pytest.LogCaptureFixture) -> None:
    """It is said loudly, all other loads are answered, and what is queued is written."""
    keep(tier, segment(SEQUENCE))
    found = tier.find(ROOT, SEQUENCE)

    def fall_over(_: object) -> None:
        raise ValueError("somebody's mistake")

    tier.load(found, fall_over)
    assert load(tier, found) is None
    assert "nothing is read any more" in caplog.text
    keep(tier, segment(tokens(2, 10)))
    assert tier.is_stored(link(ROOT, tokens(2, 10)))
