"""A value that is almost another one."""

from __future__ import annotations

import re
from random import Random

from ops.pico import words

_DIGITS = re.compile(r"[0-9]")
_WORDS = re.compile(r"[a-z]{2,}")


def changed(value: str, rng: Random) -> str:
    """`value` with one to four digits changed, mostly late ones, or with one word changed."""
    places = [match.start() for match in _DIGITS.finditer(value)]
    if places and rng.random() < 0.8:
        letters = list(value)
        for place in rng.sample(places[-8:], min(len(places[-8:]), rng.randint(1, 4))):
            letters[place] = rng.choice("0123456789")
        return "".join(letters)
    runs = list(_WORDS.finditer(value))
    if not runs:
        return value
    run = rng.choice(runs)
    return value[: run.start()] + words.word(rng) + value[run.end() :]
