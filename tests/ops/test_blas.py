"""Whoever decodes on a CPU without OpenBLAS is told so at the start."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from ops import blas


@pytest.fixture
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLX's libraries for Linux without a GPU, and no OpenBLAS."""
    monkeypatch.setattr(blas, "distribution", lambda _: None)
    monkeypatch.setattr("workers.backends.blas.find", lambda: None)


def test_the_package_is_named(on_a_cpu: None) -> None:
    """One line says what is missing, that it is optional, and the command that brings it."""
    said = blas.hint()
    assert said is not None
    assert "\n" not in said
    assert "It works all the same" in said
    assert "apt install libopenblas0-pthread" in said


def test_where_it_is_nothing_is_said(on_a_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With OpenBLAS on the system there is nothing to install."""
    monkeypatch.setattr("workers.backends.blas.find", lambda: Path("libopenblas.so.0"))
    assert blas.hint() is None


def test_a_gpu_needs_none(on_a_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metal and CUDA do not decode with a BLAS of the CPU."""

    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(blas, "distribution", absent)
    assert blas.hint() is None
