"""One layer's cache: what it keeps of a sequence, in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LayerKind = Literal["full", "sliding", "state"]

ITEM_BYTES = {"F16": 2, "BF16": 2, "F32": 4}
"""Bytes of one number, by its safetensors name."""

GROUPS = (64, 32)
"""Numbers that share a scale and a bias when quantized: the first of these that divides a head's size."""


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """The cache of one layer, for one sequence.

    ``full`` keeps keys and values of every token, ``sliding`` those of the
    last ``window`` tokens, ``state`` has ``state_bytes`` however long the
    sequence is. ``key_size`` and ``value_size`` are numbers a head. A layer
    with two caches counts as two layers.
    """

    kind: LayerKind
    kv_heads: int = 0
    key_size: int = 0
    value_size: int = 0
    window: int = 0
    state_bytes: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError where the kind's own sizes are missing."""
        sizes = (
            (self.state_bytes,) if self.kind == "state" else (self.kv_heads, self.key_size + self.value_size)
        )
        if min(sizes) <= 0 or (self.kind == "sliding" and self.window <= 0):
            raise ValueError(f"the sizes of a layer are missing: {self}")

    def token_bytes(self, dtype: str, bits: int = 0) -> int:
        """Bytes of one token's keys and values, as they are (``bits`` 0) or as ``mx.quantize`` stores them.

        Raises ValueError for a head's size that cannot be quantized.
        """
        return self.kv_heads * sum(
            _vector_bytes(size, dtype, bits) for size in (self.key_size, self.value_size)
        )


def _vector_bytes(size: int, dtype: str, bits: int) -> int:
    """Bytes of one head's vector. ``mlx.core.quantize`` packs it; each group has a scale and a bias."""
    if not bits:
        return size * ITEM_BYTES[dtype]
    group = next((group for group in GROUPS if size % group == 0), None)
    if group is None:
        raise ValueError(f"heads of {size} numbers cannot be quantized: {GROUPS[-1]} does not divide them")
    return size * bits // 8 + size // group * 2 * ITEM_BYTES[dtype]
