"""Whatever is saved, forgotten and restarted in whatever order, by however many: what is read is right."""

from __future__ import annotations

import shutil
import tempfile
import threading
from itertools import chain
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.workers.cache.chains import (
    PATIENCE,
    ROOT,
    close,
    is_right,
    keep,
    look_up,
    open_tier,
    segment,
    tokens,
)
from workers.cache.disk import DiskTier

pieces = st.sampled_from([[1] * 100, [2] * 100, [1] * 256, [2] * 37])
sequences = st.lists(pieces, min_size=1, max_size=5).map(lambda parts: [*chain.from_iterable(parts)])
STEPS = 100
"""What each of a crowd does."""

owners = st.sampled_from([None, "one", "two"])


def common(one: list[int], other: list[int]) -> int:
    """Tokens of the longest common beginning."""
    return next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


class Life(RuleBasedStateMachine):
    """A tier beside a list of what was saved and by whom."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("workers.cache.disk_folder.os.fsync", lambda _: None)  # here nobody cuts the power
        self.folder = Path(tempfile.mkdtemp())
        self.tier = open_tier(self.folder)
        self.saved: list[tuple[list[int], str | None]] = []
        self.ever: list[list[int]] = []
        self.is_complete = True

    @rule(sequence=sequences, owner=owners)
    def save(self, sequence: list[int], owner: str | None) -> None:
        """A turn ends."""
        keep(self.tier, segment(sequence, owner=owner))
        self.saved.append((sequence, owner))
        self.ever.append(sequence)

    @rule(owner=st.sampled_from(["one", "two"]))
    def forget(self, owner: str) -> None:
        """An agent is deleted; others may lose something with it, it may not leave anything."""
        self.tier.forget(owner).result(PATIENCE)
        left = [one for one in self.saved if one[1] != owner]
        self.is_complete &= len(left) == len(self.saved)
        self.saved = left

    @rule()
    def restart(self) -> None:
        """Another process takes over."""
        close(self.tier)
        self.tier = open_tier(self.folder)

    @invariant()
    def what_is_read_is_right(self) -> None:
        """As much as anybody has saved is found, and not more; all of it with its own contents."""
        for wanted in self.ever:
            read = look_up(self.tier, wanted)
            assert read is not None
            assert is_right(read)
            reach = max((common(wanted, sequence) for sequence, _ in self.saved), default=0)
            found = self.tier.find(ROOT, wanted).tokens
            assert found == reach if self.is_complete else found <= reach

    def teardown(self) -> None:
        """Nothing is wrong with the books or the files."""
        close(self.tier)
        assert self.tier.stats().damaged == 0
        shutil.rmtree(self.folder)
        self.patch.undo()


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)


def crowd(tier: DiskTier, seed: int, errors: list[BaseException]) -> None:
    """One of several that use a tier at the same time."""
    rng = Random(seed)
    try:
        for _ in range(STEPS):
            number = rng.randrange(8)
            sequence = tokens(number, rng.choice([100, 256, 300, 512, 600, 900]))
            action = rng.random()
            if action < 0.4:
                tier.save(
                    segment(sequence, [len(sequence)], owner=rng.choice([None, str(number)]), nbytes=4096)
                )
            elif action < 0.45:
                tier.forget(str(number)).result(PATIENCE)
            elif action < 0.5:
                tier.flush(PATIENCE)
            else:
                read = look_up(tier, sequence)
                assert read is None or is_right(read)
    except BaseException as error:  # noqa: BLE001 - it is raised again where it is seen
        errors.append(error)


@pytest.mark.parametrize("can_be_cut", [True, False])
def test_many_may_use_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_be_cut: bool) -> None:
    """Threads that save, load and forget, with little room: no wrong contents, no file out of the books."""
    monkeypatch.setattr("workers.cache.disk_folder.os.fsync", lambda _: None)
    tier = open_tier(tmp_path, budget=120_000, can_be_cut=can_be_cut)
    errors: list[BaseException] = []
    threads = [threading.Thread(target=crowd, args=(tier, seed, errors)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert tier.flush(PATIENCE)
    tier.check_integrity()
    stats = tier.stats()
    assert stats.bytes <= 120_000
    assert (stats.damaged, stats.off) == (0, None)
    assert min(stats.hits, stats.writes, stats.evicted) > 0
    close(tier)
