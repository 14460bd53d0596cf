"""Pieces of Markdown that the generated pages share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table, and an empty one behind it; no rows, no table."""
    body = [f"| {' | '.join(map(cell, row))} |" for row in rows]
    if not body:
        return []
    return [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *body, ""]


def cell(text: str) -> str:
    """Text as it may stand in a table: on one line, its bars escaped."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """Text as code; nothing for the empty text."""
    return f"`{text}`" if text else ""


def prose(text: str | None) -> str:
    """A docstring's first paragraph as a sentence of a page: its marks for code are Markdown's."""
    first = (text or "").strip().split("\n\n")[0]
    without_roles = re.sub(r":[a-z]+:`~?([^`]+)`", r"`\1`", first)
    return " ".join(without_roles.replace("``", "`").split())


def anchor(text: str) -> str:
    """A stable name for a place in a page."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
