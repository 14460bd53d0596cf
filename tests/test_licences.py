"""Licences: what may be installed beside Penstock, and what may not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from email.message import Message
from importlib.metadata import Distribution
from os import PathLike
from pathlib import Path

import pytest

from ops import licences

PROJECT = Path(__file__).parent.parent


class Package(Distribution):
    """An installed package of which only the metadata exist."""

    def __init__(self, name: str, **headers: str) -> None:
        self.text = f"Name: {name}\n" + "".join(
            f"{header.replace('_', '-')}: {value}\n" for header, value in headers.items()
        )

    def read_text(self, filename: str) -> str | None:  # noqa: ARG002 - the base class names it
        """The metadata, whatever is asked for."""
        return self.text

    def locate_file(self, path: str | PathLike[str]) -> Path:
        """Nothing of the package lies anywhere."""
        raise FileNotFoundError(path)


def test_installed_packages_are_permissive_or_named_exceptions(capsys: pytest.CaptureFixture[str]) -> None:
    """The environment that runs these tests passes the check, and the check looked at it."""
    assert licences.main() == 0
    assert int(capsys.readouterr().out.split()[2]) > 50


@pytest.mark.parametrize(
    "stated",
    [
        "GPL-2.0-only",
        "LGPL-3.0-or-later",
        "AGPL-3.0",
        "SSPL-1.0",
        "MIT AND GPL-3.0-only",
        "MIT AND (LGPL-2.1-only OR GPL-2.0-only)",
        "GNU General Public License v3 (GPLv3)",
        "GNU Affero General Public License v3",
        "Server Side Public License",
    ],
)
def test_copyleft_is_an_offence(stated: str) -> None:
    """Each family of copyleft licences fails, as an expression and as prose."""
    assert not licences.is_acceptable(stated)
    assert list(licences.offences([Package("stranger", License_Expression=stated)]))


@pytest.mark.parametrize(
    "stated",
    [
        "MIT",
        "BSD License",
        "MPL-2.0 AND (Apache-2.0 OR MIT)",
        "MIT OR GPL-2.0-only",
        "(GPL-2.0-only OR MIT) AND Zlib",
        "BSD-3-Clause AND GPL-3.0-or-later WITH GCC-exception-3.1",
    ],
)
def test_permissive_choices_pass(stated: str) -> None:
    """A permissive licence passes, and so does a choice that holds one."""
    assert licences.is_acceptable(stated)


def test_exceptions_are_by_name() -> None:
    """The same licence that a named library may have fails for another package."""
    assert not list(licences.offences([Package("psycopg_binary", License_Expression="LGPL-3.0-only")]))
    assert list(licences.offences([Package("psycopg3", License_Expression="LGPL-3.0-only")]))


def test_silence_is_an_offence() -> None:
    """A package that states no licence fails, one that states it in any known place does not."""
    assert list(licences.offences([Package("silent")]))
    assert list(
        licences.offences([Package("silent", License="UNKNOWN", Classifier="License :: OSI Approved")])
    )
    assert not list(licences.offences([Package("prose", License="MIT")]))
    classifier = "License :: OSI Approved :: MIT License"
    assert not list(licences.offences([Package("classified", Classifier=classifier)]))


def test_notice_names_every_exception() -> None:
    """Whoever reads NOTICE learns of each package that the check lets through."""
    notice = (PROJECT / "NOTICE").read_text(encoding="utf-8").lower()
    assert {name for name in licences.LIBRARIES | licences.PROGRAMS if name not in notice} == set()


def imported_names() -> Iterator[str]:
    """The first name of everything that the project imports."""
    for room in ("api", "config", "migrations", "models", "ops", "tests", "workers"):
        for file in (PROJECT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_bytes())):
                if isinstance(node, ast.Import):
                    yield from (alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    yield node.module.partition(".")[0]


def test_excepted_programs_stay_apart() -> None:
    """A GPL program is not among what Penstock needs to run, and nothing imports it."""
    locked = (PROJECT / "requirements.txt").read_text(encoding="utf-8")
    names = set(imported_names())
    assert "dramatiq==" in locked
    assert "pytest" in names
    for program in licences.PROGRAMS:
        assert f"\n{program}==" not in locked
        assert {program, f"{program}_lib"}.isdisjoint(names)


def test_metadata_prefers_the_expression() -> None:
    """An SPDX expression is taken before classifiers and prose."""
    metadata = Message()
    metadata["License-Expression"] = "MIT"
    metadata["Classifier"] = "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"
    assert licences.licences(metadata) == ["MIT"]
