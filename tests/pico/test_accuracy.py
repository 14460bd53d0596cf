"""The shipped LLM, decoding real lines through mlx-lm, in a process that has a fast BLAS if there is one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from ops.pico.evaluate import Right, load_lines
from workers.backends import blas

pytestmark = pytest.mark.slow


def measured(*options: str) -> dict[str, Right]:
    """Right and all fields for each family, and for all known ones together."""
    command = [sys.executable, "-m", "ops.pico.evaluate", "--json", *options]
    done = subprocess.run(command, env={**os.environ, **blas.environment()}, capture_output=True, check=True)
    return {name: (right, total) for name, (right, total) in json.loads(done.stdout).items()}


def share(right: Right) -> float:
    """Right fields of all fields, 0 to 1."""
    return right[0] / right[1]


def test_known_families_are_read() -> None:
    """At least 90 % of all fields of the known families are right, at least 80 % in each."""
    single = measured()
    families = {line.family for line in load_lines() if line.known}
    assert share(single["known"]) >= 0.90
    assert {name: single[name] for name in families if share(single[name]) < 0.80} == {}


def test_later_turns_are_read() -> None:
    """In conversations of two turns, with its own answers before, at least 90 % are right too."""
    assert share(measured("--turns", "2", "--sample", "40")["known"]) >= 0.90


def test_shuffled_weights_read_nothing() -> None:
    """With each weight's numbers in random order less than 5 % of the fields are right."""
    assert share(measured("--shuffled", "--sample", "10")["known"]) < 0.05
