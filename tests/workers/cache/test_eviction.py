"""Who goes when room is needed, and what agents hold."""

from __future__ import annotations

import pytest

from workers.cache import NodeView, index

from .contents import CUTTABLE, MIXED, Failure, Kept
from .test_prefix_cache import words

BLOCK = 256 * CUTTABLE.token_bytes


def test_what_was_used_least_recently_goes_first() -> None:
    """Of three sequences the one that nobody came back to makes room for the fourth."""
    kept = Kept(budget=3 * BLOCK)
    for seed in range(3):
        kept.store(words(256, seed))
    kept.use(words(256, 0))
    kept.store(words(256, 3))
    assert [kept.match(words(256, seed)) for seed in range(4)] == [256, 0, 256, 256]
    kept.check()


def test_a_match_alone_is_no_use() -> None:
    """Looking a sequence up leaves it next to go."""
    kept = Kept(budget=2 * BLOCK)
    kept.store(words(256, 0))
    kept.store(words(256, 1))
    kept.match(words(256, 0))
    kept.store(words(256, 2))
    assert kept.match(words(256, 0)) == 0


def test_the_end_goes_before_the_beginning() -> None:
    """A conversation loses its last blocks first: what is left of it is of use."""
    kept = Kept(budget=4 * BLOCK)
    tokens = words(1024)
    kept.store(tokens)
    kept.store(words(300, 1))
    assert kept.match(tokens) == 512
    kept.check()


def test_a_shared_beginning_outlives_its_users() -> None:
    """What somebody else goes on from stays when one of its continuations goes."""
    kept = Kept(budget=4 * BLOCK)
    shared = words(512)
    kept.store(shared + words(256, 1))
    kept.store(shared + words(256, 2))
    kept.store(words(256, 3))
    assert kept.match(shared + words(256, 1)) == 512
    assert kept.match(shared + words(256, 2)) == 768


def test_what_is_pinned_goes_last() -> None:
    """An agent's conversation stays, however old, while there is any other; then it goes, too."""
    kept = Kept(budget=3 * BLOCK)
    kept.store(words(256, 0), owner="ada")
    kept.cache.pin("ada", words(256, 0), "")
    for seed in range(1, 9):
        kept.store(words(256, seed))
    assert kept.cache.held("ada") == 256
    kept.store(words(768, 9))
    assert kept.cache.held("ada") == 0
    assert kept.cache.owners() == []
    kept.check()


def test_a_beginning_is_kept_where_not_all_fits() -> None:
    """A sequence larger than the pool is kept as far as whole blocks fit, and evicts none of its own."""
    kept = Kept(budget=3 * BLOCK + 10)
    tokens = words(2000)
    assert kept.store(tokens[:512]) == 512
    assert kept.store(tokens) == 256
    assert kept.match(tokens) == 768
    assert kept.store(tokens) == 0
    kept.check()


def test_nobody_is_evicted_for_what_cannot_fit() -> None:
    """If the next block has no room beside the sequence's own, others are left alone."""
    kept = Kept(budget=2 * BLOCK - 10)
    tokens = words(512)
    kept.store([*tokens[:300], 1])
    assert kept.store(tokens) == 0
    assert kept.match(tokens) == 300
    kept.check()


def test_evicting_to_a_fraction() -> None:
    """Room is made before it is needed; what is pinned is left unless it may go."""
    kept = Kept(budget=10 * BLOCK)
    for seed in range(10):
        kept.store(words(256, seed))
    kept.cache.pin("ada", words(256, 0), "")
    kept.cache.evict_to(0.55)
    assert kept.cache.pool.used == 5 * BLOCK
    kept.cache.evict_to(0.0)
    assert (kept.cache.pool.used, kept.cache.held("ada")) == (BLOCK, 256)
    kept.cache.evict_to(0.0, pinned=True)
    assert kept.cache.pool.used == 0
    kept.check()


def test_a_smaller_budget_evicts() -> None:
    """A pool that is made smaller holds no more than it may."""
    kept = Kept(budget=4 * BLOCK)
    kept.store(words(1024))
    kept.cache.pin("ada", words(700), "")
    kept.cache.reconfigure(2 * BLOCK)
    assert kept.match(words(1024)) == kept.cache.held("ada") == 512
    kept.cache.reconfigure(0)
    assert kept.store(words(10)) == 0
    kept.check()


def test_clearing() -> None:
    """When the LLM is unloaded nothing is held, pinned or told."""
    kept = Kept(MIXED)
    kept.store(words(600), owner="ada")
    kept.cache.pin("ada", words(600), "")
    kept.cache.clear()
    assert (kept.cache.pool.used, kept.cache.owners(), kept.contents.spilled) == (0, [], [])
    assert kept.store(words(600)) == 600
    kept.check()


