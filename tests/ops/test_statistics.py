"""The arithmetic of the benchmarks."""

from __future__ import annotations

import pytest

from ops.bench.figure import Figure
from ops.bench.statistics import Pair, alternate, percentile


def test_percentiles_are_values_that_were_measured() -> None:
    """The nearest rank is taken: p50 of four is the second, p95 and p100 the last, p0 the first."""
    values = [4.0, 1.0, 3.0, 2.0]
    assert [percentile(values, percent) for percent in (0, 25, 50, 51, 95, 100)] == [1, 1, 2, 3, 4, 4]


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], 101), ([1.0], -1)])
def test_percentiles_of_nothing(values: list[float], percent: float) -> None:
    """No values, or a percentage that is none, are refused."""
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, percent)


def test_the_ratio_is_one_of_medians() -> None:
    """One outlier on either side changes nothing."""
    assert Pair((9.0, 10.0, 1000.0), (0.1, 5.0, 6.0)).ratio == 2.0


def test_sides_take_turns() -> None:
    """Ours goes first in the first, third, fifth round, the yardstick in the others."""
    calls: list[str] = []

    def side(name: str) -> float:
        calls.append(name)
        return len(calls)

    pair = alternate(3, lambda: side("ours"), lambda: side("bare"))
    assert calls == ["ours", "bare", "bare", "ours", "ours", "bare"]
    assert pair == Pair((1, 4, 5), (2, 3, 6))


@pytest.mark.parametrize(
    ("bound", "value", "met"),
    [("at least", 0.9, True), ("at least", 0.89, False), ("at most", 0.9, True), ("at most", 0.91, False)],
)
def test_targets(bound: str, value: float, met: bool) -> None:
    """A figure that stands exactly on its target has met it."""
    assert Figure("x", value, "", bound, 0.9).met is met  # type: ignore[arg-type]  # the two bounds there are
