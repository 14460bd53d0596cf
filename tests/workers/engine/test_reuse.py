"""Reuse: what one row has computed, others do not compute again."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest

from workers.backends.fake import FakeBackend
from workers.engine import Admission, Engine, Limits, Withdrawn
from workers.engine.sequence import Sequence

from .batches import fake_engine, finished, job, run, started, step, user

POOLED = Limits(max_rows=64, max_batch_bytes=1 << 40, pool_bytes=1 << 30)
SHARED = "You are one of many agents who have all been told the very same long story. " * 15
"""More than four blocks of the twin's tokens, which are bytes."""


def pooled(limits: Limits = POOLED, **options: Any) -> tuple[Engine, FakeBackend]:
    """An engine that keeps blocks."""
    return fake_engine(limits, reply_tokens=options.pop("reply_tokens", 5), **options)


def computed(engine: Engine) -> int:
    """Tokens of prompts that were computed so far."""
    return engine.stats().prefill_tokens


def following(before: Admission, reply: tuple[int, ...], name: str, text: str) -> Admission:
    """The next turn of a conversation: all of the one before, its reply, and something new."""
    more = FakeBackend().encode(user(text))
    return replace(job(name, text), tokens=[*before.tokens, *reply, *more], owner=before.owner)


def test_the_same_prompt_again_computes_its_last_token_alone() -> None:
    """All but the last token come from the pool, and the job says so."""
    engine, _ = pooled()
    run(engine, job("first", SHARED))
    before = computed(engine)
    done = finished(run(engine, job("second", SHARED)))["second"]
    assert done.cached_tokens == done.prompt_tokens - 1
    assert computed(engine) - before == 1


def test_a_next_turn_computes_only_what_is_new() -> None:
    """The reply of the turn before is cached as well."""
    engine, _ = pooled()
    first = replace(job("one", SHARED), owner="t/agent")
    reply = finished(run(engine, first))["one"].token_ids
    before = computed(engine)
    second = following(first, reply, "two", "and then?")
    done = finished(run(engine, second))["two"]
    known = len(first.tokens) + len(reply)
    assert done.cached_tokens == known
    assert computed(engine) - before == len(second.tokens) - known


def test_results_are_the_same_with_and_without_a_pool() -> None:
    """The cache changes speed, never meaning."""
    jobs = [job(f"{n}", SHARED + f" Number {n}.", temperature=n % 2, seed=n) for n in range(12)]
    with_pool, _ = pooled(reply_tokens=None)
    without, _ = fake_engine()
    texts = {name: end.text for name, end in finished(run(with_pool, *jobs, *_again(jobs))).items()}
    plain = {name: end.text for name, end in finished(run(without, *jobs, *_again(jobs))).items()}
    assert texts == plain


def _again(jobs: list[Admission]) -> list[Admission]:
    return [replace(one, job_id=f"{one.job_id} again") for one in jobs]


def test_one_computes_what_many_newcomers_share() -> None:
    """Of a window's newcomers one computes the shared beginning, and the others only their own ends."""
    engine, _ = pooled()
    jobs = [job(f"{n}", SHARED + f"{n:03d}") for n in range(20)]
    done = finished(run(engine, *jobs))
    assert len(done) == 20
    own = 3 + 1  # the number, and the mark of the assistant's turn
    assert computed(engine) <= len(jobs[0].tokens) + 19 * (own + 1)
    assert sum(end.cached_tokens > 0 for end in done.values()) == 19


def test_a_leader_that_fails_keeps_nobody_waiting() -> None:
    """When the row that computes the shared beginning is given up, the others go on without it."""
    engine, _ = pooled(spoil="bad")
    jobs = [job("0", SHARED + "bad"), *(job(f"{n}", SHARED + f"{n:03d}") for n in range(1, 5))]
    assert set(finished(run(engine, *jobs))) == {"1", "2", "3", "4"}


def test_a_leader_that_is_cancelled_keeps_nobody_waiting() -> None:
    """The same for one that is cancelled while it reads."""
    engine, _ = pooled(Limits(64, 1 << 40, pool_bytes=1 << 30, prefill_tokens=64))
    jobs = [job(f"{n}", SHARED + f"{n:03d}") for n in range(5)]
    engine.submit(jobs)
    assert len(started(step(engine, 2))) == 1
    engine.cancel("0", 1)
    assert len(finished(run(engine))) == 5


