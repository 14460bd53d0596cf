"""A process that is killed at any moment: its promises hold, and nothing half-written is handed out."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from tests.workers.cache.chains import close, is_right, look_up, open_tier, tokens

PROJECT = Path(__file__).parents[3]

KILLS = 4


def scribble(folder: Path, seed: int, budget: int, seconds: float) -> list[list[str]]:
    """Let a process write for so long at most, kill it, and return what it has said."""
    command = [sys.executable, "-m", "tests.workers.cache.scribbler", str(folder), str(seed), str(budget)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.kill()
        lines = process.stdout.read().splitlines(keepends=True)
    return [line.split() for line in lines if line.endswith("\n")]


class Promises:
    """What a process has said about its conversations by the time it was killed."""

    def __init__(self) -> None:
        self.kept: dict[int, int] = {}
        self.forgotten: set[int] = set()

    def hear(self, word: str, number: int, length: int = 0) -> None:
        """Take one of its words."""
        if word == "kept":
            self.kept[number] = max(length, self.kept.get(number, 0))
        elif word == "saves":
            self.forgotten.discard(number)
        else:
            self.kept.pop(number, None)
            if word == "forgot":
                self.forgotten.add(number)


@pytest.mark.slow
@pytest.mark.parametrize("budget", [1 << 30, 1 << 23], ids=["ample", "tight"])
def test_a_crash_breaks_no_promise(tmp_path: Path, budget: int) -> None:
    """After each SIGKILL every file is whole, what was kept is there, what was forgotten is not."""
    rng = Random(budget)
    promises = Promises()
    for seed in range(KILLS):
        for word, *numbers in scribble(tmp_path, seed, budget, rng.uniform(0.05, 0.3)):
            promises.hear(word, *map(int, numbers))
        tier = open_tier(tmp_path, budget=budget)
        tier.check_integrity()
        for number in range(20):
            read = look_up(tier, tokens(number, 9999))
            assert read is not None
            assert is_right(read)
            reached = sum(len(node.tokens) for node in read)
            assert reached >= promises.kept.get(number, 0) or budget < 1 << 30
            assert not reached or number not in promises.forgotten
        stats = tier.stats()
        assert (stats.damaged, stats.off) == (0, None)
        assert stats.bytes <= budget
        close(tier)
    assert promises.kept
