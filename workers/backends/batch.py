"""mlx-lm's ``BatchGenerator`` with what it does not tell: where its rows are, and what their caches hold.

Everything that depends on its inside is here, in :mod:`workers.backends.rows`,
:mod:`workers.backends.live` and :mod:`workers.backends.sampling`; its version is pinned.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import mlx.core as mx
from mlx_lm.generate import BatchGenerator

from config.settings import Engine as EngineSettings
from workers.backends.layout import leaves_of
from workers.backends.live import LiveCache
from workers.backends.rows import BatchRow
from workers.backends.sampling import BatchSampler
from workers.engine.backend import Row, StepResult, TokenOut

WAITING, READING, DECODING = range(3)
"""Where a row can be."""


class Batch:
    """All rows from their insertion to their end, and those that ended in the last step."""

    def __init__(
        self, model: Any, settings: EngineSettings, stream: mx.Stream, ends: Collection[int]
    ) -> None:
        self._sampler = BatchSampler(self._still_reading)
        self._ends = ends
        self._told: set[int] = set()
        self._ended: dict[int, BatchRow] = {}
        self._read: dict[int, tuple[int, int]] = {}
        self._generator: Any = BatchGenerator(  # mostly without types
            model,
            stop_tokens=[[token] for token in ends],
            sampler=self._sampler,
            completion_batch_size=settings.max_rows,
            prefill_batch_size=min(settings.prefill_rows, settings.max_rows),
            prefill_step_size=settings.prefill_tokens,
            stream=stream,
        )
        decoding = self._generator._generation_batch  # noqa: SLF001 - so that a row that ends is not copied

        def ending(row: int) -> BatchRow:
            return BatchRow(decoding.prompt_cache, row, decoding.tokens[row])

        decoding.extract_cache = ending

    @property
    def nbytes(self) -> int:
        """Bytes of all caches as mlx-lm holds them."""
        return int(self._generator.prompt_cache_nbytes)

    def insert(self, rows: Sequence[Row], caches: Sequence[list[Any]]) -> list[int]:
        """Take rows, whose caches begin with their prefixes; mlx-lm checks all before it takes any."""
        self._ended.clear()
        lengths = [row.prefix.length for row in rows]
        uids: list[int] = self._generator.insert_segments(
            [_segments(row) for row in rows],
            max_tokens=[row.max_new for row in rows],
            caches=list(caches),
            all_tokens=[list(row.tokens[:length]) for row, length in zip(rows, lengths, strict=True)],
        )
        for uid, row, length in zip(uids, rows, lengths, strict=True):
            self._sampler.add(uid, row.sampling, row.position)
            self._read[uid] = (length, length)
        return uids

    def step(self, prefill_tokens: int) -> StepResult:
        """One token for each decoding row, then one piece of the prompts."""
        self._ended.clear()
        self._generator.prefill_step_size = prefill_tokens
        reading, decoding = self._generator.next()
        told, self._told = self._told, set()
        tokens = [(out.uid, out.token, out.finish_reason) for out in decoding if out.uid not in told]
        result = StepResult(tokens, prefilled=self._note(reading))
        result.tokens += self._first_tokens({one.uid for one in reading if one.end_of_prompt})
        result.read = [(uid, read) for uid, (_, read) in self._read.items()]
        self._ended = {out.uid: out.prompt_cache for out in decoding if out.finish_reason is not None}
        if self._ended:
            self._sampler.remove(self._ended.keys())
        return result

    def _note(self, reading: Sequence[Any]) -> int:
        """Note how far prompts have been read; returns how many tokens that were."""
        computed = 0
        for progress in reading:
            behind, before = self._read.pop(progress.uid)
            read = behind + progress.progress[0]
            computed += read - before
            if not progress.end_of_prompt:
                self._read[progress.uid] = (behind, read)
        return computed

    def _first_tokens(self, uids: Collection[int]) -> Iterator[TokenOut]:
        """The first tokens of rows whose prompts have just been read, but for one that ends its row.

        mlx-lm tells a token when it has begun to compute the next one, which on a CPU takes as long as the
        token itself. Later ones may wait, so that a device never does; the first one is waited for.
        """
        if not uids:
            return
        batch = self._stage(DECODING)
        for uid, token, most in zip(batch.uids, batch._next_tokens.tolist(), batch.max_tokens, strict=True):  # noqa: SLF001 - see the module
            if uid in uids and token not in self._ends and most > 1:
                self._told.add(uid)
                yield uid, token, None

    def remove(self, uids: Sequence[int]) -> None:
        """Drop rows, wherever they are; those that ended in the last step too."""
        self._ended.clear()
        self._generator.remove(uids)
        self._sampler.remove(set(uids))
        self._told -= set(uids)
        for uid in uids:
            self._read.pop(uid, None)

    def close(self) -> None:
        """Give back what was set for the device, and all caches at once: no circle is to hold them."""
        self._generator.close()
        del self._generator._generation_batch.extract_cache  # noqa: SLF001 - ours, see above
        del self._generator, self._sampler

    def tokens(self, uid: int) -> Sequence[int]:
        """The tokens that a row's cache holds; raises KeyError for an unknown row."""
        if uid in self._ended:
            return self._ended[uid].tokens
        stage, row = self._find(uid)
        if stage == WAITING:
            waiting: Sequence[int] = self._generator._unprocessed_sequences[row][4]  # noqa: SLF001 - see the module
            return waiting
        tokens: Sequence[int] = self._stage(stage).tokens[row]
        return tokens

    def row(self, uid: int) -> BatchRow:
        """A row's part of the arrays; raises KeyError for an unknown row, ValueError for one that waits."""
        if uid in self._ended:
            return self._ended[uid]
        stage, row = self._find(uid)
        if stage == WAITING:
            raise ValueError(f"row {uid} waits to be read: all that it holds is its prefix")
        batch = self._stage(stage)
        return BatchRow(batch.prompt_cache, row, batch.tokens[row])

    def check_integrity(self, rows: Mapping[int, Sequence[int]]) -> None:
        """Raise AssertionError unless exactly these rows are held, each computed from its own tokens."""
        if self._sampler.uids != set(rows) or not self._read.keys() <= set(rows):
            raise AssertionError(f"rows {sorted(self._sampler.uids)} are held, {sorted(rows)} expected")
        for uid, tokens in rows.items():
            held = list(self.tokens(uid))
            if held != list(tokens[: len(held)]):
                raise AssertionError(f"row {uid} was computed from tokens that are not its own")
        for stage in (READING, DECODING):
            self._check_lengths(self._stage(stage))
        if not rows and self.nbytes:
            raise AssertionError(f"{self.nbytes} bytes are held for no rows")

    def _check_lengths(self, batch: Any) -> None:
        lengths = [len(tokens) for tokens in batch.tokens]
        for leaf in leaves_of(batch.prompt_cache):
            if isinstance(leaf, LiveCache) and leaf.offset.tolist() != lengths:
                raise AssertionError(f"rows of {lengths} tokens have {leaf.offset.tolist()} in their caches")

    def _find(self, uid: int) -> tuple[int, int]:
        """Where a row is, and which of the rows there it is."""
        place: tuple[int, int] = self._generator._find_uids([uid])[uid]  # noqa: SLF001 - see the module
        return place

    def _stage(self, stage: int) -> Any:
        inside = self._generator
        return inside._prompt_batch if stage == READING else inside._generation_batch  # noqa: SLF001 - as above

    def _still_reading(self) -> set[int]:
        """Rows whose prompts are not finished, as the generator sees it while it samples."""
        queued = self._generator._unprocessed_sequences  # noqa: SLF001 - as above; a test guards it
        return {*self._stage(READING).uids, *(sequence[0] for sequence in queued)}


def _segments(row: Row) -> list[list[int]]:
    """The tokens behind the prefix, parted at the row's stops."""
    edges = [row.prefix.length, *row.stops, len(row.tokens)]
    return [list(row.tokens[start:stop]) for start, stop in pairwise(edges)]
