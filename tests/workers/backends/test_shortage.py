"""MLX's ways to say that there is no memory are known, and nothing else is taken for one."""

from __future__ import annotations

import gc
import weakref

import pytest

from workers.backends.shortage import is_shortage, shortage_told
from workers.engine import OutOfMemory

SHORTAGES = [
    MemoryError(),
    MemoryError("std::bad_alloc"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("[malloc] Unable to allocate 1073741824 bytes."),
    RuntimeError("[malloc_async] Unable to allocate 1073741824 bytes."),
    RuntimeError("[malloc_or_wait] Unable to allocate 1073741824 bytes."),
    RuntimeError(
        "[metal::malloc] Attempting to allocate 48736917632 bytes which is greater than "
        "the maximum allowed buffer size of 30150672384 bytes."
    ),
    RuntimeError("[metal::malloc] Resource limit (499000) exceeded."),
    RuntimeError(
        "[METAL] Command buffer execution failed: "
        "Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"
    ),
    RuntimeError("cudaMallocAsync(&data, size, stream) failed: out of memory"),
    RuntimeError("CUDA error: cudaErrorMemoryAllocation"),
]
OTHERS = [
    RuntimeError("There is no Stream(cpu, 3) in current thread."),
    RuntimeError("[matmul] Last dimension of first input with shape (2,3) must match"),
    RuntimeError("cudaMallocManaged failed: an illegal memory access was encountered."),
    RuntimeError("[METAL] Command buffer execution failed: Impacting Interactivity (0000000e:...)"),
]


@pytest.mark.parametrize("error", SHORTAGES, ids=str)
def test_a_shortage_is_told_as_one(error: Exception) -> None:
    """Its text is kept."""
    with pytest.raises(OutOfMemory) as told, shortage_told():
        raise error
    assert str(told.value) == (str(error) or "std::bad_alloc")


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_other_errors_pass(error: Exception) -> None:
    """They are what they were, so that whoever caused them is found."""
    with pytest.raises(RuntimeError) as told, shortage_told():
        raise error
    assert told.value is error
    assert not is_shortage(error)


class Array:
    """Stands for memory of the device."""


def test_what_the_error_held_is_given_back() -> None:
    """While it is handled nothing of the batch that did not fit is alive any more."""
    held: list[weakref.ref[Array]] = []

    def compute() -> None:
        array = Array()
        held.append(weakref.ref(array))
        raise RuntimeError("[malloc] Unable to allocate 8 bytes.")

    try:
        with shortage_told():
            compute()
    except OutOfMemory:
        gc.collect()
        assert held[0]() is None
    assert held
