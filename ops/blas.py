"""What to say of the BLAS with which a Linux machine decodes on its CPU."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution

CURE = "apt install libopenblas0-pthread (Debian, Ubuntu), or the package openblas elsewhere"


def hint() -> str | None:
    """A line for whoever starts a service that would decode many times faster; None where none is due."""
    from workers.backends import blas

    try:
        distribution("mlx-cpu")  # MLX's libraries for Linux without a GPU; on others BLAS matters little
    except PackageNotFoundError:
        return None
    if blas.find() is not None:
        return None
    return (
        "There is no OpenBLAS here: the LLM decodes on the CPU with the BLAS that MLX brings, many times "
        f"slower. It works all the same; to speed it up: {CURE}, then start again."
    )
