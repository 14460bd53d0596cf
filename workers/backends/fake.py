"""The deterministic twin of a real backend: it proves order, faults and books, never speed.

Plain Python. What it writes depends on the prompt, the seed and the position
alone; it steps, pads and prefills as mlx-lm's ``BatchGenerator`` does, keeps each
row's contents and those of blocks, and checks them; and it breaks when it is told to.
"""

from __future__ import annotations

import hashlib
import math
import os
import signal
import time
from collections.abc import Collection, Iterable, Mapping, Sequence

from config.settings import Engine as EngineSettings
from models.requests import Message
from workers.backends import fake_tokens
from workers.backends.fake_blocks import STATE_BYTES, FakeBlocks, WrongBlockError
from workers.backends.fake_marks import Marks
from workers.backends.fake_options import FakeOptions, InjectedFaultError
from workers.backends.fake_rows import WORDS, FakeRow
from workers.backends.fake_tokens import EOS, VOCAB_SIZE, ByteDetokenizer
from workers.cache.parcel import Parcel
from workers.cache.prefix import Piece
from workers.cache.spec import CacheSpec, LayerSpec
from workers.engine.backend import LlmInfo, OutOfMemory, PromptRefused, Row, StepResult, TokenOut

__all__ = ["WORDS", "FakeBackend", "FakeOptions", "InjectedFaultError", "WrongBlockError"]


