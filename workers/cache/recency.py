"""Who goes first when room is needed: what was used least recently, and nobody before those behind it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence

from workers.cache.node import Node, Snapshot


class Recency:
    """Two lines: what nobody has pinned, then what somebody has.

    A node moves to the end of its line whenever it is used, and all before it
    on its way move behind it. So the first of a line has no children left in
    any line before, and no search is needed. A snapshot stands in the
    first line by itself, for an earlier one may go while its node stays.
    """

    def __init__(self) -> None:
        self._free: OrderedDict[Node | Snapshot, None] = OrderedDict()
        self._pinned: OrderedDict[Node | Snapshot, None] = OrderedDict()

    def touch(self, way: Sequence[Node]) -> None:
        """The nodes of a way, its beginning first, were used, or their pins have changed."""
        for node in reversed(way):
            self.discard(node)
            (self._pinned if node.pins else self._free)[node] = None

    def enqueue(self, snapshots: Iterable[Snapshot]) -> None:
        """Let snapshots go alone, should they be covered then; who stands in the line keeps the place."""
        for snapshot in snapshots:
            self._free.setdefault(snapshot)

    def refresh(self, snapshot: Snapshot) -> None:
        """A snapshot was used."""
        if snapshot in self._free:
            self._free.move_to_end(snapshot)

    def discard(self, item: Node | Snapshot) -> None:
        """A node or snapshot is gone."""
        self._free.pop(item, None)
        self._pinned.pop(item, None)

    def oldest(self, keep: Collection[Node], *, pinned: bool) -> Node | Snapshot | None:
        """Who goes next: none of ``keep``, which were used last, and what is pinned only if ``pinned``."""
        for line in (self._free, self._pinned) if pinned else (self._free,):
            item = next(iter(line), None)
            if item is not None and item not in keep:
                return item
        return None

    def __iter__(self) -> Iterator[Node]:
        """All nodes, none before those behind it."""
        for line in (self._free, self._pinned):
            yield from (item for item in line if isinstance(item, Node))

    def check_integrity(self, nodes: Collection[Node]) -> None:
        """Raise AssertionError unless ``nodes`` stand in their lines, none before one behind it."""
        place = {node: number for number, node in enumerate(self)}
        if set(place) != set(nodes):
            raise AssertionError("the lines hold other nodes than the index")
        for node in nodes:
            if node.parent in place and place[node.parent] < place[node]:
                raise AssertionError("a node goes before one behind it")
            if (node in self._pinned) != bool(node.pins):
                raise AssertionError("a node stands in the wrong line")
        for item in self._free:
            if isinstance(item, Snapshot) and item.node.snapshots.get(item.offset) is not item:
                raise AssertionError("a snapshot that is gone stands in a line")