def test_what_leaves_is_told_before() -> None:
    """Of what is evicted the contents can be read until it is dropped, a beginning first."""
    kept = Kept(budget=10 * BLOCK)
    kept.store(words(600), owner="ada")
    kept.use(words(600))
    kept.cache.evict_to(0.0)
    spilled = kept.contents.spilled
    assert [(node.start, len(node.tokens)) for node in spilled] == [(0, 256), (256, 256), (512, 88)]
    assert [node.name for node in spilled[:2]] == [node.parent for node in spilled[1:]]
    assert all((set(node.owners), node.uses) == ({"ada"}, 1) for node in spilled)
    assert not kept.contents.blocks


def test_a_spill_that_fails_loses_no_blocks() -> None:
    """If telling fails, the blocks are dropped all the same and the error passes on."""
    kept = Kept(budget=BLOCK)

    def spill(leaving: list[NodeView]) -> None:
        raise Failure

    kept.cache._stock._spill = spill
    kept.store(words(256))
    with pytest.raises(Failure):
        kept.store(words(256, 1))
    kept.check()
    assert kept.cache.pool.used == 0


def test_a_later_snapshot_lets_an_earlier_one_go() -> None:
    """Of one conversation the snapshots before the last go before any of its blocks."""
    kept = Kept(MIXED, budget=300 * MIXED.token_bytes + 3 * MIXED.snapshot_bytes(9))
    tokens = words(300)
    kept.store(tokens, snapshot=False)
    for length in (100, 200, 300):
        kept.store(tokens[:length])
    kept.store(words(1, 1))
    assert kept.match(tokens) == 300
    assert kept.match(tokens, most=299) == 200
    kept.check()


def test_a_snapshot_that_is_used_stays() -> None:
    """The snapshot that others go on from is not the first to go."""
    kept = Kept(MIXED, budget=300 * MIXED.token_bytes + 3 * MIXED.snapshot_bytes(9))
    tokens = words(300)
    kept.store(tokens, snapshot=False)
    for length in (100, 200, 300):
        kept.store(tokens[:length])
    kept.use(tokens[:150])
    kept.store(words(1, 1))
    assert [kept.match(tokens, most=most) for most in (199, 299)] == [100, 100]


def test_blocks_without_a_snapshot_behind_them_go_with_it() -> None:
    """Keys and values that no snapshot needs any more do not stay for nothing."""
    kept = Kept(MIXED)
    kept.store(words(1000))
    kept.cache.pin("ada", words(1000), "")
    kept.cache.evict_to(kept.cache.pool.used / kept.cache.pool.budget - 1e-6, pinned=True)
    assert kept.cache.pool.used == 0
    assert [len(node.snapshots) for node in kept.contents.spilled] == [0, 0, 0, 1]
    kept.check()


def test_a_snapshot_covered_within_its_node() -> None:
    """A later snapshot in the same block lets an earlier one go as well."""
    kept = Kept(MIXED, budget=200 * MIXED.token_bytes + 2 * MIXED.snapshot_bytes(9))
    tokens = words(200)
    kept.store(tokens, snapshot=False)
    kept.store(tokens[:100])
    kept.store(tokens)
    kept.store(words(1, 1))
    assert (kept.match(tokens), kept.match(tokens, most=199)) == (200, 0)
    kept.check()


def test_earlier_snapshots_make_room_for_a_later_one() -> None:
    """Of its own way a sequence gives up all snapshots but the last, for the next one."""
    kept = Kept(MIXED, budget=768 * MIXED.token_bytes + 2 * MIXED.snapshot_bytes(9))
    tokens = words(768)
    assert [kept.store(tokens[:length]) for length in (256, 512, 768)] == [256] * 3
    assert [kept.match(tokens, most=most) for most in (511, 767, 768)] == [0, 512, 768]
    kept.check()


def test_the_last_snapshot_is_never_given_up() -> None:
    """A new snapshot without room beside the last one on its way is not taken, and nothing goes for it."""
    budget = (256 + 9) * MIXED.token_bytes + 2 * MIXED.snapshot_bytes(9) - 1
    kept = Kept(MIXED, budget=budget)
    tokens = words(265)
    for length in (1, 256):
        kept.store(tokens[:length])
    assert kept.store(tokens) == 0
    assert [kept.match(tokens, most=most) for most in (255, 265)] == [1, 256]
    kept.check()


def test_a_sequence_never_makes_room_for_itself() -> None:
    """Storing more of a sequence evicts what others have pinned before the sequence's own beginning."""
    kept = Kept(budget=2 * BLOCK)
    kept.store(words(256, 1), owner="ada")
    kept.cache.pin("ada", words(256, 1), "")
    kept.store(words(512)[:256])
    kept.store(words(512))
    assert (kept.match(words(512)), kept.cache.held("ada")) == (512, 0)
    kept.check()


def test_a_way_outlives_the_branch_that_needed_it() -> None:
    """The beginning of what is being stored stays though the last snapshot behind it goes to make room."""
    kept = Kept(MIXED, budget=300 * MIXED.token_bytes + MIXED.snapshot_bytes(9))
    shared = words(256)
    kept.store(shared + words(40, 1))
    kept.store(shared + words(44, 2))
    assert kept.match(shared + words(44, 2)) == 300
    kept.check()


