"""From a conversation to the tokens an LLM reads: one rendering for the door and for the worker.

Light to import: the tokenizer libraries are loaded when a conversation is
first rendered. Nothing here touches MLX.

An LLM without a chat template gets plain text: one user message alone as it
is, a conversation as paragraphs ``System: ...``, ``User: ...``,
``Assistant: ...`` that end with ``Assistant:``.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from models.requests import Message

log = logging.getLogger(__name__)

# What templates add around the texts, in tokens: generous for common ones. It decides only
# whether a conversation is worth counting; the worker has the last word.
TEMPLATE_TOKENS = 128
TURN_TOKENS = 16

PIECE = 4096
"""Characters that are tokenised at a time while it is open whether a long text is worth counting whole."""

CUT_TOKENS = 16
"""Tokens that a text may gain by being cut between two pieces: generous for common tokenizers."""


@dataclass(frozen=True, slots=True)
class Length:
    """Tokens of a rendered conversation; of one that is not ``exact``, where counting stopped."""

    tokens: int
    exact: bool = True

    def leaves(self, tokens: int, context_length: int) -> bool:
        """Whether so many tokens can follow within the context."""
        return self.exact and self.tokens + tokens <= context_length

    def __str__(self) -> str:
        return str(self.tokens) if self.exact else f"more than {self.tokens}"


class PromptRefused(ValueError):  # noqa: N818 - named for what happened, not for being an error
    """The LLM's chat template or tokenizer cannot express these messages; the message says why."""


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
        return self._encode(messages, opens=True)

    def boundaries(self, messages: Sequence[Message], tokens: Sequence[int]) -> list[int]:
        """Where in ``tokens``, made of ``messages`` by :meth:`encode`, another conversation may part from it.

        Rising positions: behind a leading system message and behind the last
        message, before what opens the assistant's turn. Each part is rendered
        alone and is there as far as its tokens are the same; one that is refused has none.
        """
        parts = [messages[:1], messages] if messages[0].role == "system" else [messages]
        found = {self._shared(part, tokens) for part in parts}
        return sorted(position for position in found if 0 < position < len(tokens))

    def length(self, messages: Sequence[Message], most: int) -> Length:
        """Count the tokens of ``messages``, or tell that they are more than ``most``; raises PromptRefused.

        A prompt can be a thousand times longer than any context: the work is
        bounded by ``most``, not by the prompt.
        """
        with self._lock, _refusing(messages):
            text = self._render(messages)
            beyond = len(text) > PIECE and self._is_beyond(text, most)
        return Length(most, exact=False) if beyond else Length(len(self.encode(messages)))

    def _is_beyond(self, text: str, most: int) -> bool:
        """Whether a text surely has more tokens than ``most``; reads no further than that takes."""
        if self._token_bytes and len(text.encode()) > most * self._token_bytes:
            return True
        tokens = 0
        for start in range(0, len(text), PIECE):
            piece = self._tokenizer.encode(text[start : start + PIECE], add_special_tokens=False)
            tokens += len(piece) - CUT_TOKENS
            if tokens > most:
                return True
        return False

    @cached_property
    def _token_bytes(self) -> int:
        """The most bytes that one token stands for; 0 where that is not certain.

        It is where tokens are bytes joined together, and no text is shortened before.
        """
        from tokenizers import decoders

        inner = getattr(self._tokenizer, "backend_tokenizer", None)
        if inner is None or inner.normalizer is not None or not isinstance(inner.decoder, decoders.ByteLevel):
            return 0
        return max(len(token.encode()) for token in self._tokenizer.get_vocab())

    def _shared(self, messages: Sequence[Message], tokens: Sequence[int]) -> int:
        """How many of ``tokens`` these messages begin with when no reply is to follow."""
        try:
            part = self._encode(messages, opens=False)
        except PromptRefused:
            return 0
        pairs = enumerate(zip(part, tokens, strict=False))
        return next((at for at, (one, other) in pairs if one != other), min(len(part), len(tokens)))

    def _encode(self, messages: Sequence[Message], *, opens: bool) -> list[int]:
        with self._lock, _refusing(messages):
            if not self._has_template():
                return list(self._tokenizer.encode(plain_text(messages, opens=opens)))
            return list(self._apply_template(messages, tokenize=True, opens=opens))

    def _has_template(self) -> bool:
        known = getattr(self._tokenizer, "has_chat_template", None)
        return bool(self._tokenizer.chat_template) if known is None else bool(known)

    def _render(self, messages: Sequence[Message]) -> str:
        if not self._has_template():
            return plain_text(messages)
        return str(self._apply_template(messages, tokenize=False))

    def _apply_template(self, messages: Sequence[Message], *, tokenize: bool, opens: bool = True) -> Any:
        turns = [{"role": turn.role, "content": turn.text} for turn in messages]
        return self._tokenizer.apply_chat_template(
            turns, add_generation_prompt=opens, tokenize=tokenize, return_dict=False
        )


class PromptCounter:
    """Tells the door, which has no LLM, whether a conversation fits one.

    ``tokenizer_path`` is the directory the worker has published; where it
    cannot be read from here nothing is known, and the worker decides.
    """

    def __init__(self, tokenizer_path: str) -> None:
        self._path = tokenizer_path
        self._lock = threading.Lock()
        self._is_loaded = False
        self._encoder: PromptEncoder | None = None

    def measure(self, messages: Sequence[Message], max_tokens: int, context_length: int) -> Length | None:
        """How long a conversation is; None if it surely fits the context, or nothing is known here.

        No tokenizer with a token for each byte makes more tokens than bytes,
        so that most conversations are not counted at all.
        """
        at_most = sum(len(turn.text.encode()) + TURN_TOKENS for turn in messages) + TEMPLATE_TOKENS
        if at_most + max_tokens <= context_length or (encoder := self.load()) is None:
            return None
        try:
            return encoder.length(messages, context_length)
        except PromptRefused:
            return None

    def load(self) -> PromptEncoder | None:
        """The encoder, if there is one. The first call takes seconds: have it made before a client waits."""
        with self._lock:
            if not self._is_loaded and self._path and Path(self._path).is_dir():
                self._encoder, self._is_loaded = _load_encoder(self._path), True
            return self._encoder


@contextmanager
def _refusing(messages: Sequence[Message]) -> Iterator[None]:
    """Templates and tokenizers raise anything, a bare Exception too: it concerns these messages alone."""
    try:
        yield
    except Exception as error:
        roles = ", ".join(turn.role for turn in messages[:8])
        reason = str(error) or type(error).__name__
        raise PromptRefused(
            f"the LLM's chat template or tokenizer refuses these messages ({roles}): {reason}"
        ) from error


def plain_text(messages: Sequence[Message], *, opens: bool = True) -> str:
    """The text for an LLM without a chat template; see the module. ``opens`` is for a reply to follow."""
    if len(messages) == 1 and messages[0].role == "user":
        return messages[0].text
    turns = [f"{turn.role.capitalize()}: {turn.text}" for turn in messages]
    return "\n\n".join([*turns, "Assistant:"] if opens else turns)


def _load_encoder(path: str) -> PromptEncoder | None:
    # Otherwise the library advises, on every start, to install PyTorch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers import AutoTokenizer

    try:
        return PromptEncoder(AutoTokenizer.from_pretrained(path, local_files_only=True))
    except Exception as error:  # noqa: BLE001  (damaged files raise anything, a bare Exception too)
        log.warning("prompts are not counted here, %s holds no tokenizer: %s", path, error)
        return None
