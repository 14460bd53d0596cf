"""One stretch of tokens in the tree of cached beginnings, with its blocks."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from workers.cache import chain


class Node:
    """Up to :data:`workers.cache.chain.BLOCK_TOKENS` tokens behind those of its parent; a root has none.

    ``block`` holds their keys and values, None for an LLM that has no layers
    with any. ``snapshots`` are by how many of the node's tokens they have
    read, 1 to all. ``deep`` counts the snapshots here and in all nodes below.
    ``owners`` are the agents that stored it, ``pins`` those whose latest
    conversation it is part of.
    """

    __slots__ = (
        "block",
        "children",
        "deep",
        "name",
        "owners",
        "parent",
        "pins",
        "snapshots",
        "start",
        "tokens",
        "uses",
    )

    def __init__(self, name: bytes, parent: Node | None, tokens: array[int]) -> None:
        self.name = name
        self.parent = parent
        self.tokens = tokens
        self.start = parent.stop if parent else 0
        self.block: int | None = None
        self.snapshots: dict[int, Snapshot] = {}
        # By first token, then by name, the most recently used last.
        self.children: dict[int, dict[bytes, Node]] = {}
        self.deep = 0
        self.uses = 0
        self.owners: set[str] = set()
        self.pins: set[str] = set()

    @property
    def stop(self) -> int:
        """Tokens of the sequence up to the node's end."""
        return self.start + len(self.tokens)

    @property
    def is_whole(self) -> bool:
        """Whether others may stand behind it."""
        return len(self.tokens) == chain.BLOCK_TOKENS

    @property
    def fanout(self) -> int:
        """Number of children."""
        return sum(len(siblings) for siblings in self.children.values())

    def blocks(self) -> Iterator[int]:
        """All blocks it holds."""
        if self.block is not None:
            yield self.block
        for snapshot in self.snapshots.values():
            yield snapshot.block


class Snapshot:
    """The state, ``offset`` tokens into a node, of the layers that cannot be cut."""

    __slots__ = ("block", "node", "offset")

    def __init__(self, block: int, node: Node, offset: int) -> None:
        self.block = block
        self.node = node
        self.offset = offset

    @property
    def position(self) -> int:
        """Tokens of the sequence it has read."""
        return self.node.start + self.offset

    @property
    def is_covered(self) -> bool:
        """Whether the same conversation, or one that goes on from it, has a later snapshot."""
        own = self.node.snapshots
        return self.node.deep > len(own) or max(own) > self.offset


@dataclass(frozen=True, slots=True)
class NodeView:
    """What others may know of a node.

    ``parent`` is the name of the node before, or of the root; ``start`` counts
    the tokens before it; ``snapshots`` are blocks by their offset in the node.
    """

    name: bytes
    parent: bytes
    start: int
    tokens: Sequence[int]
    block: int | None
    snapshots: Mapping[int, int]
    uses: int
    owners: frozenset[str]

    @classmethod
    def of(cls, node: Node) -> NodeView:
        """A node as it is now."""
        return cls(
            node.name,
            node.parent.name if node.parent else b"",
            node.start,
            node.tokens,
            node.block,
            {offset: snapshot.block for offset, snapshot in node.snapshots.items()},
            node.uses,
            frozenset(node.owners),
        )
