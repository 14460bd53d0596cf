"""MLX work in a thread of its own, which ends MLX behind it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def in_a_thread(work: Callable[[], Any]) -> Any:
    """Do the work there; returns what it returns, raises what it raises."""
    import mlx.core as mx

    def whole() -> Any:
        try:
            with mx.stream(mx.new_stream(mx.default_device())):
                return work()
        finally:
            mx.clear_streams()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(whole).result()
