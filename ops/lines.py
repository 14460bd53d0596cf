"""The real lines in `examples/lines/` and the fields that parsers find in them.

Every line was written by a real program (`examples/README.md` says which and how it was caught).
What the demo and the tests expect of an LLM comes from the regular expressions here, never by hand.
Each family's formats are those of its program: dpkg(1), update-alternatives(1), nginx's `combined`,
uvicorn's access log, RFC 3164/3339 syslog, PostgreSQL's `log_line_prefix`, Python's `logging`,
`git log --oneline`, and Valkey's server log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SYSTEM_MESSAGE = (EXAMPLES / "handbook.txt").read_text(encoding="utf-8").strip()
"""The system message that all jobs of the demo share: more than 512 tokens of `pico`."""

FIELDS: dict[str, tuple[str, ...]] = {
    "dpkg": ("time", "action", "state", "package", "arch", "version"),
    "alternatives": ("time", "link", "path", "priority"),
    "nginx": ("client", "time", "method", "path", "status", "size", "agent"),
    "uvicorn": ("level", "client", "method", "path", "status"),
    "syslog": ("time", "host", "program", "pid", "message"),
    "postgres": ("time", "pid", "level", "message"),
    "python": ("time", "level", "logger", "message"),
    "git": ("commit", "subject", "tag"),
    "valkey": ("pid", "time", "level", "message"),
}
"""The fields that the handbook asks for, by family and in its order."""

UNKNOWN = frozenset({"valkey"})
"""Families that the generator of `pico`'s training does not know."""

_PATTERNS: dict[str, tuple[str, ...]] = {
    "dpkg": (
        (
            r"(?P<time>\S+ \S+) (?P<action>\S+) (?:(?P<state>[a-z-]+) )?(?P<package>[^\s:]+):(?P<arch>\S+)"
            r" (?:\S+ (?!<))?(?P<version>[^\s<]+)(?: <none>)?"
        ),
    ),
    "alternatives": (
        (
            r"update-alternatives (?P<time>\S+ \S+): (?:link group|run with .*?--install \S+) (?P<link>\S+)"
            r" (?:updated to point to )?(?P<path>\S+)(?: (?P<priority>\d+))?(?: --slave .*)?"
        ),
    ),
    "nginx": (
        (
            r'(?P<client>\S+) - \S+ \[(?P<time>[^]]+)\] "(?P<method>\S+) (?P<path>\S+) [^"]*"'
            r' (?P<status>\d+) (?P<size>\d+) "[^"]*" "(?P<agent>[^"]*)"'
        ),
    ),
    "uvicorn": (
        (
            r'(?P<level>[A-Z]+): +(?P<client>\S+) - "(?P<method>\S+) (?P<path>\S+) [^"]*"'
            r" (?P<status>\d+) .*"
        ),
    ),
    "syslog": (r"(?P<time>\S+) (?P<host>\S+) (?P<program>[^\s\[:]+)(?:\[(?P<pid>\d+)\])?: (?P<message>.*)",),
    "postgres": (
        r"(?P<time>\S+ \S+ \S+) \[(?P<pid>\d+)\] (?:\S+@\S+ )?(?P<level>[A-Z0-9]+):  (?P<message>.*)",
    ),
    "python": (
        (
            r"\[(?P<time>[^]]+)\] \[PID \d+\] \[[^]]+\] \[(?P<logger>[^]]+)\] \[(?P<level>[A-Z]+)\]"
            r" (?P<message>.*)"
        ),
        r"(?P<time>\S+ \S+) \[(?P<logger>[^]]+)\] (?P<level>[A-Z]+): (?P<message>.*)",
        r"(?P<level>[A-Z]+) +\[(?P<logger>[^]]+)\] (?P<message>.*)",
    ),
    "git": (r"(?P<commit>[0-9a-f]{7,40}) (?P<subject>.*?)(?: \(tag: (?P<tag>[^,)]+)\))?",),
    "valkey": (r"(?P<pid>\d+):[A-Z] (?P<time>\d+ \w+ \d+ \S+) (?P<level>[-.*#]) (?P<message>.*)",),
}


@dataclass(frozen=True)
class Line:
    """A real line: its family, its text, whether the generator knows the family, its fields."""

    family: str
    text: str
    known: bool
    expected: dict[str, str]


def expected(family: str, line: str) -> dict[str, str]:
    """The fields of a line, in the handbook's order; a field that the line lacks is empty.

    Raises `KeyError` for an unknown family and `ValueError` for a line of another shape.
    """
    for pattern in _PATTERNS[family]:
        if found := re.fullmatch(pattern, line):
            values = found.groupdict()
            return {field: values.get(field) or "" for field in FIELDS[family]}
    raise ValueError(f"not a line of {family}: {line!r}")


def load_lines() -> list[Line]:
    """All real lines, family after family in the order of `FIELDS`, each file from its start."""
    return [
        Line(family, text, family not in UNKNOWN, expected(family, text))
        for family in FIELDS
        for text in _read(family)
    ]


def _read(family: str) -> list[str]:
    path = EXAMPLES / "lines" / f"{family}.log"
    return path.read_text(encoding="utf-8").splitlines()
