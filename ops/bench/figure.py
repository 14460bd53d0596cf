"""What a benchmark found, and whether it is enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Figure:
    """One figure with its target: ``at least`` for ratios and rates, ``at most`` for times.

    ``details`` are the single measurements and what they were made with.
    """

    name: str
    value: float
    unit: str
    bound: Literal["at least", "at most"]
    target: float
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """Whether the target was reached."""
        return self.value >= self.target if self.bound == "at least" else self.value <= self.target


@dataclass(frozen=True)
class Effort:
    """How much is measured: in earnest, or just enough to see that it works."""

    rounds: int = 5
    rows: int = 64
    tokens: int = 256
    layers: int = 14
    pickups: int = 100
    submissions: int = 1_000
    bulk: int = 10_000

    @classmethod
    def quick(cls) -> Effort:
        """A smoke run: its figures mean nothing."""
        return cls(rounds=1, rows=8, tokens=16, layers=1, pickups=5, submissions=50, bulk=500)
