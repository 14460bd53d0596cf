"""What is kept of sequences, and what of it others get."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from workers.cache import NOTHING, Piece, chain, index

from .contents import CUTTABLE, MIXED, STATES, Failure, Kept

BLOCK = chain.BLOCK_TOKENS


def words(count: int, seed: int = 0) -> list[int]:
    """So many tokens of a vocabulary."""
    return random.Random(seed).choices(range(150_000), k=count)


def test_nothing_is_cached_at_first() -> None:
    """An empty cache hands nothing over."""
    kept = Kept()
    assert kept.cache.match(words(10), "", 10) == NOTHING
    assert kept.cache.walk(words(10), "") == []


def test_a_sequence_is_kept_in_blocks() -> None:
    """A sequence becomes whole blocks and a partial one; asked for again, it is all there."""
    kept = Kept()
    tokens = words(600)
    assert kept.store(tokens) == 600
    assert kept.match(tokens) == 600
    prefix = kept.cache.match(tokens, "", 600)
    assert [(piece.start, piece.stop) for piece in prefix.pieces] == [(0, 256), (256, 512), (512, 600)]
    assert kept.cache.pool.used == 600 * CUTTABLE.token_bytes
    kept.check()


def test_at_most_so_many_tokens() -> None:
    """A row computes its last token itself: the prefix is cut to the token."""
    kept = Kept()
    tokens = words(600)
    kept.store(tokens)
    for most in (599, 512, 511, 1):
        assert kept.match(tokens, most=most) == most
    assert kept.match(tokens, most=0) == kept.match(tokens, most=-1) == 0


def test_a_common_beginning_is_stored_once() -> None:
    """32 agents on one beginning of 2,048 tokens take its bytes once, and those of their tails."""
    kept = Kept()
    shared = words(2048)
    for agent in range(32):
        kept.store(shared + words(100, agent), owner=str(agent))
    assert kept.cache.pool.used == (2048 + 32 * 100) * CUTTABLE.token_bytes
    stats = kept.cache.stats()
    assert (stats.nodes, stats.tokens, stats.snapshots) == (8 + 32, 2048 + 3200, 0)
    assert (stats.nbytes, stats.shared_bytes) == (kept.cache.pool.used, 2048 * CUTTABLE.token_bytes)
    kept.check()


def test_a_beginning_is_common_to_the_token() -> None:
    """Sequences that part within a block share it up to there; the child with most in common is chosen."""
    kept = Kept()
    tokens = words(500)
    kept.store(tokens)
    kept.store([*tokens[:300], 1, 2, 3])
    assert kept.match([*tokens[:400], 7, 8]) == 400
    assert kept.match([*tokens[:300], 1, 9]) == 301
    assert kept.match([*tokens[:100], 7]) == 100
    assert kept.match([7, *tokens]) == 0


def test_only_what_is_missing_is_filled() -> None:
    """Going on fills the new blocks alone, and storing what is there fills nothing."""
    kept = Kept()
    tokens = words(1000)
    seen: list[list[Piece]] = []

    def fill(pieces: list[Piece], snapshot: int | None) -> None:
        seen.append(pieces)
        kept.contents.fill(tokens)(pieces, snapshot)

    kept.store(tokens[:512])
    assert kept.store(tokens[:300]) == 0
    gained = kept.cache.store(tokens, "", fill)
    assert gained == 488
    assert [[(piece.start, piece.stop) for piece in pieces] for pieces in seen] == [[(512, 768), (768, 1000)]]
    fills = kept.contents.fills
    assert kept.store(tokens) == 0
    assert kept.contents.fills == fills


def test_a_longer_node_supersedes_a_partial_one() -> None:
    """The partial block of the last turn makes way for the one that goes on from it."""
    kept = Kept()
    tokens = words(700)
    assert [kept.store(tokens[:length]) for length in (100, 200, 256, 700)] == [100, 100, 56, 444]
    assert kept.cache.stats().nodes == 3
    kept.use(tokens[:650])
    kept.store([*tokens, 1], owner="ada")
    (*_, last) = kept.cache.walk([*tokens, 1], "")
    assert (len(last.tokens), last.uses) == (189, 1)
    kept.cache.evict_to(0.0)
    kept.store(tokens)
    assert kept.cache.pool.used == 700 * CUTTABLE.token_bytes
    kept.check()


def test_a_copy_that_fails_leaves_no_trace() -> None:
    """If the contents cannot be copied, the error passes on and the books are as before."""
    kept = Kept()
    tokens = words(700)
    kept.store(tokens[:300])
    used, blocks = kept.cache.pool.used, kept.cache.blocks()
    with pytest.raises(Failure):
        kept.store(tokens, owner="ada", fails=True)
    assert (kept.cache.pool.used, kept.cache.blocks()) == (used, blocks)
    assert kept.match(tokens) == 300
    kept.check()


def test_salts_are_apart() -> None:
    """Tenants under different salts never get each other's blocks."""
    kept = Kept()
    tokens = words(300)
    kept.store(tokens, "one")
    assert kept.match(tokens, "two") == 0
    kept.store(tokens, "two")
    assert kept.match(tokens, "one") == kept.match(tokens, "two") == 300
    assert kept.cache.root("one") != kept.cache.root("two")
    kept.check()


