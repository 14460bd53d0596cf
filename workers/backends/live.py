"""Rows on their way from the pool into mlx-lm's batch, with as few copies as can be.

mlx-lm merges the caches that rows are inserted with, makes room for their
tails, and copies all rows once more when some of a batch go on to decode. For a
short tail behind a long prefix that is most of the work. So keys and values
are written from their blocks straight into a rectangle that has the room.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import mlx.core as mx
from mlx_lm.models.cache import BatchKVCache, KVCache

STEP = 256
"""Tokens by which mlx-lm lets a rectangle grow."""


class Beginning(KVCache):
    """One layer's cached prefix of a row that waits to be read.

    ``parts`` are pieces of keys and pieces of values, of shape (1, heads,
    tokens, size) and together of ``length`` tokens; ``tail`` is how many
    tokens will follow. It only refers to the arrays of blocks, so it counts no bytes.
    """

    def __init__(self, length: int, tail: int, parts: tuple[Sequence[mx.array], Sequence[mx.array]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # mlx-lm's caches have no types
        self.length = length
        self.tail = tail
        self.parts = parts

    @classmethod
    def merge(cls, caches: Sequence[Self]) -> LiveCache:
        """The rectangle that holds the prefixes of these rows, flush right."""
        longest = max(cache.length for cache in caches)
        live = LiveCache([longest - cache.length for cache in caches])
        if longest:
            room = max(cache.length + min(cache.tail, STEP) for cache in caches)
            live.keys, live.values = (_rectangle(caches, part, longest, room) for part in (0, 1))
            live.offset += longest
            live._idx = longest  # noqa: SLF001 - where it goes on, as mlx-lm's own merge says it
        return live


class LiveCache(BatchKVCache):
    """One layer's keys and values of all rows, which are not copied where nothing changes."""

    keys: Any
    values: Any

    def filter(self, batch_indices: Sequence[int]) -> None:
        """Keep these rows."""
        if list(batch_indices) != list(range(self.offset.size)):
            super().filter(batch_indices)  # type: ignore[no-untyped-call]  # as above

    def finalize(self) -> None:
        """Rows flush right again; also off the left goes what no row needs any more."""
        super().finalize()  # type: ignore[no-untyped-call]  # as above
        unneeded: Any = mx.min(self.left_padding).item()
        if self.keys is not None and unneeded > 0:
            super().filter(list(range(self.offset.size)))  # type: ignore[no-untyped-call]  # as above


def _rectangle(caches: Sequence[Beginning], part: int, longest: int, room: int) -> mx.array:
    some: mx.array = next(cache.parts[part][0] for cache in caches if cache.length)
    _, heads, _, size = some.shape
    width = -(-room // STEP) * STEP
    if len(caches) == 1:
        behind = mx.zeros((1, heads, width - longest, size), some.dtype)
        return mx.concatenate([*caches[0].parts[part], behind], axis=2)
    whole = mx.zeros((len(caches), heads, width, size), some.dtype)
    for row, cache in enumerate(caches):
        at = longest - cache.length
        for piece in cache.parts[part]:
            stop = at + piece.shape[2]
            whole[row : row + 1, :, at:stop] = piece
            at = stop
    return whole
