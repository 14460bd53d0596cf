"""Addresses: nothing in the repository points at a package registry or into one machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import repository

REGISTRY = re.compile(
    r"pypi\.(org|python\.org)|pythonhosted\.org|npmjs\.(org|com)|anaconda\.(org|com)|download\.pytorch\.org"
    r"|^\s*-?-(i|f|index-url|extra-index-url|find-links|trusted-host)[ =]|/simple/?$"
    r"|^\s*(index|extra-index|default-index)(-url)?\s*=|file://",
    re.MULTILINE,
)
MACHINE = re.compile(r"(?<![\w.~<>{}*$/-])/(work|root|home/\w+|Users/\w+|opt/(pypi|wheels))/[\w.]")
DATA = ("examples/lines/", "ops/pico/", "tests/pico/", "workers/backends/pico/")
"""Lines of real programs, and generated ones like them, name folders of machines that are none of ours."""

SELF = "tests/test_addresses.py"


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Every text file of the repository but this one, by path."""
    return {path: text for path, text in repository.texts().items() if path != SELF}


def hits(pattern: re.Pattern[str], texts: dict[str, str]) -> list[str]:
    """The places where ``pattern`` is found, as ``path: found``."""
    return [f"{path}: {match[0].strip()}" for path, text in texts.items() for match in pattern.finditer(text)]


def test_no_registry(texts: dict[str, str]) -> None:
    """No file carries the address of a package registry, nor an option that sets one."""
    assert "requirements.txt" in texts
    assert hits(REGISTRY, texts) == []


def test_no_path_of_one_machine(texts: dict[str, str]) -> None:
    """No file but shipped data carries an absolute path that exists on one machine only."""
    assert hits(MACHINE, {path: text for path, text in texts.items() if not path.startswith(DATA)}) == []


def test_no_lock_with_addresses() -> None:
    """The lock is ``requirements*.txt``: uv's own would carry addresses."""
    assert [file for file in repository.files() if file.name == "uv.lock"] == []


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (REGISTRY, "see https://pypi.org/project/x"),
        (REGISTRY, "--find-links wheels"),
        (REGISTRY, "a\n-i https://example.org/simple"),
        (REGISTRY, "x @ file:///tmp/x.whl"),
        (REGISTRY, 'index-url = "x"'),
        (MACHINE, "/home/ada/penstock"),
        (MACHINE, 'cd "/Users/ada/x"'),
        (MACHINE, "at /work/thing"),
    ],
)
def test_the_search_finds(pattern: re.Pattern[str], text: str) -> None:
    """Each kind of address is found."""
    assert hits(pattern, {"x": text})


@pytest.mark.parametrize(
    "text", ["~/work/x", "the /v1/work/x route", "https://example.org/home/x/y", "/homework/"]
)
def test_the_search_lets_be(text: str) -> None:
    """Paths below a home, and routes, are no addresses of a machine."""
    assert not hits(MACHINE, {"x": text})


def test_files_are_found_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where git is missing the search still sees the files that count, and none of the environment."""
    monkeypatch.setenv("PATH", "")
    found = {file.relative_to(repository.PROJECT) for file in repository.files()}
    assert {Path("Makefile"), Path("config/settings.py"), Path(".ci/run")} <= found
    assert not any(part.startswith(".venv") for file in found for part in file.parts)
