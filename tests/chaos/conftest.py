"""What trials of real processes need."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a short path, for sockets: macOS ends theirs at 104 bytes."""
    with tempfile.TemporaryDirectory(prefix="penstock-chaos-", dir="/tmp") as name:
        yield Path(name)
