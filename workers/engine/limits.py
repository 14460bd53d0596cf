"""The numbers that bound the engine."""

from __future__ import annotations

from dataclasses import dataclass, fields

from config.settings import Engine as EngineSettings


@dataclass(frozen=True, slots=True)
class Limits:
    """What the live batch and the pool may grow to; the settings of the same names say more.

    ``max_row_bytes`` of 0 is as much as the batch, ``pool_bytes`` of 0 keeps nothing.
    """

    max_rows: int
    max_batch_bytes: int
    max_row_bytes: int = 0
    pool_bytes: int = 0
    prefill_rows: int = 8
    prefill_tokens: int = 512
    prefill_stall: float = 4.0
    save_seconds: float = 5.0


def limits_of(settings: EngineSettings) -> Limits:
    """The numbers as they were set."""
    return Limits(**{field.name: getattr(settings, field.name) for field in fields(Limits)})
