"""Parking: who leaves, with its tokens, so that a row of a better class need not wait.

The highest rank goes first, and only as many go as are needed. Rows that
wait hold no memory: they stand in nobody's way until more jobs are held than
there are rows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from workers.engine.rectangle import Rectangle
from workers.engine.sequence import Sequence


def make_room(rectangle: Rectangle, newcomer: Sequence) -> list[Sequence] | None:
    """Who of ``rectangle`` leaves so that ``newcomer`` fits: nobody where it does; None where it cannot."""
    if rectangle.has_room(newcomer):
        return []
    below = rectangle.below(newcomer)
    if not below:
        return None  # as nearly always: nothing is worth measuring
    fewest = bisect_left(
        range(len(below) + 1), True, key=lambda count: rectangle.without(below[:count]).has_room(newcomer)
    )
    return below[:fewest] if fewest <= len(below) else None


def surplus(waiting: Iterable[Sequence], joining: Iterable[Sequence], most: int) -> list[Sequence]:
    """At most ``most`` of those who go on waiting although somebody who came outranks them."""
    if most <= 0:
        return []
    everybody, seated = list(waiting), set(joining)
    below = [
        sequence
        for sequence in everybody
        if sequence not in seated
        and sequence.may_be_parked
        and any(other.outranks(sequence) for other in everybody)
    ]
    return sorted(below, key=lambda sequence: sequence.admission.rank, reverse=True)[:most]
