"""Pages that stand elsewhere in the repository, shown among the others."""

from __future__ import annotations

from config.sources import PROJECT


def pico() -> str:
    """The model card of the built-in LLM, which lies beside its weights."""
    (card,) = (PROJECT / "workers" / "backends" / "pico").glob("*.md")
    return card.read_text(encoding="utf-8")


def changelog() -> str:
    """What changed, for users."""
    return (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
