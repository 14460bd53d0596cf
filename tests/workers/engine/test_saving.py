"""Blocks that outlive the process: what is written, when, and how it comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.service import wait_until
from workers.backends.fake import FakeBackend, FakeOptions
from workers.cache.disk import DiskTier
from workers.engine import Admission, Engine, EngineThread, Limits, LlmInfo, Output

from .batches import finished, job, run, started, step
from .test_engine import Clock

SHARED = "All that an agent was ever told stands here, word for word, and once more. " * 15
POOLED = Limits(max_rows=8, max_batch_bytes=1 << 40, pool_bytes=1 << 30, save_seconds=5)
PATIENCE = 10.0

Make = Callable[..., Engine]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes engines that write to one folder; each is as after a restart of the process."""
    tiers: list[DiskTier] = []

    def build(limits: Limits = POOLED, clock: Clock | None = None, **options: Any) -> Engine:
        for tier in tiers:
            tier.stop(PATIENCE)
        backend = FakeBackend(FakeOptions.model_validate({"reply_tokens": 5} | options))
        disk = DiskTier(
            tmp_path,
            backend.info.blocks_fingerprint,
            1 << 30,
            can_be_cut=backend.info.spec.can_be_cut,
            reserve_bytes=0,
        )
        disk.start()
        assert disk.flush(PATIENCE)  # the folder has been looked through
        tiers.append(disk)
        return Engine(backend, limits, clock or Clock(), disk)

    yield build
    for tier in tiers:
        tier.stop(PATIENCE)


def agents_job(name: str, text: str = SHARED) -> Admission:
    """A job of the one agent."""
    return replace(job(name, text), owner="t/agent")


def written(tmp_path: Path) -> list[Path]:
    """The files of blocks."""
    return [path for path in tmp_path.rglob("*.safetensors") if "damaged" not in path.parts]


def settle(engine: Engine) -> None:
    """Let the engine do what is due."""
    while engine.is_due:
        engine.step()


def test_an_idle_agent_is_written_and_resumes_after_a_restart(make: Make, tmp_path: Path) -> None:
    """Nothing but the last token of the same prompt is computed by the next process."""
    clock = Clock()
    engine = make(clock=clock)
    run(engine, agents_job("a"))
    step(engine, 3)
    assert not engine.is_due
    assert engine.idle_seconds == 5
    clock.now += 5
    settle(engine)
    again = make()
    assert written(tmp_path)
    done = finished(run(again, agents_job("b")))["b"]
    assert done.cached_tokens == done.prompt_tokens - 1
    assert again.stats().prefill_tokens == 1
    assert again.stats().restored_tokens >= done.prompt_tokens
    again.check_integrity()


@pytest.mark.parametrize("uncut", [False, True])
def test_a_stop_writes_what_agents_have(make: Make, uncut: bool) -> None:
    """Also before they were idle for long; an LLM that cannot be cut gets its states back."""
    engine = make(uncut=uncut)
    first = replace(agents_job("a"), boundaries=[300] if uncut else ())
    run(engine, first)
    engine.reuse.close()
    again = make(uncut=uncut)
    done = finished(run(again, replace(first, job_id="b")))["b"]
    assert done.cached_tokens == (300 if uncut else len(first.tokens) - 1)


def test_what_nobody_came_back_to_is_not_written(make: Make, tmp_path: Path) -> None:
    """An anonymous prompt that is evicted after one use never reaches the disk; after a second it does."""
    small = replace(POOLED, pool_bytes=64 * 1600)
    engine = make(small)
    for n in range(4):
        run(engine, job(f"{n}", f"{n:03d}" + SHARED))
    make()
    assert not written(tmp_path)
    engine = make(small)
    run(engine, job("x", "xxx" + SHARED))
    run(engine, job("y", "xxx" + SHARED))
    run(engine, job("z", "zzz" + SHARED))
    done = finished(run(make(), job("again", "xxx" + SHARED)))["again"]
    assert done.cached_tokens >= 1024


