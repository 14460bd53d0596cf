"""What an LLM's caches take, in bytes: of a block, of a snapshot, of a whole sequence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from workers.cache.architectures import layers_of
from workers.cache.chain import BLOCK_TOKENS
from workers.cache.layer import ITEM_BYTES, LayerKind, LayerSpec

__all__ = ["CacheSpec", "LayerKind", "LayerSpec"]


@dataclass(frozen=True)
class CacheSpec:
    """The caches of all layers of an LLM.

    ``dtype`` is the safetensors name of what keys and values are kept in,
    ``bits`` is 8 or 4 where the pool keeps blocks quantized, else 0. The
    layers come from the LLM's ``config.json`` (:meth:`from_config`) or from
    its caches, measured. Raises ValueError for a dtype or bits that there
    are not.
    """

    layers: tuple[LayerSpec, ...]
    dtype: str
    bits: int = 0

    def __post_init__(self) -> None:
        """Check what the bytes are computed from."""
        if self.dtype not in ITEM_BYTES:
            raise ValueError(f"no cache has numbers of type {self.dtype}")
        if self.bits not in (0, 4, 8):
            raise ValueError(f"blocks are kept with 0 (as they are), 4 or 8 bits, not {self.bits}")
        self.block_bytes()  # heads that cannot be quantized show here

    @classmethod
    def from_config(cls, config: Mapping[str, Any], dtype: str, bits: int = 0) -> Self:
        """Read an LLM's ``config.json``, as mlx-lm 0.32 makes caches of it.

        Raises ValueError for a config that tells too little, or of an
        architecture not known here: its caches must then be measured.
        """
        return cls(layers_of(config, dtype), dtype, bits)

    @property
    def can_be_cut(self) -> bool:
        """Whether the cache of a sequence holds that of each of its beginnings."""
        return all(layer.kind == "full" for layer in self.layers)

    @cached_property
    def token_bytes(self) -> int:
        """Bytes that each token adds without end: keys and values of the full layers, unquantized."""
        return sum(layer.token_bytes(self.dtype) for layer in self.layers if layer.kind == "full")

    def block_bytes(self, tokens: int = BLOCK_TOKENS) -> int:
        """Bytes of a block of ``tokens`` in the pool: the full layers, quantized where ``bits`` says so."""
        return tokens * self._stored_bytes

    def snapshot_bytes(self, tokens: int) -> int:
        """Bytes of a snapshot behind ``tokens``: the layers that cannot be cut, never quantized."""
        return self._state_bytes + sum(size * min(tokens, window) for window, size in self._sliding)

    def sequence_bytes(self, tokens: int) -> int:
        """Bytes of one row's live cache that holds ``tokens``.

        While a prompt is read, a sliding layer holds the piece being read as well.
        """
        return tokens * self.token_bytes + self.snapshot_bytes(tokens)

    @cached_property
    def _stored_bytes(self) -> int:
        return sum(layer.token_bytes(self.dtype, self.bits) for layer in self.layers if layer.kind == "full")

    @cached_property
    def _state_bytes(self) -> int:
        return sum(layer.state_bytes for layer in self.layers if layer.kind == "state")

    @cached_property
    def _sliding(self) -> tuple[tuple[int, int], ...]:
        """Each window's size in tokens and the bytes of one token in all layers that have it."""
        bytes_by_window = Counter[int]()
        for layer in self.layers:
            if layer.kind == "sliding":
                bytes_by_window[layer.window] += layer.token_bytes(self.dtype)
        return tuple(bytes_by_window.items())