def test_a_snapshot_that_must_stay_leaves_no_room() -> None:
    """If a new snapshot fits only without the last one on its own way, nothing is evicted for it."""
    kept = Kept(MIXED, budget=256 * MIXED.token_bytes + 40 * MIXED.token_bytes + 2 * MIXED.snapshot_bytes(9))
    shared = words(256)
    kept.store(shared)
    kept.store(shared + words(40, 1))
    kept.use(shared)
    assert kept.store(shared + words(41, 2)) == 0
    assert (kept.match(shared + words(40, 1)), kept.match(shared)) == (296, 256)
    kept.check()


def test_what_is_to_be_superseded_is_not_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shorter node stays until the longer one is there, though it was used long ago and not compared."""
    monkeypatch.setattr(index, "COMPARED", 0)
    kept = Kept(budget=100 * CUTTABLE.token_bytes + BLOCK)
    tokens = words(256)
    kept.store(tokens[:100])
    kept.store(words(50, 1))
    kept.store(tokens)
    assert kept.match(tokens) == 256
    assert kept.cache.stats().nodes == 1
    kept.check()


def test_a_pin_follows_the_conversation() -> None:
    """The next turn pins the longer sequence; an edited one lets go of the branch that it left."""
    kept = Kept()
    tokens = words(600)
    kept.store(tokens[:300], owner="ada")
    kept.cache.pin("ada", tokens[:300], "")
    kept.store(tokens, owner="ada")
    assert kept.cache.held("ada") == 300
    kept.cache.pin("ada", tokens, "")
    assert kept.cache.held("ada") == 600
    edited = [*tokens[:256], *words(50, 1)]
    kept.store(edited, owner="ada")
    kept.cache.pin("ada", edited, "")
    assert kept.cache.held("ada") == 306
    kept.cache.evict_to(0.0)
    assert kept.match(tokens) == 256
    assert kept.match(edited) == 306
    assert [len(node.tokens) for node in kept.cache.pinned("ada")] == [256, 50]
    kept.check()


def test_two_agents_pin_one_beginning() -> None:
    """What one lets go of stays pinned for the other."""
    kept = Kept()
    shared = words(256)
    for seed, owner in ((1, "ada"), (2, "bob")):
        kept.store(shared + words(10, seed), owner=owner)
        kept.cache.pin(owner, shared + words(10, seed), "")
    assert kept.cache.stats().pinned_bytes == 276 * CUTTABLE.token_bytes
    kept.cache.unpin("ada")
    kept.cache.evict_to(0.0)
    assert kept.cache.stats().pinned_bytes == kept.cache.pool.used == 266 * CUTTABLE.token_bytes
    assert sorted(kept.cache.owners()) == ["bob"]
    kept.cache.unpin("nobody")
    kept.check()


def test_another_takes_a_pinned_tail_on() -> None:
    """If somebody stores more behind an agent's last words, the longer block is the agent's as well."""
    kept = Kept()
    tokens = words(200)
    kept.store(tokens[:100], owner="ada")
    kept.cache.pin("ada", tokens[:100], "")
    kept.store(tokens)
    assert kept.cache.held("ada") == 100
    kept.cache.evict_to(0.0)
    assert kept.match(tokens) == 200
    kept.check()


def test_forgetting_an_agent() -> None:
    """What only it has is dropped without a word to the disk; what others have or go on from stays."""
    kept = Kept()
    shared = words(256)
    kept.store(shared + words(400, 1), owner="ada")
    kept.store(shared + words(400, 2), owner="bob")
    kept.store(words(300, 3), owner="ada")
    kept.store(words(300, 3) + words(300, 4))
    kept.cache.pin("ada", shared + words(400, 1), "")
    kept.cache.forget("ada")
    assert kept.match(shared + words(400, 1)) == 256
    assert kept.match(shared + words(400, 2)) == 656
    assert kept.match(words(300, 3) + words(300, 4)) == 600
    assert (kept.cache.owners(), kept.cache.held("ada"), kept.contents.spilled) == ([], 0, [])
    kept.cache.forget("bob")
    kept.check()
    assert kept.match(shared) == 0


def test_forgetting_one_of_two_owners() -> None:
    """What another agent has as well stays until that one is forgotten, too."""
    kept = Kept()
    for owner in ("ada", "bob"):
        kept.store(words(10), owner=owner)
    kept.cache.forget("ada")
    assert kept.match(words(10)) == 10
    kept.cache.forget("bob")
    assert kept.match(words(10)) == 0


def test_forgetting_takes_what_is_useless_then() -> None:
    """Blocks whose last snapshot goes with an agent go as well, whoever else had them."""
    kept = Kept(MIXED)
    shared = words(256)
    kept.store(shared, owner="bob", snapshot=False)
    kept.store(shared + words(100, 1), owner="ada")
    kept.store(words(9, 2), owner="bob", snapshot=False)  # its snapshot is still to come from disk
    kept.cache.forget("ada")
    assert kept.cache.pool.used == 9 * MIXED.token_bytes
    kept.check()
