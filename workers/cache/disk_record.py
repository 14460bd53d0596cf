"""What goes into one file: a run of nodes, or one snapshot.

Snapshots stand apart from the nodes they belong to. They are large, each is of
use by itself, and an old one may go while the keys and values around it stay.
A snapshot is named like a node of the tokens it has read behind the node before,
so one that stands at the end of a node has that node's name.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from workers.cache.chain import BLOCK_TOKENS, link, packed
from workers.cache.parcel import Parcel
from workers.cache.segment import Segment

WORD = 4
"""Bytes of a token."""

WHOLE = BLOCK_TOKENS * WORD
"""Bytes of a whole node's tokens."""


class Kind(StrEnum):
    """What a file holds."""

    BLOCKS = "blocks"
    SNAPSHOT = "snapshot"


def unpacked(words: bytes) -> tuple[int, ...]:
    """The tokens of which :func:`workers.cache.chain.packed` makes ``words``; else ValueError."""
    tokens = array("I", words)
    if sys.byteorder == "big":
        tokens.byteswap()
    return tuple(tokens)


@dataclass(frozen=True, slots=True)
class Content:
    """One node of a file, or its snapshot: ``tokens`` are packed, ``name`` follows from those before."""

    name: bytes
    tokens: bytes
    parcel: Parcel | None


@dataclass(frozen=True, slots=True)
class Record:
    """All of one file. ``start`` counts the tokens of the sequence before it; a snapshot has one content."""

    kind: Kind
    parent: bytes
    start: int
    contents: tuple[Content, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(content.parcel.nbytes for content in self.contents if content.parcel)

    def links(self) -> Iterator[tuple[bytes, Content]]:
        """Each content with the name of the node before it."""
        parent = self.parent
        for content in self.contents:
            yield parent, content
            parent = content.name


def records(segment: Segment) -> Iterator[Record]:
    """A segment as it is stored: its nodes, then each of its snapshots."""
    contents = tuple(Content(node.name, packed(node.tokens), node.parcel) for node in segment.nodes)
    yield Record(Kind.BLOCKS, segment.parent, segment.start, contents)
    parent, start = segment.parent, segment.start
    for node in segment.nodes:
        for offset, state in sorted(node.snapshots.items()):
            tokens = node.tokens[:offset]
            content = Content(link(parent, tokens), packed(tokens), state)
            yield Record(Kind.SNAPSHOT, parent, start, (content,))
        parent, start = node.name, start + len(node.tokens)


def lacking(record: Record, is_stored: Callable[[Kind, bytes, Content], bool]) -> list[Record]:
    """What of a record is not stored yet, in runs; ``is_stored`` gets kind, parent and content.

    A node that is not whole stands alone: the longer one that replaces it soon then takes its
    whole file away.
    """
    runs: list[Record] = []
    for place, (parent, content) in enumerate(record.links()):
        if is_stored(record.kind, parent, content):
            continue
        last = runs[-1] if runs else None
        if last and last.contents[-1].name == parent and len(content.tokens) == WHOLE:
            runs[-1] = Record(last.kind, last.parent, last.start, (*last.contents, content))
        else:
            runs.append(Record(record.kind, parent, record.start + place * BLOCK_TOKENS, (content,)))
    return runs
