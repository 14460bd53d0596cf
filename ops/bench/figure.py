"""What a benchmark found, and whether it is enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Bound = Literal["at least", "at most", "for comparison"]
"""What a figure's target is; one for comparison has none to meet."""


@dataclass(frozen=True)
class Figure:
    """One figure with its target: ``at least`` for ratios and rates, ``at most`` for times.

    Others are there ``for comparison``: they have no target to miss.
    ``details`` are the single measurements and what they were made with.
    """

    name: str
    value: float
    unit: str
    bound: Bound = "for comparison"
    target: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """Whether the target was reached."""
        if self.bound == "for comparison":
            return True
        return self.value >= self.target if self.bound == "at least" else self.value <= self.target

    @property
    def wanted(self) -> str:
        """The target in words, without its unit; empty where there is none."""
        return "" if self.bound == "for comparison" else f"{self.bound} {self.target:g}"


@dataclass(frozen=True)
class Effort:
    """How much is measured: in earnest, or just enough to see that it works.

    ``parts`` are those of the section ``engine``, all if there are none; ``llm`` is what it
    measures instead of what suits the device.
    """

    rounds: int = 5
    rows: int = 64
    tokens: int = 256
    layers: int = 14
    pickups: int = 100
    submissions: int = 1_000
    bulk: int = 10_000
    depths: tuple[int, ...] = (1_000, 100_000, 1_000_000)
    cycles: int = 320
    ended: int = 20_000
    looks: int = 60
    visits: int = 300
    noops: int = 5_000
    soak_minutes: float = 5.0
    parts: tuple[str, ...] = ()
    llm: str = ""
    decoded: int = 64
    intruder: int = 8_192
    restored: tuple[int, ...] = (512, 2_048, 8_192, 32_768)
    jobs: int = 200
    agents: int = 32
    turns: int = 5
    candidates: int = 4
    conversation: int = 20

    @classmethod
    def quick(cls) -> Effort:
        """A smoke run: its figures mean nothing."""
        return cls(
            rounds=1, rows=8, tokens=16, layers=1, pickups=5, submissions=50, bulk=500,
            depths=(400, 1_000, 2_000), cycles=40, ended=60, looks=3, visits=20, noops=100, soak_minutes=0.1,
            llm="pico", decoded=8, intruder=1_024, restored=(512,), jobs=8, agents=4, turns=2, candidates=1,
            conversation=4,
        )  # fmt: skip
