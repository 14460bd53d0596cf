"""Where nodes are found by what they stand behind, and by how far their tokens are the wanted ones."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Generic, TypeVar

from workers.cache.disk_record import WORD

P = TypeVar("P")


class Shelf:
    """What stands behind one node, sorted by its packed tokens."""

    def __init__(self) -> None:
        self.rows: list[tuple[bytes, bytes]] = []

    def add(self, tokens: bytes, name: bytes) -> None:
        """Put something there."""
        insort(self.rows, (tokens, name))

    def remove(self, tokens: bytes, name: bytes) -> None:
        """Take it away again."""
        del self.rows[bisect_left(self.rows, (tokens, name))]

    def nearest(self, tokens: bytes) -> tuple[int, bytes]:
        """How many bytes of ``tokens`` the longest common beginning has, in whole tokens, and with what."""
        place = bisect_left(self.rows, (tokens, b""))
        near = self.rows[max(0, place - 1) : place + 1]
        return max(((_common(tokens, key), name) for key, name in near), default=(0, b""))

    def beginning(self, tokens: bytes) -> tuple[int, bytes]:
        """The longest that ``tokens`` begin with as a whole: its bytes and its name, 0 for none."""
        while tokens:
            place = bisect_left(self.rows, (tokens, b"\xff" * 33)) - 1
            if place < 0:
                break
            key, name = self.rows[place]
            common = _common(tokens, key)
            if common == len(key):
                return common, name
            tokens = tokens[:common]
        return 0, b""


class Shelves(Generic[P]):
    """The nodes, or the snapshots, of all files: each name has a place of type ``P``."""

    def __init__(self) -> None:
        self.places: dict[bytes, P] = {}
        self._shelves: dict[bytes, Shelf] = {}

    def add(self, parent: bytes, tokens: bytes, name: bytes, place: P) -> None:
        """Take in what stands behind ``parent``; what has a place already keeps it."""
        if name not in self.places:
            self.places[name] = place
            self._shelves.setdefault(parent, Shelf()).add(tokens, name)

    def remove(self, parent: bytes, tokens: bytes, name: bytes) -> None:
        """Forget it."""
        del self.places[name]
        shelf = self._shelves[parent]
        shelf.remove(tokens, name)
        if not shelf.rows:
            del self._shelves[parent]

    def nearest(self, parent: bytes, tokens: bytes) -> tuple[int, bytes]:
        """Of what stands behind ``parent``: :meth:`Shelf.nearest`."""
        shelf = self._shelves.get(parent)
        return shelf.nearest(tokens) if shelf else (0, b"")

    def beginning(self, parent: bytes, tokens: bytes) -> tuple[int, bytes]:
        """Of what stands behind ``parent``: :meth:`Shelf.beginning`."""
        shelf = self._shelves.get(parent)
        return shelf.beginning(tokens) if shelf else (0, b"")

    def behind(self, parent: bytes) -> Sequence[tuple[bytes, bytes]]:
        """Tokens and name of all that stands behind ``parent``."""
        shelf = self._shelves.get(parent)
        return shelf.rows if shelf else ()

    def check_integrity(self) -> None:
        """Raise AssertionError unless each name stands on exactly one shelf, and the shelves are in order."""
        names = [name for shelf in self._shelves.values() for _, name in shelf.rows]
        if sorted(names) != sorted(self.places):
            raise AssertionError(f"{len(names)} names on the shelves for {len(self.places)} places")
        if any(shelf.rows != sorted(shelf.rows) or not shelf.rows for shelf in self._shelves.values()):
            raise AssertionError("a shelf is out of order")


def _common(one: bytes, other: bytes) -> int:
    """Bytes of the longest common beginning, in whole tokens, by halving."""
    low, high = 0, min(len(one), len(other)) // WORD
    while low < high:
        middle = (low + high + 1) // 2
        if one[: middle * WORD] == other[: middle * WORD]:
            low = middle
        else:
            high = middle - 1
    return low * WORD
