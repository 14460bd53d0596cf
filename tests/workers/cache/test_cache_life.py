"""Whatever is kept, used, pinned and evicted: nobody gets another's cache, and no byte is lost."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from workers.cache import CacheSpec, chain

from .contents import CUTTABLE, MIXED, STATES, Failure, Kept

BLOCK = 4
SALTS = st.sampled_from(["", "tenant"])
OWNERS = st.sampled_from(["ada", "bob"])
TOKENS = st.lists(st.integers(0, 1), max_size=4 * BLOCK)
LINK = chain.link
FEW = settings(max_examples=25, stateful_step_count=40)


class CacheLife(RuleBasedStateMachine):
    """Keeps short sequences of two words in blocks of four tokens; contents are checked without the index."""

    spec: CacheSpec = CUTTABLE
    is_weak = False

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(chain, "BLOCK_TOKENS", BLOCK)
        if self.is_weak:
            self.patch.setattr(chain, "link", lambda parent, tokens: bytes([LINK(parent, tokens)[0] % 8]))
            self.patch.setattr(chain, "root", lambda *_: b"0")
        self.sequences: list[tuple[list[int], str]] = [([], "")]

    @initialize(budget=st.sampled_from([0, 30, 60, 100, 10_000]))
    def make(self, budget: int) -> None:
        """Start with nothing, and room for little or much."""
        self.kept = Kept(self.spec, budget)
        self.cache = self.kept.cache

    @rule(tokens=TOKENS, salt=SALTS, owner=st.none() | OWNERS, snapshot=st.booleans())
    def store(self, tokens: list[int], salt: str, owner: str | None, snapshot: bool) -> None:
        """Keep a sequence: what there was of it stays, and with room for all it is there as a whole."""
        self._store(tokens, salt, owner, snapshot)

    @rule(more=TOKENS, which=st.integers(0, 99), owner=st.none() | OWNERS)
    def go_on(self, more: list[int], which: int, owner: str | None) -> None:
        """Keep one that begins with another, as the next turn of a conversation does."""
        tokens, salt = self.sequences[which % len(self.sequences)]
        self._store([*tokens, *more][: 8 * BLOCK], salt, owner, snapshot=True)

    def _store(self, tokens: list[int], salt: str, owner: str | None, snapshot: bool) -> None:
        self.sequences.append((tokens, salt))
        before = self.kept.contents.longest(tokens, salt, self.spec)
        pinned = {who: self.cache.held(who) for who in self.cache.owners()}
        fills = self.kept.contents.fills
        gained = self.kept.store(tokens, salt, owner=owner, snapshot=snapshot)
        after = self.kept.contents.longest(tokens, salt, self.spec)
        assert self.kept.contents.fills - fills <= 1
        assert 0 <= gained <= len(tokens)
        if self.spec.can_be_cut:
            assert before <= after
        if self.cache.pool.budget == 10_000 and not self.is_weak and (snapshot or self.spec.can_be_cut):
            assert after == len(tokens)
            assert self.cache.reach(tokens, salt).position == len(tokens) // BLOCK * BLOCK
        # What cannot be cut also loses pinned blocks that no snapshot stands behind any more.
        is_shorter = any(self.cache.held(who) < held for who, held in pinned.items())
        if is_shorter and self.spec.can_be_cut:
            self._only_pinned_is_left(tokens, salt)

    def _only_pinned_is_left(self, tokens: list[int], salt: str) -> None:
        """Something pinned was evicted: whatever else there is belongs to the sequence being kept."""
        pinned = {node.name for who in self.cache.owners() for node in self.cache.pinned(who)}
        own = {node.name for node in self.cache.walk(tokens, salt)}
        assert {node.name for node in self.cache._stock.index} <= pinned | own

    @rule(tokens=TOKENS, salt=SALTS)
    def fail(self, tokens: list[int], salt: str) -> None:
        """A copy fails: nothing of it is entered."""
        held = set(self.kept.contents.blocks)
        try:
            self.kept.store(tokens, salt, fails=True)
        except Failure:
            assert set(self.kept.contents.blocks) <= held

    @rule(tokens=TOKENS, salt=SALTS, most=st.integers(-1, 5 * BLOCK))
    def match(self, tokens: list[int], salt: str, most: int) -> None:
        """A sequence gets its own tokens, and as many as any blocks hold of them."""
        before = list(self.cache._stock.recency)
        found = self.kept.match(tokens, salt, most)
        assert found == self.kept.contents.longest(tokens[: max(most, 0)], salt, self.spec)
        assert list(self.cache._stock.recency) == before

    @rule(which=st.integers(0, 99), more=TOKENS)
    def use(self, which: int, more: list[int]) -> None:
        """A row gets a prefix."""
        tokens, salt = self.sequences[which % len(self.sequences)]
        self.kept.use([*tokens, *more], salt)

    @rule(which=st.integers(0, 99), owner=OWNERS)
    def pin(self, which: int, owner: str) -> None:
        """An agent's latest conversation is what it holds."""
        tokens, salt = self.sequences[which % len(self.sequences)]
        self.cache.pin(owner, tokens, salt)
        assert self.cache.held(owner) <= len(tokens)
        if self.spec is CUTTABLE and not self.is_weak:
            walked = self.cache.walk(tokens, salt)
            assert [node.name for node in self.cache.pinned(owner)] == [node.name for node in walked]

    @rule(owner=OWNERS)
    def unpin(self, owner: str) -> None:
        """An agent lets go."""
        self.cache.unpin(owner)
        assert self.cache.held(owner) == 0
        assert owner not in self.cache.owners()

    @rule(owner=OWNERS)
    def forget(self, owner: str) -> None:
        """Nothing names an agent any more that was forgotten, and what others own is still there."""
        others = {node.name for node in self.cache._stock.index if node.owners - {owner} and node.deep}
        self.cache.forget(owner)
        nodes = list(self.cache._stock.index)
        assert all(owner not in node.owners for node in nodes)
        if self.spec.can_be_cut:
            assert others <= {node.name for node in nodes}

    @rule(fraction=st.sampled_from([0.0, 0.5, 0.9]), pinned=st.booleans())
    def evict(self, fraction: float, pinned: bool) -> None:
        """Evicting leaves no more than was asked for, but what is pinned stays unless it may go, too."""
        held = {owner: self.cache.held(owner) for owner in self.cache.owners()}
        self.cache.evict_to(fraction, pinned=pinned)
        if not pinned and self.spec.can_be_cut:
            assert held == {owner: self.cache.held(owner) for owner in held}
        is_left = any(not node.pins for node in self.cache._stock.index)
        if pinned or is_left:
            assert self.cache.pool.used <= fraction * self.cache.pool.budget

    @rule(budget=st.sampled_from([0, 30, 60, 100, 10_000]))
    def reconfigure(self, budget: int) -> None:
        """A new budget holds at once."""
        self.cache.reconfigure(budget)
        assert self.cache.pool.used <= budget

    @rule()
    def clear(self) -> None:
        """Nothing is left."""
        self.cache.clear()
        assert not self.cache.blocks()
        assert self.cache.stats().nodes == 0

    @invariant()
    def books(self) -> None:
        """The books are right after every step."""
        if hasattr(self, "kept"):
            self.kept.check()

    def teardown(self) -> None:
        """Give the real chain back."""
        self.patch.undo()


class MixedLife(CacheLife):
    """The same with layers that cannot be cut."""

    spec = MIXED


class StatesLife(CacheLife):
    """The same without any keys and values."""

    spec = STATES


class WeakLife(CacheLife):
    """The same with so short a hash that names collide all the time."""

    is_weak = True


class WeakMixedLife(MixedLife):
    """Collisions, and layers that cannot be cut."""

    is_weak = True


TestCacheLife = CacheLife.TestCase
TestMixedLife = MixedLife.TestCase
TestStatesLife = StatesLife.TestCase
TestWeakLife = WeakLife.TestCase
TestWeakMixedLife = WeakMixedLife.TestCase
TestCacheLife.settings = TestMixedLife.settings = TestStatesLife.settings = FEW
TestWeakLife.settings = TestWeakMixedLife.settings = FEW
