"""What of a sequence is cached: which tokens stand in which blocks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens ``start`` to ``stop`` (exclusive) of a sequence: the first that ``block`` holds."""

    block: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first ``length`` tokens of a sequence, which need not be computed.

    ``pieces`` lie in order and without gaps from 0 to ``length``. ``snapshot``
    is the block with the state at exactly ``length`` of the layers that cannot
    be cut, for an LLM that has such layers.
    """

    length: int = 0
    pieces: tuple[Piece, ...] = ()
    snapshot: int | None = None


NOTHING = Prefix()

LEAST_TOKENS = 16
"""Tokens of a cached beginning that is worth the gathering, or the reading from disk."""
