"""Promises: beginnings that rows of the batch compute, for others that wait with the same one.

If several newcomers share a beginning that nobody has computed, one of them
computes it and the others wait until it is cached. They wait for whole
milestones only: what is shared beyond the last of them is cheaper to compute.
"""

from __future__ import annotations

from workers.engine.sequence import Sequence


class Promises:
    """Who computes what, by the milestones' names; the first to promise one keeps it."""

    def __init__(self) -> None:
        self._by_name: dict[bytes, Sequence] = {}

    def make(self, sequence: Sequence) -> None:
        """A row is to join that computes what lies behind its cached prefix."""
        for position, name in sequence.milestones:
            if position > sequence.prefix.length:
                self._by_name.setdefault(name, sequence)

    def withdraw(self, sequence: Sequence) -> None:
        """A row has left, or did not join."""
        for _, name in sequence.milestones:
            if self._by_name.get(name) is sequence:
                del self._by_name[name]

    def leader(self, sequence: Sequence) -> tuple[Sequence, int] | None:
        """Who computes the longest beginning that ``sequence`` lacks, and its tokens; None if nobody does."""
        for position, name in reversed(sequence.milestones):
            if position <= sequence.prefix.length:
                return None
            leader = self._by_name.get(name)
            if leader is not None and leader is not sequence:
                return leader, position
        return None
