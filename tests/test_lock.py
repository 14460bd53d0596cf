"""The lock: what is installed is pinned by version and hash, and follows from ``pyproject.toml``."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = Path(__file__).parent.parent
FILES = ("requirements.txt", "requirements-dev.txt", "requirements-cuda.txt")
PIN = re.compile(
    r"^(?P<name>[a-z0-9.-]+)(?:\[[a-z0-9,-]+\])?==(?P<version>[^ ;\\]+)(?P<rest>.*(?:\n    --hash=.*)*)",
    re.MULTILINE,
)


def pins(file: str) -> dict[str, set[str]]:
    """The versions that a lock allows for each package; several where Pythons differ."""
    found: dict[str, set[str]] = {}
    for match in PIN.finditer((PROJECT / file).read_text(encoding="utf-8")):
        found.setdefault(match["name"], set()).add(match["version"])
    return found


def wanted(*groups: str) -> list[Requirement]:
    """What ``pyproject.toml`` asks for to run, and in the named groups and extras."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    tables = project["dependency-groups"] | project["project"]["optional-dependencies"]
    asked = [*project["project"]["dependencies"], *(line for group in groups for line in tables[group])]
    return [Requirement(line) for line in asked]


@pytest.mark.parametrize("file", FILES)
def test_every_package_has_a_hash(file: str) -> None:
    """Each pinned package carries at least one hash, and every requirement is pinned."""
    text = (PROJECT / file).read_text(encoding="utf-8")
    assert [match["name"] for match in PIN.finditer(text) if "--hash=sha256:" not in match["rest"]] == []
    lines = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert [line for line in lines if not PIN.match(line)] == []
    assert len(lines) > 40


@pytest.mark.parametrize(
    ("file", "groups"),
    [
        ("requirements.txt", ["mlx"]),
        ("requirements-dev.txt", ["mlx", "test", "quality", "docs"]),
        ("requirements-cuda.txt", ["cuda"]),
    ],
)
def test_lock_follows_the_project(file: str, groups: list[str]) -> None:
    """Everything the project asks for is locked, in a version it asks for: else run ``make lock``."""
    locked = pins(file)
    for requirement in wanted(*groups):
        versions = locked.get(requirement.name, set())
        assert versions, f"{requirement.name} is not in {file}"
        assert all(requirement.specifier.contains(version) for version in versions), requirement


def test_locks_agree() -> None:
    """What the tests run is what users run: the development lock holds the run-time one."""
    run, dev = pins("requirements.txt"), pins("requirements-dev.txt")
    assert {name: versions for name, versions in run.items() if dev.get(name) != versions} == {}


def test_mlx_libraries_stay_apart() -> None:
    """MLX's CPU and CUDA libraries, which overwrite each other's files, are in different locks."""
    assert "mlx-cpu" in pins("requirements.txt")
    assert "mlx-cpu" not in pins("requirements-cuda.txt")
    assert not [name for name in pins("requirements-dev.txt") if "cuda" in name or name.startswith("nvidia")]
