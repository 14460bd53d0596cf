"""The pool's books: bytes, references and a budget that can change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.cache import BlockPool, PoolFull
from workers.cache import pool as pool_module

THREADS = 4
STEPS = st.lists(st.tuples(st.sampled_from(["allocate", "share", "free"]), st.integers(1, 50)), max_size=60)


class Interrupted(pool_module._Block):
    """A block during whose making other threads have their turn."""

    def __init__(self, nbytes: int) -> None:
        super().__init__(nbytes)
        time.sleep(0)


@pytest.fixture(scope="module")
def hasty() -> Iterator[None]:
    """Threads that interrupt each other in the middle of what they do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool_module, "_Block", Interrupted)
        yield


def test_bytes_are_booked() -> None:
    """What is allocated is used until it is freed, and the rest is free."""
    pool = BlockPool(100)
    one, two = pool.allocate(60), pool.allocate(40)
    assert (pool.used, pool.free_bytes, pool.pressure) == (100, 0, 1.0)
    assert (pool.size(one), pool.size(two)) == (60, 40)
    assert pool.free(one)
    assert (pool.used, pool.free_bytes, pool.pressure) == (40, 60, 0.4)
    assert pool.blocks() == {two}
    pool.check_integrity()


def test_a_full_pool_gives_nothing() -> None:
    """A block that does not fit is refused, and can be asked for beforehand."""
    pool = BlockPool(100)
    pool.allocate(60)
    assert pool.can_allocate(40)
    assert not pool.can_allocate(41)
    with pytest.raises(PoolFull, match="60 of 100"):
        pool.allocate(41)
    assert pool.used == 60


def test_an_id_is_never_used_again() -> None:
    """A block that is gone cannot be mistaken for a new one."""
    pool = BlockPool(10)
    seen = set()
    for _ in range(5):
        block = pool.allocate(10)
        seen.add(block)
        pool.free(block)
    assert len(seen) == 5


def test_a_shared_block_is_free_with_its_last_holder() -> None:
    """A block's bytes are free when it was freed as often as it was allocated and shared."""
    pool = BlockPool(10)
    block = pool.allocate(10)
    pool.share(block)
    assert not pool.free(block)
    assert pool.used == 10
    assert pool.free(block)
    assert pool.used == 0


def test_unknown_blocks() -> None:
    """A block that is not held cannot be shared, freed or measured; one of no bytes cannot be made."""
    pool = BlockPool(10)
    block = pool.allocate(1)
    pool.free(block)
    for call in (pool.share, pool.free, pool.size):
        with pytest.raises(KeyError):
            call(block)
    with pytest.raises(ValueError, match="0 bytes"):
        pool.allocate(0)


def test_a_smaller_budget_waits_for_room() -> None:
    """A pool may hold more than a new budget: then nothing fits until enough was freed."""
    pool = BlockPool(100)
    one, _ = pool.allocate(60), pool.allocate(40)
    pool.reconfigure(50)
    assert (pool.budget, pool.free_bytes, pool.pressure) == (50, -50, 2.0)
    with pytest.raises(PoolFull):
        pool.allocate(1)
    pool.free(one)
    assert pool.can_allocate(10)
    with pytest.raises(ValueError, match="-1 bytes"):
        pool.reconfigure(-1)


def test_no_budget_is_full() -> None:
    """A pool of nothing is under full pressure and gives nothing."""
    pool = BlockPool(0)
    assert pool.pressure == 1.0
    assert not pool.can_allocate(1)


def test_wrong_books_are_noticed() -> None:
    """Integrity fails if the sum of the blocks is not what is used, or a block has no holder."""
    pool = BlockPool(10)
    block = pool.allocate(4)
    pool._used = 5
    with pytest.raises(AssertionError, match="the books say 5"):
        pool.check_integrity()
    pool._used = 4
    pool._blocks[block].references = 0
    with pytest.raises(AssertionError, match="nobody holds"):
        pool.check_integrity()


@pytest.mark.usefixtures("hasty")
@settings(max_examples=30)
@given(work=st.lists(STEPS, min_size=THREADS, max_size=THREADS), budget=st.sampled_from([100, 2000]))
def test_threads_leave_the_books_balanced(work: list[list[tuple[str, int]]], budget: int) -> None:
    """Whatever several threads do at once, each block has one id, the budget holds, and all comes back."""
    pool, together = BlockPool(budget), Barrier(THREADS)

    def act(steps: list[tuple[str, int]]) -> set[int]:
        held: list[int] = []
        made: set[int] = set()
        together.wait()
        for step, number in steps * 5:
            if step == "allocate":
                try:
                    held.append(pool.allocate(number))
                except PoolFull:
                    continue
                made.add(held[-1])
            elif held and step == "share":
                block = held[number % len(held)]
                pool.share(block)
                held.append(block)
            elif held:
                block = held.pop(number % len(held))
                assert pool.free(block) == (block not in held)
            assert pool.used <= budget
        pool.check_integrity()
        for block in held:
            pool.free(block)
        return made

    with ThreadPoolExecutor(THREADS) as threads:
        made = list(threads.map(act, work))
    assert sum(map(len, made)) == len(set().union(*made))
    assert (pool.used, pool.blocks()) == (0, set())
    pool.check_integrity()
