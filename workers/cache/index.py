"""The tree of cached beginnings: finds the longest one of a sequence.

Nodes are found by their names in the hash chain, and every one found is
compared with the tokens: two sequences with the same name never share a node.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from workers.cache import chain
from workers.cache.node import Node, Snapshot

COMPARED = 64
"""Nodes behind the same one, with the same first token, that are compared at most: those used last."""


@dataclass(slots=True)
class Way:
    """How far a sequence leads into the tree.

    ``nodes`` are whole and equal to the sequence up to ``position``;
    ``tail`` is the node behind them whose beginning equals what follows for
    the most tokens, ``common``.
    """

    root: Node
    nodes: list[Node] = field(default_factory=list)
    tail: Node | None = None
    common: int = 0

    @property
    def last(self) -> Node:
        """The last whole node, or the root."""
        return self.nodes[-1] if self.nodes else self.root

    @property
    def position(self) -> int:
        """Where the last whole node ends."""
        return self.last.stop

    @property
    def length(self) -> int:
        """Tokens in common with the tree."""
        return self.position + self.common

    @property
    def touched(self) -> list[Node]:
        """All nodes that have something of the sequence."""
        return [*self.nodes, self.tail] if self.tail else self.nodes

    def within(self, length: int) -> list[Node]:
        """The nodes on the way of the whole sequence, of ``length`` tokens: its own, up to where it ends."""
        tail = self.tail
        is_own = tail is not None and self.common in (len(tail.tokens), length - self.position)
        return self.touched if is_own else self.nodes


class PrefixIndex:
    """All nodes of one LLM, in a tree for each salt."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        self._roots: dict[str, Node] = {}
        self._nodes: dict[bytes, Node] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def __contains__(self, name: object) -> bool:
        """Whether there is a node of this name, whatever its tokens."""
        return name in self._nodes

    def root(self, salt: str) -> Node:
        """What stands before all first nodes under a salt."""
        if salt not in self._roots:
            self._roots[salt] = Node(chain.root(self._fingerprint, salt), None, array("I"))
        return self._roots[salt]

    def way(self, tokens: array[int], salt: str) -> Way:
        """Follow a sequence into the tree, as far as its tokens are the same."""
        way = Way(self.root(salt))
        while piece := tokens[way.position : way.position + chain.BLOCK_TOKENS]:
            node = self._child(way.last, piece)
            if node is None:
                way.tail, way.common = _longest(way.last, piece)
                break
            if not node.is_whole:
                way.tail, way.common = node, len(piece)
                break
            way.nodes.append(node)
        return way

    def last_snapshot(self, tokens: array[int], way: Way) -> Snapshot | None:
        """The latest snapshot within ``tokens``, whose way into the tree is ``way``."""
        parents = [way.root, *way.nodes]
        for depth in range(len(way.nodes), -1, -1):
            before = parents[depth]
            if before.deep:
                piece = tokens[before.stop : before.stop + chain.BLOCK_TOKENS]
                exact = way.nodes[depth] if depth < len(way.nodes) else way.tail
                found = _latest(before, piece, exact)
                if found is not None:
                    return found
        return None

    def superseded(self, before: Node, piece: array[int]) -> list[Node]:
        """The nodes behind ``before`` that hold only a beginning of ``piece``."""
        siblings = before.children.get(piece[0], {}).values()
        partial = [node for node in siblings if len(node.tokens) < len(piece)]
        return [node for node in partial if node.tokens == piece[: len(node.tokens)]]

    def enter(self, node: Node) -> None:
        """Add a node, whose name nobody has, behind its parent."""
        self._nodes[node.name] = node
        if node.parent is not None:
            node.parent.children.setdefault(node.tokens[0], {})[node.name] = node

    def remove(self, node: Node) -> None:
        """Take out a node that has no children, with its snapshots."""
        for offset in list(node.snapshots):
            self.remove_snapshot(node, offset)
        del self._nodes[node.name]
        if node.parent is not None:
            siblings = node.parent.children[node.tokens[0]]
            del siblings[node.name]
            if not siblings:
                del node.parent.children[node.tokens[0]]

    def touch(self, node: Node) -> None:
        """A node was used: it is compared before its siblings."""
        if node.parent is not None:
            siblings = node.parent.children[node.tokens[0]]
            siblings[node.name] = siblings.pop(node.name)

    def add_snapshot(self, snapshot: Snapshot) -> None:
        """Enter a snapshot at its place."""
        snapshot.node.snapshots[snapshot.offset] = snapshot
        _count(snapshot.node, 1)

    def remove_snapshot(self, node: Node, offset: int) -> None:
        """Take out a snapshot."""
        del node.snapshots[offset]
        _count(node, -1)

    def _child(self, before: Node, piece: array[int]) -> Node | None:
        """The node that holds exactly ``piece`` behind ``before``."""
        node = self._nodes.get(chain.link(before.name, piece))
        is_it = node is not None and node.parent is before and node.tokens == piece
        return node if is_it else None

    def check_integrity(self) -> None:
        """Raise AssertionError unless all nodes hang together and have the names they must have."""
        reached = 0
        pending = list(self._roots.values())
        while pending:
            before = pending.pop()
            deep = len(before.snapshots)
            for first, siblings in before.children.items():
                for name, node in siblings.items():
                    _check(self._nodes.get(name) is node, "a child is not in the index")
                    _check(node.parent is before and node.tokens[0] == first, "a child is in a wrong place")
                    _check(
                        name == node.name == chain.link(before.name, node.tokens), "a name is not its link"
                    )
                    _check(before.is_whole or before.parent is None, "a node stands behind a partial one")
                    _check(node.start == before.stop, "a node starts where its parent does not end")
                    deep += node.deep
                    reached += 1
                    pending.append(node)
            _check(deep == before.deep, "the snapshots below a node are counted wrongly")
            _check(
                all(0 < at <= len(before.tokens) for at in before.snapshots), "a snapshot is outside its node"
            )
            _check(all(shot.node is before for shot in before.snapshots.values()), "a snapshot is elsewhere")
        _check(reached == len(self._nodes), "a node cannot be reached")


def _longest(before: Node, piece: array[int]) -> tuple[Node | None, int]:
    """The child with the longest beginning in common with ``piece``, and its tokens."""
    best, length = None, 0
    for node in islice(reversed(before.children.get(piece[0], {}).values()), COMPARED):
        common = _common(node.tokens, piece)
        if common > length:
            best, length = node, common
            if common == len(piece):
                break
    return best, length


def _latest(before: Node, piece: array[int], exact: Node | None) -> Snapshot | None:
    """The latest snapshot in a child of ``before`` that has read nothing but ``piece``'s beginning."""
    siblings = before.children.get(piece[0], {}) if piece else {}
    compared = list(islice(reversed(siblings.values()), COMPARED))
    latest = None
    for node in [exact, *compared] if exact else compared:
        if node.snapshots:
            common = _common(node.tokens, piece)
            offset = max((at for at in node.snapshots if at <= common), default=0)
            if offset > (latest.offset if latest else 0):
                latest = node.snapshots[offset]
    return latest


def _common(one: array[int], other: array[int]) -> int:
    """How many tokens two sequences have in common at their beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _count(node: Node | None, change: int) -> None:
    while node is not None:
        node.deep += change
        node = node.parent


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)
