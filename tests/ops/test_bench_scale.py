"""The simulation of many workers, against closed formulas, and what it says a rate needs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ops.bench import scale
from ops.bench.simulation import Cost, Plant, simulate
from ops.complaint import Complaint

FREE = Cost(0.0, 0.0)


def plant_of(cost: Cost, **fields: Any) -> Plant:
    """A plant in which storing, claiming and finishing cost the same."""
    return Plant(cost, cost, cost, **fields)


SINGLY = {"together": 1, "rows": 1, "workers": 50, "window_seconds": 0, "job_seconds": 0.1}
"""Nobody shares a transaction, and there is always a worker."""


def figures(store: str = "SQLite") -> dict[str, float]:
    """What a benchmark found: a transaction of 5 ms and 1 ms a job, at the greater depth of two."""
    return {
        f"{store}: claim + finish, 1 at once, 1,000 wait": 1.0,
        f"{store}: claim + finish, 1 at once, 100,000 wait": 1 / 0.006,
        f"{store}: claim + finish, 64 at once, 100,000 wait": 64 / 0.069,
        f"{store}: claim + finish, 64 at once, half of one agent, 900,000 wait": 1.0,
        f"{store}: store, 1 at once, 100,000 wait": 1 / 0.006,
        f"{store}: store, 100 at once, 100,000 wait": 100 / 0.105,
    }


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_waits_are_those_of_a_queue_with_one_server(load: float) -> None:
    """With claims of one job that take a fixed time, and all else free, it is an M/D/1 queue.

    Its mean wait until service is ``load * D / (2 * (1 - load))`` (Pollaczek-Khinchine); to it comes the
    claim itself, which takes D.
    """
    seconds = 0.01
    plant = Plant(FREE, Cost(0.0, seconds), FREE, rows=1, window_seconds=0, job_seconds=0, step_seconds=0)
    outcome = simulate(plant, load / seconds, 20_000)
    assert outcome.mean == pytest.approx(seconds + load * seconds / (2 * (1 - load)), rel=0.06)
    assert outcome.utilisation == pytest.approx(load, rel=0.03)


def test_the_database_is_as_busy_as_its_transactions_make_it() -> None:
    """Utilisation is the cost of all transactions over the time: here three a job, none of them shared."""
    plant = plant_of(Cost(0.001, 0.0), **SINGLY)
    assert simulate(plant, 100, 6_000).utilisation == pytest.approx(0.3, rel=0.05)


def test_sharing_a_transaction_saves_its_fixed_cost() -> None:
    """A rate that no database stands one job at a time is no trouble when what waits is taken together."""
    plant = plant_of(Cost(0.004, 0.0001), workers=2, rows=800)
    assert 3 * 0.0041 * 1_000 > 1
    outcome = simulate(plant, 1_000, 5_000)
    assert outcome.left < 200
    assert outcome.wait(99) < 0.2


def test_too_much_is_seen() -> None:
    """Where more comes than can be done, waits grow with the time and jobs are left."""
    plant = plant_of(Cost(0.0, 0.01))
    outcome = simulate(plant, 100, 2_000)
    assert outcome.left > 500
    assert outcome.wait(99) > 3


def test_more_writers_do_more() -> None:
    """What is too much for one transaction at a time is not for two, which are busy half of the time."""
    plant = plant_of(Cost(0.006, 0.0), **SINGLY)
    one, two = (simulate(replace(plant, writers=number), 60, 2_000) for number in (1, 2))
    assert one.left > 20 > two.left
    assert two.utilisation == pytest.approx(0.54, rel=0.05)


def test_the_same_seed_does_the_same() -> None:
    """A simulation can be repeated."""
    plant = plant_of(Cost(0.001, 0.0001))
    assert simulate(plant, 50, 500).waits == simulate(plant, 50, 500).waits
    assert simulate(plant, 50, 500).waits != simulate(plant, 50, 500, seed=2).waits


def test_costs_from_two_rates() -> None:
    """The fixed part and that of each job follow from one job and from many in a transaction."""
    found = scale.cost(1 / 0.006, 64 / 0.069, 64)
    assert found.fixed == pytest.approx(0.005)
    assert found.each == pytest.approx(0.001)


def test_it_is_calibrated_at_the_greatest_depth() -> None:
    """The figures of the deepest queue count, without those of the agent that holds half."""
    plant = scale.calibrated("SQLite", figures())
    assert plant.claim.of(1) + plant.finish.of(1) == pytest.approx(0.006)
    assert plant.store.of(100) == pytest.approx(0.105)


def test_figures_that_are_missing() -> None:
    """Without the benchmark there is nothing to simulate with, and that is said."""
    with pytest.raises(Complaint, match="penstock bench queue"):
        scale.calibrated("PostgreSQL", figures("SQLite"))


def test_a_greater_rate_needs_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one database stands needs one; a hundred times as much needs more of them, and more workers."""
    monkeypatch.setattr(scale, "SECONDS", 15.0)
    monkeypatch.setattr(scale, "FEWEST", 500)
    plant = scale.calibrated("SQLite", figures())
    little, much = (scale.need("SQLite", plant, rate) for rate in (10, 2_000))
    assert little.partitions == 1
    assert much.partitions > 1
    assert much.workers >= 2_000 / 64
    assert much.outcome.wait(99) <= scale.LONGEST_WAIT
    share, workers = 2_000 / much.partitions, much.workers // much.partitions
    longer = simulate(replace(plant, workers=workers), share * 1.1, 20_000)
    assert longer.wait(99) <= scale.LONGEST_WAIT


def test_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each store that was measured has a line for each rate."""
    monkeypatch.setattr(scale, "RATES", (10.0, 20.0))
    monkeypatch.setattr(scale, "FEWEST", 300)
    file = tmp_path / "bench.json"
    found = [{"name": name, "value": value} for name, value in figures().items()]
    file.write_text(json.dumps({"figures": found}))
    scale.main(file)
    told = capsys.readouterr().out
    assert told.count("SQLite") == 2
    assert "PostgreSQL" not in told
