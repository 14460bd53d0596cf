"""An agent that is deleted leaves nothing on the disk but what is others' as well."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.workers.cache.chains import (
    OTHER,
    PATIENCE,
    ROOT,
    block_files,
    close,
    keep,
    look_up,
    open_tier,
    segment,
    tokens,
)
from workers.cache.disk import DiskTier
from workers.cache.disk_folder import BlockFolder

SHARED = tokens(0, 256)

ONE = [*SHARED, *tokens(1, 300)]

TWO = [*SHARED, *tokens(2, 300)]


def reach(tier: DiskTier) -> list[int]:
    """How much of either conversation is on disk."""
    return [tier.find(ROOT, ONE).tokens, tier.find(ROOT, TWO).tokens]


def test_what_is_forgotten_is_gone(tmp_path: Path) -> None:
    """All files of an agent go, states and what nobody owns behind them too, and do not come back."""
    tier = open_tier(tmp_path)
    keep(tier, segment(ONE, [500], owner="one"), segment(tokens(3, 256)))
    keep(tier, segment([*ONE[:512], *tokens(4, 256)], skip=2))
    assert tier.forget("one").result(PATIENCE) == 4
    assert len(block_files(tmp_path)) == 1
    assert tier.forget("one").result(PATIENCE) == 0
    close(tier)
    later = open_tier(tmp_path)
    assert reach(later) == [0, 0]
    close(later)


@pytest.mark.parametrize("first", ["one", "two"])
def test_what_others_go_on_from_is_theirs(tmp_path: Path, first: str) -> None:
    """A shared beginning stays until the last agent that goes on from it is forgotten, whoever saved it."""
    last = "two" if first == "one" else "one"
    tier = open_tier(tmp_path)
    keep(tier, segment(SHARED, owner="one"), segment(ONE, owner="one"), segment(TWO, owner="two"))
    assert reach(tier) == [556, 556]
    assert tier.forget(first).result(PATIENCE) == 2
    assert reach(tier) == ([256, 556] if first == "one" else [556, 256])
    tier.check_integrity()
    close(tier)
    tier = open_tier(tmp_path)
    assert tier.forget(first).result(PATIENCE) == 0
    assert tier.forget(last).result(PATIENCE) == 3
    assert block_files(tmp_path) == []
    close(tier)


def test_what_is_queued_is_not_written(tmp_path: Path) -> None:
    """What was saved before is dropped, what is saved after is of a new agent of that name."""
    tier = DiskTier(tmp_path, OTHER, 1 << 30, can_be_cut=True, reserve_bytes=0)
    assert tier.save(segment(ONE, owner="one"))
    assert tier.save(segment(TWO, owner="two"))
    answer = tier.forget("one")
    assert tier.save(segment(tokens(3, 256), owner="one"))
    tier.start()
    assert answer.result(PATIENCE) == 0
    assert tier.flush(PATIENCE)
    assert tier.find(ROOT, tokens(3, 256)).tokens == 256
    assert tier.find(ROOT, ONE).tokens == 0
    close(tier)


def test_a_file_that_others_need_a_part_of_goes(tmp_path: Path) -> None:
    """Nodes that only the forgotten agent has do not stay for the sake of others in the same file."""
    tier = open_tier(tmp_path)
    keep(tier, segment(ONE[:512], owner="one"), segment(TWO, owner="two"))
    assert reach(tier) == [512, 556]
    assert tier.forget("one").result(PATIENCE) == 1
    assert reach(tier) == [0, 0]
    keep(tier, segment(TWO, owner="two"))
    assert reach(tier) == [256, 556]
    close(tier)


def test_other_llms_and_damaged_files_are_forgotten_too(tmp_path: Path) -> None:
    """An agent has talked to several LLMs, and one of its files was set aside."""
    other = open_tier(tmp_path, OTHER)
    keep(other, segment(ONE, owner="one"))
    close(other)
    theirs = block_files(tmp_path)
    tier = open_tier(tmp_path)
    keep(tier, segment(TWO[:256], owner="one"))
    (file,) = {*block_files(tmp_path)} - {*theirs}
    file.write_bytes(b"")
    assert look_up(tier, TWO) is None
    keep(tier, segment(tokens(3, 256), owner="two"))
    assert tier.forget("one").result(PATIENCE) == len(theirs) + 1
    assert len([*tmp_path.rglob("*.safetensors")]) == 1
    close(tier)


def test_a_deletion_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked hears of it, the books stay right, and it can be asked for again."""
    tier = open_tier(tmp_path)
    keep(tier, segment(ONE, owner="one"))
    with monkeypatch.context() as stuck:

        def remove(_folder: BlockFolder, _path: Path) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        stuck.setattr(BlockFolder, "remove", remove)
        with pytest.raises(OSError, match="Read-only"):
            tier.forget("one").result(PATIENCE)
    tier.check_integrity()
    assert tier.forget("one").result(PATIENCE) == 2
    close(tier)
