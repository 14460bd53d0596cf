"""The twin's keys and values: what stands at a position follows from all tokens up to it.

A running hash over the tokens, begun with the LLM's fingerprint, is the mark of
each position. So no two sequences have the same contents anywhere behind the
token in which they differ, and none has the same at two positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

PRIME = 2**61 - 1
FACTOR = 1_000_003


class Marks:
    """Turns tokens into marks, and marks into ``token_bytes`` bytes each."""

    def __init__(self, fingerprint: str, token_bytes: int) -> None:
        self._first = int(fingerprint, 16) % PRIME
        self._token_bytes = token_bytes

    def of(self, tokens: Iterable[int], before: int | None = None) -> Iterator[int]:
        """The mark of each position; ``before`` is that of the one before them, None at the beginning."""
        mark = self._first if before is None else before
        for token in tokens:
            mark = (mark * FACTOR + token + 1) % PRIME
            yield mark

    def contents(self, marks: Iterable[int]) -> bytes:
        """What a block holds that has these marks."""
        return b"".join(spread(mark, self._token_bytes) for mark in marks)


def spread(mark: int, size: int) -> bytes:
    """A mark as so many bytes."""
    return (mark.to_bytes(8, "little") * -(-size // 8))[:size]
