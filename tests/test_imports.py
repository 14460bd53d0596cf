"""Imports: they point one way, and the door stays light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grimp
import pytest
from importlinter.cli import lint_imports

PROJECT = Path(__file__).parent.parent
ROOMS = ("api", "config", "migrations", "models", "ops", "workers")


def test_contracts_hold(capsys: pytest.CaptureFixture[str]) -> None:
    """Every contract on imports in ``pyproject.toml`` is kept."""
    cache = str(PROJECT / ".cache" / "import-linter")
    status = lint_imports(config_filename=str(PROJECT / "pyproject.toml"), cache_dir=cache)
    assert status == 0, capsys.readouterr().out


def test_the_door_reaches_only_the_broker() -> None:
    """Whatever ``api`` imports, at any remove, lies in ``workers.broker`` if it lies in ``workers``."""
    graph = grimp.build_graph(*ROOMS, include_external_packages=True, cache_dir=None)
    reached = graph.find_upstream_modules("api", as_package=True)
    inside = {module for module in reached if module.startswith("workers.")}
    assert "config.settings" in reached
    assert {module for module in inside if module.split(".")[1] != "broker"} == set()
    assert reached.isdisjoint({"mlx", "mlx_lm", "migrations", "ops"})


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("api.app", ["mlx", "mlx_lm", "transformers", "numpy", "torch"]),
        ("workers.broker", ["mlx", "mlx_lm", "transformers", "numpy", "fastapi"]),
        ("workers.engine", ["mlx", "mlx_lm", "transformers", "numpy", "fastapi", "dramatiq", "sqlalchemy"]),
        ("models", ["mlx", "fastapi", "dramatiq"]),
        ("ops.cli", ["mlx", "mlx_lm", "transformers", "fastapi"]),
    ],
)
def test_a_fresh_process_stays_light(module: str, heavy: list[str]) -> None:
    """Importing a module in a process of its own loads nothing that it must not need."""
    script = f"import sys, {module}; print(*sorted(set(sys.modules) & set({heavy!r})))"
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == []
