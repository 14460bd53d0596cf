"""The boundary to whatever decodes: one LLM on one device, driven by one thread.

Implementations stand in ``workers/backends``: MLX, and a deterministic twin
for tests. One conformance suite holds them to what is written here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal, Protocol

from models.prompts import PromptRefused
from models.requests import Message, Sampling
from workers.cache.parcel import Parcel
from workers.cache.prefix import NOTHING, Piece, Prefix
from workers.cache.spec import CacheSpec

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

    ``spec`` sizes the cache of one row, which is less than ``growth`` tokens
    larger than what it holds. ``tokenizer_path`` is a directory that
    :class:`models.prompts.PromptCounter` can read, or empty.
    """

    name: str
    context_length: int
    fingerprint: str
    vocab_size: int
    tokenizer_path: str
    eos_ids: frozenset[int]
    spec: CacheSpec
    growth: int = 256

    @property
    def blocks_fingerprint(self) -> str:
        """What names the LLM's blocks, as 64 hex digits: those kept with other bits are others."""
        return sha256(f"{self.fingerprint}/{self.spec.bits}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence to decode.

    ``tokens`` are computed before the first new token: the prompt and what
    was generated earlier. ``position`` is the number of tokens generated
    earlier, so that a seeded row goes on as if it had never been interrupted.
    ``prefix`` is what of the tokens is cached: always fewer than there are.
    ``stops`` are positions, rising and behind the prefix, that no piece of the prompt
    reaches across: a snapshot can be taken there. Only an LLM whose layers
    cannot all be cut has any.
    """

    tokens: Sequence[int]
    position: int
    max_new: int
    sampling: Sampling
    prefix: Prefix = NOTHING
    stops: Sequence[int] = ()


@dataclass(slots=True)
class StepResult:
    """What one step brought.

    ``tokens`` holds at most one ``(uid, token, end)`` a row. With end "stop"
    the token is the end-of-sequence token, not part of the text; with either
    end the row is already gone from the backend. ``failed`` holds rows the
    backend gave up on alone, gone as well. ``prefilled`` counts prompt tokens
    computed in this step, ``read`` says of each row whose prompt is not finished
    how many of its tokens are in its cache now, the prefix included.
    """

    tokens: list[TokenOut]
    failed: list[tuple[int, Exception]] = field(default_factory=list)
    prefilled: int = 0
    read: list[tuple[int, int]] = field(default_factory=list)


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

    def boundaries(self, messages: Sequence[Message], tokens: Sequence[int]) -> list[int]:
        """Where in ``tokens``, which :meth:`encode` made of ``messages``, a next turn may part from this one.

        Rising positions: behind the leading system message and behind the last message, before
        what opens the assistant's turn, as far as they can be told. Empty for an LLM whose
        layers can all be cut, which needs none.
        """

    def detokenizer(self) -> Detokenizer:
        """Make a detokenizer for one row."""

    def add(self, rows: Sequence[Row]) -> list[int]:
        """Take ``rows`` into the batch and return a new uid for each; all of them, or none and raise.

        Each row's cache begins with what the blocks of its prefix hold, which are copied: they
        may be dropped from then on. Raises :class:`OutOfMemory` where the device has no memory for them.
        """

    def step(self, prefill_tokens: int) -> StepResult:
        """Decode one token for every row that is ready and compute the next piece of prompts.

        A piece has at most ``prefill_tokens`` tokens of each prompt that is being read.

        An exception leaves the batch unusable until :meth:`reset`; it is
        :class:`OutOfMemory` where the device has no memory for the batch.
        """

    def remove(self, uids: Sequence[int]) -> None:
        """Drop rows at any stage of their life; unknown uids are ignored."""

    def live_bytes(self) -> int:
        """Bytes the caches of the batch take now, as measured."""

    def computed(self, uid: int) -> int:
        """Tokens that a row's cache holds now; of a row that ended in the last step, too."""

    def keep(self, uid: int, pieces: Sequence[Piece], snapshot: int | None = None) -> None:
        """Copy what a row has computed into new blocks, as ``pieces`` say.

        Into the block ``snapshot`` goes the state, as it is now, of the layers that cannot be cut.
        Rows that ended in the last step can be asked for until the next call of :meth:`step`,
        :meth:`add`, :meth:`remove` or :meth:`reset`. Raises KeyError for an unknown row, :class:`OutOfMemory`
        where there is no memory; then none of the blocks exists.
        """

    def drop(self, blocks: Iterable[int]) -> None:
        """Forget blocks; unknown ones are ignored."""

    def export(self, block: int) -> Parcel:
        """A block's contents as bytes. Raises KeyError for an unknown block."""

    def install(self, block: int, parcel: Parcel) -> None:
        """Make a new block of contents that :meth:`export` of this LLM has given once.

        Raises ValueError for contents whose arrays are not this LLM's.
        """

    def pool_bytes(self) -> int:
        """Bytes that all blocks take, as measured."""

    def reset(self) -> None:
        """Throw the batch away and build an empty one; the LLM and the blocks stay."""

    def check_integrity(self, rows: Mapping[int, Sequence[int]], blocks: Collection[int]) -> None:
        """Raise AssertionError unless exactly ``rows`` (uid to tokens) and ``blocks`` are held.

        Each row must have been computed from its own tokens.
        """

    def close(self) -> None:
        """Give the device's memory back; the backend is not used again."""
