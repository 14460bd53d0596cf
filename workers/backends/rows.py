"""A row within the arrays of mlx-lm's batch: what of them is its own, without a copy."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import mlx.core as mx

from workers.backends.layout import Layout, Slot, Stack, arrays_of, leaves_of


class BatchRow:
    """One row: the tokens that its cache holds, and slices of the batch's arrays.

    It holds the arrays as they were when it was made; those of a batch that
    goes on change beneath it in the next step.
    """

    def __init__(self, caches: Iterable[Any], row: int, tokens: Sequence[int]) -> None:
        self._leaves = [copy.copy(leaf) for leaf in leaves_of(caches)]
        self._row = row
        self._behind: dict[int, int] = {}
        self.tokens = tokens

    def block(self, layout: Layout, start: int, stop: int) -> dict[str, mx.array]:
        """Copies of the tokens from ``start`` to ``stop`` in all layers that can be cut, quantized or not.

        Raises ValueError for tokens that are not in the cache.
        """
        if not 0 <= start < stop <= len(self.tokens):
            raise ValueError(f"tokens {start} to {stop} of a row that holds {len(self.tokens)}")
        made: dict[str, mx.array] = {}
        for name, stack in layout.blocks.items():
            if stack.is_empty:
                continue
            array = _copied([self._tokens(slot, start, stop) for slot in stack.slots])
            made |= _quantized(name, array, stack, layout.spec.bits) if layout.spec.bits else {name: array}
        return made

    def snapshot(self, layout: Layout) -> dict[str, mx.array]:
        """Copies of the present state of all layers that cannot be cut."""
        leaves = {leaf for stack in layout.snapshots.values() for leaf, _ in stack.slots}
        held = {leaf: self._extracted(leaf) for leaf in leaves}
        return {
            name: _copied([_last(held[leaf][part], stack, len(self.tokens)) for leaf, part in stack.slots])
            for name, stack in layout.snapshots.items()
        }

    def _tokens(self, slot: Slot, start: int, stop: int) -> mx.array:
        """Keys or values of some tokens in one layer: (1, heads, tokens, size)."""
        leaf, part = slot
        array: mx.array = arrays_of(self._leaves[leaf])[part]
        behind = self._padding(leaf)
        return array[self._row : self._row + 1, :, behind + start : behind + stop]

    def _padding(self, leaf: int) -> int:
        """Where the row begins in the rectangle of a layer."""
        if leaf not in self._behind:
            self._behind[leaf] = self._leaves[leaf].left_padding.tolist()[self._row]
        return self._behind[leaf]

    def _extracted(self, leaf: int) -> dict[int, mx.array]:
        """A window in the order of its tokens, or a state; each array for this row alone."""
        cache, row = self._leaves[leaf], self._row
        if hasattr(cache, "left_padding") and hasattr(cache, "keys"):
            return arrays_of(cache.extract(row))
        return {part: array[row : row + 1] for part, array in arrays_of(cache).items()}


def _last(array: mx.array, stack: Stack, tokens: int) -> mx.array:
    """Of a window what a later token can see: while a prompt is read it holds more."""
    return array[:, :, -min(tokens, stack.window) :] if stack.kind == "sliding" else array


def _copied(arrays: Sequence[mx.array]) -> mx.array:
    """Arrays on each other in one of their own, also where it is a single one."""
    return mx.concatenate([*arrays, arrays[0][:0]])


def _quantized(name: str, array: mx.array, stack: Stack, bits: int) -> dict[str, mx.array]:
    words, scales, biases = mx.quantize(array, group_size=stack.group, bits=bits)
    return {name: words, f"{name}.scales": scales, f"{name}.biases": biases}
