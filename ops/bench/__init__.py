"""``penstock bench``: figures with targets, each against a yardstick measured in the same run.

Rates are medians of five rounds in which the service and its yardstick take
turns at going first. Nothing here is a test: figures depend on the machine.
"""

from __future__ import annotations

import importlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ops.bench.figure import Effort, Figure

__all__ = ["SECTIONS", "Effort", "Figure", "as_document", "machine", "run"]

SECTIONS = {
    "pickup": "pickup",
    "submit": "submitting",
    "throughput": "throughput",
    "engine": "engine",
    "queue": "depth",
    "soak": "soak",
}
"""The parts by name, and the module that measures each."""


def run(sections: Sequence[str], effort: Effort, tell: Callable[[str], None]) -> Iterator[Figure]:
    """Measure the named sections one after the other, in a folder that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        for section in sections:
            tell(f"Measuring {section} …")
            module = importlib.import_module(f"ops.bench.{SECTIONS[section]}")
            yield from module.measure(effort, Path(name))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    from ops.doctor.device import blas_name, device_kind

    cores = os.cpu_count() or 1
    kind = device_kind()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cores": cores,
        "device": kind,
        "blas": blas_name() if kind == "CPU" else None,
        "note": (
            f"Service and bare engine may use the same {cores} cores. The service's API, database and "
            "bookkeeping share them with the decoding; the bare engine has them to itself."
        ),
    }


def as_document(figures: Sequence[Figure], effort: Effort, facts: dict[str, Any]) -> dict[str, Any]:
    """Everything as JSON."""
    return {
        "machine": facts,
        "effort": vars(effort),
        "figures": [
            {
                "name": figure.name,
                "value": figure.value,
                "unit": figure.unit,
                "target": figure.wanted,
                "met": figure.met,
                "details": dict(figure.details),
            }
            for figure in figures
        ],
    }
