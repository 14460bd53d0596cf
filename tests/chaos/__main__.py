"""``make chaos``: every trial in full, with a report; ``--seed`` repeats one."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.chaos.faults import can_fill_disks
from tests.chaos.trials import TRIALS, Outcome, Trial, run


def main() -> int:
    """Run the trials that the command line names, or all; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("names", nargs="*", help="trials by name; all if none is given")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--short", action="store_true", help="as much as every change is tried with")
    parser.add_argument("--store", action="append", help="only on this store; may be repeated")
    parser.add_argument("--out", type=Path, help="write the report as JSON to this file")
    asked = parser.parse_args()
    say(f"Seed {asked.seed}: --seed {asked.seed} does the same again.")
    report = [tried(trial, kind, asked) for trial, kind in chosen(asked)]
    if asked.out:
        document = {"seed": asked.seed, "trials": report}
        asked.out.write_text(json.dumps(document, indent=2, default=str) + "\n", encoding="utf-8")
    return 1 if any(entry["faults"] for entry in report) else 0


def say(text: str) -> None:
    """A line of the report."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def chosen(asked: argparse.Namespace) -> Iterator[tuple[Trial, str]]:
    """The trials to run, with their stores."""
    for trial in TRIALS:
        if asked.names and trial.name not in asked.names:
            continue
        if trial.needs_disk and not can_fill_disks():
            say(f"{trial.name}: not tried, for only root on Linux can make a small disk")
            continue
        yield from ((trial, kind) for kind in trial.stores if not asked.store or kind in asked.store)


def tried(trial: Trial, kind: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Run one trial and tell of it."""
    amount = trial.short if asked.short else trial.long
    # Sockets are in it: macOS ends their paths at 104 bytes.
    with tempfile.TemporaryDirectory(prefix="penstock-chaos-", dir="/tmp") as name:
        try:
            outcome = run(trial, kind, amount, asked.seed, Path(name))
        except AssertionError as error:
            say(f"{trial.name} on {kind}: WRONG: {error}")
            return {"trial": trial.name, "store": kind, "faults": [str(error)]}
    say(told(trial.name, kind, outcome))
    facts = {"kills": outcome.kills, "crashes": outcome.crashes, "refusals": outcome.refusals}
    return {
        "trial": trial.name, "store": kind, "seconds": outcome.seconds, **facts, **vars(outcome.verdict)
    }  # fmt: skip


def told(name: str, kind: str, outcome: Outcome) -> str:
    """A trial in a few lines."""
    verdict = outcome.verdict
    kills = ", ".join(f"{phase} {count}" for phase, count in sorted(outcome.kills.items()))
    facts = (
        f"{name} on {kind}: {verdict.jobs} jobs, {verdict.attempts} attempts, {verdict.late} late results,"
        f" {outcome.kills.total()} kills ({kills or 'none'}), {outcome.crashes} other ends of processes,"
        f" refusals {dict(outcome.refusals)}, {outcome.seconds:.0f} s"
    )
    return "\n".join([facts, *(f"  WRONG: {fault}" for fault in verdict.faults)])


if __name__ == "__main__":
    sys.exit(main())
