"""The gate: which of those who wait join the batch now.

The live batch is a rectangle, rows x longest row, and its whole area is
memory. The gate counts those bytes with every row's whole ``max_tokens``, so
that a row once admitted can always be finished.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from workers.engine.admission import Admission
from workers.engine.backend import LlmInfo
from workers.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Limits:
    """What the live batch may grow to."""

    max_rows: int
    max_batch_bytes: int


class Gate:
    """Counts the rectangle and chooses newcomers.

    First come, first served decides who is first. The others follow in the
    order that wastes least: rows no longer than the rectangle already is,
    then the shortest. A first row that does not fit may be passed over by at
    most ``max_rows`` others; then nobody joins until it fits.
    """

    def __init__(self, info: LlmInfo, limits: Limits) -> None:
        self._info = info
        self.limits = limits

    def area(self, rows: int, longest: int) -> int:
        """Bytes that a rectangle of ``rows`` rows, the longest of ``longest`` tokens, takes at most."""
        grown = longest + self._info.growth - 1
        return rows * (grown * self._info.bytes_per_token + self._info.bytes_per_row)

    def refuses(self, admission: Admission) -> tuple[str, str] | None:
        """Why a job can never run here, as type and message of its failure, or None."""
        info, length = self._info, admission.length
        if not admission.tokens:
            return "invalid_prompt", "the prompt has no tokens"
        if min(admission.tokens) < 0 or max(admission.tokens) >= info.vocab_size:
            return "invalid_prompt", f"the prompt has a token outside the vocabulary of {info.vocab_size}"
        if length > info.context_length:
            return "context_length", (
                f"{len(admission.tokens)} prompt tokens and {admission.sampling.max_tokens} to generate "
                f"are more than the context of {info.context_length} tokens"
            )
        if self.area(1, length) > self.limits.max_batch_bytes:
            return "batch_bytes", (
                f"{length} tokens take {self.area(1, length)} bytes, "
                f"more than the {self.limits.max_batch_bytes} a batch may take"
            )
        return None

    def free_bytes(self, live: Iterable[Sequence]) -> int:
        """Bytes nobody has been promised; negative would be a broken promise."""
        return self.limits.max_batch_bytes - self.live_area(live)

    def check_integrity(self, live: Collection[Sequence]) -> None:
        """Raise AssertionError if the batch is larger than its limits."""
        if len(live) > self.limits.max_rows or self.free_bytes(live) < 0:
            raise AssertionError(f"{len(live)} rows leave {self.free_bytes(live)} bytes free")

    def live_area(self, live: Iterable[Sequence]) -> int:
        """Bytes of the rectangle around ``live`` when all have reached their full length."""
        lengths = [sequence.length for sequence in live]
        return self.area(len(lengths), max(lengths, default=0))

    def choose(self, waiting: list[Sequence], live: Iterable[Sequence]) -> list[Sequence]:
        """Return who of ``waiting`` (in order of arrival) joins ``live`` now, short prompts first.

        Prompts are computed a few rows at a time and padded to the longest of
        them: neighbours of like length waste least.
        """
        rectangle = _Rectangle(self, [sequence.length for sequence in live])
        chosen = [sequence for sequence in self._candidates(waiting, rectangle) if rectangle.take(sequence)]
        return sorted(chosen, key=lambda sequence: len(sequence.admission.tokens))

    def note(self, waiting: list[Sequence], joining: list[Sequence]) -> None:
        """Count for the first of ``waiting`` who joins before it."""
        if joining and waiting[0] not in joining:
            waiting[0].passed_over += len(joining)

    def _candidates(self, waiting: list[Sequence], rectangle: _Rectangle) -> list[Sequence]:
        """``waiting`` in the order in which they are asked whether they fit."""
        if not waiting:
            return []
        first, others = waiting[0], waiting[1:]
        if first.passed_over >= self.limits.max_rows and not rectangle.has_room(first):
            return []
        longest = max(rectangle.longest, first.length)
        like = [sequence for sequence in others if sequence.length <= longest]
        longer = [sequence for sequence in others if sequence.length > longest]
        return [first, *like, *sorted(longer, key=lambda sequence: sequence.length)]


class _Rectangle:
    """The batch as it grows while newcomers are chosen."""

    def __init__(self, gate: Gate, lengths: list[int]) -> None:
        self._gate = gate
        self.rows = len(lengths)
        self.longest = max(lengths, default=0)

    def has_room(self, sequence: Sequence) -> bool:
        longest = max(self.longest, sequence.length)
        limits = self._gate.limits
        if self.rows >= limits.max_rows:
            return False
        return self._gate.area(self.rows + 1, longest) <= limits.max_batch_bytes

    def take(self, sequence: Sequence) -> bool:
        if not self.has_room(sequence):
            return False
        self.rows += 1
        self.longest = max(self.longest, sequence.length)
        return True
