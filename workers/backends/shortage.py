"""What MLX raises when the device has no memory, told as :class:`OutOfMemory`.

MLX has no class for it: its allocators throw ``std::runtime_error`` with a
text of their own, which reaches Python as RuntimeError. Light to import: it
touches no MLX.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from workers.engine.backend import OutOfMemory

SIGNS = (
    "[malloc",  # "[malloc] Unable to allocate n bytes.", on CUDA "[malloc_async] ..."
    "[metal::malloc]",  # "Attempting to allocate n bytes which is ...", "Resource limit (n) exceeded."
    "insufficient memory",  # "[METAL] Command buffer execution failed: Insufficient Memory (00000008:...)"
    "out of memory",  # "cudaMallocAsync failed: out of memory"
    "cudaerrormemoryallocation",
    "std::bad_alloc",
)
"""Beginnings and parts of those texts, in lower case."""


def is_shortage(error: Exception) -> bool:
    """Whether ``error`` says that there is no memory."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(sign in text for sign in SIGNS)


@contextmanager
def shortage_told() -> Iterator[None]:
    """Raise :class:`OutOfMemory` for an error inside that says so; let all others pass.

    The frames of the error are cleared: what they hold is the memory that a smaller batch needs.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        traceback.clear_frames(error.__traceback__)
        raise OutOfMemory(str(error) or "std::bad_alloc") from None
