"""A stretch of a hash chain with its contents, as it goes to the disk and comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from workers.cache.chain import BLOCK_TOKENS, link
from workers.cache.parcel import Parcel


@dataclass(frozen=True, slots=True)
class Node:
    """One link of the chain.

    ``parcel`` holds the keys and values of ``tokens``, None for an LLM that has no layers with any.
    ``snapshots`` holds states of the layers that cannot be cut, by how many of the node's tokens
    they have read: 1 to all.
    """

    name: bytes
    tokens: Sequence[int]
    parcel: Parcel | None
    snapshots: Mapping[int, Parcel] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive nodes behind the one named ``parent``, which ends ``start`` tokens into the sequence.

    All but the last hold :data:`workers.cache.chain.BLOCK_TOKENS` tokens. ``owner`` is the agent
    whose conversation it is. Raises ValueError for nodes that are no chain behind ``parent``.
    """

    parent: bytes
    start: int
    nodes: tuple[Node, ...]
    owner: str | None = None

    def __post_init__(self) -> None:
        parent = self.parent
        for place, node in enumerate(self.nodes):
            size, is_last = len(node.tokens), place == len(self.nodes) - 1
            if not 0 < size <= BLOCK_TOKENS or (size < BLOCK_TOKENS and not is_last):
                raise ValueError(f"node {place} of {len(self.nodes)} has {size} tokens")
            if node.name != link(parent, node.tokens):
                raise ValueError(f"node {place} does not follow from the one before")
            if any(not 0 < offset <= size for offset in node.snapshots):
                raise ValueError(f"node {place} of {size} tokens has snapshots at {sorted(node.snapshots)}")
            parent = node.name
        if not self.nodes:
            raise ValueError("a segment without nodes")
