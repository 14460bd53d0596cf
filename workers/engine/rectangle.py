"""The batch as it would be: rows x longest row, while newcomers and those who leave are chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from workers.engine.sequence import Sequence


class Rectangle:
    """Rows that sit together. ``fits`` says whether so many rows, the longest of so many tokens, may."""

    def __init__(self, seated: Iterable[Sequence], fits: Callable[[int, int], bool]) -> None:
        self._seated = list(seated)
        self._fits = fits
        self.longest = max((sequence.length for sequence in self._seated), default=0)
        self._worst = max((sequence.admission.priority for sequence in self._seated), default=0)

    def has_room(self, sequence: Sequence) -> bool:
        """Whether ``sequence`` fits in beside all others."""
        return self._fits(len(self._seated) + 1, max(self.longest, sequence.length))

    def take(self, sequence: Sequence) -> None:
        """Seat a newcomer."""
        self._seated.append(sequence)
        self.longest = max(self.longest, sequence.length)
        self._worst = max(self._worst, sequence.admission.priority)

    def without(self, leaving: Iterable[Sequence]) -> Rectangle:
        """The batch when ``leaving`` have left it."""
        gone = set(leaving)
        return Rectangle((sequence for sequence in self._seated if sequence not in gone), self._fits)

    def below(self, sequence: Sequence) -> list[Sequence]:
        """Who may be sent away to make room for ``sequence``, the highest rank first."""
        if sequence.admission.priority >= self._worst:
            return []  # as nearly always, and it is asked of many
        below = [other for other in self._seated if sequence.outranks(other) and other.may_be_parked]
        return sorted(below, key=lambda other: other.admission.rank, reverse=True)
