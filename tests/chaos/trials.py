"""The trials: a fault, the stores it is tried on, how much of it, and the run of one."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos import scenarios
from tests.chaos.crowd import Crowd
from tests.chaos.judge import Verdict, ended, judge
from tests.chaos.rig import OWNERS, PATIENCE, Rig, wait_until
from tests.chaos.scenarios import Scenario
from tests.chaos.stores import KINDS, open_store

DISK_MIB = 96
"""Size of the disk that is to be full; an idle service takes a third of it."""


@dataclass(frozen=True)
class Amount:
    """How many jobs clients submit at least, and how often the fault happens."""

    jobs: int
    faults: int


@dataclass(frozen=True)
class Trial:
    """One fault. ``short`` is for every change, ``long`` for ``make chaos``."""

    name: str
    scenario: Scenario
    short: Amount
    long: Amount
    stores: tuple[str, ...] = KINDS
    inference: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs_disk: bool = False


TRIALS = (
    Trial("killed", scenarios.killed, Amount(100, len(OWNERS)), Amount(2_000, 6 * len(OWNERS))),
    Trial(
        "frozen", scenarios.frozen, Amount(50, 1), Amount(500, 1), inference=2,
        settings={"worker.heartbeat_ms": 1_000},
    ),
    Trial("redis lost", scenarios.redis_lost, Amount(100, 1), Amount(1_000, 10), stores=("postgres+redis",)),
    Trial(
        "postgres restarted", scenarios.postgres_restarted, Amount(100, 1), Amount(1_000, 10),
        stores=("postgres", "postgres+redis"),
    ),
    Trial(
        "lock taken", scenarios.lock_taken, Amount(50, 3), Amount(500, 30), stores=("sqlite",),
        settings={"database.busy_timeout_ms": 200},
    ),
    Trial(
        "disk full", scenarios.disk_full, Amount(50, 1), Amount(500, 5),
        stores=("sqlite",), needs_disk=True,
    ),
    Trial("clock wrong", scenarios.clock_wrong, Amount(50, 3), Amount(500, 12)),
)  # fmt: skip


@dataclass
class Outcome:
    """What a trial did and what was found after it."""

    verdict: Verdict
    kills: Counter[str]
    crashes: int
    refusals: Mapping[int, int]
    seconds: float


def run(trial: Trial, kind: str, amount: Amount, seed: int, folder: Path) -> Outcome:
    """Let clients submit, do what the trial does, wait for the end, judge.

    Raises:
        AssertionError: something that had to happen did not in time.
    """
    begun = time.monotonic()
    rng = Random(f"{seed}/{trial.name}/{kind}")
    with (
        _place(trial, folder) as place,
        open_store(kind, place, rng) as store,
        Rig(place, {**store.settings, **trial.settings}, trial.inference) as rig,
    ):
        crowd = Crowd(rig.url, rig.key, amount.jobs, seed)
        wait_until(lambda: ended(rig.database) > 0)
        trial.scenario(rig, store, rng, amount.faults)
        crowd.leave()
        verdict = judge(rig.database, crowd.promises, PATIENCE)
        crashes = sum(actor.crashes for actor in rig.actors.values())
        return Outcome(verdict, rig.kills, crashes, crowd.promises.refusals, time.monotonic() - begun)


@contextmanager
def _place(trial: Trial, folder: Path) -> Iterator[Path]:
    """The data directory: on a small file system of its own where the disk is to be filled."""
    if not trial.needs_disk:
        yield folder
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "penstock-chaos", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
