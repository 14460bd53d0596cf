"""The gate: which of those who wait join the batch now.

The live batch is a rectangle, rows x longest row, and its whole area is
memory. The gate counts those bytes with every row's whole ``max_tokens``, so
that a row once admitted can always be finished.

Classes come before all else: a row that fits when rows of worse classes leave
does not wait for them (:mod:`workers.engine.parking` says who leaves), and
while one of a better class waits nobody of a worse one joins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import groupby

from workers.cache.chain import BLOCK_TOKENS
from workers.engine.admission import Admission
from workers.engine.backend import LlmInfo
from workers.engine.limits import Limits
from workers.engine.parking import make_room
from workers.engine.rectangle import Rectangle
from workers.engine.row_limit import RowLimit
from workers.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Choice:
    """Who joins the batch, and who of the batch is parked for them."""

    joining: list[Sequence]
    parked: list[Sequence]


class Gate:
    """Counts the rectangle and chooses newcomers.

    Within a class first come, first served decides who is first. The others
    follow in the order that wastes least: those with the longest cached prefix,
    in whole blocks, then rows no longer than the rectangle already is, then
    the shortest. A first row that does not fit may be passed
    over by at most ``max_rows`` others; then nobody joins until it fits.
    ``rows`` is how many may decode together at present.
    """

    def __init__(self, info: LlmInfo, limits: Limits) -> None:
        self._info = info
        self.limits = limits
        self.rows = RowLimit(limits.max_rows)

    def area(self, rows: int, longest: int) -> int:
        """Bytes that a rectangle of ``rows`` rows, the longest of ``longest`` tokens, takes at most."""
        return rows * self._info.spec.sequence_bytes(longest + self._info.growth - 1) if longest else 0

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
        return self._too_large(length)

    def _too_large(self, length: int) -> tuple[str, str] | None:
        limits, size = self.limits, self.area(1, length)
        if 0 < limits.max_row_bytes < size:
            return "row_bytes", (
                f"{length} tokens take {size} bytes, more than the {limits.max_row_bytes} "
                "that one job may take (engine.max_row_bytes)"
            )
        if size > limits.max_batch_bytes:
            return "batch_bytes", (
                f"{length} tokens take {size} bytes, more than the {limits.max_batch_bytes} a batch may take"
            )
        return None

    def free_bytes(self, live: Iterable[Sequence]) -> int:
        """Bytes nobody has been promised; negative would be a broken promise."""
        return self.limits.max_batch_bytes - self.live_area(live)

    def check_integrity(self, live: Collection[Sequence]) -> None:
        """Raise AssertionError if the batch is larger than its limits."""
        if len(live) > self.rows.now or self.free_bytes(live) < 0:
            raise AssertionError(f"{len(live)} rows leave {self.free_bytes(live)} bytes free")

    def live_area(self, live: Iterable[Sequence]) -> int:
        """Bytes of the rectangle around ``live`` when all have reached their full length."""
        lengths = [sequence.length for sequence in live]
        return self.area(len(lengths), max(lengths, default=0))

    def choose(self, waiting: Iterable[Sequence], live: Iterable[Sequence]) -> Choice:
        """Choose who of ``waiting`` (in order of arrival) joins ``live`` now, short prompts of a class first.

        Prompts are computed a few rows at a time and padded to the longest of
        them: neighbours of like length waste least.
        """
        rectangle = Rectangle(live, self._fits)
        joining: list[Sequence] = []
        parked: list[Sequence] = []
        for line in _classes(waiting):
            before = len(joining)
            for sequence in self._candidates(line, rectangle):
                leaving = make_room(rectangle, sequence)
                if leaving is None:
                    continue
                if leaving:
                    parked += leaving
                    rectangle = rectangle.without(leaving)
                rectangle.take(sequence)
                joining.append(sequence)
            if len(joining) - before < len(line):
                break  # a worse class never makes a better one wait
        return Choice(sorted(joining, key=_reading_order), parked)

    def note(self, waiting: Iterable[Sequence], joining: Collection[Sequence]) -> None:
        """Count for the first of each class in ``waiting`` who of its class joins before it."""
        if not joining:
            return
        for line in _classes(waiting):
            if line[0] not in joining:
                line[0].passed_over += sum(sequence in joining for sequence in line)

    def _fits(self, rows: int, longest: int) -> bool:
        return rows <= self.rows.now and self.area(rows, longest) <= self.limits.max_batch_bytes

    def _candidates(self, line: list[Sequence], rectangle: Rectangle) -> list[Sequence]:
        """A class in the order in which its rows are asked whether they fit."""
        first, others = line[0], line[1:]
        if first.passed_over >= self.limits.max_rows and not rectangle.has_room(first):
            return [first]  # it joins if others can be parked for it; else all wait until it fits
        longest = max(rectangle.longest, first.length)

        def order(sequence: Sequence) -> tuple[int, int]:
            cached = sequence.prefix.length // BLOCK_TOKENS
            return -cached, sequence.length if sequence.length > longest else 0

        return [first, *sorted(others, key=order)]  # stable: among equals first come, first served


def _classes(waiting: Iterable[Sequence]) -> list[list[Sequence]]:
    """The lines of the classes, the best first, each in order of arrival."""
    ordered = sorted(waiting, key=_priority)
    return [list(line) for _, line in groupby(ordered, key=_priority)]


def _priority(sequence: Sequence) -> int:
    return sequence.admission.priority


def _reading_order(sequence: Sequence) -> tuple[int, int]:
    return sequence.admission.priority, sequence.to_compute
