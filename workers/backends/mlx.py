"""mlx-lm behind the engine's protocol: a batch, the blocks of the pool, and text to tokens and back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from config.settings import Engine as EngineSettings
from models.prompts import PromptEncoder
from models.requests import Message
from workers.backends.batch import Batch
from workers.backends.blocks import BlockStore
from workers.backends.layout import Layout
from workers.backends.loading import LoadedLlm, load
from workers.backends.opening import Opening
from workers.backends.shortage import shortage_told
from workers.cache.parcel import Parcel
from workers.cache.prefix import Piece
from workers.engine.backend import LlmInfo, Row, StepResult


class MlxBackend:
    """One LLM on MLX's default device.

    Make it, use it and close it in one thread that does nothing else with MLX.
    """

    def __init__(self, path: str, settings: EngineSettings, name: str, adapter: str = "") -> None:
        self._settings = settings
        self._stream = mx.new_stream(mx.default_device())
        try:
            with mx.stream(self._stream):
                self._llm = load(path, adapter)
                self._layout = Layout.measure(self._llm.probe(), settings.pool_bits)
        except BaseException:
            mx.clear_streams()
            raise
        self._encoder = PromptEncoder(self._llm.tokenizer)
        self._blocks = BlockStore(self._layout)
        self.info = _describe(self._llm, name, self._layout)
        self._start()

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Render with the LLM's chat template; touches no MLX."""
        return self._encoder.encode(messages)

    def boundaries(self, messages: Sequence[Message], tokens: Sequence[int]) -> list[int]:
        """Where a next turn may part from this one, for an LLM whose layers cannot all be cut."""
        return [] if self.info.spec.can_be_cut else self._encoder.boundaries(messages, tokens)

    def detokenizer(self) -> StreamedText:
        """A fresh detokenizer; the vocabulary's table is shared by all."""
        return StreamedText(self._llm.tokenizer.detokenizer)

    def add(self, rows: Sequence[Row]) -> list[int]:
        """Insert rows whose caches begin with their prefixes.

        A row that waits to be read refers to the arrays of its blocks, also when they are
        dropped meanwhile. Raises KeyError for a block that does not exist, ValueError for one
        that holds not what the row should have.
        """
        with self._device():
            opening = Opening(self._blocks, self._layout)
            caches = [
                opening.caches(self._fresh_cache(), row.prefix, len(row.tokens) - row.prefix.length)
                for row in rows
            ]
            return self._batch.insert(rows, caches)

    def step(self, prefill_tokens: int) -> StepResult:
        """One token for each decoding row, then one piece of the prompts."""
        with self._device():
            return self._batch.step(prefill_tokens)

    def remove(self, uids: Sequence[int]) -> None:
        """Drop rows, wherever they are."""
        with self._device():
            self._batch.remove(uids)

    def live_bytes(self) -> int:
        """Bytes of all caches as mlx-lm holds them."""
        return self._batch.nbytes

    def computed(self, uid: int) -> int:
        """Tokens in a row's cache: each that was told but for a first one, the end of sequence too."""
        return len(self._batch.tokens(uid))

    def keep(self, uid: int, pieces: Sequence[Piece], snapshot: int | None = None) -> None:
        """Copy what a row has computed out of the batch; ValueError for what it has not, or what exists."""
        with self._device():
            self._blocks.keep(self._batch.row(uid), pieces, snapshot)

    def drop(self, blocks: Iterable[int]) -> None:
        """Forget blocks."""
        self._blocks.drop(blocks)

    def export(self, block: int) -> Parcel:
        """A block as bytes."""
        with self._device():
            return self._blocks.export(block)

    def install(self, block: int, parcel: Parcel) -> None:
        """Make a block of bytes."""
        with self._device():
            self._blocks.install(block, parcel)

    def pool_bytes(self) -> int:
        """Bytes of the blocks' arrays."""
        return self._blocks.nbytes

    def reset(self) -> None:
        """Start with an empty batch, after a token that shows that the device still works."""
        self._batch.close()
        self._start()  # drops the caches of the old one: the token needs room
        mx.clear_cache()
        with mx.stream(self._stream):
            self._llm.probe()

    def check_integrity(self, rows: Mapping[int, Sequence[int]], blocks: Collection[int]) -> None:
        """Compare rows, the tokens they were computed from, and blocks with what the engine believes."""
        with mx.stream(self._stream):
            self._batch.check_integrity(rows)
        self._blocks.check_integrity(blocks)

    def close(self) -> None:
        """Give memory back, and end MLX in this thread.

        A thread that ends with its streams still there aborts the process on its way out.
        """
        self._batch.close()
        del self._batch, self._blocks, self._llm
        mx.clear_cache()
        mx.clear_streams()

    def _start(self) -> None:
        self._batch = Batch(self._llm.model, self._settings, self._stream, self.info.eos_ids)

    def _fresh_cache(self) -> list[Any]:
        make: Any = make_prompt_cache  # its result has no types
        fresh: list[Any] = make(self._llm.model)
        return fresh

    @contextmanager
    def _device(self) -> Iterator[None]:
        """Work in the backend's own stream, with a shortage of memory told as one."""
        with shortage_told(), mx.stream(self._stream):
            yield


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


def _describe(llm: LoadedLlm, name: str, layout: Layout) -> LlmInfo:
    return LlmInfo(
        name=name,
        context_length=llm.context_length,
        fingerprint=llm.fingerprint,
        vocab_size=llm.vocab_size,
        tokenizer_path=str(llm.directory.resolve()),
        eos_ids=llm.eos_ids,
        spec=layout.spec,
    )