def test_who_comes_later_gets_what_a_running_row_has_read() -> None:
    """A newcomer does not wait for the end of a long job to share its prompt."""
    engine, _ = pooled(reply_tokens=200)
    run_first = job("long", SHARED, max_tokens=200)
    engine.submit([run_first])
    step(engine, 30)
    before = computed(engine)
    engine.submit([job("short", SHARED + "more", max_tokens=2)])
    done = finished(run(engine))["short"]
    assert done.cached_tokens >= len(run_first.tokens) - 1
    assert computed(engine) - before <= 7


def test_tenants_share_only_under_the_same_salt() -> None:
    """Under another salt nothing is found, however equal the prompt is."""
    engine, _ = pooled()
    run(engine, replace(job("mine", SHARED), salt="one"))
    other = finished(run(engine, replace(job("yours", SHARED), salt="other")))["yours"]
    assert other.cached_tokens == 0
    again = finished(run(engine, replace(job("again", SHARED), salt="one")))["again"]
    assert again.cached_tokens > 0


def test_without_a_pool_nothing_is_kept_and_nobody_waits() -> None:
    """All newcomers start at once, and all prompts are computed."""
    engine, backend = fake_engine()
    jobs = [job(f"{n}", SHARED) for n in range(4)]
    engine.submit(jobs)
    assert len(started(engine.step())) == 4
    run(engine)
    assert computed(engine) == sum(len(one.tokens) for one in jobs)
    assert backend.pool_bytes() == 0


def test_a_parked_row_goes_on_without_computing_again() -> None:
    """Its tokens so far and its prompt are in the pool when it comes back."""
    one = Limits(max_rows=1, max_batch_bytes=1 << 40, pool_bytes=1 << 30)
    engine, _ = pooled(one, endless=True)
    low = job("low", SHARED, max_tokens=30, priority=2, rank=10)
    engine.submit([low])
    step(engine, 15)
    engine.submit([job("high", "now", max_tokens=3, priority=0, rank=1)])
    told = run(engine)
    kept = next(out for out in told if isinstance(out, Withdrawn) and out.parked)
    before = computed(engine)
    done = finished(run(engine, replace(low, fence=2, prior=kept.token_ids)))["low"]
    assert done.completion_tokens == 30
    assert computed(engine) - before <= 2


def test_a_pool_that_is_too_small_evicts_and_goes_on() -> None:
    """Whatever does not fit is computed; the books hold at each step."""
    small = Limits(max_rows=4, max_batch_bytes=1 << 40, pool_bytes=64 * 1500)
    engine, backend = pooled(small)
    jobs = [job(f"{n}", f"{n:03d}" + SHARED) for n in range(10)]
    assert len(finished(run(engine, *jobs, *_again(jobs)))) == 20
    assert backend.pool_bytes() <= small.pool_bytes
    assert engine.reuse.cache.pool.pressure <= 0.8


def test_agents_are_evicted_last() -> None:
    """Anonymous conversations make room before those of agents do."""
    room = Limits(max_rows=4, max_batch_bytes=1 << 40, pool_bytes=64 * 6000)
    engine, _ = pooled(room)
    run(engine, replace(job("agent", "A" + SHARED), owner="t/agent"))
    for n in range(10):
        run(engine, job(f"{n}", f"{n:03d}" + SHARED))
    done = finished(run(engine, replace(job("again", "A" + SHARED), owner="t/agent")))["again"]
    assert done.cached_tokens == done.prompt_tokens - 1


def test_a_block_that_cannot_be_kept_fails_no_job() -> None:
    """The job has its result, and what was not kept is computed by the next."""
    engine, _ = pooled(fail_keep=True)
    done = finished(run(engine, job("a", SHARED)))
    done |= finished(run(engine, job("b", SHARED)))
    assert {end.cached_tokens for end in done.values()} == {0}


def test_forgetting_an_agent_drops_what_only_it_had() -> None:
    """What another agent has as well stays."""
    engine, backend = pooled()
    run(engine, replace(job("a", SHARED + "the first"), owner="t/a"))
    run(engine, replace(job("b", SHARED + "and the second"), owner="t/b"))
    before = backend.pool_bytes()
    answer: Future[int] = Future()
    engine.reuse.forget("t/a", answer)
    assert answer.result(0) > 0
    assert 0 < backend.pool_bytes() < before
    engine.check_integrity()
    done = finished(run(engine, job("again", SHARED + "and the second")))["again"]
    assert done.cached_tokens == done.prompt_tokens - 1


