"""What the engine's benchmarks ask: texts of real lines and rows of random tokens, of any length."""

from __future__ import annotations

import random
from itertools import count

from ops.bench.llms import PICO
from ops.lines import load_lines

PLAIN_TOKENS = range(16, 1_000)
"""Tokens of pico's vocabulary that are text, and none of them special."""


class Texts:
    """Gives texts that differ from their first words on, of ``tokens`` of pico's tokens each."""

    def __init__(self) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(PICO / "tokenizer.json"))
        self._lines = [line.text for line in load_lines()]
        self._numbers = count(1)

    def take(self, tokens: int) -> str:
        """The next text: its number, and real lines behind it up to so many tokens."""
        number = next(self._numbers)
        text, at = f"{number}:", number * 7
        while len(found := self._tokenizer.encode(text, add_special_tokens=False)) < tokens:
            text, at = f"{text}\n{self._lines[at % len(self._lines)]}", at + 1
        return text[: found.offsets[tokens - 1][1]]

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


class Rows:
    """Gives rows of random tokens that are all different; the seed is fixed."""

    def __init__(self, seed: int = 20) -> None:
        self._draw = random.Random(seed)  # noqa: S311 - not a secret

    def take(self, tokens: int) -> list[int]:
        """The next row."""
        return self._draw.choices(PLAIN_TOKENS, k=tokens)
