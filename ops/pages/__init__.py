"""Pages of the documentation that are made from the code whenever it is built.

Nothing of it is committed, so nothing of it can be out of step. Each module
makes one page (``page()`` returns Markdown); ``diagram`` draws the states of a
job; ``hook`` is what MkDocs calls.
"""

from __future__ import annotations

from collections.abc import Callable

from ops.pages import cards, commands, configuration, http, metrics, tables

GENERATED: dict[str, Callable[[], str]] = {
    "configuration.md": configuration.page,
    "http-reference.md": http.page,
    "command-line.md": commands.page,
    "metrics.md": metrics.page,
    "tables.md": tables.page,
    "pico-card.md": cards.pico,
    "changelog.md": cards.changelog,
}
"""The pages by their place in the documentation."""

INSERTED: dict[str, Callable[[], str]] = {
    "<!-- problems -->": http.problems,
}
"""Pieces of written pages, by the comment that they replace."""
