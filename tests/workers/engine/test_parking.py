"""Rows of worse classes make room for better ones, with their tokens, and lose nothing by it."""

from __future__ import annotations

from typing import Any

import pytest

from models.states import Priority
from workers.engine import Admission, Engine, Limits, Output, Started, Withdrawn
from workers.engine.recovery import MAX_STRIKES

from .batches import fake_engine, finished, job, parked, result_of, run, shown, started, step

INTERACTIVE, STANDARD, BACKGROUND = Priority
BYTES, GROWTH = 64, 256  # the twin's


def rows(most: int) -> Limits:
    """So many rows, of any length."""
    return Limits(most, 1 << 40)


def square(most: int, longest: int) -> Limits:
    """Any number of rows in the bytes of so many, of so many tokens each."""
    return Limits(64, most * (longest + GROWTH - 1) * BYTES)


def background(count: int, **sampling: Any) -> list[Admission]:
    """So many jobs of the lowest class, their ranks rising with their names."""
    asked: dict[str, Any] = {"max_tokens": 40, "temperature": 1, "seed": 3, **sampling}
    return [job(f"{n}", priority=BACKGROUND, rank=1000 + n, **asked) for n in range(count)]


def urgent(name: str = "urgent", *, rank: int = 1, **sampling: Any) -> Admission:
    """A job of the best class."""
    return job(name, priority=INTERACTIVE, rank=rank, **sampling)


def full(limits: Limits, *admissions: Admission, steps: int = 6) -> Engine:
    """An engine at work on these."""
    engine, _ = fake_engine(limits, endless=True)
    engine.submit(admissions)
    step(engine, steps)
    return engine


def test_the_highest_rank_is_parked_in_the_step_in_which_the_better_one_is_seated() -> None:
    """One step tells both, and afterwards the engine is within its limits again."""
    engine = full(rows(4), *background(4))
    engine.submit([urgent()])
    told = engine.step()
    assert parked(told) == {"3": Withdrawn("3", 1, parked(told)["3"].token_ids, parked=True)}
    assert len(parked(told)["3"].token_ids) == 5
    assert started(told) == ["urgent"]
    assert (engine.held, engine.stats().rows) == (4, 4)
    engine.check_integrity()


def test_a_parked_job_goes_on_as_if_it_had_never_been_parked() -> None:
    """Its text, tokens and usage are those of an undisturbed run, and nothing is shown twice."""
    jobs = background(3)
    engine, _ = fake_engine(rows(3), endless=True)
    engine.submit(jobs)
    before = step(engine, 17)
    engine.submit([urgent(max_tokens=3)])
    before += run(engine)
    (gone,) = parked(before).values()
    again = job(gone.job_id, prior=gone.token_ids, max_tokens=40, temperature=1, seed=3)
    after = run(engine, again)
    whole = result_of(jobs[2], endless=True)
    assert len(gone.token_ids) > 10
    assert finished(after)["2"] == whole
    assert shown(before, "2") + shown(after, "2") == whole.text
    assert sorted(finished(before)) == ["0", "1", "urgent"]


def test_only_as_many_are_parked_as_are_needed() -> None:
    """Three newcomers of which one finds a free row park two."""
    engine = full(rows(4), *background(3))
    engine.submit([urgent(f"u{n}", rank=n) for n in range(3)])
    told = engine.step()
    assert (sorted(parked(told)), started(told)) == (["1", "2"], ["u0", "u1", "u2"])


def test_rows_park_for_bytes_too() -> None:
    """A long newcomer stretches every row: as many leave as its rectangle has no room for."""
    engine = full(square(3, 600), *background(6))
    assert engine.stats().rows == 6
    engine.submit([urgent(max_tokens=590)])
    told = engine.step()
    assert (sorted(parked(told)), started(told)) == (["2", "3", "4", "5"], ["urgent"])


@pytest.mark.parametrize(
    ("priority", "rank"), [(BACKGROUND, 1), (INTERACTIVE, 5000)], ids=["same class", "worse rank"]
)
def test_nobody_is_parked_without_a_better_class_and_a_better_rank(priority: int, rank: int) -> None:
    """Both are needed."""
    engine = full(rows(2), *background(2))
    engine.submit([job("late", priority=priority, rank=rank)])
    told = engine.step()
    assert (parked(told), started(told)) == ({}, [])


def test_nobody_is_parked_for_one_that_would_not_fit_anyhow() -> None:
    """A row that has no room even beside better rows alone waits, and all others stay."""
    engine = full(square(3, 200), *background(2), urgent("first", max_tokens=40))
    engine.submit([urgent("large", rank=2, max_tokens=600)])
    told = step(engine, 3)
    assert (parked(told), started(told), engine.stats().waiting) == ({}, [], 1)
    assert "large" in finished(run(engine))


