"""Conversations and rows of them, for any backend."""

from __future__ import annotations

from typing import Any

from models.requests import Message, Sampling, TextPart
from tests.workers.backends.llms import SETTINGS, Apart
from workers.cache.prefix import NOTHING, Prefix
from workers.engine import Row

PIECE = SETTINGS.prefill_tokens
"""Tokens of a prompt that are read in one step."""


def messages(*texts: str) -> tuple[Message, ...]:
    """A conversation; the first text is the system's when there are several."""
    roles = ("user",) if len(texts) == 1 else ("system", "user", "assistant", "user")
    return tuple(
        Message(role=role, content=(TextPart(text=text),))  # type: ignore[arg-type] # roles as above
        for role, text in zip(roles, texts, strict=False)
    )


def row(
    backend: Apart,
    text: str,
    max_new: int = 8,
    prior: list[int] | None = None,
    prefix: Prefix = NOTHING,
    stops: tuple[int, ...] = (),
    **sampling: Any,
) -> Row:
    """A row with this prompt, which has generated ``prior`` already."""
    done = prior or []
    tokens = backend.encode(messages(text)) + done
    return Row(tokens, len(done), max_new, Sampling.model_validate(sampling), prefix, stops)
