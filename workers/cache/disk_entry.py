"""One file as the catalog knows it, and what is to be read of several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workers.cache.disk_folder import mark_of
from workers.cache.disk_format import Header
from workers.cache.disk_record import Kind

FOREIGN, ANONYMOUS, OWNED = range(3)
"""The order in which files go when room is needed."""


@dataclass(eq=False, slots=True)
class Entry:
    """One file. A foreign one, of another LLM or damaged, only takes room: nothing is known of its nodes."""

    path: Path
    nbytes: int
    kind: Kind = Kind.BLOCKS
    parent: bytes = b""
    start: int = 0
    names: tuple[bytes, ...] = ()
    tokens: tuple[bytes, ...] = ()
    sizes: tuple[int, ...] = ()
    noted_at: float = float("-inf")

    @classmethod
    def of(cls, path: Path, nbytes: int, header: Header) -> Entry:
        """The entry of a file with this header."""
        return cls(
            path,
            nbytes,
            header.kind,
            header.parent,
            header.start,
            tuple(node.name for node in header.nodes),
            tuple(node.tokens for node in header.nodes),
            tuple(node.nbytes for node in header.nodes),
        )

    @property
    def digest(self) -> str:
        """The SHA-256 that its header must have."""
        return self.path.name.partition(".")[0]

    @property
    def owner(self) -> str:
        """The mark of the agent it belongs to, or empty."""
        return mark_of(self.path)

    @property
    def rank(self) -> int:
        """Which line it stands in when room is needed."""
        if not self.names:
            return FOREIGN
        return OWNED if self.owner else ANONYMOUS

    def links(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Name of the node before, tokens and name of each node."""
        yield from zip((self.parent, *self.names), self.tokens, self.names, strict=False)


@dataclass(frozen=True, slots=True)
class Read:
    """Nodes ``first`` to ``last`` (exclusive) of a file, or its snapshot, are to be read."""

    entry: Entry
    first: int
    last: int

    @property
    def nbytes(self) -> int:
        """Bytes of their arrays."""
        return sum(self.entry.sizes[self.first : self.last])


@dataclass(frozen=True, slots=True)
class Found:
    """What is on disk behind a node: it covers ``tokens`` tokens, which takes ``nbytes`` of reading."""

    tokens: int = 0
    nbytes: int = 0
    reads: tuple[Read, ...] = ()
