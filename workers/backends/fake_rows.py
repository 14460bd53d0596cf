"""One row of the twin: what it holds, and what it says next."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from workers.backends.fake_marks import Marks
from workers.backends.fake_tokens import EOS
from workers.engine.backend import End, Row

# Six bytes each, some of them in characters of several bytes.
WORDS = tuple(
    word.encode()
    for word in ("river ", "gates ", "été ", "water ", "日本", "flows ", "wheel ", "Ω≈ ", "steel ", "🌊 .")
)


@dataclass(slots=True)
class FakeRow:
    """One row: its tokens, and a mark for each of them.

    ``made`` counts the tokens it has written.
    """

    source: Row
    hashing: Marks
    reply_length: float | None
    key: bytes = b""
    contents: list[int] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    made: int = 0

    def __post_init__(self) -> None:
        """Derive what it will write; one without a seed gets one."""
        row, sampling = self.source, self.source.sampling
        prompt = row.tokens[: len(row.tokens) - row.position]
        seed = sampling.seed if sampling.seed is not None else secrets.randbits(63)
        salt = f"{sampling.temperature}/{seed}" if sampling.temperature else ""
        self.key = hashlib.blake2b(repr((list(prompt), salt)).encode(), digest_size=16).digest()

    @property
    def is_prefilled(self) -> bool:
        """Whether its prompt has been read."""
        return len(self.contents) >= len(self.source.tokens)

    @property
    def is_intact(self) -> bool:
        """Whether each mark still follows from the tokens."""
        return list(self.hashing.of(self.contents)) == self.marks

    def append(self, tokens: Sequence[int]) -> None:
        """Compute some tokens."""
        self.marks += self.hashing.of(tokens, self.marks[-1] if self.marks else None)
        self.contents += tokens

    def read(self, most: int) -> int:
        """Compute the next piece of the prompt, up to its next stop at most; returns its tokens."""
        done = len(self.contents)
        stop = next((stop for stop in self.source.stops if stop > done), len(self.source.tokens))
        piece = self.source.tokens[done : min(done + most, stop)]
        self.append(piece)
        return len(piece)

    def next_token(self) -> tuple[int, End | None]:
        """The token of this position and whether the row ends with it."""
        position = self.source.position + self.made
        self.made += 1
        length = 6 * (2 + self.key[0] % 10) - 1 if self.reply_length is None else self.reply_length
        if position >= length:
            return EOS, "stop"
        digest = hashlib.blake2b(self.key + (position // 6).to_bytes(4), digest_size=4).digest()
        token = WORDS[int.from_bytes(digest) % len(WORDS)][position % 6]
        return token, "length" if self.made >= self.source.max_new else None
