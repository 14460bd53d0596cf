"""Lines that resemble earlier ones of their conversation, as lines of one program do.

Real lines that follow each other share a day, an hour, a host, a process. If made-up ones did not,
the LLM could copy a value from any earlier line that begins alike; so values are carried over from
line to line, whole or with a few digits or a word changed.
"""

from __future__ import annotations

import re
from random import Random

from ops.pico import words
from ops.pico.families import Written

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


def resembling(written: Written, earlier: dict[str, str], odds: float, rng: Random) -> Written:
    """The line with each value, by `odds`, taken over from the earlier line of its family."""
    text, fields = written[0], dict(written[1])
    for name, value in written[1].items():
        before = earlier.get(name, "")
        if not value or not before or text.count(value) != 1 or rng.random() >= odds:
            continue
        taken = before if rng.random() < 0.35 else changed(before, rng)
        text = text.replace(value, taken)
        fields[name] = taken
    return text, fields
