"""The outbox: what is told after a step, in the order in which it happened."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from workers.engine.outputs import Delta, Failed, FinishReason, Output, Started
from workers.engine.roster import Key
from workers.engine.sequence import Sequence

log = logging.getLogger(__name__)

OUT_OF_MEMORY = "out_of_memory"
TRIES = {OUT_OF_MEMORY: 1}
"""Failures after which a reason is final, where another attempt hardly goes better."""


class Outbox:
    """Gathers the outputs of a step."""

    def __init__(self) -> None:
        self._told: list[Output] = []

    def __len__(self) -> int:
        return len(self._told)

    def empty(self) -> list[Output]:
        """Hand out what was told since the last time."""
        told, self._told = self._told, []
        return told

    def started(self, sequences: Iterable[Sequence]) -> None:
        """Tell of those that were not told as started before."""
        for sequence in sequences:
            if not sequence.started:
                self._told.append(Started(*sequence.admission.key))
            sequence.started = True

    def shown(self, delta: Delta | None) -> None:
        """Tell text, if there is any."""
        if delta is not None:
            self._told.append(delta)

    def finished(self, sequence: Sequence, reason: FinishReason) -> None:
        """Tell a good end, and before it the text that was held back."""
        try:
            self.shown(sequence.flush())
        except Exception as error:  # noqa: BLE001 - a bad row fails its own job
            self.failed(sequence.admission.key, "row_error", error)
        else:
            self._told.append(sequence.finished(reason))

    def parked(self, sequence: Sequence) -> None:
        """Tell that a sequence made room for another."""
        self._told.append(sequence.withdrawn(parked=True))

    def refused(self, key: Key, kind: str, message: str) -> None:
        """Tell that an attempt can never run here."""
        self._told.append(Failed(*key, kind, message, retryable=False))

    def failed(self, key: Key, kind: str, error: Exception) -> None:
        """Tell a failure that another attempt may not meet."""
        log.warning("Job %s failed in the engine (%s)", key[0], kind, exc_info=error)
        words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        self._told.append(Failed(*key, kind, words, retryable=True, at_most=TRIES.get(kind)))
