"""A stand-in for a backend's blocks: what each holds is the tokens that made it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from workers.cache import CacheSpec, LayerSpec, NodeView, Piece, Prefix, PrefixCache

Words = tuple[int, ...]

CUTTABLE = CacheSpec((LayerSpec("full", 1, 1, 1),), "F16")
"""4 bytes a token."""

MIXED = CacheSpec(
    (
        LayerSpec("full", 1, 1, 1),
        LayerSpec("sliding", 1, 1, 1, window=6),
        LayerSpec("state", state_bytes=10),
    ),
    "F16",
)
"""4 bytes a token; a snapshot takes 4 a token up to 6 tokens, and 10 more."""

STATES = CacheSpec((LayerSpec("state", state_bytes=10),), "F16")
"""Snapshots of 10 bytes, and no blocks."""


class Failure(Exception):  # noqa: N818 - named for what happened
    """A copy that failed."""


@dataclass(frozen=True)
class Held:
    """Keys and values of the last tokens, from ``start`` on; a snapshot of all has no ``start``."""

    salt: str
    tokens: Words
    start: int | None


@dataclass
class Contents:
    """All blocks there are, and what has happened to them."""

    blocks: dict[int, Held] = field(default_factory=dict)
    spilled: list[NodeView] = field(default_factory=list)
    fills: int = 0

    def fill(
        self, tokens: Sequence[int], salt: str = "", *, fails: bool = False
    ) -> Callable[[list[Piece], int | None], None]:
        """What copies a row's cache, which holds ``tokens``, into new blocks."""

        def copy(pieces: list[Piece], snapshot: int | None) -> None:
            self.fills += 1
            if fails:
                raise Failure
            for piece in pieces:
                self._make(piece.block, Held(salt, tuple(tokens[: piece.stop]), piece.start))
            if snapshot is not None:
                self._make(snapshot, Held(salt, tuple(tokens), None))

        return copy

    def _make(self, block: int, held: Held) -> None:
        assert block not in self.blocks
        self.blocks[block] = held

    def drop(self, blocks: list[int]) -> None:
        """Forget blocks, each of which there must be."""
        assert blocks
        for block in blocks:
            del self.blocks[block]

    def spill(self, leaving: list[NodeView]) -> None:
        """Nodes leave: their contents must still be there, and be theirs."""
        assert leaving
        for node in leaving:
            if node.block is not None:
                held = self.blocks[node.block]
                assert (held.tokens[node.start :], held.start) == (tuple(node.tokens), node.start)
            for offset, block in node.snapshots.items():
                assert len(self.blocks[block].tokens) == node.start + offset
        self.spilled += leaving

    def check(self, prefix: Prefix, tokens: Sequence[int], salt: str, spec: CacheSpec) -> None:
        """A prefix must hold exactly the beginning of ``tokens``."""
        begin = tuple(tokens[: prefix.length])
        assert len(begin) == prefix.length
        at = 0
        for piece in prefix.pieces:
            held = self.blocks[piece.block]
            assert (held.salt, held.start, piece.start) == (salt, at, at)
            assert at < piece.stop <= len(held.tokens)
            assert held.tokens[: piece.stop] == begin[: piece.stop]
            at = piece.stop
        assert at == (prefix.length if spec.token_bytes else 0)
        if spec.can_be_cut or not prefix.length:
            assert prefix.snapshot is None
        else:
            assert prefix.snapshot is not None
            assert self.blocks[prefix.snapshot] == Held(salt, begin, None)

    def longest(self, tokens: Sequence[int], salt: str, spec: CacheSpec) -> int:
        """How many of the first tokens the blocks there are hold, without a look at the index."""
        words = tuple(tokens)
        mine = [held for held in self.blocks.values() if held.salt == salt]
        if spec.can_be_cut:
            return _covered(mine, words, 0)
        reach = _covered(mine, words, 0) if spec.token_bytes else len(words)
        states = [
            len(held.tokens)
            for held in mine
            if held.start is None and words[: len(held.tokens)] == held.tokens
        ]
        return max((length for length in states if length <= reach), default=0)


def _covered(blocks: list[Held], tokens: Words, at: int) -> int:
    """The longest beginning of ``tokens`` that blocks hold without a gap, from ``at`` on."""
    longest = at
    for held in blocks:
        if held.start == at and held.tokens[:at] == tokens[:at]:
            common = _common(held.tokens, tokens)
            whole = common == len(held.tokens) > at
            longest = max(longest, _covered(blocks, tokens, common) if whole else common)
    return longest


def _common(one: Words, other: Words) -> int:
    pairs = zip(one, other, strict=False)
    return next((at for at, (mine, its) in enumerate(pairs) if mine != its), min(len(one), len(other)))


class Kept:
    """A cache with its blocks; what it hands over is checked each time."""

    def __init__(self, spec: CacheSpec = CUTTABLE, budget: int = 10**6) -> None:
        self.spec = spec
        self.contents = Contents()
        self.cache = PrefixCache(spec, "llm", budget, self.contents.drop, spill=self.contents.spill)

    def store(
        self,
        tokens: Sequence[int],
        salt: str = "",
        *,
        owner: str | None = None,
        snapshot: bool = True,
        fails: bool = False,
    ) -> int:
        """Keep what a row has computed."""
        fill = self.contents.fill(tokens, salt, fails=fails)
        return self.cache.store(tokens, salt, fill, owner=owner, snapshot=snapshot)

    def match(self, tokens: Sequence[int], salt: str = "", most: int | None = None) -> int:
        """How many tokens are handed over for a sequence."""
        prefix = self.cache.match(tokens, salt, len(tokens) if most is None else most)
        self.contents.check(prefix, tokens, salt, self.spec)
        return prefix.length

    def use(self, tokens: Sequence[int], salt: str = "") -> None:
        """A row gets its prefix."""
        self.cache.use(tokens, salt, self.cache.match(tokens, salt, len(tokens)))

    def check(self) -> None:
        """The books are right, and the blocks are those that the cache knows of."""
        self.cache.check_integrity()
        assert self.cache.blocks() == set(self.contents.blocks)
        assert self.cache.pool.used + self.cache.pool.free_bytes == self.cache.pool.budget
