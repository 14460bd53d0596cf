"""Which nodes agents have pinned: those of each one's latest conversation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from workers.cache.node import Node
from workers.cache.recency import Recency


@dataclass(slots=True)
class _Pin:
    """The nodes of a conversation, its beginning first, and how many tokens of it they hold."""

    nodes: list[Node]
    length: int


class Pins:
    """Keeps each owner's pin, and the nodes' places in the order in which they go."""

    def __init__(self, recency: Recency) -> None:
        self._recency = recency
        self._pins: dict[str, _Pin] = {}

    def owners(self) -> list[str]:
        """Those who have something pinned."""
        return list(self._pins)

    def nodes(self, owner: str) -> Sequence[Node]:
        """What an owner has pinned, its beginning first."""
        return self._pins[owner].nodes if owner in self._pins else ()

    def held(self, owner: str) -> int:
        """Tokens of an owner's conversation that are in memory."""
        pin = self._pins.get(owner)
        return min(pin.length, pin.nodes[-1].stop) if pin else 0

    def pin(self, owner: str, nodes: Sequence[Node], length: int) -> None:
        """Pin ``nodes``, which hold ``length`` tokens of a conversation, in place of what ``owner`` had."""
        self.unpin(owner)
        if nodes:
            self._pins[owner] = _Pin(list(nodes), length)
            for node in nodes:
                node.pins.add(owner)
            self._recency.touch(nodes)

    def unpin(self, owner: str) -> None:
        """Let go of what an owner has pinned; it counts as just used."""
        nodes = self.nodes(owner)
        self._pins.pop(owner, None)
        for node in nodes:
            node.pins.discard(owner)
        self._recency.touch(nodes)

    def gone(self, node: Node) -> None:
        """A node without children is dropped: the conversations that it ends are shorter now."""
        for owner in node.pins:
            pin = self._pins[owner]
            pin.nodes.remove(node)
            if not pin.nodes:
                del self._pins[owner]
        node.pins.clear()

    def replace(self, old: Node, new: Node) -> None:
        """A longer node takes the place of one; it has its place in the order still to get."""
        for owner in old.pins:
            nodes = self._pins[owner].nodes
            nodes[nodes.index(old)] = new
        new.pins |= old.pins
        old.pins.clear()

    def check_integrity(self, nodes: Iterable[Node]) -> None:
        """Raise AssertionError unless pins and ``nodes`` tell the same, and each pin is an unbroken way."""
        told = {(owner, node) for node in nodes for owner in node.pins}
        if told != {(owner, node) for owner, pin in self._pins.items() for node in pin.nodes}:
            raise AssertionError("nodes and pins disagree")
        if any(owner not in node.owners for owner, node in told):
            raise AssertionError("a node is pinned by somebody who does not own it")
        for owner, pin in self._pins.items():
            parents = [node.parent for node in pin.nodes]
            if parents[1:] != pin.nodes[:-1] or parents[0] is None or parents[0].parent is not None:
                raise AssertionError(f"what {owner} has pinned is no way from the beginning")
