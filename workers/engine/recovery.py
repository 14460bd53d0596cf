"""After a broken step: who is to blame, who comes back, and when to give up.

Twice every row of a broken batch comes back with all the others. After that
rows come back one at a time, and a step that breaks while one of them is on
trial is blamed on that one alone: a poisoned row cannot take the rest with it.
Nobody else joins during a trial, and none begins while a row that joined before
is without a token: whoever could be guilty instead of the suspect is not there.
Rows of a better class do not wait for trials that have not begun.
"""

from __future__ import annotations

from collections.abc import Iterable

from workers.engine.sequence import Sequence

MAX_STRIKES = 3
MAX_BROKEN_IN_A_ROW = 12


class EngineDead(RuntimeError):  # noqa: N818 - it is a state of the engine, and reads as one where it is caught
    """The engine cannot go on; the process must exit so that its supervisor starts another."""


class Recovery:
    """Keeps the strikes, and the row on trial."""

    def __init__(self) -> None:
        self._on_trial: Sequence | None = None
        self._broken_in_a_row = 0

    def filter(self, chosen: list[Sequence], live: Iterable[Sequence]) -> list[Sequence]:
        """Leave of ``chosen`` all if there is no suspect among them.

        Else those of better classes than any suspect, or one suspect, or nobody yet.
        """
        if self._trial() is not None:
            return []
        suspects = [sequence for sequence in chosen if self._is_suspect(sequence)]
        if not suspects:
            return chosen
        best = min(sequence.admission.priority for sequence in suspects)
        better = [sequence for sequence in chosen if sequence.admission.priority < best]
        if better:
            return better
        if not all(sequence.cleared for sequence in live):
            return []
        self._on_trial = suspects[0]
        return suspects[:1]

    def survived(self) -> None:
        """Note a step that went well."""
        self._broken_in_a_row = 0

    def blame(self, live: Iterable[Sequence], error: Exception) -> list[Sequence]:
        """Note a broken step; return the rows that were in too many and must fail.

        Raises :class:`EngineDead` when step after step breaks, whoever is in the batch.
        """
        self._broken_in_a_row += 1
        if self._broken_in_a_row >= MAX_BROKEN_IN_A_ROW:
            raise EngineDead(f"{self._broken_in_a_row} steps broke in a row") from error
        trial = self._trial()
        accused = list(live) if trial is None else [trial]
        self._on_trial = None
        for sequence in accused:
            sequence.strikes += 1
            sequence.cleared = False
        return [sequence for sequence in accused if sequence.strikes >= MAX_STRIKES]

    def _trial(self) -> Sequence | None:
        """The row on trial: still in the batch, and without a token since it came back."""
        trial = self._on_trial
        return None if trial is None or trial.uid is None or trial.cleared else trial

    @staticmethod
    def _is_suspect(sequence: Sequence) -> bool:
        return sequence.strikes == MAX_STRIKES - 1 and not sequence.cleared
