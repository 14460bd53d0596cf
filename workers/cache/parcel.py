"""A block's contents outside of the device: bytes with their type, which any thread may hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tensor:
    """One array: ``dtype`` is a name of safetensors ("F32", "BF16", "U32", ...), ``data`` row-major."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Parcel:
    """All arrays of one block by name. What they mean only the backend knows that made them."""

    tensors: Mapping[str, Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(len(tensor.data) for tensor in self.tensors.values())
