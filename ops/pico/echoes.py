"""Lines that resemble earlier ones of their conversation, as lines of one program do.

Real lines that follow each other share a day, an hour, a host, a process. If made-up ones did not,
the LLM could copy a value from any earlier line that begins alike; so values are carried over from
line to line, whole or with a few digits or a word changed.
"""

from __future__ import annotations

from random import Random

from ops.pico.changes import changed
from ops.pico.families import Written


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
