"""Medians, percentiles and fair order: the arithmetic of the benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

__all__ = ["Pair", "alternate", "median", "percentile", "take_turns"]

Side = TypeVar("Side")


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: the smallest value that ``percent`` of all do not exceed.

    Raises:
        ValueError: there are no values, or ``percent`` is not within 0 to 100.
    """
    if not values or not 0 <= percent <= 100:
        raise ValueError(f"no {percent}th percentile of {len(values)} values")
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(0, int(rank) - 1)]


def rounds(count: int) -> Iterator[bool]:
    """Whether ours goes first in each round: in turns, so that a slow drift hurts both alike."""
    for number in range(count):
        yield number % 2 == 0


@dataclass(frozen=True)
class Pair:
    """Rates of ours and of the yardstick, one of each a round; more is better."""

    ours: tuple[float, ...]
    yardstick: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Median of ours ÷ median of the yardstick."""
        return median(self.ours) / median(self.yardstick)


def take_turns(count: int, sides: Mapping[Side, Callable[[], float]]) -> dict[Side, tuple[float, ...]]:
    """Measure all sides ``count`` times, by turns in their order and in the opposite one."""
    found: dict[Side, list[float]] = {side: [] for side in sides}
    for forwards in rounds(count):
        for side in sides if forwards else reversed([*sides]):
            found[side].append(sides[side]())
    return {side: tuple(values) for side, values in found.items()}


def alternate(count: int, ours: Callable[[], float], yardstick: Callable[[], float]) -> Pair:
    """Measure both ``count`` times, taking turns at who goes first."""
    found = take_turns(count, {"ours": ours, "yardstick": yardstick})
    return Pair(found["ours"], found["yardstick"])
