"""From a conversation to the tokens an LLM reads: one rendering for the door and for the worker.

Light to import: the tokenizer libraries are loaded when a conversation is
first rendered. Nothing here touches MLX.

An LLM without a chat template gets plain text: one user message alone as it
is, a conversation as paragraphs ``System: ...``, ``User: ...``,
``Assistant: ...`` that end with ``Assistant:``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.requests import Message

# What templates add around the texts, in tokens: generous for common ones. It decides only
# whether a conversation is worth counting; the worker has the last word.
TEMPLATE_TOKENS = 128
TURN_TOKENS = 16


class PromptRefused(ValueError):  # noqa: N818 - named for what happened, not for being an error
    """The LLM's chat template cannot express these messages; the message says why."""


class PromptEncoder:
    """Renders and tokenises conversations; any thread may use it.

    ``tokenizer`` is a transformers tokenizer, or mlx-lm's wrapper around one.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # A fast tokenizer refuses a second thread while one is in it ("Already borrowed").
        self._lock = threading.Lock()

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Return the tokens of ``messages``, ready for the assistant's turn; raises PromptRefused."""
        with self._lock:
            if not self._has_template():
                return list(self._tokenizer.encode(plain_text(messages)))
            return self._apply_template([{"role": turn.role, "content": turn.text} for turn in messages])

    def _has_template(self) -> bool:
        known = getattr(self._tokenizer, "has_chat_template", None)
        return bool(self._tokenizer.chat_template) if known is None else bool(known)

    def _apply_template(self, turns: list[dict[str, str]]) -> list[int]:
        from jinja2 import TemplateError

        try:
            return list(
                self._tokenizer.apply_chat_template(
                    turns, add_generation_prompt=True, tokenize=True, return_dict=False
                )
            )
        except (TemplateError, TypeError, ValueError, LookupError) as error:
            roles = ", ".join(turn["role"] for turn in turns[:8])
            raise PromptRefused(
                f"the LLM's chat template refuses these messages ({roles}): {error}"
            ) from error


class PromptCounter:
    """Tells the door, which has no LLM, whether a conversation fits one.

    ``tokenizer_path`` is the directory the worker has published; where it
    cannot be read from here nothing is known, and the worker decides.
    """

    def __init__(self, tokenizer_path: str) -> None:
        self._path = tokenizer_path
        self._lock = threading.Lock()
        self._encoder: PromptEncoder | None = None

    def fits(self, messages: Sequence[Message], max_tokens: int, context_length: int) -> bool | None:
        """Whether prompt and completion fit the context; None when that is not known here.

        No tokenizer with a token for each byte makes more tokens than bytes,
        so that most conversations are not counted at all.
        """
        at_most = sum(len(turn.text.encode()) + TURN_TOKENS for turn in messages) + TEMPLATE_TOKENS
        if at_most + max_tokens <= context_length:
            return True
        count = self.count(messages)
        return None if count is None else count + max_tokens <= context_length

    def count(self, messages: Sequence[Message]) -> int | None:
        """Tokens of the rendered conversation, or None when that is not known here."""
        encoder = self._load()
        if encoder is None:
            return None
        try:
            return len(encoder.encode(messages))
        except PromptRefused:
            return None

    def _load(self) -> PromptEncoder | None:
        with self._lock:
            if self._encoder is None and self._path and Path(self._path).is_dir():
                self._encoder = _load_encoder(self._path)
            return self._encoder


def plain_text(messages: Sequence[Message]) -> str:
    """The text for an LLM without a chat template; see the module."""
    if len(messages) == 1 and messages[0].role == "user":
        return messages[0].text
    turns = [f"{turn.role.capitalize()}: {turn.text}" for turn in messages]
    return "\n\n".join([*turns, "Assistant:"])


def _load_encoder(path: str) -> PromptEncoder | None:
    # Otherwise the library advises, on every start, to install PyTorch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers import AutoTokenizer

    try:
        return PromptEncoder(AutoTokenizer.from_pretrained(path, local_files_only=True))
    except (OSError, ValueError):
        return None
