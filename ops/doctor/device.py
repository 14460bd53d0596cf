"""What computes: Metal, CUDA, or a CPU with a fast or a slow BLAS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from config.settings import Settings
from ops.blas import CURE
from ops.doctor.finding import Finding, fail, ok, warn

# In a process of its own: Metal belongs to the process that uses it, and MLX to the worker.
PROBE = """
import json, mlx.core as mx
parts = {name: getattr(mx, name, None) for name in ("metal", "cuda")}
known = {name: bool(part and part.is_available()) for name, part in parts.items()}
total = mx.sum(mx.ones((256, 256)) @ mx.ones((256, 256)))
import mlx_lm
print(json.dumps({"device": str(mx.default_device()), "right": total.item() == 256**3, **known}))
"""
PATIENCE_SECONDS = 120.0
SLOW_BLAS = "MLX's own"


def accelerator(settings: Settings) -> Iterator[Finding]:
    """Which device MLX takes, and whether it computes right."""
    if settings.engine.backend == "fake":
        return
    facts = _probe()
    if isinstance(facts, str):
        yield fail("mlx", facts, "run make again; CUDA=1 for NVIDIA cards")
        return
    kind = _kind(facts)
    says = f"{kind}, {facts['device']}"
    if facts["right"]:
        yield ok("mlx", says)
    else:
        yield fail("mlx", f"{says} computes wrongly", "update the system's driver")
    if kind == "CPU":
        yield _blas()


def device_kind() -> str:
    """Metal, CUDA or CPU; "nothing" where MLX cannot be used."""
    facts = _probe()
    return "nothing" if isinstance(facts, str) else _kind(facts)


def _kind(facts: dict[str, Any]) -> str:
    return "Metal" if facts["metal"] else "CUDA" if facts["cuda"] else "CPU"


def _probe() -> dict[str, Any] | str:
    """MLX's facts, or why there are none."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", PROBE],
            capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False, env=dict(os.environ),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"MLX did not compute a matrix within {PATIENCE_SECONDS:g} seconds"
    if done.returncode:
        return f"MLX cannot be used: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def blas_name() -> str:
    """The BLAS that the inference worker gets on a CPU."""
    from workers.backends import blas

    found = blas.find()
    return str(found) if found is not None else SLOW_BLAS


def _blas() -> Finding:
    """On a CPU the BLAS that MLX brings is many times slower than OpenBLAS."""
    from workers.backends import blas

    found = blas.find()
    if found is not None:
        return ok("blas", f"{found} is preloaded for the inference worker")
    return warn(
        "blas",
        "only MLX's own, which is about 15 times slower than OpenBLAS on a CPU",
        CURE,
    )