def test_no_block_is_written_twice(make: Make, tmp_path: Path) -> None:
    """Saved again, and saved by the next process, it stays the file that it is."""
    engine = make()
    run(engine, agents_job("a"))
    engine.reuse.close()
    again = make()
    before = {path: path.stat().st_ino for path in written(tmp_path)}
    run(again, agents_job("b"))
    again.reuse.close()
    make()
    after = {path: path.stat().st_ino for path in written(tmp_path)}
    whole = [path for path in before if path in after]
    assert len(whole) >= 4
    assert all(before[path] == after[path] for path in whole)


def test_a_damaged_file_is_computed_instead(make: Make, tmp_path: Path) -> None:
    """The job has its result, whatever the disk says."""
    engine = make()
    plain = finished(run(engine, agents_job("a")))["a"]
    engine.reuse.close()
    make()
    for path in written(tmp_path):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    again = make()
    done = finished(run(again, agents_job("b")))["b"]
    assert done.text == plain.text
    assert done.cached_tokens == 0
    assert list((tmp_path / "damaged").iterdir())


def test_saving_on_demand_tells_the_tokens(make: Make, tmp_path: Path) -> None:
    """The answer comes when all of it is on disk."""
    engine = make()
    first = agents_job("a")
    done = finished(run(engine, first))["a"]
    answer: Future[int] = Future()
    engine.reuse.save("t/agent", answer)
    assert not answer.done()
    settle(engine)
    assert answer.result(PATIENCE) == len(first.tokens) + len(done.token_ids) + 1  # and the end of the reply
    assert len(written(tmp_path)) > 4
    holding = engine.reuse.holdings()["t/agent"]
    assert holding.in_memory == holding.on_disk == answer.result(0)


def test_saving_where_nothing_is_written_is_no_success(make: Make) -> None:
    """Without a disk tier, or when it takes nothing, whoever asked is told so."""
    refused: Future[int] = Future()
    engine = make()
    run(engine, agents_job("a"))
    assert engine.reuse.saving.disk is not None
    engine.reuse.saving.disk.stop(PATIENCE)
    engine.reuse.save("t/agent", refused)
    settle(engine)
    with pytest.raises(RuntimeError, match="takes nothing more"):
        refused.result(PATIENCE)
    without: Future[int] = Future()
    Engine(FakeBackend(), POOLED).reuse.save("t/agent", without)
    with pytest.raises(RuntimeError, match="disk_bytes"):
        without.result(0)


def test_forgetting_an_agent_removes_its_files(make: Make, tmp_path: Path) -> None:
    """When the answer is there nothing of it is left, in memory or on disk."""
    engine = make()
    run(engine, agents_job("a"))
    saved: Future[int] = Future()
    engine.reuse.save("t/agent", saved)
    settle(engine)
    answer: Future[int] = Future()
    engine.reuse.forget("t/agent", answer)
    assert answer.result(PATIENCE) == saved.result(PATIENCE)
    assert not written(tmp_path)
    assert engine.reuse.cache.pool.used == 0


def test_an_agent_that_is_evicted_goes_to_disk(make: Make) -> None:
    """A pool too small for two agents keeps both: one in memory, one on disk."""
    engine = make(replace(POOLED, pool_bytes=64 * 2000))
    run(engine, agents_job("a"))
    for n in range(3):
        run(engine, replace(job(f"{n}", f"{n:03d}" + SHARED), owner=f"t/{n}"))
    assert engine.reuse.saving.disk is not None
    assert engine.reuse.saving.disk.flush(PATIENCE)
    before = engine.stats().prefill_tokens
    done = finished(run(engine, agents_job("b")))["b"]
    assert done.cached_tokens >= 1024
    assert engine.stats().prefill_tokens - before < 256