def test_the_longest_cached_prefix_joins_first() -> None:
    """Behind the first in line, who is never passed over for ever."""
    engine, _ = pooled(Limits(max_rows=2, max_batch_bytes=1 << 40, pool_bytes=1 << 30))
    run(engine, job("known", SHARED))
    newcomers = [job("first", "x" * 900), job("second", "y" * 900), job("third", SHARED)]
    engine.submit(newcomers)
    assert set(started(engine.step())) == {"first", "third"}
    run(engine)


def test_a_prompt_that_is_only_read_is_cached_without_its_token() -> None:
    """Its one generated token is thrown away; what was asked to be read is there."""
    engine, _ = pooled()
    run(engine, replace(job("warm", SHARED, max_tokens=1), only_reads=True, owner="t/a"))
    assert engine.reuse.cache.held("t/a") == len(job("warm", SHARED).tokens)


@pytest.mark.parametrize("text", ["short, yet no less than sixteen tokens", SHARED])
def test_an_uncut_llm_goes_on_from_its_last_boundary(text: str) -> None:
    """A next turn starts where the one before ended, or behind its last message."""
    engine, _ = pooled(uncut=True)
    first = replace(job("one", text), owner="t/agent")
    first = replace(first, boundaries=[len(first.tokens) - 1])
    reply = finished(run(engine, first))["one"].token_ids
    more = FakeBackend().encode(user("more"))
    parted = replace(job("two"), tokens=[*first.tokens[:-1], *more], boundaries=[len(first.tokens) - 1])
    done = finished(run(engine, parted))["two"]
    assert done.cached_tokens == len(first.tokens) - 1
    onwards = replace(job("three"), tokens=[*first.tokens, *reply, 256, *more])  # the end of a reply is 256
    done = finished(run(engine, onwards))["three"]
    assert done.cached_tokens == len(first.tokens) + len(reply) + 1


def test_reading_ahead_leaves_a_conversation_that_is_there() -> None:
    """A beginning that an agent is warmed with does not take the place of what it has said so far."""
    engine, _ = pooled()
    run(engine, replace(job("turn", SHARED + "and all the rest"), owner="t/a"))
    held = engine.reuse.cache.held("t/a")
    ahead = job("warm", "something else, and much shorter", max_tokens=1)
    run(engine, replace(ahead, only_reads=True, owner="t/a"))
    assert engine.reuse.cache.held("t/a") == held


def test_an_uncut_llm_without_boundaries_waits_for_nobody() -> None:
    """Nothing of a row's beginning could be kept for those who wait, so all newcomers start at once."""
    engine, _ = pooled(uncut=True)
    engine.submit([job(f"{n}", SHARED + f"{n:03d}") for n in range(4)])
    assert len(started(engine.step())) == 4
    run(engine)


def test_who_did_not_join_is_waited_for_by_nobody() -> None:
    """A row that was allowed to join, and was kept back for another reason, leads nobody."""
    engine, _ = pooled()
    one, other = (Sequence(job(name, SHARED), engine._backend.detokenizer()) for name in "ab")
    for sequence in (one, other):
        engine.reuse.arrive(sequence)
    assert engine.reuse.allowed([one, other]) == [one]
    engine.reuse.joined([one])
    assert engine.reuse.allowed([other]) == [other]


def test_what_agents_have_makes_room_too_before_the_pool_is_full() -> None:
    """Above nine tenths of the pool even pinned blocks go, the end of the conversation first."""
    tokens = len(job("a", SHARED).tokens) + 6
    room = Limits(max_rows=4, max_batch_bytes=1 << 40, pool_bytes=int(64 * tokens / 0.95))
    engine, _ = pooled(room)
    run(engine, replace(job("a", SHARED), owner="t/a"))
    assert 0.5 < engine.reuse.cache.pool.pressure <= 0.9


def test_without_memory_to_keep_blocks_others_make_room() -> None:
    """What nobody has pinned goes, agents' blocks stay, and no job fails."""
    engine, backend = pooled(memory_blocks=12)
    run(engine, replace(job("agent", "A" + SHARED), owner="t/a"))
    for n in range(3):
        assert finished(run(engine, job(f"{n}", f"{n}" + SHARED)))
    assert backend.pool_bytes() < 64 * 12 * 256
    last = finished(run(engine, job("as the last", "2" + SHARED)))["as the last"]
    assert last.cached_tokens == last.prompt_tokens - 1
    done = finished(run(engine, replace(job("again", "A" + SHARED), owner="t/a")))["again"]
    assert done.cached_tokens == done.prompt_tokens - 1
