"""Medians, percentiles and fair order: the arithmetic of the benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["Pair", "alternate", "median", "percentile"]


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


def alternate(count: int, ours: Callable[[], float], yardstick: Callable[[], float]) -> Pair:
    """Measure both ``count`` times, taking turns at who goes first."""
    found: tuple[list[float], list[float]] = ([], [])
    for ours_first in rounds(count):
        for which in (0, 1) if ours_first else (1, 0):
            found[which].append((ours, yardstick)[which]())
    return Pair(tuple(found[0]), tuple(found[1]))
