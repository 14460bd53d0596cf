"""After a broken step the batch is rebuilt, the guilty row is found, and a dead engine says so."""

from __future__ import annotations

import pytest

from workers.backends.fake import FakeBackend, FakeOptions
from workers.engine import Engine, EngineDead, Finished, Limits, Started
from workers.engine.recovery import MAX_BROKEN_IN_A_ROW, MAX_STRIKES, Recovery
from workers.engine.sequence import Sequence

from .batches import ROOMY, failed, fake_engine, finished, job, result_of, run, shown, started, step


def test_a_broken_step_changes_no_result() -> None:
    """Rows come back from their tokens, and go on as if nothing had happened, seeded ones too."""
    jobs = [job(f"{n}", max_tokens=30, temperature=(n % 2), seed=n) for n in range(6)]
    engine, backend = fake_engine(fail_steps=[5, 9])
    told = run(engine, *jobs)
    assert backend.resets == 2
    for admission in jobs:
        assert finished(told)[admission.job_id] == result_of(admission)
        assert shown(told, admission.job_id) == finished(told)[admission.job_id].text


def test_rows_come_back_before_newcomers() -> None:
    """Whoever sat in the broken batch is admitted again before those who waited."""
    engine, backend = fake_engine(Limits(max_rows=1, max_batch_bytes=1 << 30), endless=True, fail_steps=[3])
    told = run(engine, job("old", max_tokens=9), job("new", max_tokens=9))
    assert backend.resets == 1
    order = [output.job_id for output in told if isinstance(output, Started | Finished)]
    assert order == ["old", "old", "new", "new"]


def test_a_row_in_three_broken_steps_fails() -> None:
    """It ends as engine_error that may be tried again; nothing is decoded for ever."""
    engine, backend = fake_engine(poison="bad")
    told = run(engine, job("a", "bad"))
    assert (failed(told)["a"].type, failed(told)["a"].retryable) == ("engine_error", True)
    assert "told to break" in failed(told)["a"].message
    assert backend.steps == 3


def test_a_poisoned_row_does_not_take_the_others_with_it() -> None:
    """After two broken steps rows come back one at a time, and only the guilty one fails."""
    engine, _ = fake_engine(poison="bad")
    jobs = [job(f"{n}", "a bad prompt" if n in (4, 7) else f"good {n}", max_tokens=40) for n in range(12)]
    told = run(engine, *jobs)
    assert sorted(failed(told)) == ["4", "7"]
    for admission in jobs:
        if admission.job_id not in failed(told):
            assert finished(told)[admission.job_id] == result_of(admission)


def test_a_suspect_that_leaves_does_not_block_the_others() -> None:
    """When the row on trial is cancelled the next suspect is tried."""
    engine, backend = fake_engine(endless=True, fail_steps=[2, 3])
    engine.submit([job(f"{n}", max_tokens=10) for n in range(3)])
    step(engine, 3)
    told = engine.step()
    assert started(told) == []
    (on_trial,) = (row.source for row in backend._rows.values())
    engine.cancel(next(n for n in "012" if job(n).tokens == list(on_trial.tokens)[: len(job(n).tokens)]), 1)
    assert len(finished(run(engine))) == 3


def test_a_suspect_that_left_is_not_blamed() -> None:
    """A step that breaks after the row on trial was cancelled is blamed on those who are there."""
    engine, backend = fake_engine(endless=True, fail_steps=[2, 3, 5])
    engine.submit([job(f"{n}", max_tokens=10) for n in range(2)])
    step(engine, 4)
    for name in ("0", "1"):
        engine.cancel(name, 1)
    engine.submit([job("new", max_tokens=10)])
    told = run(engine)
    assert (backend.resets, failed(told)) == (3, {})
    assert finished(told)["new"].completion_tokens == 10


def test_nobody_joins_while_a_suspect_is_on_trial() -> None:
    """Newcomers wait for the suspect's first token: they might be what breaks the step."""
    engine, _ = fake_engine(endless=True, fail_steps=[2, 3])
    engine.submit([job(f"{n}", max_tokens=10) for n in range(2)])
    step(engine, 3)
    engine.submit([job("new", max_tokens=10)])
    told = step(engine, 2)
    assert (started(told), engine.stats().rows) == ([], 1)
    assert len(finished(run(engine))) == 3


