"""OpenBLAS is used where the system has it, and never required."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.backends import blas

LIBRARY = Path("/somewhere/libopenblas.so.0")


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Look again in each test."""
    blas.find.cache_clear()
    yield
    blas.find.cache_clear()


def test_without_openblas_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No library, no variables."""
    monkeypatch.setattr(blas, "_candidates", lambda: iter(()))
    assert blas.find() is None
    assert blas.environment(threads=4) == {}


def test_a_library_that_cannot_be_preloaded_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is no library, or one without the function, is not used."""
    broken = tmp_path / "libopenblas.so.0"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(blas, "_candidates", lambda: iter([broken, tmp_path / "missing.so"]))
    assert blas.find() is None


def test_the_first_that_answers_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Places are tried in order."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(blas, "_candidates", lambda: iter([Path("/a.so"), LIBRARY, Path("/b.so")]))
    monkeypatch.setattr(blas, "_answers", lambda library: library != Path("/a.so"))
    assert blas.find() == LIBRARY


def test_other_systems_have_a_fast_blas_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked for on macOS."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(blas, "_candidates", lambda: iter([LIBRARY]))
    monkeypatch.setattr(blas, "_answers", lambda _: True)
    assert blas.find() is None


def test_what_is_preloaded_already_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library comes before what the environment preloads, once; threads only where they are set."""
    monkeypatch.setattr(blas, "find", _Found())
    assert blas.environment(inherited={}) == {"LD_PRELOAD": str(LIBRARY)}
    assert blas.environment(3, {"LD_PRELOAD": "/other.so"}) == {
        "LD_PRELOAD": f"{LIBRARY}:/other.so",
        "OPENBLAS_NUM_THREADS": "3",
    }
    assert blas.environment(inherited={"LD_PRELOAD": f"/x.so:{LIBRARY}"}) == {
        "LD_PRELOAD": f"/x.so:{LIBRARY}"
    }


def test_it_is_light_to_import() -> None:
    """Looking for a BLAS does not load MLX."""
    program = "import sys, workers.backends.blas; print('mlx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


class _Found:
    def __call__(self) -> Path:
        return LIBRARY

    def cache_clear(self) -> None:
        """As the real one."""
