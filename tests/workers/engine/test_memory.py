"""When the device has no memory the batch gets smaller, and nobody but a row alone fails."""

from __future__ import annotations

from dataclasses import replace

import pytest

from workers.backends.fake import FakeBackend, FakeOptions
from workers.engine import Engine, Failed, Limits, OutOfMemory, Row
from workers.engine.row_limit import GOOD_STEPS, RowLimit

from .batches import ROOMY, failed, fake_engine, finished, job, result_of, run, started, step


@pytest.mark.parametrize("memory", [1, 3, 7])
def test_a_smaller_batch_brings_the_same_results(memory: int) -> None:
    """All rows come back from their tokens, as many at a time as there is memory for, and none fails."""
    jobs = [job(f"{n}", max_tokens=30, temperature=n % 2, seed=n) for n in range(12)]
    engine, backend = fake_engine(memory_rows=memory)
    told = run(engine, *jobs)
    assert backend.resets > 0
    for admission in jobs:
        assert finished(told)[admission.job_id] == result_of(admission)


def test_a_shortage_in_the_middle_loses_no_token() -> None:
    """Memory that was there and is gone: the batch is halved as often as needed, and goes on."""
    engine, backend = fake_engine(endless=True)
    engine.submit([job(f"{n}", max_tokens=40) for n in range(8)])
    told = step(engine, 10)
    backend.faults = FakeOptions(endless=True, memory_rows=3)
    told += step(engine, 2)
    assert (engine.stats().rows, engine.max_rows, backend.resets) == (0, 2, 2)
    told += engine.step()
    assert engine.stats().rows == 2
    told += run(engine)
    assert {end.completion_tokens for end in finished(told).values()} == {40}
    assert started(told) == [f"{n}" for n in range(8)]
    assert not failed(told)


def test_nobody_gets_a_strike() -> None:
    """However often memory runs out, no row comes under suspicion."""
    engine, backend = fake_engine(endless=True, memory_rows=1)
    engine.submit([job(f"{n}", max_tokens=5) for n in range(60)])
    step(engine, 7)
    assert backend.resets > 4
    assert {row.strikes for row in engine._roster} == {0}
    assert not failed(run(engine))


def test_a_row_alone_without_memory_fails_and_may_be_tried_once_more() -> None:
    """It says so, each one for itself, and the engine goes on: it neither dies nor tries for ever."""
    engine, backend = fake_engine(memory_rows=0)
    told = run(engine, *(job(f"{n}") for n in range(20)))
    assert len(failed(told)) == 20
    words = "OutOfMemory: 1 rows, and memory for 0"
    assert failed(told)["0"] == Failed("0", 1, "out_of_memory", words, retryable=True, at_most=1)
    backend.faults = FakeOptions()
    assert list(finished(run(engine, job("again")))) == ["again"]


def test_the_batch_grows_back_when_it_has_emptied() -> None:
    """What was too large is gone: the next jobs have all rows."""
    engine, backend = fake_engine(Limits(8, 1 << 30), memory_rows=2)
    run(engine, *(job(f"{n}") for n in range(8)))
    assert engine.max_rows == 8
    backend.faults = FakeOptions()
    engine.submit([job(f"{n}") for n in range(8)])
    assert len(started(engine.step())) == 8


def test_the_batch_grows_back_after_many_good_steps() -> None:
    """It doubles each time so many steps have brought tokens, up to the limit."""
    limit = RowLimit(20)
    limit.shrink(20)
    sizes = []
    for _ in range(3):
        for _ in range(GOOD_STEPS - 1):
            limit.survived()
        sizes.append(limit.now)
        limit.survived()
    assert (sizes, limit.now) == ([10, 20, 20], 20)


def test_a_shortage_begins_the_count_anew() -> None:
    """Good steps from before it prove nothing."""
    limit = RowLimit(20)
    limit.shrink(20)
    for _ in range(GOOD_STEPS - 1):
        limit.survived()
    limit.shrink(10)
    limit.survived()
    assert limit.now == 5


def test_steps_that_only_read_prompts_do_not_count() -> None:
    """What they computed would be lost again, so a batch must not grow by them alone."""
    backend = FakeBackend(FakeOptions(memory_rows=1, context_length=1 << 20))
    engine = Engine(backend, replace(ROOMY, prefill_tokens=16))
    engine.submit([job(f"{n}", "x" * 16 * (GOOD_STEPS + 9), max_tokens=1) for n in range(2)])
    step(engine, GOOD_STEPS + 5)
    assert engine.max_rows == 1
    assert len(finished(run(engine))) == 2


def test_a_shortage_while_rows_are_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted against those who were to join as well; a row that finds no memory alone fails."""
    engine, backend = fake_engine(endless=True)
    add = FakeBackend.add

    def short(self: FakeBackend, rows: list[Row]) -> list[int]:
        if len(rows) > 2 or any(row.max_new == 7 for row in rows):
            raise OutOfMemory("no room for rows")
        return add(self, rows)

    monkeypatch.setattr(FakeBackend, "add", short)
    engine.submit([job(f"{n}", max_tokens=5) for n in range(8)])
    engine.step()
    assert engine.max_rows == 4
    told = run(engine)
    assert (len(finished(told)), failed(told)) == (8, {})
    told = run(engine, job("alone", max_tokens=7))
    assert failed(told)["alone"].type == "out_of_memory"
    assert backend.live_bytes() == 0


def test_a_shortage_does_not_end_a_trial_in_a_verdict() -> None:
    """The suspect on trial is neither blamed nor cleared by it, and is tried again."""
    engine, backend = fake_engine(endless=True, fail_steps=[2, 3])
    engine.submit([job(f"{n}", max_tokens=10) for n in range(3)])
    step(engine, 4)
    (suspect,) = engine._roster.live.values()
    backend.faults = FakeOptions(endless=True, memory_rows=0)
    told = engine.step()
    assert list(failed(told)) == [suspect.admission.job_id]
    backend.faults = FakeOptions(endless=True)
    assert sorted(row.strikes for row in engine._roster) == [2, 2]
    assert len(finished(run(engine))) == 2
