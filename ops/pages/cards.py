"""Pages that stand elsewhere in the repository, shown among the others."""

from __future__ import annotations

from config.sources import PROJECT


def pico() -> str:
    """The model card of the built-in LLM, which lies beside its weights.

    Raises FileNotFoundError when there is none: weights without a card are not shipped.
    """
    cards = sorted((PROJECT / "workers" / "backends" / "pico").glob("*.md"))
    if not cards:
        raise FileNotFoundError("workers/backends/pico has no model card (a *.md beside the weights)")
    return cards[0].read_text(encoding="utf-8")


def changelog() -> str:
    """What changed, for users."""
    return (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
