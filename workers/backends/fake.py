"""The deterministic twin of a real backend: it proves order, faults and books, never speed.

Plain Python. What it writes depends on the prompt, the seed and the position
alone; it steps, pads and prefills as mlx-lm's ``BatchGenerator`` does, keeps each
row's contents and checks them; and it breaks when it is told to.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, field_validator

from config.settings import Engine as EngineSettings
from models.requests import Message
from workers.backends import fake_tokens
from workers.backends.fake_tokens import EOS, VOCAB_SIZE, ByteDetokenizer
from workers.engine.backend import End, LlmInfo, OutOfMemory, PromptRefused, Row, StepResult, TokenOut

# Six bytes each, some of them in characters of several bytes.
WORDS = tuple(
    word.encode()
    for word in ("river ", "gates ", "été ", "water ", "日本", "flows ", "wheel ", "Ω≈ ", "steel ", "🌊 .")
)


class InjectedFaultError(RuntimeError):
    """The fault that the twin was told to have."""


class FakeOptions(BaseModel):
    """How the twin behaves; in a configuration, as ``path = "fake:step_ms=5&endless=1"``.

    A prompt that contains ``poison`` breaks every step it is in, one that
    contains ``spoil`` is given up alone in its first decoding step, one that
    contains ``refuse`` is not taken at all, and one that contains ``kill`` ends
    the whole process in its first step, as a crash would. ``memory_rows`` is how
    many rows there is memory for. ``no_system`` makes it refuse system messages,
    as some chat templates do.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    step_ms: float = Field(0, ge=0)
    context_length: int = Field(4096, ge=1)
    bytes_per_token: int = Field(64, ge=1)
    endless: bool = False
    no_system: bool = False
    reply_tokens: int | None = Field(None, ge=0)
    fail_steps: frozenset[int] = frozenset()
    fail_reset: bool = False
    poison: str = ""
    spoil: str = ""
    refuse: str = ""
    kill: str = ""
    memory_rows: int | None = Field(None, ge=0)

    @field_validator("fail_steps", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value

    @classmethod
    def from_path(cls, path: str) -> FakeOptions:
        """Read the options out of an LLM's path; any path but ``fake:...`` has none."""
        scheme, _, query = path.partition(":")
        return cls.model_validate(dict(parse_qsl(query, keep_blank_values=True)) if scheme == "fake" else {})


@dataclass(slots=True)
class _FakeRow:
    """One row: its contents and a checksum that follows every change of them."""

    source: Row
    key: bytes
    reply_length: int | None
    contents: list[int] = field(default_factory=list)
    checksum: int = 0
    made: int = 0

    @property
    def is_prefilled(self) -> bool:
        return len(self.contents) >= len(self.source.tokens)

    def append(self, tokens: Sequence[int]) -> None:
        self.contents += tokens
        for token in tokens:
            self.checksum = (self.checksum * 1_000_003 + token + 1) % 2**61

    def next_token(self) -> tuple[int, End | None]:
        """The token of this position and whether the row ends with it."""
        position = self.source.position + self.made
        self.made += 1
        if self.reply_length is not None and position >= self.reply_length:
            return EOS, "stop"
        digest = hashlib.blake2b(self.key + (position // 6).to_bytes(4), digest_size=4).digest()
        token = WORDS[int.from_bytes(digest) % len(WORDS)][position % 6]
        return token, "length" if self.made >= self.source.max_new else None


class FakeBackend:
    """See the module; ``faults`` may be replaced while it runs."""

    def __init__(
        self, options: FakeOptions | None = None, settings: EngineSettings | None = None, name: str = "fake"
    ) -> None:
        self.faults = options or FakeOptions()
        self._settings = settings or EngineSettings()
        self._rows: dict[int, _FakeRow] = {}
        self._uids = 0
        self.steps = 0
        self.resets = 0
        self.closed = False
        self.info = LlmInfo(
            name=name,
            context_length=self.faults.context_length,
            fingerprint=hashlib.sha256(b"fake").hexdigest(),
            vocab_size=VOCAB_SIZE,
            tokenizer_path="",
            eos_ids=frozenset({EOS}),
            bytes_per_token=self.faults.bytes_per_token,
        )

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """A token a byte."""
        if self.faults.no_system and any(message.role == "system" for message in messages):
            raise PromptRefused("the LLM's chat template refuses these messages: no system role")
        return fake_tokens.encode(messages)

    def detokenizer(self) -> ByteDetokenizer:
        """A decoder of bytes."""
        return ByteDetokenizer()

    def add(self, rows: Sequence[Row]) -> list[int]:
        """Take rows, or none of them when one contains the word to refuse."""
        if any(_mentions(row, self.faults.refuse) for row in rows):
            raise ValueError(f"the row mentions {self.faults.refuse!r}")
        made = [self._make_row(row) for row in rows]
        uids = list(range(self._uids, self._uids + len(made)))
        self._uids += len(made)
        self._rows.update(zip(uids, made, strict=True))
        return uids

    def step(self) -> StepResult:
        """One token for each row whose prompt is computed, then one piece of some prompts."""
        self.steps += 1
        time.sleep(self.faults.step_ms / 1000)
        self._break()
        result = StepResult(tokens=[])
        ready = [uid for uid, row in self._rows.items() if row.is_prefilled]
        for uid in ready:
            self._decode(uid, result)
        result.prefilled = self._prefill()
        return result

    def remove(self, uids: Sequence[int]) -> None:
        """Drop rows."""
        for uid in uids:
            self._rows.pop(uid, None)

    def live_bytes(self) -> int:
        """The rectangle around the contents, grown in whole steps."""
        longest = max((len(row.contents) for row in self._rows.values()), default=0)
        grown = -(-longest // self.info.growth) * self.info.growth
        return len(self._rows) * grown * self.info.bytes_per_token

    def reset(self) -> None:
        """Empty the batch, unless told to fail at that."""
        if self.faults.fail_reset:
            raise InjectedFaultError("the reset was told to break")
        self.resets += 1
        self._rows.clear()

    def check_integrity(self, rows: Mapping[int, Sequence[int]]) -> None:
        """Compare each row's contents with what the engine believes, and with their checksum."""
        if set(rows) != set(self._rows):
            raise AssertionError(f"rows {sorted(self._rows)} are held, {sorted(rows)} expected")
        for uid, row in self._rows.items():
            copy = _FakeRow(row.source, row.key, row.reply_length)
            copy.append(row.contents)
            if copy.checksum != row.checksum or row.contents != list(rows[uid][: len(row.contents)]):
                raise AssertionError(f"row {uid} holds tokens that are not its own")

    def close(self) -> None:
        """Drop everything."""
        self._rows.clear()
        self.closed = True

    def _break(self) -> None:
        """Have the faults that a whole step can have."""
        faults, rows = self.faults, [row.source for row in self._rows.values()]
        if any(_mentions(row, faults.kill) for row in rows):
            os.kill(os.getpid(), signal.SIGKILL)
        if faults.memory_rows is not None and len(rows) > faults.memory_rows:
            raise OutOfMemory(f"{len(rows)} rows, and memory for {faults.memory_rows}")
        if any(_mentions(row, faults.poison) for row in rows) or self.steps in faults.fail_steps:
            raise InjectedFaultError(f"step {self.steps} was told to break")

    def _make_row(self, row: Row) -> _FakeRow:
        prompt = row.tokens[: len(row.tokens) - row.position]
        sampling = row.sampling
        seed = sampling.seed if sampling.seed is not None else secrets.randbits(63)
        salt = f"{sampling.temperature}/{seed}" if sampling.temperature else ""
        key = hashlib.blake2b(repr((list(prompt), salt)).encode(), digest_size=16).digest()
        length = self.faults.reply_tokens
        if length is None:
            length = 6 * (2 + key[0] % 10) - 1
        return _FakeRow(row, key, None if self.faults.endless else length)

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
            del self._rows[uid]

    def _prefill(self) -> int:
        """Compute a piece of the prompts of the first few rows that are not ready."""
        behind = [row for row in self._rows.values() if not row.is_prefilled][: self._settings.prefill_rows]
        prefilled = 0
        for row in behind:
            done = len(row.contents)
            piece = row.source.tokens[done : done + self._settings.prefill_tokens]
            row.append(piece)
            prefilled += len(piece)
        return prefilled


def _mentions(row: Row, word: str) -> bool:
    return bool(word) and word.encode() in bytes(token for token in row.tokens if token < EOS)
