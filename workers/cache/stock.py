"""All nodes that are held, with everything that knows of them: tree, order, pins and the pool's books."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from workers.cache.index import PrefixIndex
from workers.cache.node import Node, NodeView, Snapshot
from workers.cache.pins import Pins
from workers.cache.pool import BlockPool
from workers.cache.recency import Recency
from workers.cache.spec import CacheSpec

Drop = Callable[[list[int]], None]
Spill = Callable[[list[NodeView]], None]


class Stock:
    """Enters nodes, and lets them go: one by one, or those that nobody needs most when room is needed."""

    def __init__(
        self, spec: CacheSpec, fingerprint: str, budget: int, drop: Drop, spill: Spill | None
    ) -> None:
        self._spec = spec
        self._drop = drop
        self._spill = spill
        self.pool = BlockPool(budget)
        self.index = PrefixIndex(fingerprint)
        self.recency = Recency()
        self.pins = Pins(self.recency)

    def touch(self, way: Sequence[Node]) -> None:
        """The nodes of a way, its beginning first, were used."""
        self.recency.touch(way)
        for node in way:
            self.index.touch(node)

    def supersede(self, old: Node, new: Node) -> None:
        """Put a longer node in the place of one that holds only its beginning, with its snapshots."""
        for offset, snapshot in list(old.snapshots.items()):
            if offset not in new.snapshots:
                self.index.remove_snapshot(old, offset)
                snapshot.node = new
                self.index.add_snapshot(snapshot)
        new.uses += old.uses
        new.owners |= old.owners
        self.pins.replace(old, new)
        self._release(self._take_out(old))

    def evict(self, limit: int, *, pinned: bool, keep: Collection[Node] = ()) -> None:
        """Let go until at most ``limit`` bytes are used: none of ``keep``, what is pinned only if ``pinned``.

        ``keep`` must be ways from the beginning that were touched last.
        """
        leaving: list[NodeView] = []
        blocks: list[int] = []
        while self.pool.used > limit:
            item = self.recency.oldest(keep, pinned=pinned)
            if item is None:
                break
            if isinstance(item, Snapshot):
                blocks += self._let_go(item)
                continue
            for node in self._with_useless(item, keep):
                leaving.append(NodeView.of(node))
                blocks += self._take_out(node)
        try:
            if leaving and self._spill is not None:
                self._spill(leaving[::-1])
        finally:
            self._release(blocks)

    def forget(self, owner: str) -> None:
        """Drop what only this owner has, and its name from the rest."""
        self.pins.unpin(owner)
        blocks: list[int] = []
        bereft: set[Node | None] = set()
        for node in list(self.recency):
            is_useless = node in bereft and self._is_useless(node)
            if not node.children and (node.owners == {owner} or is_useless):
                blocks += self._take_out(node)
                bereft.add(node.parent)
            node.owners.discard(owner)
        self._release(blocks)

    def clear(self) -> None:
        """Drop everything."""
        blocks = [block for node in list(self.recency) for block in self._take_out(node)]
        self._release(blocks)

    def fixed_bytes(self, keep: Collection[Node]) -> int:
        """Bytes of nodes that must stay, with those of the latest snapshot, which cannot go alone."""
        fixed = [node.block for node in keep if node.block is not None]
        latest = max((node.start for node in keep if node.snapshots), default=0)
        ends = [node.snapshots for node in keep if node.snapshots and node.start == latest]
        fixed += [snapshots[max(snapshots)].block for snapshots in ends]
        return sum(self.pool.size(block) for block in fixed)

    def _with_useless(self, node: Node, keep: Collection[Node]) -> Iterable[Node]:
        """A node that goes, then those before it that are useless then. Each is gone when the next comes."""
        before = node.parent
        yield node
        while before is not None and before not in keep and self._is_useless(before):
            node, before = before, before.parent
            yield node

    def _is_useless(self, node: Node) -> bool:
        """Whether nothing can go on from here: there is no snapshot, and the LLM needs one."""
        is_end = node.parent is not None and not node.children and not node.deep
        return is_end and not self._spec.can_be_cut

    def _let_go(self, snapshot: Snapshot) -> list[int]:
        """Drop a snapshot alone, unless what covered it has gone before it."""
        self.recency.discard(snapshot)
        if not snapshot.is_covered:
            return []
        self.index.remove_snapshot(snapshot.node, snapshot.offset)
        self.pool.free(snapshot.block)
        return [snapshot.block]

    def _take_out(self, node: Node) -> list[int]:
        """Remove a node without children from all that know of it; returns its blocks, to be dropped."""
        blocks = list(node.blocks())
        for block in blocks:
            self.pool.free(block)
        for snapshot in node.snapshots.values():
            self.recency.discard(snapshot)
        self.recency.discard(node)
        self.pins.gone(node)
        self.index.remove(node)
        return blocks

    def _release(self, blocks: list[int]) -> None:
        if blocks:
            self._drop(blocks)

    def check_integrity(self) -> None:
        """Raise AssertionError unless all parts tell the same."""
        nodes = list(self.index)
        self.index.check_integrity()
        self.recency.check_integrity(nodes)
        self.pins.check_integrity(nodes)
        self.pool.check_integrity()
        sizes: dict[int, int] = {}
        for node in nodes:
            if node.block is not None:
                sizes[node.block] = self._spec.block_bytes(len(node.tokens))
            for snapshot in node.snapshots.values():
                sizes[snapshot.block] = self._spec.snapshot_bytes(snapshot.position)
        if {block: self.pool.size(block) for block in self.pool.blocks()} != sizes:
            raise AssertionError("the pool's blocks are not those of the nodes")
        if any((node.block is None) != (not self._spec.token_bytes) for node in nodes):
            raise AssertionError("a node lacks its keys and values")
