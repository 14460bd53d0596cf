"""A little of nearly every trial, for every change; ``make chaos`` does much of all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.faults import can_fill_disks
from tests.chaos.rig import OWNERS
from tests.chaos.trials import TRIALS, Trial, run

SEED = 20_261_120
POSSIBLE = [trial for trial in TRIALS if can_fill_disks() or not trial.needs_disk]
CASES = [pytest.param(trial, kind, id=f"{trial.name}-{kind}") for trial in POSSIBLE for kind in trial.stores]


@pytest.mark.slow
@pytest.mark.parametrize(("trial", "kind"), CASES)
def test_nothing_is_lost_and_nothing_done_twice(trial: Trial, kind: str, short_folder: Path) -> None:
    """Whatever fails, every accepted job succeeds once, is billed once, and the books balance."""
    outcome = run(trial, kind, trial.short, SEED, short_folder)
    assert outcome.verdict.faults == []
    assert outcome.crashes == 0
    if trial.name == "killed":
        assert OWNERS.keys() <= outcome.kills.keys()
