"""The backends that one suite holds to their contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.workers.backends.llms import CONFIG, GEMMA, Apart, apart, save_tiny_llm

CONFIGS = {"mlx": CONFIG, "mlx-uncut": GEMMA}
KINDS = ["fake", "fake-uncut", *CONFIGS]


@pytest.fixture(scope="module", params=KINDS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    """A backend of each kind: layers that can all be cut, and some that cannot."""
    kind, folder = request.param, tmp_path_factory.mktemp("llm")
    if kind in CONFIGS:
        save_tiny_llm(folder, config=CONFIGS[kind])
    backend = apart(kind, folder)
    yield backend
    backend.close()


@pytest.fixture
def backend(loaded: Apart) -> Iterator[Apart]:
    """A backend without rows and blocks; afterwards it must hold exactly what the test says it holds."""
    yield loaded
    loaded.reset()
    loaded.drop(range(100))
    loaded.check_integrity({}, [])
    assert (loaded.live_bytes(), loaded.pool_bytes()) == (0, 0)
