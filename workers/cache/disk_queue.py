"""What waits to be written: at most so many bytes of it, and nothing twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from workers.cache.disk_record import Kind, Record


@dataclass(frozen=True, slots=True)
class Waiting:
    """One file to be written, for the agent with this mark or for nobody."""

    record: Record
    owner: str


class WriteQueue:
    """Files in the order in which they are to be written; not for several threads at once.

    What was taken last still counts until :meth:`done` is called.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._line: deque[Waiting] = deque()
        self._under_way: Waiting | None = None
        self._known: dict[tuple[Kind, bytes], tuple[bytes, bytes]] = {}
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._line) + (self._under_way is not None)

    @property
    def has_next(self) -> bool:
        """Whether there is one to take."""
        return bool(self._line)

    def holds(self, kind: Kind, name: bytes) -> bool:
        """Whether a node or snapshot of this name is to be written."""
        return (kind, name) in self._known

    def where(self, name: bytes) -> tuple[bytes, bytes] | None:
        """What a node stands behind and its packed tokens, if it is to be written."""
        return self._known.get((Kind.BLOCKS, name))

    def put(self, records: Sequence[Record], owner: str) -> bool:
        """Take all of them, or none if that would be too much; the first is never too much."""
        size = sum(record.nbytes for record in records)
        if self and self.nbytes + size > self._limit:
            return False
        self.nbytes += size
        for record in records:
            self._line.append(Waiting(record, owner))
            for parent, content in record.links():
                self._known[record.kind, content.name] = parent, content.tokens
        return True

    def take(self) -> Waiting:
        """The next one, under way until it is done."""
        self._under_way = self._line.popleft()
        return self._under_way

    def done(self) -> None:
        """What was under way is written, or never will be."""
        if self._under_way is not None:
            self._forget(self._under_way.record)
            self._under_way = None

    def drop(self, owner: str | None = None) -> int:
        """Forget what waits of an agent, or all that waits; returns how many files that were."""
        line, self._line = self._line, deque()
        for one in line:
            if owner in (None, one.owner):
                self._forget(one.record)
            else:
                self._line.append(one)
        return len(line) - len(self._line)

    def _forget(self, record: Record) -> None:
        self.nbytes -= record.nbytes
        for content in record.contents:
            del self._known[record.kind, content.name]
