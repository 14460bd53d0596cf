"""Where the arrays of an LLM's caches stand in blocks and snapshots.

mlx-lm gives each layer a cache with arrays of its own. Here arrays of like
shape are stacked, so that a block is one array for most LLMs: layers that are
cut by tokens stand in blocks as (slots, heads, tokens, size), sliding windows
so in snapshots, states as (slots, ...).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import ArraysCache, KVCache, RotatingKVCache

from workers.backends.tensors import dtype_name
from workers.cache.layer import GROUPS, ITEM_BYTES
from workers.cache.spec import CacheSpec, LayerKind, LayerSpec

Slot = tuple[int, int]
"""A layer's cache, counted through all layers, and which of its arrays: keys are 0, values 1."""

Shapes = dict[str, tuple[str, tuple[int, ...]]]
"""Type and shape of arrays by name."""

KINDS: dict[Any, LayerKind] = {KVCache: "full", RotatingKVCache: "sliding", ArraysCache: "state"}


@dataclass(frozen=True, slots=True)
class Stack:
    """Arrays of like shape: ``shape`` is that of one, without the axes of batch and tokens."""

    kind: LayerKind
    window: int
    shape: tuple[int, ...]
    dtype: mx.Dtype
    slots: tuple[Slot, ...]

    def stacked(self, tokens: int) -> tuple[int, ...]:
        """The shape of all of them on each other; states have no tokens."""
        if self.kind == "state":
            return (len(self.slots), *self.shape)
        held = min(tokens, self.window) if self.window else tokens
        return (len(self.slots), self.shape[0], held, self.shape[1])

    @property
    def is_empty(self) -> bool:
        """Whether its arrays hold nothing: some LLMs have keys without values."""
        return 0 in self.shape

    @property
    def group(self) -> int:
        """Numbers of a vector that share a scale and a bias when quantized."""
        return next(group for group in GROUPS if self.shape[-1] % group == 0)


@dataclass(frozen=True)
class Layout:
    """What stands in blocks and in snapshots, by name, and the bytes that follow from it."""

    blocks: Mapping[str, Stack]
    snapshots: Mapping[str, Stack]
    spec: CacheSpec

    @classmethod
    def measure(cls, caches: Iterable[Any], bits: int) -> Layout:
        """Read it off the caches of all layers that hold a token; blocks are to be kept with so many bits.

        Raises ValueError for an LLM whose caches mlx-lm cannot batch, or whose heads cannot be quantized.
        """
        leaves = leaves_of(caches)
        layers, slots = [], dict[tuple[LayerKind, int, tuple[int, ...], mx.Dtype], list[Slot]]()
        for number, leaf in enumerate(leaves):
            kind, arrays = _kind(leaf), arrays_of(leaf)
            window = leaf.max_size if kind == "sliding" else 0
            if arrays:
                layers.append(_layer(kind, window, arrays))
            for part, array in arrays.items():
                shape = array.shape[1:] if kind == "state" else (array.shape[1], array.shape[3])
                slots.setdefault((kind, window, shape, array.dtype), []).append((number, part))
        stacks = [Stack(*like, tuple(found)) for like, found in slots.items()]
        blocks = {f"block.{n}": one for n, one in enumerate(stacks) if one.kind == "full"}
        snapshots = {f"snapshot.{n}": one for n, one in enumerate(stacks) if one.kind != "full"}
        return cls(blocks, snapshots, CacheSpec(tuple(layers), _dtype(stacks), bits))

    def block_shapes(self, tokens: int) -> Shapes:
        """The arrays of a block of so many tokens."""
        shapes: Shapes = {}
        bits = self.spec.bits
        for name, stack in self.blocks.items():
            *outer, size = stack.stacked(tokens)
            dtype = dtype_name(stack.dtype)
            if stack.is_empty:
                continue
            if not bits:
                shapes[name] = (dtype, (*outer, size))
                continue
            shapes[name] = ("U32", (*outer, size * bits // 32))
            for column in ("scales", "biases"):
                shapes[f"{name}.{column}"] = (dtype, (*outer, size // stack.group))
        return shapes

    def snapshot_shapes(self, position: int) -> Shapes:
        """The arrays of a snapshot behind so many tokens."""
        return {
            name: (dtype_name(stack.dtype), stack.stacked(position)) for name, stack in self.snapshots.items()
        }


def leaves_of(caches: Iterable[Any]) -> list[Any]:
    """The caches of all layers, those inside a layer's list of caches too."""
    leaves: list[Any] = []
    for cache in caches:
        inner: Sequence[Any] | None = getattr(cache, "caches", None)
        leaves += [cache] if inner is None else leaves_of(inner)
    return leaves


def arrays_of(leaf: Any) -> dict[int, mx.array]:
    """A cache's arrays by their parts, as far as it has any yet."""
    held = leaf.cache if isinstance(leaf, ArraysCache) else (leaf.keys, leaf.values)
    return {part: array for part, array in enumerate(held) if array is not None}


def _kind(leaf: Any) -> LayerKind:
    kind = KINDS.get(type(leaf))
    if kind is None:
        raise ValueError(f"mlx-lm cannot batch this LLM: a layer has a {type(leaf).__name__}")
    return kind


def _layer(kind: LayerKind, window: int, arrays: Mapping[int, mx.array]) -> LayerSpec:
    if kind == "state":
        return LayerSpec("state", state_bytes=sum(array.nbytes for array in arrays.values()))
    keys, values = arrays[0], arrays[1]
    return LayerSpec(kind, keys.shape[1], keys.shape[3], values.shape[3], window)


def _dtype(stacks: Sequence[Stack]) -> str:
    """The type that bytes are counted in: the widest of keys and values."""
    names = [dtype_name(stack.dtype) for stack in stacks if stack.kind != "state"]
    return max(names, key=ITEM_BYTES.__getitem__, default="F32")