def test_nobody_is_passed_over_by_who_may_not_join() -> None:
    """While a suspect is on trial the gate's choice stays outside, and counts for nothing."""
    length = len(job("0").tokens) + 10
    engine, backend = fake_engine(Limits(3, 3 * (length + 255) * 64), endless=True, fail_steps=[2, 3])
    engine.submit([job("0", max_tokens=10)])
    step(engine, 3)
    engine.submit([job("long", "x" * 500, max_tokens=10), job("new", max_tokens=1)])
    told = step(engine, 2)
    first = engine._roster.waiting[0]
    assert (len(backend._rows), started(told), first.admission.job_id) == (1, [], "long")
    assert first.passed_over == 0
    told = step(engine)
    assert (started(told), first.passed_over) == (["new"], 1)


def test_a_poisoned_newcomer_is_not_blamed_on_a_suspect() -> None:
    """It comes while an innocent suspect is on trial, and is found guilty itself in the end."""
    engine, _ = fake_engine(endless=True, fail_steps=[2, 3], poison="bad")
    engine.submit([job("innocent", max_tokens=10)])
    told = step(engine, 4)
    engine.submit([job("guilty", "bad", max_tokens=10)])
    told += run(engine)
    assert (sorted(failed(told)), sorted(finished(told))) == (["guilty"], ["innocent"])


def test_a_trial_waits_for_those_who_joined_before() -> None:
    """While a row that has no token yet is live, no suspect comes in beside it."""
    suspect, newcomer = (Sequence(job(name), FakeBackend().detokenizer()) for name in "ab")
    suspect.strikes = MAX_STRIKES - 1
    recovery = Recovery()
    assert recovery.filter([suspect, newcomer], []) == [suspect]
    assert recovery.filter([suspect], [newcomer]) == []
    newcomer.cleared = True
    assert recovery.filter([suspect], [newcomer]) == [suspect]


def test_a_reset_that_fails_is_the_end() -> None:
    """An engine that cannot rebuild its batch is dead, and says so."""
    engine, _ = fake_engine(fail_steps=[2], fail_reset=True)
    engine.submit([job("a")])
    engine.step()
    with pytest.raises(EngineDead):
        engine.step()


def test_an_engine_whose_steps_all_break_is_dead() -> None:
    """It does not go on for ever failing one job after another."""
    backend = FakeBackend(FakeOptions(fail_steps=frozenset(range(1, 1000))))
    engine = Engine(backend, ROOMY)
    engine.submit([job(f"{n}") for n in range(100)])
    with pytest.raises(EngineDead, match="in a row"):
        step(engine, 50)
    assert backend.steps == MAX_BROKEN_IN_A_ROW


def test_a_remove_that_breaks_is_repaired_like_a_step() -> None:
    """The batch is rebuilt, the cancelled job keeps its end and the others go on."""
    engine, backend = fake_engine(endless=True)
    engine.submit([job("a", max_tokens=20), job("b", max_tokens=20)])
    told = step(engine, 4)
    remove = backend.remove

    def break_once(uids: list[int]) -> None:
        backend.remove = remove  # type: ignore[method-assign] # put back for the test
        raise RuntimeError("lost the device")

    backend.remove = break_once  # type: ignore[method-assign,assignment] # breaks for the test
    engine.cancel("a", 1)
    told += run(engine)
    assert finished(told)["a"].finish_reason == "cancelled"
    assert finished(told)["b"].completion_tokens == 20
    assert backend.resets == 1


def test_a_poison_that_comes_again_takes_nobody_with_it() -> None:
    """Strikes of rows that were cleared are forgotten: a poisoned job's next attempts harm no neighbour."""
    engine, _ = fake_engine(poison="bad", endless=True)
    good = [job(f"{n}", max_tokens=150) for n in range(5)]
    engine.submit(good)
    told = step(engine, 3)
    for attempt in range(3):
        engine.submit([job(f"poison {attempt}", "bad")])
        told += step(engine, 30)
    told += run(engine)
    assert sorted(failed(told)) == ["poison 0", "poison 1", "poison 2"]
    assert sorted(finished(told)) == [admission.job_id for admission in good]
