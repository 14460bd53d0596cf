"""The licence of every installed package, from its metadata: ``python -m ops.licences``.

Permissive licences pass. GPL, LGPL, AGPL and SSPL fail, except for the libraries
and the program that ``NOTICE`` names. A package that states no licence fails too.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from email.message import Message
from importlib.metadata import Distribution, distributions
from typing import cast

LIBRARIES = frozenset({"dramatiq", "psycopg", "psycopg-binary"})
"""LGPL, used unmodified as libraries."""

PROGRAMS = frozenset({"codespell"})
"""GPL, started by ``make lint`` as a program of its own; neither imported nor needed to run Penstock."""

_COPYLEFT = re.compile(
    r"\b[AL]?GPL|\bSSPL|GNU (Affero |Lesser |Library )?General Public|Server Side Public", re.IGNORECASE
)
# The run-time libraries of GCC, as wheels of compiled code carry them, put no condition on their users.
_EXCEPTED = re.compile(r"\S*GPL\S* WITH GCC-exception-3\.1", re.IGNORECASE)


def main() -> int:
    """Print what is wrong, or how many packages were looked at; 1 when something is."""
    packages = sorted(distributions(), key=name_of)
    wrong = list(offences(packages))
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong:
        print(f"Licences of {len(packages)} packages: no objection.")
    return 1 if wrong else 0


def offences(packages: Iterable[Distribution]) -> Iterator[str]:
    """One line for each package whose licence will not do."""
    for package in packages:
        name, stated = name_of(package), licences(cast("Message", package.metadata))
        if not stated:
            yield f"{name}: states no licence"
        elif name not in LIBRARIES | PROGRAMS and not all(is_acceptable(text) for text in stated):
            yield f"{name}: {'; '.join(stated)} is neither permissive nor excepted in NOTICE"


def name_of(package: Distribution) -> str:
    """A package's name in its normal form."""
    return re.sub(r"[-_.]+", "-", package.metadata["Name"]).lower()


def licences(metadata: Message) -> list[str]:
    """What a package says of its licence: an SPDX expression, else classifiers, else its prose."""
    if expression := metadata.get("License-Expression"):
        return [expression]
    classifiers = metadata.get_all("Classifier") or []
    stated = [text.rpartition("::")[2].strip() for text in classifiers if text.startswith("License ::")]
    stated = [text for text in stated if text != "OSI Approved"]
    prose = (metadata.get("License") or "").strip()
    if stated:
        return stated
    return [prose.splitlines()[0]] if prose and prose.upper() != "UNKNOWN" else []


def is_acceptable(stated: str) -> bool:
    """Whether a licence text or SPDX expression leaves a choice free of copyleft."""
    return _is_free(_EXCEPTED.sub("", stated))


def _is_free(expression: str) -> bool:
    """Read an SPDX expression: all members of an AND must be free, of an OR one."""
    if (innermost := re.search(r"\(([^()]*)\)", expression)) and re.search(r"\b(AND|OR)\b", expression):
        verdict = "MIT" if _is_free(innermost[1]) else "GPL"
        return _is_free(expression[: innermost.start()] + verdict + expression[innermost.end() :])
    choices = re.split(r"\bOR\b", expression)
    return any(not _COPYLEFT.search(choice) for choice in choices)


if __name__ == "__main__":
    sys.exit(main())
