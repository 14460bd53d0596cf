"""What the network thinks of each next token, row by row: random weights have no sure likeliest token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from workers.backends.sampling import BatchSampler
from workers.engine.backend import Row

from .llms import Apart

Scores = list[float]


@dataclass
class Heard:
    """Of each row its tokens and the log-probabilities they were chosen by."""

    tokens: dict[int, list[int]] = field(default_factory=dict)
    scores: dict[int, list[Scores]] = field(default_factory=dict)

    def run(self, backend: Apart, uids: Sequence[int], piece: int = 32) -> None:
        """Step until these rows have ended."""
        left = set(uids)
        while left:
            left -= self.step(backend, piece)

    def step(self, backend: Apart, piece: int = 32) -> set[int]:
        """One step; returns the rows that ended."""
        result = backend.step(piece)
        for uid, token, _ in result.tokens:
            self.tokens.setdefault(uid, []).append(token)
        return {uid for uid, _, end in result.tokens if end is not None}

    def furthest(self, uid: int, other: int) -> float:
        """The largest difference between rows of the same text, as far as both went the same way."""
        pairs = enumerate(zip(self.tokens[uid], self.tokens[other], strict=True))
        same = next((at for at, (mine, its) in pairs if mine != its), len(self.tokens[uid]) - 1)
        return max(self._difference(uid, other, step) for step in range(same + 1))

    def first(self, uid: int, other: int) -> float:
        """The largest difference where the first new token of both was chosen."""
        return self._difference(uid, other, 0)

    def _difference(self, uid: int, other: int, step: int) -> float:
        pairs = zip(self.scores[uid][step], self.scores[other][step], strict=True)
        return max(abs(mine - its) for mine, its in pairs)


@contextmanager
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    """Write down what every sampler is given."""
    heard, real = Heard(), BatchSampler.__call__

    def spy(sampler: Any, logprobs: Any) -> Any:
        before = list(sampler._decoding)
        chosen = real(sampler, logprobs)
        uids = sampler._decoding[len(before) :] or before
        for uid, scores in zip(uids, logprobs.tolist(), strict=True):
            heard.scores.setdefault(uid, []).append(scores)
        return chosen

    with monkeypatch.context() as patch:
        patch.setattr(BatchSampler, "__call__", spy)
        yield heard


def read_to(backend: Apart, row: Row, position: int, piece: int = 32) -> int:
    """Add a row that stops at a position and step until it has been read so far; returns its uid."""
    (uid,) = backend.add([row])
    reads: Mapping[int, int] = {}
    while reads.get(uid) != position:
        result = backend.step(piece)
        assert uid not in {other for other, _, _ in result.tokens}, "the stop was passed"
        reads = dict(result.read)
    return int(uid)
