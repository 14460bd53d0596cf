"""The cache of prefixes: what of a sequence need not be computed, and what goes when room is needed."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from workers.cache.index import Way
from workers.cache.node import Node, NodeView, Snapshot
from workers.cache.plan import Plan
from workers.cache.pool import BlockPool
from workers.cache.prefix import NOTHING, Piece, Prefix
from workers.cache.spec import CacheSpec
from workers.cache.stock import Drop, Spill, Stock

__all__ = ["CacheStats", "NodeView", "PrefixCache", "Reach"]

Fill = Callable[[list[Piece], int | None], None]


@dataclass(frozen=True, slots=True)
class Reach:
    """Where the whole nodes of a sequence end, and the name of the last: the root's where there is none."""

    position: int
    name: bytes


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What is held. ``shared_bytes`` are those of nodes with several owners or several continuations."""

    nodes: int
    tokens: int
    snapshots: int
    nbytes: int
    pinned_bytes: int
    shared_bytes: int


class PrefixCache:
    """Keeps the caches of one LLM's sequences in ``budget_bytes``, each common beginning once.

    ``drop`` is called with the blocks that are no longer held. Before that
    ``spill``, if given, is told of the nodes that are evicted, those before
    others first: their contents can still be read then.

    An LLM whose layers cannot all be cut goes on only from a snapshot. Where
    it has no layers with keys and values at all, nodes have no blocks and
    prefixes no pieces. Tokens are below 2**32. Everything is called from one thread.
    """

    def __init__(
        self,
        spec: CacheSpec,
        fingerprint: str,
        budget_bytes: int,
        drop: Drop,
        *,
        spill: Spill | None = None,
    ) -> None:
        self.spec = spec
        self._stock = Stock(spec, fingerprint, budget_bytes, drop, spill)

    @property
    def pool(self) -> BlockPool:
        """The books of what is held."""
        return self._stock.pool

    # What is cached of a sequence.

    def match(self, tokens: Sequence[int], salt: str, most: int) -> Prefix:
        """The longest beginning of ``tokens`` that is cached, of at most ``most`` tokens. Changes nothing."""
        nodes, length, snapshot = self._find(tokens[: max(most, 0)], salt)
        if not length:
            return NOTHING
        pieces = (
            Piece(node.block, node.start, min(node.stop, length)) for node in nodes if node.block is not None
        )
        return Prefix(length, tuple(pieces), snapshot.block if snapshot else None)

    def use(self, tokens: Sequence[int], salt: str, prefix: Prefix) -> None:
        """A row got this prefix of its ``tokens``: its nodes are the last to go now.

        A node of which it got less than half does not count as used: what a template
        begins with is in every conversation, and is no reason to keep all of them.
        """
        nodes, _, snapshot = self._find(tokens[: prefix.length], salt)
        for node in nodes:
            node.uses += 2 * (min(node.stop, prefix.length) - node.start) >= len(node.tokens)
        if snapshot:
            self._stock.recency.refresh(snapshot)
        self._stock.touch(nodes)

    def walk(self, tokens: Sequence[int], salt: str) -> list[NodeView]:
        """The nodes that hold a sequence, its beginning first, as far as it is cached.

        The last one may hold more than the sequence has.
        """
        return [NodeView.of(node) for node in self._way(tokens, salt).within(len(tokens))]

    def reach(self, tokens: Sequence[int], salt: str) -> Reach:
        """Behind which whole node the rest of a sequence would stand, here or on disk."""
        last = self._way(tokens, salt).last
        return Reach(last.stop, last.name)

    def root(self, salt: str) -> bytes:
        """The name that stands before all first nodes under a salt."""
        return self._stock.index.root(salt).name

    # Keeping.

    def store(
        self,
        tokens: Sequence[int],
        salt: str,
        fill: Fill,
        *,
        owner: str | None = None,
        snapshot: bool = False,
    ) -> int:
        """Keep the cache of exactly ``tokens``; returns how many of them were not kept before.

        ``fill`` is called once with the pieces that are missing, in order, and
        with the block for a snapshot at the end if ``snapshot`` asks for one
        and the LLM has layers that cannot be cut; not at all if nothing is
        missing. When it has returned, they are entered; if it raises, nothing
        is, and the error passes on. Room is made by evicting others.

        Where there is no room for all, the beginning is kept as far as it
        fits; with a snapshot all or nothing is, for it would be of no use.
        ``owner`` counts as one of those whose conversation the nodes are.

        Blocks that were read back from disk are entered the same way: node by
        node, each with the tokens up to its end, where ``fill`` installs them.
        """
        wants_snapshot = snapshot and not self.spec.can_be_cut
        plan = Plan.of(array("I", tokens), salt, self._stock.index, snapshot=wants_snapshot)
        self._stock.touch(plan.keep)
        if plan.fresh or plan.is_wanted:
            self._allocate(plan)
        if plan.pieces or plan.is_wanted:
            try:
                fill(plan.pieces, plan.snapshot)
            except BaseException:
                self._give_back(plan)
                raise
        self._enter(plan, owner)
        return plan.gained

    def _allocate(self, plan: Plan) -> None:
        """Give the plan's nodes their blocks, as far as there can be room; with a snapshot all or none."""
        sizes = [self.spec.block_bytes(len(node.tokens)) for node in plan.fresh]
        state = self.spec.snapshot_bytes(plan.length) if plan.is_wanted else 0
        room = self.pool.budget - self._stock.fixed_bytes(plan.keep) - state
        if state and sum(sizes) > room:
            plan.cancel()
            return
        while sizes and sum(sizes) > room:  # nobody is evicted for what cannot fit
            sizes.pop()
            plan.fresh.pop()
        self._stock.evict(self.pool.budget - sum(sizes) - state, pinned=True, keep=set(plan.keep))
        for node, size in zip(plan.fresh, sizes, strict=True):
            node.block = self.pool.allocate(size) if size else None
        plan.snapshot = self.pool.allocate(state) if state else None

    def _give_back(self, plan: Plan) -> None:
        for block in plan.cancel():
            self.pool.free(block)

    def _enter(self, plan: Plan, owner: str | None) -> None:
        """Enter what was filled; the sequence's nodes are the last to go now."""
        stock, way = self._stock, plan.way
        for node in plan.fresh:
            stock.index.enter(node)
        if plan.snapshot is not None:
            end = way[-1]
            stock.index.add_snapshot(Snapshot(plan.snapshot, end, plan.length - end.start))
        if plan.fresh:
            for old in plan.superseded:
                stock.supersede(old, plan.fresh[0])
        if owner is not None:
            for node in way:
                node.owners.add(owner)
        stock.recency.enqueue(snapshot for node in way for snapshot in node.snapshots.values())
        stock.touch(way)

    # Agents.

    def pin(self, owner: str, tokens: Sequence[int], salt: str) -> None:
        """These tokens are the owner's latest conversation, which goes last; the one before is let go."""
        nodes = self._way(tokens, salt).within(len(tokens))
        for node in nodes:
            node.owners.add(owner)
        self._stock.pins.pin(owner, nodes, len(tokens))

    def unpin(self, owner: str) -> None:
        """The owner's conversation is one like all others."""
        self._stock.pins.unpin(owner)

    def owners(self) -> list[str]:
        """Those who have a conversation in memory that is pinned."""
        return self._stock.pins.owners()

    def held(self, owner: str) -> int:
        """Tokens of the owner's conversation that are in memory now."""
        return self._stock.pins.held(owner)

    def pinned(self, owner: str) -> list[NodeView]:
        """The nodes of the owner's conversation, its beginning first; the last may hold more than it has."""
        return [NodeView.of(node) for node in self._stock.pins.nodes(owner)]

    def forget(self, owner: str) -> None:
        """Drop what only this owner has stored, without telling ``spill``, and no longer name it anywhere."""
        self._stock.forget(owner)

    # Room.

    def evict_to(self, fraction: float, *, pinned: bool = False) -> None:
        """Evict until at most this part of the budget is used; what is pinned only if ``pinned``."""
        self._stock.evict(int(fraction * self.pool.budget), pinned=pinned)

    def reconfigure(self, budget: int) -> None:
        """Change the budget, in bytes; what does not fit any more is evicted."""
        self.pool.reconfigure(budget)
        self._stock.evict(budget, pinned=True)

    def clear(self) -> None:
        """Drop everything, without telling ``spill``."""
        self._stock.clear()

    def blocks(self) -> set[int]:
        """All blocks that are held."""
        return self.pool.blocks()

    def stats(self) -> CacheStats:
        """Count what is held; this looks at every node."""
        nodes = list(self._stock.index)
        shared = [node for node in nodes if len(node.owners) > 1 or node.fanout > 1]
        return CacheStats(
            nodes=len(nodes),
            tokens=sum(len(node.tokens) for node in nodes),
            snapshots=sum(len(node.snapshots) for node in nodes),
            nbytes=self.pool.used,
            pinned_bytes=self._bytes_of(node for node in nodes if node.pins),
            shared_bytes=self._bytes_of(shared),
        )

    def check_integrity(self) -> None:
        """Raise AssertionError unless tree, order, pins and books tell the same."""
        self._stock.check_integrity()

    def _way(self, tokens: Sequence[int], salt: str) -> Way:
        return self._stock.index.way(array("I", tokens), salt)

    def _find(self, tokens: Sequence[int], salt: str) -> tuple[list[Node], int, Snapshot | None]:
        """The nodes to be used for a sequence, up to which token, and the snapshot there if one is needed."""
        index, packed = self._stock.index, array("I", tokens)
        way = index.way(packed, salt)
        if self.spec.can_be_cut:
            return way.touched, way.length, None
        snapshot = index.last_snapshot(packed, way)
        if snapshot is None:
            return [], 0, None
        before = [node for node in way.nodes if node.stop <= snapshot.node.start]
        return [*before, snapshot.node], snapshot.position, snapshot

    def _bytes_of(self, nodes: Iterable[Node]) -> int:
        return sum(self.pool.size(block) for node in nodes for block in node.blocks())
