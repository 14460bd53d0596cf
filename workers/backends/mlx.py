"""mlx-lm's ``BatchGenerator`` behind the engine's protocol.

It decodes; this wraps it: one stream in the engine's thread, one sampler for
all rows, and rows that can be added, removed and rebuilt. Everything that
depends on its inside is here and in :mod:`workers.backends.sampling`; its
version is pinned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.generate import BatchGenerator

from config.settings import Engine as EngineSettings
from models.prompts import PromptEncoder
from models.requests import Message
from workers.backends.loading import LoadedLlm, fingerprint, load
from workers.backends.sampling import BatchSampler
from workers.backends.shortage import shortage_told
from workers.engine.backend import LlmInfo, Row, StepResult


class MlxBackend:
    """One LLM on MLX's default device.

    Make it, use it and close it in one thread that does nothing else with MLX.
    """

    def __init__(self, path: str, settings: EngineSettings, name: str) -> None:
        self._settings = settings
        self._stream = mx.new_stream(mx.default_device())
        try:
            with mx.stream(self._stream):
                self._llm = load(path)
                per_token, per_row = self._llm.cache_bytes()
        except BaseException:
            mx.clear_streams()
            raise
        self._encoder = PromptEncoder(self._llm.tokenizer)
        self.info = _describe(self._llm, name, per_token, per_row)
        self._start()

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Render with the LLM's chat template; touches no MLX."""
        return self._encoder.encode(messages)

    def detokenizer(self) -> StreamedText:
        """A fresh detokenizer; the vocabulary's table is shared by all."""
        return StreamedText(self._llm.tokenizer.detokenizer)

    def add(self, rows: Sequence[Row]) -> list[int]:
        """Insert rows; mlx-lm checks all of them before it takes any."""
        with shortage_told():
            uids: list[int] = self._generator.insert(
                [list(row.tokens) for row in rows], max_tokens=[row.max_new for row in rows]
            )
        for uid, row in zip(uids, rows, strict=True):
            self._sampler.add(uid, row.sampling, row.position)
            self._read[uid] = 0
        return uids

    def step(self) -> StepResult:
        """One token for each decoding row, then one piece of the prompts."""
        with shortage_told():
            reading, decoding = self._generator.next()
        result = StepResult([(out.uid, out.token, out.finish_reason) for out in decoding])
        for progress in reading:
            done = progress.progress[0]
            result.prefilled += done - self._read[progress.uid]
            self._read[progress.uid] = done
        self._forget([uid for uid, _, end in result.tokens if end is not None])
        return result

    def remove(self, uids: Sequence[int]) -> None:
        """Drop rows, wherever they are."""
        with mx.stream(self._stream):
            self._generator.remove(uids)
        self._forget(uids)

    def live_bytes(self) -> int:
        """Bytes of all caches as mlx-lm holds them."""
        return int(self._generator.prompt_cache_nbytes)

    def reset(self) -> None:
        """Start with an empty generator, after a token that shows that the device still works."""
        self._generator.close()
        self._start()  # drops the caches of the old one: the token needs room
        mx.clear_cache()
        with mx.stream(self._stream):
            self._llm.cache_bytes()

    def check_integrity(self, rows: Mapping[int, Sequence[int]]) -> None:
        """Compare the tokens that each cache was computed from with what the engine believes."""
        if self._sampler.uids != set(rows) or set(self._read) != set(rows):
            raise AssertionError(f"rows {sorted(self._sampler.uids)} are held, {sorted(rows)} expected")
        with mx.stream(self._stream):
            held = self._generator.extract_cache(list(rows))
        for uid, (_, tokens) in held.items():
            if list(tokens) != list(rows[uid][: len(tokens)]):
                raise AssertionError(f"row {uid} was computed from tokens that are not its own")
        if len(held) != len(rows) or (not rows and self.live_bytes()):
            raise AssertionError(
                f"{len(held)} rows and {self.live_bytes()} bytes are held for {len(rows)} rows"
            )

    def close(self) -> None:
        """Give memory back, and end MLX in this thread.

        A thread that ends with its streams still there aborts the process on its way out.
        """
        self._generator.close()
        del self._generator, self._sampler, self._llm
        mx.clear_cache()
        mx.clear_streams()

    def _start(self) -> None:
        self._read: dict[int, int] = {}
        self._sampler = BatchSampler(self._still_reading)
        self._generator: Any = BatchGenerator(  # mostly without types
            self._llm.model,
            stop_tokens=[[token] for token in self.info.eos_ids],
            sampler=self._sampler,
            completion_batch_size=self._settings.max_rows,
            prefill_batch_size=min(self._settings.prefill_rows, self._settings.max_rows),
            prefill_step_size=self._settings.prefill_tokens,
            stream=self._stream,
        )

    def _forget(self, uids: Sequence[int]) -> None:
        if uids:
            self._sampler.remove(set(uids))
            for uid in uids:
                self._read.pop(uid, None)

    def _still_reading(self) -> set[int]:
        """Rows whose prompts are not finished, as the generator sees it while it samples."""
        inside = self._generator
        queued = inside._unprocessed_sequences  # noqa: SLF001 - nothing public tells; a test guards it
        prompts = inside._prompt_batch  # noqa: SLF001 - as above
        return {*prompts.uids, *(sequence[0] for sequence in queued)}


class StreamedText:
    """mlx-lm's streaming detokenizer as the engine wants it."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def push(self, token: int) -> str:
        """Take one token; return the text that is complete with it."""
        self._inner.add_token(token)
        return str(self._inner.last_segment)

    def flush(self) -> str:
        """Return the rest, without the beginning of a character that never became whole."""
        self._inner.finalize()
        return str(self._inner.last_segment).rstrip("\ufffd")


def _describe(llm: LoadedLlm, name: str, per_token: int, per_row: int) -> LlmInfo:
    return LlmInfo(
        name=name,
        context_length=llm.context_length,
        fingerprint=fingerprint(llm.directory),
        vocab_size=llm.vocab_size,
        tokenizer_path=str(llm.directory.resolve()),
        eos_ids=llm.eos_ids,
        bytes_per_token=per_token,
        bytes_per_row=per_row,
    )
