"""From blocks to the caches that a row is inserted with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import ArraysCache, CacheList

from workers.backends.blocks import BlockStore
from workers.backends.layout import Layout, Slot
from workers.backends.live import Beginning
from workers.cache.prefix import Prefix

Arrays = Mapping[str, mx.array]


class Opening:
    """Makes the caches of rows that are added together: what they share is dequantized once."""

    def __init__(self, blocks: BlockStore, layout: Layout) -> None:
        self._blocks = blocks
        self._layout = layout
        self._opened: dict[int, Arrays] = {}

    def caches(self, fresh: Sequence[Any], prefix: Prefix, tail: int) -> list[Any]:
        """Make of the LLM's ``fresh`` caches those of a row with this prefix and ``tail`` tokens behind it.

        Raises KeyError for a block that does not exist, ValueError for one that holds not what it should.
        """
        parts, states, numbers = self._parts(prefix), self._states(prefix), count()

        def filled(cache: Any) -> Any:
            if isinstance(cache, CacheList):
                listed: Any = CacheList  # without types
                return listed(*map(filled, cache.caches))
            leaf = next(numbers)
            if leaf in states:
                _restore(cache, states[leaf], prefix.length)
            elif (leaf, 0) in parts:
                return Beginning(prefix.length, tail, (parts[leaf, 0], parts[leaf, 1]))
            return cache

        return [filled(cache) for cache in fresh]

    def _parts(self, prefix: Prefix) -> dict[Slot, list[mx.array]]:
        """The pieces of the prefix in each layer's keys and values that are cut by tokens."""
        pieces = [(self._open(piece.block), piece.stop - piece.start) for piece in prefix.pieces]
        for (arrays, tokens), piece in zip(pieces, prefix.pieces, strict=True):
            if any(array.shape[2] < tokens for array in arrays.values()):
                raise ValueError(f"block {piece.block} holds no {tokens} tokens")
        return {
            slot: [arrays[name][at : at + 1, :, :tokens] for arrays, tokens in pieces]
            for name, stack in self._layout.blocks.items()
            for at, slot in enumerate(stack.slots)
        }

    def _open(self, number: int) -> Arrays:
        """A block's stacked arrays as the layers' caches have them."""
        if number not in self._opened:
            arrays = self._blocks[number].arrays
            self._opened[number] = dict(self._dequantized(arrays))
        return self._opened[number]

    def _dequantized(self, arrays: Arrays) -> Iterator[tuple[str, mx.array]]:
        bits = self._layout.spec.bits
        for name, stack in self._layout.blocks.items():
            if stack.is_empty:
                tokens = next(iter(arrays.values())).shape[2]
                yield name, mx.zeros(stack.stacked(tokens), stack.dtype)
            elif bits:
                scales, biases = arrays[f"{name}.scales"], arrays[f"{name}.biases"]
                yield name, mx.dequantize(arrays[name], scales, biases, group_size=stack.group, bits=bits)
            else:
                yield name, arrays[name]

    def _states(self, prefix: Prefix) -> dict[int, dict[int, mx.array]]:
        """What the snapshot holds of each layer that cannot be cut, by its parts; nothing for no prefix."""
        if not prefix.length or not self._layout.snapshots:
            return {}
        if prefix.snapshot is None:
            raise ValueError(f"{prefix.length} tokens without the snapshot that this LLM needs")
        snapshot = self._blocks[prefix.snapshot]
        if snapshot.position != prefix.length:
            raise ValueError(f"a snapshot behind {snapshot.position} tokens for {prefix.length}")
        states: dict[int, dict[int, mx.array]] = {}
        for name, stack in self._layout.snapshots.items():
            for at, (leaf, part) in enumerate(stack.slots):
                states.setdefault(leaf, {})[part] = snapshot.arrays[name][at : at + 1]
        return states


def _restore(cache: Any, held: Mapping[int, mx.array], position: int) -> None:
    """Put the arrays of a snapshot into one layer's fresh cache."""
    if isinstance(cache, ArraysCache):
        for part, array in held.items():
            cache[part] = array
        return
    cache.keys, cache.values, cache.offset = held[0], held[1], position
    cache._idx = cache.keys.shape[2]  # noqa: SLF001 - as mlx-lm's own extract leaves it