class FakeBackend:
    """See the module; ``faults`` may be replaced while it runs."""

    def __init__(
        self, options: FakeOptions | None = None, settings: EngineSettings | None = None, name: str = "fake"
    ) -> None:
        self.faults = options or FakeOptions()
        self._settings = settings or EngineSettings()
        self._rows: dict[int, FakeRow] = {}
        self._ended: dict[int, FakeRow] = {}
        self._uids = 0
        self.steps = 0
        self.resets = 0
        self.closed = False
        self.info = _describe(self.faults, name)
        token_bytes = self.info.spec.token_bytes
        self._marks = Marks(self.info.fingerprint, token_bytes)
        self._blocks = FakeBlocks(self._marks, token_bytes, uncut=self.faults.uncut)

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """A token a byte."""
        if self.faults.no_system and any(message.role == "system" for message in messages):
            raise PromptRefused("the LLM's chat template refuses these messages: no system role")
        return fake_tokens.encode(messages)

    def boundaries(self, messages: Sequence[Message], tokens: Sequence[int]) -> list[int]:
        """Behind a leading system message and before the mark that opens the assistant's turn."""
        if self.info.spec.can_be_cut:
            return []
        system = [len(fake_tokens.encode(messages[:1])) - 1] if messages[0].role == "system" else []
        return sorted({*system, len(tokens) - 1})

    def detokenizer(self) -> ByteDetokenizer:
        """A decoder of bytes."""
        return ByteDetokenizer()

    def add(self, rows: Sequence[Row]) -> list[int]:
        """Take rows, or none of them when one contains the word to refuse.

        Raises :class:`WrongBlockError` for a prefix that is not the beginning of its row.
        """
        self._ended.clear()
        for row in rows:
            self._blocks.check(row)
        if any(_mentions(row, self.faults.refuse) for row in rows):
            raise ValueError(f"the row mentions {self.faults.refuse!r}")
        made = [self._make_row(row) for row in rows]
        uids = list(range(self._uids, self._uids + len(made)))
        self._uids += len(made)
        self._rows.update(zip(uids, made, strict=True))
        return uids

    def step(self, prefill_tokens: int) -> StepResult:
        """One token for each row whose prompt is computed, then one piece of some prompts."""
        self.steps += 1
        self._ended.clear()
        time.sleep(self.faults.step_ms / 1000)
        self._break()
        result = StepResult(tokens=[])
        ready = [uid for uid, row in self._rows.items() if row.is_prefilled]
        for uid in ready:
            self._decode(uid, result)
        behind = [row for row in self._rows.values() if not row.is_prefilled]
        result.prefilled = sum(row.read(prefill_tokens) for row in behind[: self._settings.prefill_rows])
        result.read = [(uid, len(row.contents)) for uid, row in self._rows.items() if not row.is_prefilled]
        return result

    def remove(self, uids: Sequence[int]) -> None:
        """Drop rows."""
        self._ended.clear()
        for uid in uids:
            self._rows.pop(uid, None)

    def live_bytes(self) -> int:
        """The rectangle around the contents, grown in whole steps."""
        longest = max((len(row.contents) for row in self._rows.values()), default=0)
        grown = -(-longest // self.info.growth) * self.info.growth
        return len(self._rows) * self.info.spec.sequence_bytes(grown) if longest else 0

    def computed(self, uid: int) -> int:
        """Tokens of a row's contents, the end of sequence too."""
        return len(self._row(uid).contents)

    def keep(self, uid: int, pieces: Sequence[Piece], snapshot: int | None = None) -> None:
        """Copy contents into blocks, unless told to fail at that."""
        if self.faults.fail_keep:
            raise InjectedFaultError("keeping was told to break")
        self._blocks.keep(self._row(uid), pieces, snapshot, self.faults.memory_blocks)

    def drop(self, blocks: Iterable[int]) -> None:
        """Forget blocks."""
        self._blocks.drop(blocks)

    def export(self, block: int) -> Parcel:
        """A block's bytes."""
        return self._blocks.export(block)

    def install(self, block: int, parcel: Parcel) -> None:
        """Make a block of bytes; whether they are right is seen when a row is given them."""
        self._blocks.install(block, parcel, self.faults.memory_blocks)

    def pool_bytes(self) -> int:
        """Bytes of the blocks' contents."""
        return self._blocks.nbytes

    @property
    def wrong_blocks(self) -> Sequence[str]:
        """What was wrong with blocks so far; nothing, or the engine is broken."""
        return self._blocks.wrong

    def reset(self) -> None:
        """Empty the batch, unless told to fail at that."""
        if self.faults.fail_reset:
            raise InjectedFaultError("the reset was told to break")
        self.resets += 1
        self._rows.clear()
        self._ended.clear()

    def check_integrity(self, rows: Mapping[int, Sequence[int]], blocks: Collection[int]) -> None:
        """Compare rows and blocks with what the engine believes; no block may ever have been wrong."""
        if set(rows) != set(self._rows):
            raise AssertionError(f"rows {sorted(self._rows)} are held, {sorted(rows)} expected")
        for uid, row in self._rows.items():
            if not row.is_intact or row.contents != list(rows[uid][: len(row.contents)]):
                raise AssertionError(f"row {uid} holds tokens that are not its own")
        self._blocks.check_integrity(blocks)

    def close(self) -> None:
        """Drop everything; raises :class:`WrongBlockError` if a block was wrong at any time."""
        self._rows.clear()
        self._ended.clear()
        self.closed = True
        self._blocks.check_none_was_wrong()

    def _row(self, uid: int) -> FakeRow:
        return self._ended[uid] if uid in self._ended else self._rows[uid]

    def _break(self) -> None:
        """Have the faults that a whole step can have."""
        faults, rows = self.faults, [row.source for row in self._rows.values()]
        if any(_mentions(row, faults.kill) for row in rows):
            os.kill(os.getpid(), signal.SIGKILL)
        if faults.memory_rows is not None and len(rows) > faults.memory_rows:
            raise OutOfMemory(f"{len(rows)} rows, and memory for {faults.memory_rows}")
        if any(_mentions(row, faults.poison) for row in rows) or self.steps in faults.fail_steps:
            raise InjectedFaultError(f"step {self.steps} was told to break")

    def _make_row(self, row: Row) -> FakeRow:
        made = FakeRow(row, self._marks, math.inf if self.faults.endless else self.faults.reply_tokens)
        made.append(row.tokens[: row.prefix.length])
        return made

    def _decode(self, uid: int, result: StepResult) -> None:
        row = self._rows[uid]
        if _mentions(row.source, self.faults.spoil):
            result.failed.append((uid, ValueError(f"the row mentions {self.faults.spoil!r}")))
            del self._rows[uid]
            return
        token, end = row.next_token()
        row.append([token])
        out: TokenOut = (uid, token, end)
        result.tokens.append(out)
        if end is not None:
            self._ended[uid] = self._rows.pop(uid)


def _describe(options: FakeOptions, name: str) -> LlmInfo:
    size = options.bytes_per_token // 4  # keys and values of two bytes a number
    layers = [LayerSpec("full", 1, size, size)]
    if options.uncut:
        layers.append(LayerSpec("state", state_bytes=STATE_BYTES))
    return LlmInfo(
        name=name,
        context_length=options.context_length,
        fingerprint=hashlib.sha256(f"fake {options.bytes_per_token} {options.uncut}".encode()).hexdigest(),
        vocab_size=VOCAB_SIZE,
        tokenizer_path="",
        eos_ids=frozenset({EOS}),
        spec=CacheSpec(tuple(layers), "F16"),
    )


def _mentions(row: Row, word: str) -> bool:
    return bool(word) and word.encode() in bytes(token for token in row.tokens if token < EOS)