def test_those_who_wait_are_parked_before_those_who_decode() -> None:
    """When more are held than there are rows, a waiting one of a worse class leaves, whatever its rank."""
    engine, _ = fake_engine(Limits(4, 2 * (300 + GROWTH - 1) * BYTES), endless=True)
    decoding = [job(f"{n}", priority=BACKGROUND, rank=2000 + n, max_tokens=20) for n in range(2)]
    waiting = [job(f"w{n}", priority=BACKGROUND, rank=1000 + n, max_tokens=290) for n in range(2)]
    engine.submit([*decoding, *waiting])
    assert started(engine.step()) == ["0", "1"]
    engine.submit([urgent(max_tokens=5)])
    told = engine.step()
    assert started(told) == ["urgent"]
    assert parked(told) == {"w1": Withdrawn("w1", 1, (), parked=True)}
    assert engine.held == 4


def test_those_who_wait_stay_while_there_are_rows_for_all() -> None:
    """Nobody is sent away for the sake of order alone."""
    engine, _ = fake_engine(Limits(8, 2 * (300 + GROWTH - 1) * BYTES), endless=True)
    engine.submit([*background(2, max_tokens=290), *background(1, max_tokens=20)])
    engine.submit([urgent(max_tokens=5)])
    told = engine.step()
    assert (parked(told), engine.held) == ({}, 3)


def test_a_standard_job_parks_a_background_one_and_is_parked_itself() -> None:
    """Classes go by their order, not by names."""
    engine = full(rows(1), *background(1))
    engine.submit([job("standard", priority=STANDARD, rank=10, max_tokens=20)])
    assert list(parked(engine.step())) == ["0"]
    engine.submit([urgent()])
    assert list(parked(engine.step())) == ["standard"]


def on_trial(suspects: int, *others: Admission) -> tuple[Engine, list[Output]]:
    """A full engine that tries one of so many suspects apart from the rest, then gets ``others``."""
    engine, _ = fake_engine(rows(suspects), endless=True, fail_steps=[2, 3])
    engine.submit(background(suspects))
    step(engine, 4)
    assert (engine.stats().rows, engine.stats().waiting) == (1, suspects - 1)
    engine.submit(others)
    return engine, step(engine)


def test_a_trial_is_not_disturbed() -> None:
    """While a suspect is on trial nobody joins, so nobody is parked; suspects are never sent away."""
    engine, told = on_trial(2, urgent(max_tokens=3))
    assert (started(told), parked(told)) == ([], {})
    assert sorted(engine.parkable()) == [(INTERACTIVE, 1), (BACKGROUND, 1000)]  # it has its token now
    told = engine.step()
    assert (started(told), parked(told)) == (["urgent"], {})
    told = run(engine)
    assert (sorted(finished(told)), parked(told)) == (["0", "1", "urgent"], {})


def test_a_better_class_does_not_wait_for_trials_that_have_not_begun() -> None:
    """After the trial under way it joins before the next suspect does."""
    engine, told = on_trial(3, urgent(max_tokens=9))
    assert (started(told), engine.stats().waiting) == ([], 3)
    told = engine.step()
    assert (started(told), parked(told), engine.stats().rows) == (["urgent"], {}, 2)
    told += run(engine)
    assert sorted(finished(told)) == ["0", "1", "2", "urgent"]


def test_a_row_under_suspicion_is_parked_when_it_is_cleared() -> None:
    """Before that its strike would be forgotten: the better one waits for its token."""
    engine, _ = fake_engine(rows(2), endless=True, fail_steps=[3])
    engine.submit(background(2))
    step(engine, 4)
    assert (engine.stats().rows, engine.parkable()) == (2, [])
    engine.submit([urgent(max_tokens=50)])
    told = engine.step()
    assert (started(told), parked(told)) == ([], {})
    told = engine.step()
    assert (started(told), list(parked(told))) == (["urgent"], ["1"])


def test_room_is_made_only_for_those_who_may_join() -> None:
    """A suspect joins alone: nobody is parked for a newcomer of its class that must wait for it."""
    engine = full(rows(3), *background(3))
    engine.submit(job(name, priority=STANDARD, rank=9, max_tokens=5) for name in ("suspect", "newcomer"))
    suspect = engine._roster.find(("suspect", 1))
    assert suspect is not None
    suspect.strikes = MAX_STRIKES - 1
    told = engine.step()
    assert (started(told), list(parked(told))) == (["suspect"], ["2"])
    told = step(engine, 2)
    assert (started(told), list(parked(told))) == (["newcomer"], ["1"])


def test_a_newcomer_that_is_told_twice_parks_once() -> None:
    """An attempt handed over again while it is here changes nothing."""
    engine = full(rows(2), *background(2))
    engine.submit([urgent(max_tokens=50)])
    told = engine.step()
    engine.submit([urgent(max_tokens=50)])
    told += step(engine, 3)
    assert len(parked(told)) == 1
    assert len([output for output in told if isinstance(output, Started)]) == 1
