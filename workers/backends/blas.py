"""A faster BLAS for MLX on a Linux CPU.

The BLAS inside MLX's Linux wheel computes a few GFLOP/s; OpenBLAS, loaded
before it, answers the same calls fifteen times faster. It is used where the
system has it and never required. Light to import: it touches no MLX.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

PLACES = (
    "{prefix}/lib",
    "/usr/lib/{machine}-linux-gnu/openblas-pthread",
    "/usr/lib/{machine}-linux-gnu/openblas-openmp",
    "/usr/lib/{machine}-linux-gnu",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/lib",
    "/opt/OpenBLAS/lib",
)
# Fedora's libopenblasp and libopenblaso are the threaded builds, its libopenblas has one thread.
NAMES = ("libopenblasp.so.0", "libopenblaso.so.0", "libopenblas.so.0", "libopenblas.so")
PROBE = "import ctypes; ctypes.CDLL(None).cblas_sgemm"
PROBE_SECONDS = 10


def environment(threads: int = 0, inherited: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables that a process must be started with so that MLX finds OpenBLAS; none where there is none.

    ``threads`` of 0 leaves their number to the library. What ``inherited``
    (by default this process's environment) preloads is kept.
    """
    library = find()
    if library is None:
        return {}
    before = (os.environ if inherited is None else inherited).get("LD_PRELOAD", "")
    preload = before if str(library) in before.split(":") else ":".join(filter(None, (str(library), before)))
    return {"LD_PRELOAD": preload} | ({"OPENBLAS_NUM_THREADS": str(threads)} if threads else {})


@lru_cache(maxsize=1)
def find() -> Path | None:
    """The OpenBLAS of this system, if it has one that can be preloaded."""
    if sys.platform != "linux":
        return None
    return next((library for library in _candidates() if _answers(library)), None)


def _candidates() -> Iterator[Path]:
    for place in PLACES:
        folder = Path(place.format(prefix=sys.prefix, machine=platform.machine()))
        for name in NAMES:
            if (folder / name).is_file():
                yield folder / name


def _answers(library: Path) -> bool:
    """Whether a Python started with ``library`` has the function that MLX calls."""
    command = [sys.executable, "-I", "-c", PROBE]
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, with a fixed program
            command,
            env={**os.environ, "LD_PRELOAD": str(library)},
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
