"""Arrays as bytes and back, with the names that safetensors has for their types."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from workers.cache.parcel import Tensor

DTYPES = {
    "F32": mx.float32,
    "F16": mx.float16,
    "BF16": mx.bfloat16,
    "I64": mx.int64,
    "I32": mx.int32,
    "I16": mx.int16,
    "I8": mx.int8,
    "U64": mx.uint64,
    "U32": mx.uint32,
    "U16": mx.uint16,
    "U8": mx.uint8,
}


def dtype_name(dtype: mx.Dtype) -> str:
    """The safetensors name of a type; raises ValueError for one that there is no name for."""
    for name, known in DTYPES.items():
        if known == dtype:
            return name
    raise ValueError(f"arrays of {dtype} cannot be kept")


def to_tensor(array: mx.array) -> Tensor:
    """A copy of an array's numbers as bytes; the array has at least one axis."""
    octets: Any = array.view(mx.uint8)  # a buffer, which its types do not tell
    return Tensor(dtype_name(array.dtype), array.shape, memoryview(octets).tobytes())


def to_array(tensor: Tensor) -> mx.array:
    """A copy of a tensor's bytes as an array; raises ValueError unless they are as many as its shape says."""
    octets: Any = memoryview(tensor.data)  # as above
    return mx.array(octets).view(DTYPES[tensor.dtype]).reshape(tensor.shape)
