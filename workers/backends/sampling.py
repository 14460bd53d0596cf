"""One sampler for the whole batch, with each row's own settings.

mlx-lm calls one sampler a row unless all rows share the very same object; a
call a row costs 64 rows of 512 logits 12 ms on a CPU, and 550 ms with top_p.
So all rows share this one, which knows whose turn it is and computes all of
them at once: 0.4 ms. It also makes seeds independent of the batch, because every
row draws its noise from a key of its own, a hash of its seed and the position.

The filters are mlx-lm's (``sample_utils.make_sampler``): top_p, min_p and top_k
on the probabilities before temperature. Each keeps a beginning of the
sorted tokens, so that together they keep the shortest of the three.
"""

from __future__ import annotations

import math
import secrets
import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import mlx.core as mx

from models.requests import Sampling

GREEDY_BELOW = 1e-4  # a temperature so low that its inverse would leave the range of float32
MORE_THAN_ALL = 2.0  # a top_p that no sum of probabilities reaches, rounding included


@dataclass(slots=True)
class _Draw:
    """One row's settings and the position of its next token."""

    sampling: Sampling
    position: int
    seed: int

    def key(self) -> bytes:
        """Two 32-bit words that depend on seed and position alone; moves on by one."""
        words = blake2b(struct.pack("<QQ", self.seed, self.position), digest_size=8).digest()
        self.position += 1
        return words


class BatchSampler:
    """Takes log-probabilities of shape (rows, vocabulary), returns token ids of shape (rows,).

    ``still_reading`` returns the uids whose prompts are not finished: mlx-lm
    samples in two groups, the rows that decode, in the order in which they
    joined, and the rows whose prompt has just been finished.
    """

    def __init__(self, still_reading: Callable[[], Collection[int]]) -> None:
        self._still_reading = still_reading
        self._draws: dict[int, _Draw] = {}
        self._fresh: list[int] = []
        self._decoding: list[int] = []
        self._plan: _Plan | None = None

    def add(self, uid: int, sampling: Sampling, position: int) -> None:
        """Expect a new row."""
        seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
        self._draws[uid] = _Draw(sampling, position, seed)
        self._fresh.append(uid)

    def remove(self, uids: Collection[int]) -> None:
        """Forget rows."""
        for uid in uids:
            self._draws.pop(uid, None)
        self._fresh = [uid for uid in self._fresh if uid not in uids]
        self._decoding = [uid for uid in self._decoding if uid not in uids]
        self._plan = None

    @property
    def uids(self) -> set[int]:
        """The rows known here."""
        return set(self._draws)

    def __call__(self, logprobs: mx.array) -> mx.array:
        """Choose a token for each row of the group that is being sampled."""
        newcomers = self._newcomers()
        if newcomers:
            plan = self._plan_for(newcomers)
            self._decoding += newcomers
            self._plan = None
        else:
            plan = self._plan = self._plan or self._plan_for(self._decoding)
        if len(plan) != logprobs.shape[0]:
            raise RuntimeError(f"{logprobs.shape[0]} rows are sampled where {len(plan)} were expected")
        return plan.sample(logprobs)

    def _plan_for(self, uids: Sequence[int]) -> _Plan:
        return _Plan([self._draws[uid] for uid in uids])

    def _newcomers(self) -> list[int]:
        """Rows that are sampled for the first time: their prompts are finished."""
        if not self._fresh:
            return []
        reading = self._still_reading()
        newcomers = [uid for uid in self._fresh if uid not in reading]
        self._fresh = [uid for uid in self._fresh if uid in reading]
        return newcomers


class _Plan:
    """The settings of a group of rows as arrays, made once for as long as the group stays the same."""

    def __init__(self, draws: Sequence[_Draw]) -> None:
        self._rows = len(draws)
        at = [row for row, draw in enumerate(draws) if draw.sampling.temperature >= GREEDY_BELOW]
        self._random = [draws[row] for row in at]
        self._at = mx.array(at, dtype=mx.int32)
        settings = [draw.sampling for draw in self._random]
        self._by_temperature = _column([1 / one.temperature for one in settings])
        self._log_min_p = _column([math.log(one.min_p) if one.min_p else -math.inf for one in settings])
        self._cut = _Cut(settings) if any(one.top_p < 1 or one.top_k for one in settings) else None

    def __len__(self) -> int:
        return self._rows

    def sample(self, logprobs: mx.array) -> mx.array:
        """Choose a token for each row."""
        if not self._random:
            return mx.argmax(logprobs, axis=-1)
        if len(self._random) == self._rows:
            return self._draw(logprobs)
        tokens = mx.argmax(logprobs, axis=-1)
        tokens[self._at] = self._draw(logprobs[self._at])
        return tokens

    def _draw(self, logprobs: mx.array) -> mx.array:
        scores = logprobs.astype(mx.float32)
        floor = mx.max(scores, axis=-1, keepdims=True) + self._log_min_p
        if self._cut is not None:
            floor = self._cut.raise_floor(floor, scores)
        scores = mx.where(scores < floor, -mx.inf, scores) * self._by_temperature
        return mx.argmax(scores + self._noise(scores.shape[-1]), axis=-1)

    def _noise(self, vocabulary: int) -> mx.array:
        """Gumbel noise: the largest sum of score and noise is a draw from the softmax of the scores."""
        words = b"".join(draw.key() for draw in self._random)
        keys = mx.array(struct.unpack(f"<{2 * len(self._random)}I", words), dtype=mx.uint32).reshape(-1, 2)

        def row(key: mx.array) -> mx.array:
            return mx.random.gumbel((vocabulary,), key=key)

        return mx.vmap(row)(keys)


class _Cut:
    """The rows of a group that have top_p or top_k, for which the vocabulary must be sorted."""

    def __init__(self, settings: Sequence[Sampling]) -> None:
        at = [row for row, one in enumerate(settings) if one.top_p < 1 or one.top_k]
        self._at = mx.array(at, dtype=mx.int32)
        self._top_p = _column([_or_all(settings[row].top_p) for row in at])
        self._top_k = [settings[row].top_k for row in at]

    def raise_floor(self, floor: mx.array, scores: mx.array) -> mx.array:
        """Return ``floor`` of shape (rows, 1), raised to the least score that each row keeps."""
        ordered = mx.sort(scores[self._at], axis=-1)
        vocabulary = ordered.shape[-1]
        mass = mx.exp(ordered)
        above = mx.cumsum(mass, axis=-1, reverse=True, inclusive=False)
        total = above[:, :1] + mass[:, :1]
        dropped_by_p = (above >= self._top_p * total).sum(axis=-1, keepdims=True)
        dropped_by_k = mx.array([[max(0, vocabulary - k) if k else 0] for k in self._top_k])
        dropped = mx.maximum(dropped_by_p, dropped_by_k)
        least = mx.take_along_axis(ordered, dropped, axis=-1)
        return floor.at[self._at].maximum(least)


def _or_all(top_p: float) -> float:
    return top_p if top_p < 1 else MORE_THAN_ALL


def _column(values: Sequence[float]) -> mx.array:
    """Numbers as an array of shape (rows, 1)."""
    return mx.array(list(values), dtype=mx.float32).reshape(-1, 1)
