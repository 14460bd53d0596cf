"""Figures of the engine, for metrics and for capacity."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot: totals since the engine was made, and its state now.

    ``decoded_tokens`` counts every token the decoder returned, also those
    that end a sequence; divided by ``decode_steps`` (steps that returned any)
    it is the mean batch. ``live_bytes`` of the batch and ``pool_bytes`` of the
    blocks are what the backend measures. ``reused_tokens`` of prompts were in
    the pool when their rows were seated, ``restored_tokens`` came from disk.
    """

    decode_steps: int = 0
    decoded_tokens: int = 0
    prefill_tokens: int = 0
    rows: int = 0
    waiting: int = 0
    live_bytes: int = 0
    pool_bytes: int = 0
    reused_tokens: int = 0
    restored_tokens: int = 0


@dataclass(slots=True)
class Counters:
    """The totals while they grow."""

    decode_steps: int = 0
    decoded_tokens: int = 0
    prefill_tokens: int = 0

    def note(self, decoded: int, prefilled: int) -> None:
        """Count a step that went well."""
        self.decode_steps += decoded > 0
        self.decoded_tokens += decoded
        self.prefill_tokens += prefilled

    def snapshot(self, **state: int) -> EngineStats:
        """Freeze the totals together with the state given."""
        return EngineStats(
            decode_steps=self.decode_steps,
            decoded_tokens=self.decoded_tokens,
            prefill_tokens=self.prefill_tokens,
            **state,
        )