def test_a_common_beginning_is_no_second_use(make: Make, tmp_path: Path) -> None:
    """Prompts that only open alike, as a template's do, are not written when they are evicted."""
    engine = make(replace(POOLED, pool_bytes=64 * 1600))
    for n in range(4):
        run(engine, job(f"{n}", f"the same forty characters, more or less: {n:03d}" + SHARED))
    make()
    assert not written(tmp_path)


def test_blocks_of_other_bits_have_other_names() -> None:
    """After ``engine.pool_bits`` was changed nothing is read that was kept otherwise."""
    info = FakeBackend(FakeOptions(bytes_per_token=256)).info
    quantized = replace(info, spec=replace(info.spec, bits=8))
    assert info.blocks_fingerprint != quantized.blocks_fingerprint


def test_what_is_computed_faster_is_not_read(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow disk holds nobody up."""
    engine = make()
    run(engine, agents_job("a"))
    engine.reuse.close()
    again = make()
    assert again.reuse.saving.disk is not None
    monkeypatch.setattr(again.reuse.saving.disk, "seconds_for", lambda _: 60.0)
    again._pace.token_seconds = 0.001
    assert finished(run(again, agents_job("b")))["b"].cached_tokens == 0


def test_a_disk_that_does_not_answer_is_not_waited_for_long(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a multiple of what reading should take the job begins without; what comes later is kept."""
    engine = make()
    run(engine, agents_job("a"))
    engine.reuse.close()
    clock = Clock()
    again = make(clock=clock)
    disk = again.reuse.saving.disk
    assert disk is not None
    load, asked = disk.load, []
    monkeypatch.setattr(disk, "load", lambda *given: asked.append(given))
    again.submit([agents_job("b"), job("other", "who waits for nothing from there")])
    assert started(step(again, 3)) == ["other"]
    clock.now += 60
    assert started(again.step()) == ["b"]
    done = finished(run(again))["b"]
    assert done.cached_tokens == 0
    load(*asked[0])
    assert disk.flush(PATIENCE)


def test_the_sleeping_thread_wakes_to_save(tmp_path: Path) -> None:
    """An agent is written when it has been idle for long enough, although nothing else happens."""
    with threaded(tmp_path, save_seconds=0.05) as thread:
        thread.submit([agents_job("a")])
        wait_until(lambda: len(written(tmp_path)) > 4)


def test_the_thread_saves_when_it_stops(tmp_path: Path) -> None:
    """Agents that were not idle for long yet are written, and it is told that they are on disk alone."""
    with threaded(tmp_path, save_seconds=1000) as thread:
        thread.submit([agents_job("a")])
        assert thread.drain(PATIENCE)
        assert not written(tmp_path)
    (*_, last) = thread.holdings()
    assert last.in_memory == 0 < last.on_disk
    assert len(written(tmp_path)) > 4


def test_a_prompt_that_is_read_ahead_is_told_to_nobody_else(tmp_path: Path) -> None:
    """The future has the end; the listener, who knows no such job, hears nothing."""
    heard: list[Output] = []
    with threaded(tmp_path, heard) as thread:
        done = thread.read(replace(agents_job("warm"), owner="t/a")).result(PATIENCE)
    assert (done.job_id, done.prompt_tokens) == ("warm", len(agents_job("warm").tokens))
    assert heard == []


@contextmanager
def threaded(
    folder: Path, heard: list[Output] | None = None, save_seconds: float = 5
) -> Iterator[EngineThread]:
    """An engine in its own thread that writes to a folder."""

    def disk(info: LlmInfo) -> DiskTier:
        tier = DiskTier(folder, info.blocks_fingerprint, 1 << 30, can_be_cut=True, reserve_bytes=0)
        tier.start()
        return tier

    thread = EngineThread(
        lambda: FakeBackend(FakeOptions(reply_tokens=5)),
        replace(POOLED, save_seconds=save_seconds),
        heard.extend if heard is not None else lambda _: None,
        make_disk=disk,
    )
    thread.start()
    thread.ready(PATIENCE)
    yield thread
    assert thread.stop(PATIENCE)
