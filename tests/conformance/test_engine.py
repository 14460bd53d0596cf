"""The engine with every backend: the twin, and MLX with LLMs whose layers can and cannot be cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import pytest

from models.requests import Sampling
from tests.workers.backends.llms import Apart
from tests.workers.engine.batches import finished, run
from workers.cache.disk import DiskTier
from workers.engine import Admission, Engine, Limits

from .rows import messages

STORY = "The reservoir was full that year, and the keeper wrote down each gate he opened. " * 12
LIMITS = Limits(max_rows=8, max_batch_bytes=1 << 30, pool_bytes=1 << 26, prefill_rows=4, prefill_tokens=64)
PATIENCE = 10.0


@pytest.fixture
def engine(backend: Apart) -> Iterator[Engine]:
    """An engine that keeps blocks; afterwards backend and cache are empty."""
    engine = Engine(backend, LIMITS)
    yield engine
    engine.check_integrity()
    engine.reuse.cache.clear()


def job(backend: Apart, name: str, *texts: str, owner: str | None = None) -> Admission:
    """An attempt at a job of this conversation."""
    said = messages(*texts)
    tokens = backend.encode(said)
    stops = backend.boundaries(said, tokens)
    return Admission(name, 1, tokens, Sampling(max_tokens=6), owner=owner, boundaries=stops)


def test_what_one_window_shares_is_computed_once(backend: Apart, engine: Engine) -> None:
    """One of eight newcomers computes the system message for all, whatever its layers are."""
    jobs = [job(backend, f"{n}", STORY, f"question {n}") for n in range(8)]
    done = finished(run(engine, *jobs))
    assert len(done) == 8
    columns = zip(*(one.tokens for one in jobs), strict=False)
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    least = backend.boundaries(messages(STORY, ""), jobs[0].tokens)[:1] or [shared]
    assert sum(end.cached_tokens >= least[0] for end in done.values()) == 7
    assert engine.stats().prefill_tokens < len(jobs[0].tokens) + 7 * 60


def test_a_next_turn_goes_on_where_the_last_one_ended(backend: Apart, engine: Engine) -> None:
    """Its prompt is the last turn's, the reply and something new: the last prompt is not read again."""
    first = job(backend, "one", STORY, "and then?", owner="t/a")
    reply = finished(run(engine, first))["one"].token_ids
    more = backend.encode(messages("go on"))
    second = replace(first, job_id="two", tokens=[*first.tokens, *reply, *more])
    done = finished(run(engine, second))["two"]
    assert done.cached_tokens >= len(first.tokens) - 2


def test_measured_bytes_follow_the_books(backend: Apart, engine: Engine) -> None:
    """What the backend measures of its blocks is what the pool's books say, within five in a hundred."""
    for n in range(5):
        run(engine, job(backend, f"{n}", STORY + str(n % 2), f"question {n}", owner=f"t/{n}"))
        used, measured = engine.reuse.cache.pool.used, backend.pool_bytes()
        assert used > 0
        assert abs(measured - used) <= 0.05 * used


def test_a_small_pool_makes_room_and_everything_ends(backend: Apart) -> None:
    """Blocks come and go while rows decode; books and contents agree at each step."""
    room = backend.info.spec.block_bytes() * 4 + backend.info.spec.snapshot_bytes(700) * 3
    engine = Engine(backend, replace(LIMITS, pool_bytes=room))
    jobs = [job(backend, f"{n}", f"{n % 3} " + STORY, f"question {n}", owner=f"t/{n % 4}") for n in range(9)]
    assert len(finished(run(engine, *jobs))) == 9
    assert engine.reuse.cache.pool.used <= room
    engine.reuse.cache.clear()


def test_an_agent_resumes_from_disk(backend: Apart, tmp_path: Path) -> None:
    """Another engine over the same folder computes only what was never computed."""
    info = backend.info

    def tier() -> DiskTier:
        disk = DiskTier(
            tmp_path, info.blocks_fingerprint, 1 << 30, can_be_cut=info.spec.can_be_cut, reserve_bytes=0
        )
        disk.start()
        assert disk.flush(PATIENCE)
        return disk

    first = job(backend, "one", STORY, "and then?", owner="t/a")
    disk = tier()
    engine = Engine(backend, LIMITS, disk=disk)
    before = finished(run(engine, first))["one"]
    engine.reuse.close()
    assert disk.stop(PATIENCE)
    engine.reuse.cache.clear()
    disk = tier()
    again = Engine(backend, LIMITS, disk=disk)
    done = finished(run(again, replace(first, job_id="two")))["two"]
    assert done.cached_tokens >= len(first.tokens) - 30
    assert done.text == before.text
    again.reuse.cache.clear()
    assert disk.stop(PATIENCE)
