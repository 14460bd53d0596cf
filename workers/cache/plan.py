"""What is to be stored of a sequence: which of its nodes are missing, and where."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from workers.cache import chain
from workers.cache.index import PrefixIndex
from workers.cache.node import Node
from workers.cache.prefix import Piece


@dataclass(slots=True)
class Plan:
    """The first ``length`` tokens of a sequence, to be kept.

    ``own`` are its nodes that are there, ``fresh`` those that shall stand
    behind them, ``superseded`` hold only a beginning of the first of these. A
    snapshot ``is_wanted`` at the end if there is none; ``snapshot`` is the block for it.
    """

    length: int
    own: list[Node]
    fresh: list[Node] = field(default_factory=list)
    superseded: list[Node] = field(default_factory=list)
    is_wanted: bool = False
    snapshot: int | None = None

    @classmethod
    def of(cls, tokens: array[int], salt: str, index: PrefixIndex, *, snapshot: bool) -> Plan:
        """Compare a sequence with what is there. With ``snapshot`` nothing is kept without one at the end."""
        way = index.way(tokens, salt)
        plan = cls(len(tokens), way.within(len(tokens)))
        if way.length < len(tokens):
            plan.fresh = _missing(tokens, way.last, index)
        if plan.fresh:
            plan.superseded = index.superseded(way.last, plan.fresh[0].tokens)
        if snapshot:
            end = plan.end
            if end is None or end.stop < len(tokens):
                plan.fresh = []
            else:
                plan.is_wanted = len(tokens) - end.start not in end.snapshots
        return plan

    @property
    def end(self) -> Node | None:
        """The node in which the sequence ends, as far as it will be held."""
        return self.fresh[-1] if self.fresh else self.own[-1] if self.own else None

    @property
    def keep(self) -> list[Node]:
        """What must not go to make room for the rest, none before one that it stands behind."""
        return [*self.own, *(node for node in self.superseded if node not in self.own)]

    @property
    def pieces(self) -> list[Piece]:
        """What the blocks of the missing nodes are to hold."""
        return [Piece(node.block, node.start, node.stop) for node in self.fresh if node.block is not None]

    @property
    def gained(self) -> int:
        """Tokens that were not kept before."""
        before = max((len(node.tokens) for node in self.superseded), default=0)
        return sum(len(node.tokens) for node in self.fresh) - before if self.fresh else 0

    @property
    def way(self) -> list[Node]:
        """The sequence's nodes once the missing ones are there."""
        return (
            [node for node in self.own if node not in self.superseded] + self.fresh
            if self.fresh
            else self.own
        )

    def cancel(self) -> list[int]:
        """Leave everything as it is; returns the blocks that were meant for what is missing."""
        blocks = [node.block for node in self.fresh if node.block is not None]
        if self.snapshot is not None:
            blocks.append(self.snapshot)
        self.fresh, self.snapshot, self.is_wanted = [], None, False
        return blocks


def _missing(tokens: array[int], last: Node, index: PrefixIndex) -> list[Node]:
    """Nodes for what follows behind ``last``, up to one whose name other tokens have already."""
    fresh: list[Node] = []
    names: set[bytes] = set()
    for start in range(last.stop, len(tokens), chain.BLOCK_TOKENS):
        piece = tokens[start : start + chain.BLOCK_TOKENS]
        name = chain.link(last.name, piece)
        if name in index or name in names:
            break
        names.add(name)
        last = Node(name, last, piece)
        fresh.append(last)
    return fresh
