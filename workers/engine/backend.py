"""The boundary to whatever decodes: one LLM on one device, driven by one thread.

Implementations stand in ``workers/backends``: MLX, and a deterministic twin
for tests. One conformance suite holds them to what is written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from models.prompts import PromptRefused
from models.requests import Message, Sampling

__all__ = [
    "Backend",
    "Detokenizer",
    "End",
    "LlmInfo",
    "OutOfMemory",
    "PromptRefused",
    "Row",
    "StepResult",
    "TokenOut",
]

End = Literal["stop", "length"]
TokenOut = tuple[int, int, End | None]


class OutOfMemory(RuntimeError):  # noqa: N818 - named for what happened, not for being an error
    """The device has no memory for the batch; a smaller one may fit."""


@dataclass(frozen=True, slots=True)
class LlmInfo:
    """What is known of a loaded LLM; the worker publishes it for the API.

    ``bytes_per_token`` and ``bytes_per_row`` size the cache of one row, which
    is less than ``growth`` tokens larger than what it holds. ``tokenizer_path`` is a
    directory that :class:`models.prompts.PromptCounter` can read, or empty.
    """

    name: str
    context_length: int
    fingerprint: str
    vocab_size: int
    tokenizer_path: str
    eos_ids: frozenset[int]
    bytes_per_token: int
    bytes_per_row: int = 0
    growth: int = 256


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence to decode.

    ``tokens`` are computed before the first new token: the prompt and what
    was generated earlier. ``position`` is the number of tokens generated
    earlier, so that a seeded row goes on as if it had never been interrupted.
    """

    tokens: Sequence[int]
    position: int
    max_new: int
    sampling: Sampling


@dataclass(slots=True)
class StepResult:
    """What one step brought.

    ``tokens`` holds at most one ``(uid, token, end)`` a row. With end "stop"
    the token is the end-of-sequence token, not part of the text; with either
    end the row is already gone from the backend. ``failed`` holds rows the
    backend gave up on alone, gone as well. ``prefilled`` counts prompt tokens
    computed in this step.
    """

    tokens: list[TokenOut]
    failed: list[tuple[int, Exception]] = field(default_factory=list)
    prefilled: int = 0


class Detokenizer(Protocol):
    """Turns one row's tokens into text, token by token."""

    def push(self, token: int) -> str:
        """Take one token; return the text that is now certain, whole characters only."""

    def flush(self) -> str:
        """Return what was held back, without a character that never became whole."""


class Backend(Protocol):
    """One LLM on one device.

    Everything is called from the engine's thread alone, except ``info`` and
    ``encode``, which any thread may use at any time.
    """

    @property
    def info(self) -> LlmInfo:
        """What is known of the LLM; it never changes."""

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Render ``messages`` with the chat template, ready for the assistant's turn.

        Raises :class:`PromptRefused` where template or tokenizer cannot express them.
        """

    def detokenizer(self) -> Detokenizer:
        """Make a detokenizer for one row."""

    def add(self, rows: Sequence[Row]) -> list[int]:
        """Take ``rows`` into the batch and return a new uid for each; all of them, or none and raise.

        Raises :class:`OutOfMemory` where the device has no memory for them.
        """

    def step(self) -> StepResult:
        """Decode one token for every row that is ready and compute the next piece of prompts.

        An exception leaves the batch unusable until :meth:`reset`; it is
        :class:`OutOfMemory` where the device has no memory for the batch.
        """

    def remove(self, uids: Sequence[int]) -> None:
        """Drop rows at any stage of their life; unknown uids are ignored."""

    def live_bytes(self) -> int:
        """Bytes the caches of the batch take now, as measured."""

    def reset(self) -> None:
        """Throw the batch away and build an empty one; the LLM stays loaded."""

    def check_integrity(self, rows: Mapping[int, Sequence[int]]) -> None:
        """Raise AssertionError unless exactly ``rows`` (uid to tokens) are held, each with its own tokens."""

    def close(self) -> None:
        """Give the device's memory back; the backend is not used again."""