@pytest.mark.parametrize("spec", [CUTTABLE, MIXED])
def test_a_collision_hands_nothing_over(spec: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """If all sequences had one name, the first would be kept and nobody else would get anything of it."""
    monkeypatch.setattr(chain, "link", lambda *_: b"same")
    monkeypatch.setattr(chain, "root", lambda *_: b"same")
    kept = Kept(MIXED if spec is MIXED else CUTTABLE)
    one, other = words(600), words(600, 1)
    kept.store(one, snapshot=False)
    kept.check()
    for tokens, salt in ((one, ""), (other, ""), (one, "tenant"), (one, "")):
        kept.store(tokens[:256], salt)
        kept.store(tokens, salt)
        kept.check()
    assert kept.match(one) == 256
    assert kept.match(other) == kept.match(one, "tenant") == 0


def test_where_to_go_on_from_disk() -> None:
    """The last whole node on a sequence's way has a position and a name of the chain; the root has, too."""
    kept = Kept()
    tokens = words(600)
    root = chain.root("llm", "")
    assert kept.cache.reach(tokens, "").name == root
    kept.store(tokens)
    reach = kept.cache.reach(tokens, "")
    first = chain.link(root, tokens[:256])
    assert (reach.position, reach.name) == (512, chain.link(first, tokens[256:512]))
    assert kept.cache.reach(tokens[:256], "").name == first


def test_the_nodes_on_the_way() -> None:
    """A sequence's nodes are told with all that the disk needs; one that parts from it is none of them."""
    kept = Kept()
    tokens = words(300)
    kept.store(tokens, owner="ada")
    kept.use(tokens)
    first, last = kept.cache.walk([*tokens, 1], "")
    assert (first.start, len(first.tokens), last.start, list(last.tokens)) == (0, 256, 256, tokens[256:])
    assert (first.parent, last.parent) == (kept.cache.root(""), first.name)
    assert (set(first.owners), first.uses, dict(last.snapshots)) == ({"ada"}, 1, {})
    assert {first.block, last.block} == kept.cache.blocks()
    assert len(kept.cache.walk(tokens[:280], "")) == 2  # the last holds more
    assert len(kept.cache.walk([*tokens[:280], 1], "")) == 1


def test_blocks_come_back_from_disk_one_by_one() -> None:
    """What was read back is entered node by node, each by a fill that knows it alone."""
    source, kept = Kept(), Kept()
    tokens = words(600)
    source.store(tokens)
    end = 0
    for node in source.cache.walk(tokens, ""):
        end += len(node.tokens)
        assert kept.store(tokens[:end], owner="ada") == len(node.tokens)
    assert kept.match(tokens) == 600
    assert kept.contents.fills == 3
    kept.check()


def test_tokens_beyond_the_nodes_compared() -> None:
    """Behind one node very many may stand: the same sequence is found by name, others among the last."""
    kept = Kept()
    sequences = [[1, *words(50, seed)] for seed in range(200)]
    for tokens in sequences:
        kept.store(tokens)
    assert all(kept.match(tokens) == 51 for tokens in sequences)
    assert kept.match([*sequences[0][:40], 2]) == 1
    kept.use(sequences[0])
    assert kept.match([*sequences[0][:40], 2]) == 40
    mixed = Kept(MIXED)
    sequences = [[1, *words(300, seed)] for seed in range(100)]
    for tokens in sequences:
        mixed.store(tokens[:100])
        mixed.store(tokens)
    assert all(mixed.match(tokens, most=300) == 100 for tokens in sequences)


def test_shared_bytes() -> None:
    """Shared is what has several owners, or several continuations whoever has them."""
    kept = Kept()
    kept.store(words(256) + words(10, 1))
    assert kept.cache.stats().shared_bytes == 0
    kept.store(words(256) + words(10, 2))
    assert kept.cache.stats().shared_bytes == 256 * CUTTABLE.token_bytes
    for owner in ("ada", "bob"):
        kept.store(words(9, 3), owner=owner)
    assert kept.cache.stats().shared_bytes == 265 * CUTTABLE.token_bytes


def test_snapshots_are_where_it_goes_on() -> None:
    """Layers that cannot be cut go on only from a snapshot, though keys and values are there beyond it."""
    kept = Kept(MIXED)
    tokens = words(700)
    kept.store(tokens[:300])
    kept.store(tokens)
    assert kept.match(tokens) == 700
    assert kept.match(tokens, most=699) == 300
    assert kept.match([*tokens[:650], 1]) == 300
    assert kept.match(tokens, most=299) == 0
    assert kept.cache.pool.used == 700 * MIXED.token_bytes + 2 * MIXED.snapshot_bytes(700)
    kept.check()


def test_a_snapshot_moves_to_the_longer_node() -> None:
    """The partial block that a snapshot was taken with is superseded, and the snapshot stays."""
    kept = Kept(MIXED)
    tokens = words(256)
    for length in (100, 150, 256):
        kept.store(tokens[:length])
    assert [kept.match(tokens, most=most) for most in (99, 149, 255, 256)] == [0, 100, 150, 256]
    (node,) = kept.cache.walk(tokens, "")
    assert set(node.snapshots) == {100, 150, 256}
    kept.check()


def test_two_partial_nodes_with_one_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes of which one is the other's beginning, stored unseen, are superseded together, nothing lost."""
    monkeypatch.setattr(index, "COMPARED", 0)
    kept = Kept(MIXED)
    tokens = words(256)
    for length in (100, 150, 100):
        kept.store(tokens[:length])
    assert kept.cache.stats().nodes == 2
    kept.store(tokens)
    assert (kept.cache.stats().nodes, kept.cache.stats().snapshots) == (1, 3)
    kept.check()


def test_a_snapshot_within_another_branch() -> None:
    """A sequence gets the snapshot of a beginning even where its own blocks have none."""
    kept = Kept(MIXED)
    tokens = words(600)
    kept.store(tokens[:100])
    kept.store(tokens[:600])
    other = [*tokens[:150], *words(450, 1)]
    kept.store(other)
    assert kept.match([*other[:400], 1, 2]) == 100


def test_a_snapshot_is_added_to_what_is_there() -> None:
    """A snapshot in the middle of a node that is there needs no new block but its own."""
    kept = Kept(MIXED)
    tokens = words(300)
    kept.store(tokens)
    used = kept.cache.pool.used
    assert kept.store(tokens[:280]) == 0
    assert kept.cache.pool.used == used + MIXED.snapshot_bytes(280)
    assert kept.match(tokens, most=299) == 280
    fills = kept.contents.fills
    kept.store(tokens[:280])
    assert kept.contents.fills == fills


def test_an_llm_without_keys_and_values() -> None:
    """Where all layers have a state alone, nodes have no blocks and prefixes no pieces."""
    kept = Kept(STATES)
    tokens = words(300)
    kept.store(tokens)
    prefix = kept.cache.match([*tokens, 1], "", 300)
    assert (prefix.length, prefix.pieces) == (300, ())
    assert kept.cache.pool.used == STATES.snapshot_bytes(300)
    assert [node.block for node in kept.cache.walk(tokens, "")] == [None, None]
    kept.check()


def test_a_state_that_does_not_fit_is_not_begun() -> None:
    """Without room for a snapshot and all before it nothing is kept, and nothing evicted for it."""
    kept = Kept(MIXED, budget=300 * MIXED.token_bytes)
    kept.store(words(100))
    assert kept.store(words(400, 1)) == 0
    assert kept.match(words(100)) == 100
    kept.check()


def test_wrong_books_are_noticed() -> None:
    """Integrity fails if a node has lost its block, its name, its order or its pin."""

    def fails(message: str, kept: Kept) -> None:
        with pytest.raises(AssertionError, match=message):
            kept.cache.check_integrity()

    def fresh() -> tuple[Kept, Iterable[object]]:
        kept = Kept(MIXED)
        kept.store(words(300), owner="ada")
        kept.cache.pin("ada", words(300), "")
        kept.check()
        return kept, list(kept.cache._stock.index)

    kept, _ = fresh()
    kept.cache.pool.allocate(4)
    fails("not those of the nodes", kept)
    for attribute, value, message in (
        ("name", b"x", "name is not its link"),
        ("start", 5, "starts where"),
        ("deep", 7, "counted wrongly"),
        ("pins", set(), "wrong line"),
        ("owners", set(), "does not own it"),
        ("parent", None, "wrong place"),
        ("block", None, "not those of the nodes"),
    ):
        kept, nodes = fresh()
        setattr(list(nodes)[-1], attribute, value)
        fails(message, kept)
