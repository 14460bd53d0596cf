"""A little of nearly every trial, for every change; ``make chaos`` does much of all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.faults import can_fill_disks
from tests.chaos.rig import OWNERS
from tests.chaos.trials import TRIALS, Trial, run

SEED = 20_261_120
LONG_ONLY = {"frozen"}
"""A worker must be frozen at a lucky moment for a result to come late: that may take minutes."""

POSSIBLE = [trial for trial in TRIALS if can_fill_disks() or not trial.needs_disk]
CASES = [
    pytest.param(trial, kind, id=f"{trial.name}-{kind}")
    for trial in POSSIBLE
    if trial.name not in LONG_ONLY
    for kind in trial.stores
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, for sockets."""
    with tempfile.TemporaryDirectory(prefix="penstock-chaos-", dir="/tmp") as name:
        yield Path(name)


@pytest.mark.slow
@pytest.mark.parametrize(("trial", "kind"), CASES)
def test_nothing_is_lost_and_nothing_done_twice(trial: Trial, kind: str, folder: Path) -> None:
    """Whatever fails, every accepted job succeeds once, is billed once, and the books balance."""
    outcome = run(trial, kind, trial.short, SEED, folder)
    assert outcome.verdict.faults == []
    assert outcome.crashes == 0
    if trial.name == "killed":
        assert OWNERS.keys() <= outcome.kills.keys()
